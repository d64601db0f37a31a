"""DNS: messages byte for byte, the server's files and restarts, and who is to blame when a name is not heard."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from dockyard.change import UnitState, WriteFile
from dockyard.errors import ParseError, Unreachable, UsageError
from dockyard.files import FileState
from dockyard.findings import Cause
from dockyard.observe import Observed
from dockyard.service import ServiceState
from dockyard.topology import Dns
from tasks import dns
from tasks.dns import answers
from tasks.dns.answers import Answers, read_answers, wanted
from tasks.dns.message import Code, Reply, question, read_reply
from tasks.dns.server import CONFIG, UNIT, UNIT_FILE, DnsState, texts
from tests.unit import nameserver
from tests.unit.meshes import HOSTS, topology

LAB = topology()
NAMES = list(wanted(LAB))
HELD = ["dnsmasq (udp 10.20.0.4:53)", "dnsmasq (tcp 10.20.0.4:53)"]
# What dnsmasq 2.90 answered to question 1 for dock-dash.dock.internal.
RECORDED = (
    "00018580000100010000000009646f636b2d6461736804646f636b08696e7465726e616c0000010001c00c000100010000003c00040a140001"
)


def test_a_recorded_reply_is_read_and_asked_for_byte_for_byte() -> None:
    reply = read_reply(bytes.fromhex(RECORDED))
    assert reply == Reply(number=1, code=Code.NOERROR, addresses=("10.20.0.1",))
    asked = question(1, "dock-dash.dock.internal")
    assert asked[12:].hex() == RECORDED[24 : 2 * len(asked)]
    assert asked[:12].hex() == "000101000001000000000000"


@given(st.integers(0, len(RECORDED) // 2 - 1))
def test_no_part_of_a_reply_is_a_reply(length: int) -> None:
    with pytest.raises(ParseError, match="is no reply"):
        read_reply(bytes.fromhex(RECORDED)[:length])


@given(st.binary(max_size=80))
def test_noise_is_refused_and_breaks_nothing(noise: bytes) -> None:
    try:
        reply = read_reply(noise)
    except ParseError:
        return
    assert all(address.count(".") == 3 for address in reply.addresses)


def test_a_question_is_no_reply() -> None:
    with pytest.raises(ParseError, match="no answer to one question"):
        read_reply(question(1, "dock-dash.dock.internal"))


def reply_line(number: int, code: int = 0) -> str:
    return f"reply|{number:04x}858{code}{RECORDED[8:]}\n"


def test_what_the_probe_prints_is_read_by_the_number_of_the_question() -> None:
    read = read_answers(reply_line(2) + "error|Connection refused\n", ["a.dock.internal", "b.dock.internal"])
    assert read.error == "Connection refused"
    assert {name: str(reply) for name, reply in read.replies.items()} == {"b.dock.internal": "10.20.0.1"}


@pytest.mark.parametrize("text", ["hello\n", "reply|0\n", reply_line(3), reply_line(0), "error|\n"])
def test_an_answer_that_nobody_asked_for_is_an_error(text: str) -> None:
    with pytest.raises(ParseError):
        read_answers(text, ["a.dock.internal", "b.dock.internal"])


# --- the probe, against a server on loopback


@contextmanager
def serving(drop: int = 0, code: int = 0) -> Iterator[int]:
    """A server that does not answer the first ``drop`` questions, and gives 10.20.0.9 to all others."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.bind(("127.0.0.1", 0))
        ours.settimeout(0.1)
        done = threading.Event()
        thread = threading.Thread(target=_serve, args=(ours, drop, code, done))
        thread.start()
        try:
            yield ours.getsockname()[1]
        finally:
            done.set()
            thread.join()


def _serve(ours: socket.socket, drop: int, code: int, done: threading.Event) -> None:
    count = 0
    while not done.is_set():
        try:
            asked, who = ours.recvfrom(512)
        except TimeoutError:
            continue
        count += 1
        if count > drop:
            head = asked[:2] + bytes.fromhex(f"858{code}00010001") + bytes(4)
            ours.sendto(head + asked[12:] + bytes.fromhex("c00c00010001000000000004") + bytes([10, 20, 0, 9]), who)


def probed(port: int) -> str:
    argv = ["perl", "-e", answers._ASK, "127.0.0.1", str(port)]
    asked = [question(number, name).hex() for number, name in enumerate(NAMES, 1)]
    return subprocess.run([*argv, *asked], capture_output=True, text=True, check=True, env={"LC_ALL": "C"}).stdout


def test_all_names_are_asked_at_once_and_lost_ones_again() -> None:
    with serving(drop=3) as port:
        read = read_answers(probed(port), NAMES)
    assert {name: reply.addresses for name, reply in read.replies.items()} == dict.fromkeys(NAMES, ("10.20.0.9",))
    assert read.error == ""


def test_a_closed_port_is_known_at_once_and_silence_after_three_seconds() -> None:
    with serving() as port:
        pass
    began = time.monotonic()
    assert read_answers(probed(port), NAMES) == Answers(replies={}, error="Connection refused")
    assert time.monotonic() - began < 1
    with serving(drop=1000) as port:
        assert read_answers(probed(port), NAMES) == Answers(replies={})
    assert time.monotonic() - began < 6


# --- the server


state, heard = partial(nameserver.serving, LAB), partial(nameserver.heard, LAB)


def observed(of_server: object, **of_hosts: object) -> Observed:
    told = dict.fromkeys(HOSTS, heard()) | {host.replace("_", "-"): found for host, found in of_hosts.items()}
    states: dict[str, dict[str, object]] = {host: {dns.ANSWERS.name: found} for host, found in told.items()}
    states["dock-load"][dns.DNS.name] = of_server
    return Observed(states)


def titles(found: DnsState) -> list[str]:
    return [change.title for change in dns.plan_server(LAB, observed(found)).get("dock-load", ())]


def pristine() -> DnsState:
    absent = {path: FileState(path=path) for path in (CONFIG, UNIT_FILE)}
    unit = UnitState(name=UNIT, loaded=False, active="inactive", enabled="", sub="dead")
    service = ServiceState(unit=unit, result="success", restarts=0, mark="", reload_needed=False)
    return DnsState(installed=False, files=absent, service=service)


def test_from_nothing_to_a_running_server() -> None:
    assert dns.plan_tools(LAB, observed(pristine()))["dock-load"][0].title == "install dnsmasq-base"
    assert titles(pristine()) == [
        f"write {CONFIG}",
        f"write {UNIT_FILE}",
        "let systemd read its units again",
        f"systemctl enable -- {UNIT}; systemctl restart -- {UNIT}",
    ]


def test_what_runs_as_planned_is_left_alone() -> None:
    assert titles(state()) == []
    assert dns.plan_tools(LAB, observed(state())) == {}
    assert blamed(observed(state())) == []


def test_a_run_that_was_killed_before_the_restart_is_finished() -> None:
    assert titles(state(mark="0" * 16)) == [f"systemctl restart -- {UNIT}"]
    assert titles(state(mark="", active="inactive")) == [f"systemctl restart -- {UNIT}"]


def test_every_change_of_the_inventory_gives_another_mark() -> None:
    marks = {texts(LAB)[1]}
    for cluster in (
        replace(LAB.cluster, services={**LAB.cluster.services, "chat": "dock-edge"}),
        replace(LAB.cluster, domain="other.internal"),
        replace(LAB.cluster, dns=Dns(host="dock-load", upstream=(LAB.host("dock-dash").wireguard.address,))),
    ):
        marks.add(texts(replace(LAB, cluster=cluster))[1])
    assert len(marks) == 4


def test_the_configuration_serves_the_mesh_alone_and_never_asks_for_the_domain() -> None:
    lines = texts(LAB)[0][CONFIG].splitlines()
    assert {line for line in lines if line.startswith(("interface=", "listen", "except"))} == {
        "interface=wg0",
        "interface=cni0",
        "except-interface=lo",
    }
    assert {"bind-dynamic", "no-resolv", "no-hosts", "local=/dock.internal/", "domain-needed", "bogus-priv"} <= set(
        lines
    )
    assert "host-record=opencloud.dock.internal,opencloud,10.20.0.2" in lines
    assert len([line for line in lines if line.startswith("host-record=")]) == len(NAMES)
    assert not [line for line in lines if line.startswith("server=")]


def test_a_host_without_pods_serves_no_bridge_and_others_are_asked_when_told() -> None:
    asks_on = Dns(host="dock-dash", upstream=(LAB.host("dock-edge").wireguard.address,))
    lines = texts(replace(LAB, cluster=replace(LAB.cluster, dns=asks_on)))[0][CONFIG].splitlines()
    assert [line for line in lines if line.startswith(("interface=", "server="))] == [
        "interface=wg0",
        "server=10.20.0.5",
    ]


def test_only_the_named_host_serves_and_nobody_is_asked_without_dns() -> None:
    assert [host.name for host in LAB.hosts.values() if dns.DNS.concerns(LAB, host)] == ["dock-load"]
    without = replace(LAB, cluster=replace(LAB.cluster, dns=None))
    for domain in (dns.DNS, dns.ANSWERS):
        assert not any(domain.concerns(without, host) for host in without.hosts.values())
    assert dns.check_dns(without, Observed(), holders=lambda *_: []) == []
    default = replace(LAB, cluster=replace(LAB.cluster, dns=Dns()))
    assert default.dns_host == default.host(default.cluster.arbitrator)


@pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="dnsmasq is not installed here")
def test_dnsmasq_takes_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "dnsmasq.conf"
    config.write_text(texts(LAB)[0][CONFIG])
    change = dns.plan_server(LAB, observed(pristine()))["dock-load"][0]
    assert isinstance(change, WriteFile)
    command = [str(config) if word == "{}" else word for word in change.validate]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    config.write_text(f"{config.read_text()}no-such-option\n")
    assert subprocess.run(command, check=False, capture_output=True).returncode != 0


def test_pods_ask_the_server_by_its_mesh_address() -> None:
    manifest = YAML(typ="safe").load(dns.coredns_custom(LAB, {"by": "us"}))
    assert (manifest["kind"], manifest["metadata"]) == (
        "ConfigMap",
        {"name": "coredns-custom", "namespace": "kube-system", "labels": {"by": "us"}},
    )
    ((name, block),) = manifest["data"].items()
    assert name.endswith(".server")
    assert block.startswith("dock.internal:53 {\n")
    assert "    forward . 10.20.0.4\n" in block
    assert block.count("{") == block.count("}")
    with pytest.raises(UsageError):
        dns.coredns_custom(replace(LAB, cluster=replace(LAB.cluster, dns=None)), {})


# --- who is to blame


def blamed(found: Observed, held_by: list[str] | None = HELD) -> list[str]:
    findings = dns.check_dns(LAB, found, holders=lambda *_: held_by)
    assert {finding.cause for finding in findings} <= {Cause.NAMES, Cause.REACH}
    return [f"{finding.host}: {finding.fault} ({finding.evidence})" for finding in findings]


def everybody(answers: Answers) -> dict[str, Answers]:
    return {host.replace("-", "_"): answers for host in HOSTS}


REFUSED = everybody(Answers(replies={}, error="Connection refused"))


@pytest.mark.parametrize(
    ("found", "held_by", "said"),
    [
        (pristine(), [], "dnsmasq is not installed (command -v finds nothing)"),
        (replace(pristine(), installed=True), [], f"the DNS server is not set up as planned ({CONFIG}, {UNIT_FILE})"),
        (
            state(active="activating", sub="auto-restart", result="exit-code", restarts=4, mark=""),
            [],
            "the DNS server does not run (activating (auto-restart), exit-code, restarted 4 times)",
        ),
        (
            state(active="failed", sub="failed", result="exit-code", mark=""),
            ["pihole-FTL (udp 0.0.0.0:53)"],
            "port 53 is taken by somebody else (pihole-FTL (udp 0.0.0.0:53))",
        ),
        (state(mark="0" * 16), HELD, f"the DNS server runs with older files than those that are there ({CONFIG})"),
        (state(), [], "the DNS server does not listen in the mesh (nobody listens on 10.20.0.4:53)"),
    ],
)
def test_the_servers_own_fault_is_named_and_not_what_everybody_hears_of_it(
    found: DnsState, held_by: list[str], said: str
) -> None:
    assert blamed(observed(found, **REFUSED), held_by) == [f"dock-load: {said}"]


def test_what_was_not_looked_at_is_not_taken_for_closed() -> None:
    assert blamed(observed(state()), None) == []


def test_a_server_that_does_not_start_at_boot_is_named() -> None:
    assert blamed(observed(state(enabled="disabled"))) == [
        "dock-load: the DNS server does not start at boot (disabled)"
    ]


def test_silence_for_everybody_is_one_finding_at_the_server() -> None:
    silent = everybody(Answers(replies={}))
    asked = "dock-dash, dock-prod, dock-mirror, dock-load, dock-edge"
    assert blamed(observed(state(), **silent)) == [
        f"dock-load: the DNS server does not answer (asked by {asked}: no answer within 3 s for 9 of 9 names)"
    ]


def test_silence_for_one_host_is_that_hosts_finding() -> None:
    found = observed(state(), dock_edge=Answers(replies={}, error="Required key not available"))
    assert blamed(found) == [
        "dock-edge: the DNS server does not answer (asked by dock-edge: Required key not available)"
    ]


def test_wrong_answers_are_shown() -> None:
    found = observed(state(), dock_prod=heard(dock_dash="10.20.0.99", grafana=""))
    (said,) = blamed(found)
    assert said.startswith("dock-prod: the DNS server gives wrong answers (asked by dock-prod: ")
    assert said.endswith("dock-dash.dock.internal is 10.20.0.99; grafana.dock.internal is NXDOMAIN)")


def test_who_could_not_be_seen_is_a_finding_once_for_the_server_and_the_asker() -> None:
    gone = Unreachable("dock-load", "no route")
    findings = dns.check_dns(LAB, observed(gone, dock_load=gone), holders=lambda *_: None)
    assert {finding.host for finding in findings if finding.unseen} == {"dock-load"}


def test_the_port_is_looked_at_before_it_is_taken() -> None:
    def faults(found: DnsState, held_by: list[str]) -> list[str]:
        return [one.fault for one in dns.check_port(LAB, observed(found), holders=lambda *_: held_by)]

    assert faults(pristine(), ["dnsmasq (udp 0.0.0.0:53)"]) == ["port 53 is taken by somebody else"]
    assert faults(pristine(), []) == []
    assert faults(state(), HELD) == []
