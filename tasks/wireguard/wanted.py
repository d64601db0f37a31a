"""What the mesh should be on one host: peers, files, and how a running interface differs from that. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dockyard.observe import Observed
from dockyard.rendering import render
from dockyard.topology import Endpoint, Topology
from tasks.wireguard import places
from tasks.wireguard.running import FRESH_S, Interface, PeerSeen
from tasks.wireguard.state import WIREGUARD, WireguardState


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedPeer:
    """One peer as it should be. ``key_known`` is False while its host has not made a key that we have seen.

    ``preshared_key`` is the path of the shared key's file, ``""`` where the mesh has none; ``pair_ready`` says that
    both ends hold the same one (or need none).
    """

    name: str
    public_key: str
    key_known: bool
    allowed_ip: str
    endpoint: Endpoint | None
    keepalive_s: int
    preshared_key: str
    pair_ready: bool

    @property
    def final(self) -> bool:
        return self.key_known and self.pair_ready


def wanted_peers(topology: Topology, observed: Observed, host: str) -> list[WantedPeer]:
    """The peers of ``host``, in the order of the inventory: the other hosts, then the laptops.

    Raises:
        NotObserved: a peer could not be looked at, so its public key is not known.
    """
    hosts = [wanted_peer(topology, observed, host, peer.name) for peer in topology.peers_of(host)]
    return [*hosts, *laptop_peers(topology)]


def laptop_peers(topology: Topology) -> list[WantedPeer]:
    """The laptops, the same for every host. They begin themselves, from wherever they are.

    They share no preshared key: it would have to be carried to them, and ssh leads to hosts only.
    """
    return [
        WantedPeer(
            name=name,
            public_key=laptop.public_key,
            key_known=True,
            allowed_ip=f"{laptop.address}/32",
            endpoint=None,
            keepalive_s=0,
            preshared_key="",
            pair_ready=True,
        )
        for name, laptop in topology.laptops.items()
    ]


def wanted_peer(topology: Topology, observed: Observed, host: str, peer: str) -> WantedPeer:
    """How ``peer`` should stand in the interface of ``host``; raises NotObserved when one of them was not seen."""
    return _wanted(topology, host, peer, observed.of(WIREGUARD, host), observed.of(WIREGUARD, peer))


def _wanted(topology: Topology, host: str, peer: str, here: WireguardState, there: WireguardState) -> WantedPeer:
    mesh = topology.cluster.wireguard
    return WantedPeer(
        name=peer,
        public_key=there.public_key or f"(the public key of {peer}, made in an earlier step)",
        key_known=bool(there.public_key),
        allowed_ip=f"{topology.host(peer).wireguard.address}/32",
        endpoint=topology.endpoint(host, peer),
        keepalive_s=topology.keepalive_s(host, peer),
        preshared_key=places.preshared_key("%i", peer) if mesh.preshared_keys else "",
        pair_ready=not mesh.preshared_keys or is_paired(host, here, peer, there),
    )


def is_paired(host: str, here: WireguardState, peer: str, there: WireguardState) -> bool:
    """Whether both ends hold the same preshared key, in files that only root can read."""
    mine, theirs = here.preshared.get(peer), there.preshared.get(host)
    if mine is None or theirs is None or not mine.private or not theirs.private:
        return False
    return bool(mine.fingerprint) and mine.fingerprint == theirs.fingerprint


def address(topology: Topology, host: str) -> str:
    """The mesh address with the length of the whole mesh, so that the kernel makes one route for it.

    Nothing for an unknown mesh address can leave by another interface then: WireGuard refuses it.
    """
    return f"{topology.host(host).wireguard.address}/{topology.cluster.wireguard.network.prefixlen}"


def interface_file(topology: Topology, host: str, peers: Sequence[WantedPeer]) -> str:
    """The text of ``/etc/wireguard/<interface>.conf``."""
    mesh = topology.cluster.wireguard
    return render(
        "wg.conf",
        address=address(topology, host),
        port=mesh.port,
        mtu=mesh.mtu,
        peers=peers,
        private_key=places.private_key("%i"),
    )


def files(topology: Topology, host: str, peers: Sequence[WantedPeer]) -> dict[str, tuple[str, int]]:
    """All files of the mesh on ``host``: text and mode by path."""
    interface = topology.cluster.wireguard.interface
    written = {
        places.SYNC: (render("wg-sync", resolve=places.RESOLVE), 0o755),
        places.drop_in(interface): (render("wg-quick-drop-in", sync=places.SYNC), 0o644),
        places.config(interface): (interface_file(topology, host, peers), 0o600),
    }
    if not any(peer.endpoint and peer.endpoint.is_name for peer in peers):
        return written
    values = {"interface": interface, "resolve": places.RESOLVE}
    return written | {
        places.RESOLVE: (render("wg-resolve"), 0o755),
        places.RESOLVE_SERVICE: (render("wg-resolve.service", **values), 0o644),
        places.RESOLVE_TIMER: (render("wg-resolve.timer", **values), 0o644),
    }


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which a running interface is not as it should be; ``peer`` is the host or laptop, or ``""``."""

    text: str
    peer: str = ""


def differences(wanted: Sequence[WantedPeer], state: WireguardState, port: int) -> list[Difference]:
    """How the running interface differs from what it should be; nothing when there is none."""
    running = state.interface
    if running is None:
        return []
    return [
        *([Difference(f"port {running.listen_port} instead of {port}")] if running.listen_port != port else []),
        *([Difference("its key is not the one in the key file")] if state.public_key != running.public_key else []),
        *(difference for peer in wanted for difference in peer_differences(peer, state)),
    ]


def unknown_peers(wanted: Sequence[WantedPeer], running: Interface) -> list[PeerSeen]:
    known = {peer.public_key for peer in wanted}
    return [peer for key, peer in running.peers.items() if key not in known]


def name_of(peer: PeerSeen, wanted: Sequence[WantedPeer]) -> str:
    """An unknown peer for a person: its key, and whose address it claims."""
    claimed = [f"the address of {known.name}" for known in wanted if known.allowed_ip in peer.allowed_ips]
    return f"{peer.public_key} ({', '.join(claimed or peer.allowed_ips) or 'no allowed IPs'})"


def peer_differences(wanted: WantedPeer, state: WireguardState) -> list[Difference]:
    """How one peer of the running interface differs from what it should be."""
    seen = state.interface.peers.get(wanted.public_key) if state.interface else None
    if seen is None:
        return [Difference(f"peer {wanted.name} is missing", wanted.name)]
    found = []
    if seen.allowed_ips != (wanted.allowed_ip,):
        found.append(f"allowed IPs {', '.join(seen.allowed_ips) or 'none'} instead of {wanted.allowed_ip}")
    if seen.keepalive_s != wanted.keepalive_s:
        found.append(f"keepalive {seen.keepalive_s} s instead of {wanted.keepalive_s} s")
    if (state.loaded.get(wanted.public_key) if seen.preshared else "") != (wanted.name if wanted.preshared_key else ""):
        found.append("not the preshared key of its file" if wanted.preshared_key else "a preshared key, not planned")
    if lost_endpoint(wanted, seen, state):
        found.append(f"endpoint {seen.endpoint or 'none'} instead of {wanted.endpoint}, and silent")
    return [Difference(f"peer {wanted.name}: {text}", wanted.name) for text in found]


def lost_endpoint(wanted: WantedPeer, seen: PeerSeen, state: WireguardState) -> bool:
    """Whether packets go to another place than planned and nothing came back for `FRESH_S` seconds.

    WireGuard follows a peer that sends from elsewhere (wg(8), Endpoint); while that works, it is left alone.
    """
    silent = state.now - seen.latest_handshake > FRESH_S
    return silent and not is_planned(wanted.endpoint, seen.endpoint, state)


def is_planned(endpoint: Endpoint | None, seen: str, state: WireguardState, *, any_port: bool = False) -> bool:
    """Whether the endpoint that the kernel uses is the planned one; a name is what it resolves to on that host.

    Without a planned endpoint (peer behind NAT) all is well, and nothing can be said while its name means nothing.
    ``any_port`` compares addresses alone.
    """
    if endpoint is None:
        return True
    hosts = state.resolved.get(endpoint.host, frozenset()) if endpoint.is_name else {endpoint.host}
    if not hosts:
        return True
    accepted = {str(Endpoint(host, endpoint.port)) for host in hosts}
    if any_port:
        return seen.rpartition(":")[0] in {text.rpartition(":")[0] for text in accepted}
    return seen in accepted
