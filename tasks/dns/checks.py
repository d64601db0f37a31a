"""What health has to say of DNS: the server's own faults first; what others hear from it only while it has none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from dockyard.findings import Cause, Finding
from dockyard.observe import Holders, Observed
from dockyard.topology import Topology
from dockyard.unseen import unseen
from tasks.dns.answers import ANSWERS, Answers, wanted
from tasks.dns.server import CONFIG, DNS, PACKAGE, UNIT, DnsState, texts

PORT = 53
MEND = "python runbooks/phase1_baseline.py mends it"


def check_port(topology: Topology, observed: Observed, *, holders: Holders) -> list[Finding]:
    """Nobody else holds the port before our server takes it."""
    return [
        finding
        for host, state in observed.seen(DNS).items()
        if not state.service.unit.is_active
        for finding in _taken(host, holders(topology, observed, host, PORT))
    ]


def check_dns(topology: Topology, observed: Observed, *, holders: Holders) -> list[Finding]:
    """The server runs as the inventory says, and every host hears the right address for every name from it."""
    missing = [*unseen(observed, DNS, Cause.NAMES), *unseen(observed, ANSWERS, Cause.NAMES)]
    own = [
        finding
        for host, state in observed.seen(DNS).items()
        for finding in _server(topology, host, state, holders(topology, observed, host, PORT))
    ]
    return [*missing, *own, *([] if own else _heard(topology, observed.seen(ANSWERS)))]


def hears_right(topology: Topology, answers: Answers) -> bool:
    """Whether a host hears the right address for every name."""
    return _fault(topology, answers) is None


def _server(topology: Topology, host: str, state: DnsState, held_by: Sequence[str] | None) -> Iterator[Finding]:
    files, mark = texts(topology)
    stale = [path for path, text in files.items() if state.files[path].content != text]
    service = state.service
    if not state.installed:
        advice = f"{MEND}; by hand: apt-get install {PACKAGE}"
        yield _finding(host, "dnsmasq is not installed", "command -v finds nothing", advice)
    elif stale:
        yield _finding(host, "the DNS server is not set up as planned", ", ".join(stale), MEND)
    elif not service.unit.is_active:
        yield from _taken(host, held_by) or [_finding(host, "the DNS server does not run", str(service), _look(host))]
    elif service.mark != mark:
        yield _finding(host, "the DNS server runs with older files than those that are there", CONFIG, MEND)
    elif held_by == []:
        address = topology.host(host).wireguard.address
        evidence = f"nobody listens on {address}:{PORT}"
        yield _finding(host, "the DNS server does not listen in the mesh", evidence, f"Is {address} up? {_look(host)}")
    if state.installed and not stale and not service.unit.is_enabled:
        yield _finding(host, "the DNS server does not start at boot", service.unit.enabled or "not installed", MEND)


def _taken(host: str, held_by: Sequence[str] | None) -> list[Finding]:
    if not held_by:
        return []
    advice = (
        f"On {host}: let it listen on its own addresses only (dnsmasq: interface=..., bind-dynamic; Pi-hole: "
        "dns.listeningMode BIND), or name another host in cluster.dns"
    )
    return [_finding(host, "port 53 is taken by somebody else", ", ".join(held_by), advice)]


def _look(host: str) -> str:
    return f"On {host}: journalctl -u {UNIT} -n 20; systemctl restart {UNIT}"


def _heard(topology: Topology, heard: dict[str, Answers]) -> Iterator[Finding]:
    """One finding for each fault, with all hosts that meet it: the server itself may be to blame, or one way."""
    faults: dict[tuple[str, str], list[str]] = defaultdict(list)
    for host, answers in heard.items():
        if fault := _fault(topology, answers):
            faults[fault].append(host)
    server = topology.dns_host
    for (said, proof), hosts in faults.items():
        where = hosts[0] if len(hosts) == 1 or server is None else server.name
        yield _finding(where, said, f"asked by {', '.join(hosts)}: {proof}", _advice(topology, hosts))


def _fault(topology: Topology, answers: Answers) -> tuple[str, str] | None:
    """What is wrong with what one host heard, and the proof."""
    names = wanted(topology)
    silent = [name for name in names if name not in answers.replies]
    if silent:
        said = answers.error or f"no answer within 3 s for {len(silent)} of {len(names)} names"
        return "the DNS server does not answer", said
    wrong = [f"{name} is {reply}" for name, reply in answers.replies.items() if reply.addresses != (names[name],)]
    if wrong:
        more = f" and {len(wrong) - 3} names more" if len(wrong) > 3 else ""
        return "the DNS server gives wrong answers", "; ".join(wrong[:3]) + more
    return None


def _advice(topology: Topology, hosts: Sequence[str]) -> str:
    if len(hosts) == len(topology.hosts) or topology.dns_host is None:
        return f"Everybody hears that: {MEND}. {_look(topology.dns_host.name) if topology.dns_host else ''}"
    address = topology.dns_host.wireguard.address
    return f"Others hear it well. On {hosts[0]}: ping {address}; does a firewall in between drop UDP port {PORT}?"


def _finding(host: str, fault: str, evidence: str, advice: str) -> Finding:
    return Finding(cause=Cause.NAMES, host=host, fault=fault, evidence=evidence, advice=advice)
