"""Who listens where: what a normal Debian does is no finding, what others could reach is one, with its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from dockyard.errors import Unreachable
from dockyard.findings import Cause, Finding
from dockyard.observe import Observed
from dockyard.topology import Exposed, Protocol, Topology
from tasks import machine
from tasks.machine.sockets import read_sockets
from tests.unit.meshes import topology

SAMPLES = Path(__file__).parents[1] / "samples" / "ss_listening"
LAB = topology()


def line(netid: str, address: str, process: str = "", pid: int = 7) -> str:
    state = "LISTEN" if netid == "tcp" else "UNCONN"
    users = f'users:(("{process}",pid={pid},fd=3))' if process else ""
    return f"{netid} {state} 0 128 {address} {'[::]' if '[' in address else '0.0.0.0'}:* {users}"


def seen(*lines: str, host: str = "dock-load") -> Observed:
    state = read_sockets("".join(f"{one}\n" for one in lines))
    return Observed({host: {machine.LISTENING.name: state}})


def judged(*lines: str, host: str = "dock-load", cluster: Topology = LAB) -> list[Finding]:
    return machine.check_exposure(cluster, seen(*lines, host=host))


def test_what_a_machine_of_the_lab_listens_on_is_in_order() -> None:
    recorded = (SAMPLES / "iproute2-6.15.0__004_wireguard_and_sshd__dock-prod.txt").read_text()
    assert judged(*recorded.splitlines(), host="dock-prod") == []


@pytest.mark.parametrize(
    "one",
    [
        line("tcp", "10.20.0.4:6443", "k3s-server"),
        line("tcp", "127.0.0.1:25", "exim4"),
        line("tcp", "[::1]:631", "cupsd"),
        line("tcp", "[::ffff:127.0.0.1]:9050", "java"),
        line("udp", "127.0.0.53%lo:53", "systemd-resolve"),
        line("udp", "0.0.0.0%wg0:5000", "iperf3"),
        line("udp", "127.0.0.1:323", "chronyd"),
        line("tcp", "*:22", "sshd"),
        line("tcp", "0.0.0.0:22", "systemd"),
        line("udp", "0.0.0.0:51820"),
        line("udp", "0.0.0.0:8472"),
        line("udp", "0.0.0.0:68", "dhclient"),
        line("udp", "100.64.0.4%eth0:68", "systemd-network"),
        line("udp", "[fe80::5054:ff:fe00:104]%eth0:546", "NetworkManager"),
        line("udp", "0.0.0.0:40123", "dnsmasq"),
        line("udp", "10.42.0.1:53", "dnsmasq"),
        line("udp", "[fe80::c7b:84ff:fe00:6867]%cni0:53", "dnsmasq"),
    ],
)
def test_what_is_inside_or_belongs_there_is_no_finding(one: str) -> None:
    assert judged(one) == []


@pytest.mark.parametrize(
    ("one", "who"),
    [
        (line("tcp", "0.0.0.0:9100", "prometheus-node"), "prometheus-node"),
        (line("tcp", "*:11434", "ollama"), "ollama"),
        (line("tcp", "192.168.1.10:80", "nginx"), "nginx"),
        (line("tcp", "10.20.0.5:80", "nginx"), "nginx"),
        (line("udp", "[::]:5353", "avahi-daemon"), "avahi-daemon"),
        (line("udp", "0.0.0.0:4789"), "the kernel"),
        (line("udp", "0.0.0.0:8472", "socat"), "socat"),
        (line("udp", "0.0.0.0:51820", "wireguard-go"), "wireguard-go"),
        (line("tcp", "0.0.0.0:51820"), "the kernel"),
        (line("tcp", "0.0.0.0:22", "python3"), "python3"),
        (line("tcp", "0.0.0.0:8022", "sshd"), "sshd"),
        (line("udp", "0.0.0.0:68", "socat"), "socat"),
        (line("tcp", "0.0.0.0:40123", "nc"), "nc"),
        (line("udp", "192.168.122.1:53", "dnsmasq"), "dnsmasq"),
    ],
)
def test_what_others_can_reach_is_named(one: str, who: str) -> None:
    (finding,) = judged(one)
    assert finding.cause is Cause.EXPOSURE
    assert finding.fault == f"{who} listens on a public address"
    assert finding.evidence.split(" ")[0] in {"tcp", "udp"}


def test_flannel_belongs_on_nodes_only() -> None:
    (finding,) = judged(line("udp", "0.0.0.0:8472"), host="dock-edge")
    assert finding.fault == "the kernel listens on a public address"


def test_one_process_is_one_finding_with_all_its_sockets() -> None:
    both = line("tcp", "0.0.0.0:80", "nginx", 31), line("tcp", "[::]:80", "nginx", 32)
    (finding,) = judged(*both)
    assert finding.evidence == "tcp 0.0.0.0:80, tcp [::]:80 (process 31, 32)"
    assert finding.advice.startswith(
        "Stop it, or let it listen on 127.0.0.1 only, or on 10.20.0.4 at a port that Dockyard does not use itself. "
    )
    assert "exposed: [{port: 80, proto: tcp, why: ...}] for dock-load" in finding.advice


def reached_by(name: str, **parts: str) -> Topology:
    """The lab with another hostname or LAN name of one host."""
    host = LAB.host(name)
    hostname = parts.pop("hostname", host.hostname)
    moved = replace(host, hostname=hostname, wireguard=replace(host.wireguard, **parts))  # type: ignore[arg-type]  # names
    return replace(LAB, hosts={**LAB.hosts, name: moved})


MDNS = line("udp", "0.0.0.0:5353", "avahi-daemon")
RESOLVED = line("udp", "0.0.0.0:5355", "systemd-resolve")
SWITCHED_OFF = "systemctl disable --now avahi-daemon"


@pytest.mark.parametrize("cluster", [LAB, reached_by("dock-load", hostname="local.example.net")])
def test_what_answers_for_names_in_the_lan_is_switched_off_where_nobody_asks_it(cluster: Topology) -> None:
    (finding,) = judged(MDNS, cluster=cluster)
    assert finding.advice.startswith(SWITCHED_OFF)


@pytest.mark.parametrize(
    ("cluster", "name"),
    [
        (reached_by("dock-load", hostname="load.local"), "load.local"),
        (reached_by("dock-load", hostname="Load.Local."), "Load.Local."),
        (reached_by("dock-load", lan="pi.local"), "pi.local"),
    ],
)
def test_before_the_way_in_is_cut_the_host_gets_another_name(cluster: Topology, name: str) -> None:
    (finding,) = judged(MDNS, cluster=cluster)
    first, _, rest = finding.advice.partition("; then ")
    assert first == f"First, in hosts.yaml, an address or a DNS name for {name}, which leads nowhere without it"
    assert rest.startswith(SWITCHED_OFF)
    (finding,) = judged(RESOLVED, cluster=cluster)
    assert finding.advice.startswith(f"{first}; then LLMNR=no and MulticastDNS=no")
    (other,) = judged(line("tcp", "*:111", "rpcbind"), cluster=cluster)
    assert other.advice.startswith("systemctl disable --now rpcbind.socket"), "the name does not hang on it"


def test_a_neighbour_is_found_through_it_too() -> None:
    cluster = reached_by("dock-prod", lan="pi.local")
    (finding,) = judged(MDNS, host="dock-edge", cluster=cluster)
    assert "name for pi.local" in finding.advice
    assert judged(MDNS, host="dock-dash", cluster=cluster)[0].advice.startswith(SWITCHED_OFF)


def with_exposed(ports: Sequence[Exposed], *, of_the_host: bool) -> Topology:
    if not of_the_host:
        return replace(LAB, cluster=replace(LAB.cluster, exposed=tuple(ports)))
    load = replace(LAB.host("dock-load"), exposed=tuple(ports))
    return replace(LAB, hosts={**LAB.hosts, "dock-load": load})


@pytest.mark.parametrize("of_the_host", [True, False])
def test_what_has_a_reason_in_the_inventory_is_meant(of_the_host: bool) -> None:
    cluster = with_exposed([Exposed(80, Protocol.TCP, "the blog")], of_the_host=of_the_host)
    assert judged(line("tcp", "0.0.0.0:80", "nginx"), cluster=cluster) == []
    assert len(judged(line("udp", "0.0.0.0:80", "nginx"), cluster=cluster)) == 1
    elsewhere = judged(line("tcp", "0.0.0.0:80", "nginx"), host="dock-dash", cluster=cluster)
    assert len(elsewhere) == (1 if of_the_host else 0)


def test_the_dnsmasq_of_libvirt_speaks_to_virtual_machines_where_there_are_some() -> None:
    lines = line("udp", "192.168.122.1:53", "dnsmasq"), line("udp", "0.0.0.0%virbr0:67", "dnsmasq")
    assert judged(*lines, host="dock-edge") == []
    assert len(judged(*lines, host="dock-load")) == 1
    assert len(judged(line("udp", "0.0.0.0:53", "dnsmasq"), host="dock-edge")) == 1


def test_only_where_pods_run_is_their_network_inside() -> None:
    assert len(judged(line("udp", "10.42.0.1:53", "dnsmasq"), host="dock-dash")) == 1
    by_hand = replace(LAB, cluster=replace(LAB.cluster, k3s=None))
    assert judged(line("udp", "10.42.0.1:53", "dnsmasq"), cluster=by_hand) == []


def test_the_network_of_the_pods_is_the_one_of_the_inventory() -> None:
    assert LAB.cluster.k3s
    moved = replace(LAB, cluster=replace(LAB.cluster, k3s=replace(LAB.cluster.k3s, pods=IPv4Network("10.77.0.0/16"))))
    assert judged(line("udp", "10.77.0.1:53", "dnsmasq"), cluster=moved) == []
    (finding,) = judged(line("udp", "10.42.0.1:53", "dnsmasq"), cluster=moved)
    assert finding.fault == "dnsmasq listens on a public address"


def test_ssh_may_listen_where_the_inventory_says_that_it_does() -> None:
    moved = replace(LAB, hosts={**LAB.hosts, "dock-load": replace(LAB.host("dock-load"), port=2222)})
    assert judged(line("tcp", "0.0.0.0:2222", "sshd"), cluster=moved) == []


def test_a_host_that_could_not_be_seen_is_a_finding() -> None:
    observed = Observed({"dock-load": {machine.LISTENING.name: Unreachable("dock-load", "no route")}})
    (finding,) = machine.check_exposure(LAB, observed)
    assert finding.unseen


def test_who_holds_a_port_of_the_mesh_address() -> None:
    observed = seen(
        line("udp", "0.0.0.0:53", "pihole-FTL"),
        line("udp", "127.0.0.53%lo:53", "systemd-resolve"),
        line("tcp", "10.20.0.4:53", "dnsmasq"),
        line("udp", "192.168.122.1:53", "dnsmasq"),
        line("tcp", "0.0.0.0:80", "nginx"),
    )
    assert machine.holders(LAB, observed, "dock-load", 53) == [
        "pihole-FTL (udp 0.0.0.0:53)",
        "dnsmasq (tcp 10.20.0.4:53)",
    ]
    assert machine.holders(LAB, observed, "dock-dash", 53) is None
    assert machine.holders(LAB, observed, "dock-load", 443) == []
