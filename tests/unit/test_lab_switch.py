"""The switch over real unix sockets: framing, delivery, a machine that goes away and comes back."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.machines import MACHINES
from lab.switch import SOCKET_NAME, Switch
from lab.wire import Shape

PROD, EDGE, MIRROR = (
    next(spec for spec in MACHINES if spec.name == name) for name in ("dock-prod", "dock-edge", "dock-mirror")
)


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[Switch]:
    for spec in MACHINES:
        (tmp_path / spec.name).mkdir()
    before = Path.cwd()
    os.chdir(tmp_path)
    running = Switch(MACHINES, tmp_path)
    running.start()
    yield running
    running.stop()
    os.chdir(before)


def plug(name: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(5)
    connection.connect(f"{name}/{SOCKET_NAME}")
    return connection


def packet(source: str, target: str, body: bytes) -> bytes:
    frame = bytes.fromhex((target + source).replace(":", "")) + b"\x08\x00" + body
    return struct.pack("!I", len(frame)) + frame


def read_packet(connection: socket.socket) -> bytes:
    with connection.makefile("rb", buffering=0) as stream:
        (length,) = struct.unpack("!I", stream.read(4) or b"")
        data = b""
        while len(data) < length:
            data += stream.read(length - len(data)) or b""
        return data[14:]


def wait_until_plugged(switch: Switch, *names: str) -> None:
    deadline = time.monotonic() + 5
    while switch.plugged != set(names):
        assert time.monotonic() < deadline, f"plugged: {switch.plugged}"
        time.sleep(0.005)


def test_frames_arrive_whole_and_in_order_however_the_stream_is_split(switch: Switch) -> None:
    with plug("dock-prod") as prod, plug("dock-mirror") as mirror:
        wait_until_plugged(switch, "dock-prod", "dock-mirror")
        first = packet(PROD.cluster_mac, MIRROR.cluster_mac, b"one" * 300)
        second = packet(PROD.cluster_mac, MIRROR.cluster_mac, b"two")
        prod.sendall(first[:7])
        prod.sendall(first[7:] + second)
        assert read_packet(mirror) == b"one" * 300
        assert read_packet(mirror) == b"two"


def test_a_cut_drops_what_is_already_on_its_way(switch: Switch) -> None:
    with plug("dock-prod") as prod, plug("dock-mirror") as mirror, plug("dock-edge") as edge:
        wait_until_plugged(switch, "dock-prod", "dock-mirror", "dock-edge")
        switch.change(lambda wire: wire.shapes.update({frozenset({"home", "dc"}): Shape(rtt_s=1.0)}))
        prod.sendall(
            packet(PROD.cluster_mac, MIRROR.cluster_mac, b"lost") + packet(PROD.cluster_mac, EDGE.cluster_mac, b"mark")
        )
        assert read_packet(edge) == b"mark"
        switch.change(lambda wire: wire.cut(["dock-prod"], ["dock-mirror"]))
        edge.sendall(packet(EDGE.cluster_mac, MIRROR.cluster_mac, b"still there"))
        assert read_packet(mirror) == b"still there"


def test_a_machine_that_was_switched_off_can_plug_in_again(switch: Switch) -> None:
    with plug("dock-edge") as edge:
        first = plug("dock-prod")
        wait_until_plugged(switch, "dock-edge", "dock-prod")
        first.close()
        wait_until_plugged(switch, "dock-edge")
        with plug("dock-prod") as prod:
            wait_until_plugged(switch, "dock-edge", "dock-prod")
            prod.sendall(packet(PROD.cluster_mac, EDGE.cluster_mac, b"back"))
            assert read_packet(edge) == b"back"
            edge.sendall(packet(EDGE.cluster_mac, PROD.cluster_mac, b"welcome"))
            assert read_packet(prod) == b"welcome"
