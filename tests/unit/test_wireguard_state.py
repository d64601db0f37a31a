"""What WireGuard printed on real machines, read back and compared with facts that were recorded beside it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dockyard.errors import ParseError, ToolMissing
from dockyard.links import read_addresses, read_routes
from dockyard.remote import Completed, Outputs
from dockyard.topology import Topology
from tasks.wireguard import WIREGUARD, state
from tasks.wireguard.overlap import overlaps
from tasks.wireguard.reach import read_reach
from tasks.wireguard.running import Running, read_dump
from tests.parsers.samples import Sample, samples_of
from tests.unit import kube
from tests.unit.meshes import topology

DUMPS = samples_of("wg_show_all_dump")


def redacted(dump: Path, tmp_path: Path) -> str:
    """What the probe prints where ``wg show all dump`` prints ``dump``."""
    wg = tmp_path / "wg"
    wg.write_text(f"#!/bin/sh\ncat {dump}\n")
    wg.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-c", state._DUMP], check=True, capture_output=True, text=True, env={"PATH": path}
    ).stdout


@pytest.mark.parametrize("dump", DUMPS, ids=str)
def test_hiding_keys_leaves_the_rest_as_it_was_recorded(dump: Sample, tmp_path: Path) -> None:
    assert redacted(dump.path, tmp_path) == dump.text
    assert read_dump(dump.text).complete


@pytest.mark.parametrize(("interface", "code"), [("", 0), ("7: wg0: <POINTOPOINT,NOARP,UP> mtu 1420", 127)])
def test_without_the_tools_there_is_nothing_unless_there_is_an_interface(
    tmp_path: Path, interface: str, code: int
) -> None:
    ip = tmp_path / "ip"
    ip.write_text(f"#!/bin/sh\necho '{interface}'\n")
    ip.chmod(0o755)
    done = subprocess.run(["/bin/sh", "-c", state._DUMP], check=False, capture_output=True, env={"PATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (code, b"")


def test_no_interface_at_all_is_an_empty_answer(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("")
    assert redacted(empty, tmp_path) == ""
    assert read_dump("") == Running(interfaces={}, complete=True)


SECRET = "cE9fEtV0vvGLiP3LqdSP4oz8uVC1yvb3Kb/LPKWt4lE="
PUBLIC = "n2SBb3dC0eep6qdN8LVZ0VJDGCANQiDjrSzaNdqc0DQ="


def test_secrets_do_not_leave_the_host(tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    dump.write_text(
        f"wg0\t{SECRET}\t{PUBLIC}\t51820\toff\n"
        f"wg0\t{PUBLIC}\t{SECRET}\t(none)\t10.20.0.2/32\t0\t0\t0\toff\n"
        f"wg0\t{SECRET}\tthis\tis\ta\tdump\tof\tanother\tversion\t{SECRET}\tx\n"
    )
    text = redacted(dump, tmp_path)
    assert SECRET not in text
    with pytest.raises(ParseError, match="line 3"):
        read_dump(text)


@pytest.mark.parametrize(
    "line",
    [
        f"wg0\t{SECRET}\t{PUBLIC}\t51820\toff",
        f"wg0\t{PUBLIC}\t{SECRET}\t(none)\t10.20.0.2/32\t0\t0\t0\toff",
        f"wg0\t{PUBLIC}\t(none)\t(none)\t10.20.0.2/32\tyesterday\t0\t0\toff",
        f"wg0\t(hidden)\t{PUBLIC}\t51820",
        "Unable to access interface: Operation not permitted",
    ],
)
def test_unknown_lines_and_unhidden_secrets_are_refused(line: str) -> None:
    with pytest.raises(ParseError) as raised:
        read_dump(f"wg0\t(hidden)\t{PUBLIC}\t51820\toff\n{line}\n")
    assert SECRET not in str(raised.value)


def answer(name: str, stdout: str, exit_code: int = 0) -> Completed:
    return Completed(name=name, argv=("sh",), exit_code=exit_code, stdout=stdout, stderr="", duration_s=0.01)


UNIT = "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n"
FILES = f"""\
now||||1795421500
reload||||no
key|wg0.key|600|root:root|{PUBLIC}
key|wg0.key.new|600|root:root|
old|wg0.conf.old|||same
old|wg0.key.old|||other
armed||||48
psk|dock-prod|600|root:root|0123456789abcdef
loaded|{PUBLIC}|||dock-prod
psk|dock-load|644|root:root|
"""
ADDRESS = json.dumps(
    [
        {
            "ifindex": 1,
            "ifname": "lo",
            "flags": ["LOOPBACK", "UP"],
            "mtu": 65536,
            "operstate": "UNKNOWN",
            "addr_info": [],
        },
        {
            "ifindex": 4,
            "ifname": "wg0",
            "operstate": "UNKNOWN",
            "flags": ["POINTOPOINT", "NOARP", "UP", "LOWER_UP"],
            "mtu": 1420,
            "addr_info": [
                {"family": "inet", "local": "10.20.0.1", "prefixlen": 24},
                {"family": "inet6", "local": "fe80::1", "prefixlen": 64},
            ],
        },
    ]
)
ROUTE = json.dumps([{"dst": "default", "dev": "eth0"}, {"dst": "10.20.0.0/24", "dev": "wg0", "prefsrc": "10.20.0.1"}])


def outputs(**replaced: Completed) -> Outputs:
    answers = {
        "wg show all dump": answer("wg show all dump", f"wg0\t(hidden)\t{PUBLIC}\t51820\toff\n"),
        "wireguard files": answer("wireguard files", FILES),
        "ip address": answer("ip address", ADDRESS),
        "ip route": answer("ip route", ROUTE),
        "unit:wg-quick@wg0.service": answer("unit:wg-quick@wg0.service", UNIT),
        "unit:dockyard-wg-resolve.timer": answer("unit:dockyard-wg-resolve.timer", UNIT.replace("loaded", "not-found")),
    }
    commands = WIREGUARD.probes(topology(), topology().host("dock-dash"))
    for command in commands:
        answers.setdefault(command.name, answer(command.name, "absent\n"))
    answers |= {one.name: one for one in replaced.values()}
    return Outputs("dock-dash", list(answers.values()), commands)


def read(**replaced: Completed) -> state.WireguardState:
    return WIREGUARD.read(topology(), topology().host("dock-dash"), outputs(**replaced))


def test_one_host_is_read_from_all_its_answers() -> None:
    seen = read()
    assert seen.public_key == PUBLIC
    assert seen.key == state.KeyFile(mode=0o600, owner="root:root", public_key=PUBLIC)
    assert seen.next_key == state.KeyFile(mode=0o600, owner="root:root")
    assert (seen.kept, seen.key_renewed, seen.armed_s) == (("wg0.conf.old", "wg0.key.old"), True, 48)
    assert seen.link == state.Link(mtu=1420, up=True, addresses=("10.20.0.1/24",), routes=("10.20.0.0/24",))
    assert seen.loaded == {PUBLIC: "dock-prod"}
    assert (seen.preshared["dock-prod"].private, seen.preshared["dock-load"].private) == (True, False)
    assert (seen.service.is_active, seen.timer.loaded, seen.reload_needed) == (True, False, False)
    assert not seen.files["/etc/wireguard/wg0.conf"].exists


ETH0 = {"ifindex": 2, "ifname": "eth0", "flags": ["BROADCAST", "UP", "LOWER_UP"], "mtu": 1500, "operstate": "UP"}


def with_lan(*addresses: str, routes: Sequence[dict[str, object]] = ()) -> tuple[str, ...]:
    """What overlaps on a host that has ``addresses`` on eth0, and ``routes``, beside its healthy wg0."""
    given = [address.split("/") for address in addresses]
    info = [{"family": "inet", "local": local, "prefixlen": int(length)} for local, length in given]
    ip_address = json.dumps([*json.loads(ADDRESS), {**ETH0, "addr_info": info}])
    ip_route = json.dumps([*json.loads(ROUTE), *routes])
    seen = read(address=answer("ip address", ip_address), route=answer("ip route", ip_route))
    return tuple(str(overlap) for overlap in seen.overlaps)


def test_what_other_devices_have_inside_the_network_of_the_mesh_is_kept() -> None:
    assert read().overlaps == ()
    lan: list[dict[str, object]] = [{"dst": "10.20.0.0/24", "dev": "eth0", "prefsrc": "10.20.0.77"}]
    assert with_lan("10.20.0.77/24", routes=lan) == (
        "eth0 has the address 10.20.0.77/24",
        "eth0 has the route 10.20.0.0/24",
    )
    one: list[dict[str, object]] = [{"dst": "10.20.0.4", "dev": "tun0"}, {"type": "blackhole", "dst": "10.20.0.128/25"}]
    assert with_lan(routes=one) == ("tun0 has the route 10.20.0.4", "there is the blackhole route 10.20.0.128/25")
    hops: list[dict[str, object]] = [{"dst": "10.20.0.0/25", "nexthops": [{"dev": "eth1"}, {"dev": "wg0"}]}]
    assert with_lan(routes=hops) == ("eth1 has the route 10.20.0.0/25",)


def test_a_wider_route_and_other_networks_do_no_harm() -> None:
    routes: list[dict[str, object]] = [
        {"dst": "10.0.0.0/8", "gateway": "192.168.1.1", "dev": "eth0"},
        {"dst": "10.42.1.0/24", "gateway": "10.42.1.0", "dev": "flannel.1"},
        {"dst": "10.42.0.0/24", "dev": "cni0"},
        {"dst": "0.0.0.0/1", "dev": "tun0"},
    ]
    assert with_lan("192.168.1.12/24", "10.20.1.5/24", routes=routes) == ()


def test_what_lies_in_the_network_of_the_pods_would_be_lost_on_a_node_and_nowhere_else() -> None:
    shared = {**ETH0, "addr_info": [{"family": "inet", "local": "10.42.0.1", "prefixlen": 24}]}
    wide = {
        **ETH0,
        "ifindex": 3,
        "ifname": "eth1",
        "addr_info": [{"family": "inet", "local": "10.9.0.1", "prefixlen": 8}],
    }
    bridge = {**ETH0, "ifindex": 4, "ifname": "cni0", "addr_info": []}
    behind = {"dst": "10.42.7.0/24", "gateway": "192.168.1.1", "dev": "eth0"}
    routes, cluster = read_routes(json.dumps([behind, {"dst": "10.43.7.0/24", "dev": "eth0"}])), kube.topology()

    def found(cluster: Topology, host: str, *links: dict[str, object]) -> list[tuple[str, str]]:
        seen = overlaps(cluster, cluster.host(host), read_addresses(json.dumps(links)), routes)
        return [(one.key, str(one)) for one in seen]

    pods = [("cluster.k3s.pods", f"eth0 has the {what}") for what in ("address 10.42.0.1/24", "route 10.42.7.0/24")]
    assert found(cluster, "dock-prod", shared) == pods
    assert found(cluster, "dock-prod", shared, wide) == [
        ("cluster.wireguard.network", "eth1 has the address 10.9.0.1/8"),
        *pods,
    ]
    assert found(cluster, "dock-prod", shared, bridge) == [], "K3s runs: it can be changed no more"
    assert found(cluster, "dock-edge", shared) == []
    assert found(replace(cluster, cluster=replace(cluster.cluster, k3s=None)), "dock-prod", shared) == []


def test_a_wider_lan_or_a_gateway_inside_the_network_would_lose_who_is_in_there() -> None:
    assert with_lan("10.20.5.12/16") == ("eth0 has the address 10.20.5.12/16",)
    assert with_lan("10.0.5.12/8") == ("eth0 has the address 10.0.5.12/8",)
    tunnel = {
        **ETH0,
        "flags": ["POINTOPOINT", "UP"],
        "addr_info": [{"family": "inet", "local": "10.8.0.5", "prefixlen": 8}],
    }
    assert read(address=answer("ip address", json.dumps([*json.loads(ADDRESS), tunnel]))).overlaps == ()
    route: list[dict[str, object]] = [{"dst": "default", "gateway": "10.20.0.254", "dev": "eth0"}]
    assert with_lan("192.168.1.12/24", routes=route) == ("eth0 has the gateway 10.20.0.254",)


def test_a_destination_that_is_no_network_is_refused() -> None:
    with pytest.raises(ParseError, match="no network: 'elsewhere'"):
        with_lan(routes=[{"dst": "elsewhere", "dev": "eth0"}])


def test_a_missing_tool_and_strange_json_are_errors_of_their_own() -> None:
    with pytest.raises(ToolMissing):
        read(dump=answer("wg show all dump", "", 127))
    with pytest.raises(ParseError, match="ends in the middle"):
        read(dump=answer("wg show all dump", f"wg0\t(hidden)\t{PUBLIC}\t51820\toff"))
    with pytest.raises(ParseError, match="ip -j address"):
        read(address=answer("ip address", "Object not found"))


def test_probes_ask_for_names_only_where_an_endpoint_is_one() -> None:
    commands = WIREGUARD.probes(topology(), topology().host("dock-dash"))
    assert not any("getent" in word for command in commands for word in command.argv)
    assert "file:/usr/local/lib/dockyard/wg-resolve" not in {command.name for command in commands}


REACHED = f"""\
before\t{PUBLIC}\t1000\t2000
ping|dock-prod|56|0
PING 10.20.0.2 (10.20.0.2) 56(84) bytes of data.
64 bytes from 10.20.0.2: icmp_seq=1 ttl=64 time=31.2 ms

--- 10.20.0.2 ping statistics ---
1 packets transmitted, 1 received, 0% packet loss, time 0ms
rtt min/avg/max/mdev = 31.199/31.199/31.199/0.000 ms
end
ping|dock-prod|1392|1
PING 10.20.0.2 (10.20.0.2) 1392(1420) bytes of data.
ping: local error: message too long, mtu=1300

--- 10.20.0.2 ping statistics ---
1 packets transmitted, 0 received, +1 errors, 100% packet loss, time 0ms

end
ping|dock-load|56|2
ping: connect: Network is unreachable
end
after\t{PUBLIC}\t1128\t2148
handshake\t{PUBLIC}\t1795421400
now\t1795421500
"""


def test_pings_and_counters_are_read() -> None:
    reach = read_reach(REACHED)
    assert (reach.small["dock-prod"].answered, reach.small["dock-prod"].rtt_ms) == (True, 31.199)
    assert (reach.full["dock-prod"].answered, reach.full["dock-prod"].said) == (
        False,
        "local error: message too long, mtu=1300",
    )
    assert reach.small["dock-load"].said == "connect: Network is unreachable"
    assert (reach.moved(PUBLIC), reach.age_s(PUBLIC)) == ((128, 148), 100)
    assert (reach.moved("another"), reach.age_s("another")) == ((0, 0), None)


def test_a_ping_that_says_something_new_is_refused() -> None:
    with pytest.raises(ParseError, match="flux compensator"):
        read_reach(REACHED.replace("1 packets transmitted, 1 received", "flux compensator"))
