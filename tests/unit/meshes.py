"""A healthy mesh as data, for the lab's five hosts, and ways to break it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from ipaddress import IPv4Address
from typing import Any

from dockyard.change import UnitState
from dockyard.files import FileState
from dockyard.observe import Observed
from dockyard.topology import Laptop, Topology, folder_of, load_inventory, read_topology
from lab import k3s
from lab.paths import LabPaths
from lab.seed import ensure_identity
from tasks.wireguard import REACH, WIREGUARD, ReachState, WireguardState, places, wanted
from tasks.wireguard.reach import Ping
from tasks.wireguard.running import Interface, PeerSeen
from tasks.wireguard.state import KeyFile, Link, PresharedKeyFile

NOW = 1_795_421_500
ANSWER = Ping(sent=1, received=1, rtt_ms=30.5, said="")
SILENCE = Ping(sent=9, received=0, rtt_ms=None, said="")
HOSTS = ("dock-dash", "dock-prod", "dock-mirror", "dock-load", "dock-edge")


@cache
def topology() -> Topology:
    paths = LabPaths.of_user()
    if not paths.key_file.exists():  # a machine that never had a lab: the inventory names files that it makes
        paths.make()
        ensure_identity(paths)
    k3s.ensure(paths.k3s)
    return read_topology(load_inventory(folder_of("lab")))


ANNA = f"{'E' * 43}="
"""The public key of a laptop."""


def with_laptop(mesh: Topology | None = None, key: str = ANNA) -> Topology:
    """The mesh with the laptop anna in it."""
    found = mesh or topology()
    laptops = {"anna": Laptop(IPv4Address("10.20.0.100"), key)}
    wireguard = replace(found.cluster.wireguard, laptops=laptops)
    return replace(found, cluster=replace(found.cluster, wireguard=wireguard))


def key_of(host: str) -> str:
    return f"{host.replace('-', '/'):x<43}="


def pristine(host: str) -> WireguardState:
    """A host where wireguard-tools is installed and nothing else was done."""
    return WireguardState(
        now=NOW,
        interface=None,
        link=None,
        key=None,
        preshared={},
        loaded={},
        files={path: FileState(path=path) for path in places.files("wg0", resolving=False)},
        service=UnitState(name=places.service("wg0"), loaded=True, active="inactive", enabled="disabled"),
        timer=UnitState(name=places.TIMER, loaded=False, active="inactive", enabled=""),
        reload_needed=False,
    )


def healthy(hosts: Topology | None = None) -> dict[str, WireguardState]:
    """Every host as it is after all plans were carried out."""
    mesh = hosts or topology()
    bare = {host: _with_keys(mesh, host) for host in mesh.hosts}
    return {host: _running(mesh, host, bare) for host in mesh.hosts}


def _with_keys(mesh: Topology, host: str) -> WireguardState:
    preshared = {
        peer.name: PresharedKeyFile(mode=0o600, owner="root:root", fingerprint="+".join(sorted([host, peer.name])))
        for peer in mesh.peers_of(host)
    }
    key = KeyFile(mode=0o600, owner="root:root", public_key=key_of(host))
    return replace(pristine(host), key=key, preshared=preshared)


def _running(mesh: Topology, host: str, bare: Mapping[str, WireguardState]) -> WireguardState:
    peers = wanted.wanted_peers(mesh, observed(bare), host)
    seen = {
        peer.public_key: PeerSeen(
            public_key=peer.public_key,
            endpoint=str(peer.endpoint) if peer.endpoint else "10.99.0.15:40000",
            allowed_ips=(peer.allowed_ip,),
            latest_handshake=NOW - 20,
            rx_bytes=1000,
            tx_bytes=1000,
            keepalive_s=peer.keepalive_s,
            preshared=bool(peer.preshared_key),
        )
        for peer in peers
    }
    return replace(
        bare[host],
        interface=Interface(name="wg0", public_key=key_of(host), listen_port=51820, fwmark=0, peers=seen),
        link=Link(mtu=1420, up=True, addresses=(wanted.address(mesh, host),), routes=("10.20.0.0/24",)),
        loaded={peer.public_key: peer.name for peer in peers if peer.preshared_key},
        files={
            path: FileState(path=path, kind="regular file", mode=mode, owner="root", group="root", content=content)
            for path, (content, mode) in wanted.files(mesh, host, peers).items()
        },
        service=UnitState(name=places.service("wg0"), loaded=True, active="active", enabled="enabled"),
    )


def reached(host: str) -> ReachState:
    """All peers answered, all counters moved."""
    peers = [peer for peer in HOSTS if peer != host]
    return ReachState(
        now=NOW + 1,
        small=dict.fromkeys(peers, ANSWER),
        full=dict.fromkeys(peers, ANSWER),
        before={key_of(peer): (1000, 1000) for peer in peers},
        after={key_of(peer): (2500, 2600) for peer in peers},
        handshakes={key_of(peer): NOW - 20 for peer in peers},
    )


def observed(states: Mapping[str, object], reach: Mapping[str, object] | None = None) -> Observed:
    """As a sweep would return it; an exception stands for what could not be seen."""
    found: dict[str, dict[str, object]] = {host: {WIREGUARD.name: state} for host, state in states.items()}
    for host, state in (reach or {}).items():
        found[host][REACH.name] = state
    return Observed(found)


def change(state: WireguardState, **interface: Any) -> WireguardState:
    """``state`` with parts of its running interface replaced."""
    assert state.interface
    return replace(state, interface=replace(state.interface, **interface))


def change_peer(state: WireguardState, peer: str, **parts: Any) -> WireguardState:
    """``state`` with parts of one peer replaced."""
    assert state.interface
    peers = state.interface.peers
    return change(state, peers={**peers, key_of(peer): replace(peers[key_of(peer)], **parts)})


def relink(state: WireguardState, **parts: Any) -> WireguardState:
    assert state.link
    return replace(state, link=replace(state.link, **parts))


def silent(state: ReachState, *peers: str) -> ReachState:
    """``state`` where nothing came back from ``peers``."""
    return replace(
        state,
        small={**state.small, **dict.fromkeys(peers, SILENCE)},
        full={**state.full, **dict.fromkeys(peers, SILENCE)},
        after={**state.after, **{key_of(peer): (1000, 1592) for peer in peers}},
        handshakes={**state.handshakes, **{key_of(peer): NOW - 400 for peer in peers}},
    )
