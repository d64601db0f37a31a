"""Looking at the line: what tools print is read, and the real scripts talk to each other over loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from dockyard.errors import ParseError, RemoteError, UsageError
from dockyard.framing import Command
from dockyard.topology import Backing, Topology
from tasks.drbd import line
from tests.unit.conftest import LocalCluster, topology_of_three

PING = """PING 10.20.0.3 (10.20.0.3) 56(84) bytes of data.
64 bytes from 10.20.0.3: icmp_seq=1 ttl=64 time=30.2 ms
64 bytes from 10.20.0.3: icmp_seq=3 ttl=64 time=31.2 ms

--- 10.20.0.3 ping statistics ---
3 packets transmitted, 2 received, 33.3333% packet loss, time 402ms
rtt min/avg/max/mdev = 30.211/30.712/31.213/0.501 ms
"""
SILENT = """PING 10.20.0.3 (10.20.0.3) 56(84) bytes of data.

--- 10.20.0.3 ping statistics ---
10 packets transmitted, 0 received, 100% packet loss, time 1843ms

"""
DISK = "size|1073741824\nwritten|52428800\nup|419.43\n"
FAST = """first 8388608 bytes (8.4 MB, 8.0 MiB) copied, 0.0147301 s, 569 MB/s
rest 58720256 bytes (59 MB, 56 MiB) copied, 9.0e-02 s, 652 MB/s
"""


def test_pings_and_the_disk_are_read() -> None:
    state = line.read_line(PING, DISK)
    assert (state.sent, state.received, state.rtt_ms) == (3, 2, 30.712)
    assert (state.size_bytes, state.written_bytes, state.up_s) == (1024**3, 52_428_800, 419.43)
    assert state.write_mbit == pytest.approx(1.0, abs=0.001)


def test_silence_is_no_round_trip_and_no_disk_no_size() -> None:
    state = line.read_line(SILENT, "")
    assert (state.received, state.rtt_ms, state.size_bytes, state.write_mbit) == (0, None, None, None)


def test_an_uptime_in_whole_seconds_is_one() -> None:
    assert line.read_line(PING, "written|1000000\nup|8\n").write_mbit == 1.0


@pytest.mark.parametrize("ping", ["", "ping: what?\n", PING.replace("packets transmitted", "paquets transmis")])
def test_other_pings_are_refused(ping: str) -> None:
    with pytest.raises(ParseError):
        line.read_line(ping, "")


def test_the_rate_is_that_after_the_warm_up() -> None:
    assert line.read_rate(FAST).mbit == pytest.approx(58_720_256 * 8 / 1e6 / 0.09)


def test_a_rest_that_is_too_short_counts_together_with_the_warm_up() -> None:
    text = "first 8000 bytes (8.0 kB, 7.8 KiB) copied, 1 s, 8.0 kB/s\nrest 0 bytes copied, 3 s, 0.0 kB/s\n"
    assert line.read_rate(text) == line.Rate(received_bytes=8000, seconds=4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "first \nrest \n",
        FAST.replace("copied", "kopiert"),
        FAST.partition("rest")[0],
        FAST.replace("MB/s\n", "MB/s, odd\n"),
    ],
)
def test_other_acknowledgements_are_refused(text: str) -> None:
    with pytest.raises(ParseError):
        line.read_rate(text)


def test_a_warm_up_that_ended_before_it_began_is_none() -> None:
    text = "first 0 bytes copied, 0 s, 0 B/s\nrest 1000000 bytes (1.0 MB, 977 KiB) copied, 2 s, 500 kB/s\n"
    assert line.read_rate(text).mbit == 4


def test_nothing_arrived_is_no_rate() -> None:
    with pytest.raises(ParseError, match="nothing arrived"):
        line.read_rate("first 0 bytes copied, 1 s, 0.0 kB/s\nrest 0 bytes copied, 7 s, 0.0 kB/s\n")


@pytest.mark.parametrize(("rtt_ms", "warm_s"), [(0.1, 1), (30, 1), (300, 2.4), (5000, 4)])
def test_the_warm_up_is_eight_round_trips_within_the_bounds(rtt_ms: float, warm_s: float) -> None:
    assert line.Bounds().warm_up_s(rtt_ms) == pytest.approx(warm_s)


def with_disk() -> Topology:
    topology = topology_of_three()
    hosts = {name: replace(host, drbd=Backing("/dev/vg 0/data")) for name, host in topology.hosts.items()}
    return Topology(topology.cluster, hosts)


def test_each_replica_asks_about_the_other_one_and_its_own_disk() -> None:
    topology = with_disk()
    ping, disk = line.probes(topology, topology.host("dock-mirror"))
    assert ping.argv[-1] == "10.20.0.1"
    assert "disk='/dev/vg 0/data'" in disk.argv[-1]


def test_a_cluster_without_replicas_is_named() -> None:
    topology = topology_of_three()
    alone = Topology(topology.cluster, {"dock-load": topology.host("dock-load")})
    with pytest.raises(UsageError, match="no two replicas"):
        line.replicas(alone)


def test_the_receiver_is_bounded_in_every_way() -> None:
    prod, mirror = line.replicas(topology_of_three())
    argv = line.sink_command(mirror, prod, 7799, line.Bounds(), 1.0).argv
    assert argv[0] == "systemd-run"
    assert "--listen=10.20.0.2:7799" in argv  # on its mesh address alone
    assert {"--property=IPAddressAllow=10.20.0.1", "--property=IPAddressDeny=any"} <= set(argv)
    assert {"--collect", "--property=RuntimeMaxSec=38", "--property=DynamicUser=yes"} <= set(argv)
    assert argv[-4:] == ("1", "8388608", "7", "58720256")
    assert not any("${" in word for word in argv)  # systemd would put in a variable of its own


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def on_loopback() -> Topology:
    topology = topology_of_three()
    hosts = {
        name: replace(host, wireguard=replace(host.wireguard, address=IPv4Address("127.0.0.1")))
        for name, host in topology.hosts.items()
    }
    return Topology(topology.cluster, hosts)


def unwrapped(command: Command) -> list[str]:
    """The receiver without systemd-run(1), which needs a running systemd."""
    return list(command.argv[command.argv.index("systemd-socket-activate") :])


@pytest.fixture
def receiving(port: int) -> Iterator[line.Bounds]:
    if not shutil.which("systemd-socket-activate"):
        pytest.skip("no systemd-socket-activate here")
    prod, mirror = line.replicas(on_loopback())
    bounds = line.Bounds(count_bytes=4 * 1024**2, seconds=2)
    command = unwrapped(line.sink_command(mirror, prod, port, bounds, bounds.warm_up_s(0.1)))
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        yield bounds
        process.terminate()


def sent(command: Command) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command.argv, capture_output=True, text=True, check=False, timeout=command.timeout_s)


def test_the_receiver_acknowledges_what_it_counted(receiving: line.Bounds, port: int) -> None:
    _, mirror = line.replicas(on_loopback())
    answer = sent(line.send_command(mirror, port, receiving))
    assert answer.returncode == 0, answer.stderr
    rows = [int(row.split()[1]) for row in answer.stdout.splitlines()]
    assert sum(rows) == receiving.count_bytes
    assert line.read_rate(answer.stdout).mbit > 1


def test_a_slow_sender_is_measured_for_the_agreed_time_only(receiving: line.Bounds, port: int) -> None:
    _, mirror = line.replicas(on_loopback())
    command = line.send_command(mirror, port, receiving)
    slow = "head() { while command head -c 40000 /dev/zero; do sleep 0.2; done; }\n"
    began = time.monotonic()
    answer = sent(replace(command, argv=(*command.argv[:2], slow + command.argv[2], *command.argv[3:])))
    took_s = time.monotonic() - began
    assert answer.returncode == 0, answer.stderr
    assert line.read_rate(answer.stdout).mbit == pytest.approx(1.6, rel=0.4)
    assert took_s < receiving.seconds + 2


def test_a_closed_port_is_said_with_what_to_do(cluster: LocalCluster, port: int) -> None:
    _, mirror = line.replicas(on_loopback())
    command = line.send_command(mirror, port, line.Bounds())
    answers = cluster.nornir.filter(name="dock-prod").run(task=line.send, command=command, target="dock-mirror")
    error = answers["dock-prod"].exception
    assert isinstance(error, RemoteError)
    assert f"no connection to 127.0.0.1 port {port}" in str(error)
    assert "--port" in error.advice


def test_a_receiver_that_is_there_already_is_left_alone(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    busy = Command("sink", ("sh", "-c", "echo Unit was already loaded >&2; exit 1"))
    monkeypatch.setattr(line, "sink_command", lambda *_: busy)
    prod, mirror = line.replicas(on_loopback())
    with pytest.raises(RemoteError, match="the receiver did not start: Unit was already loaded"):
        line.measure(cluster.nornir, prod, mirror, port=1, bounds=line.Bounds(), rtt_ms=1)
    assert cluster.execs() == {"dock-prod": 0, "dock-mirror": 1, "dock-load": 0}
    assert "Traceback" not in caplog.text


def test_a_whole_measurement(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    if not shutil.which("systemd-socket-activate"):
        pytest.skip("no systemd-socket-activate here")
    made = line.sink_command

    def without_systemd(*arguments: Any) -> Command:
        argv = unwrapped(made(*arguments))
        return Command("sink", ("sh", "-c", 'timeout 10 "$@" >/dev/null 2>&1 &', "sh", *argv))

    monkeypatch.setattr(line, "sink_command", without_systemd)
    prod, mirror = line.replicas(on_loopback())
    bounds = line.Bounds(count_bytes=4 * 1024**2, seconds=2)
    assert line.measure(cluster.nornir, prod, mirror, port=port, bounds=bounds, rtt_ms=1).mbit > 1
    assert cluster.execs() == {"dock-prod": 1, "dock-mirror": 2, "dock-load": 0}
