"""New private keys, one host at a time, with a way back that needs nobody.

A peer is known by its public key and its allowed IPs belong to one peer only (wg(8)), so old and new key cannot stand
side by side: the rotated host and all its peers change over at the same moment. If ssh itself runs through the mesh,
the change may cut it; therefore every host first starts a timer of its own (systemd-run(1)). When it fires, the host
pings through the mesh: if the new key works, it stays, else the old file and the old key come back. So hosts decide
alike even when the rotation was killed half-way.

Order for one host: `plan_new_key`, `plan_swap`, `check_swap`, `plan_settle`.
"""

from __future__ import annotations

from dataclasses import replace

from dockyard.change import Change, Plan, Run, WriteFile
from dockyard.observe import Observed
from dockyard.topology import Topology
from tasks.wireguard import places
from tasks.wireguard.plans import CHECK_FILE, generate_key
from tasks.wireguard.state import WIREGUARD, WireguardState
from tasks.wireguard.wanted import WantedPeer, interface_file, wanted_peers
from tasks.wireguard.way_back import armed, settle


def plan_new_key(topology: Topology, observed: Observed, host: str) -> Plan:
    """Make the new key beside the old one, on ``host`` only. Nothing uses it yet."""
    state = observed.of(WIREGUARD, host)
    if state.next_key is not None or state.kept:
        return {}
    return {host: [generate_key(places.next_key(topology.cluster.wireguard.interface))]}


def plan_swap(topology: Topology, observed: Observed, host: str) -> Plan:
    """Change over to the new key on ``host`` and all its peers, each with its way back started first.

    Raises:
        NotObserved: a host could not be looked at; nobody changes then.
    """
    state = observed.of(WIREGUARD, host)
    if state.next_key is None and state.kept:
        return {}
    peers = {peer.name: _peer_changes(topology, observed, host, peer.name) for peer in topology.peers_of(host)}
    return {host: _own_changes(topology, host, state), **peers}


def _own_changes(topology: Topology, host: str, state: WireguardState) -> list[Change]:
    interface = topology.cluster.wireguard.interface
    everyone = [str(peer.wireguard.address) for peer in topology.peers_of(host)]
    take = ("mv", "-f", "--", places.next_key(interface), places.private_key(interface))
    made = state.next_key is not None
    return [
        *armed(interface, everyone),
        Run(title="take the new private key", argv=take, provisional=not made),
        _synchronise(interface, provisional=not made),
    ]


def _peer_changes(topology: Topology, observed: Observed, host: str, peer: str) -> list[Change]:
    """What ``peer`` does to know ``host`` by its new key."""
    interface = topology.cluster.wireguard.interface
    path = places.config(interface)
    wanted = [
        _with_next_key(one, observed) if one.name == host else one for one in wanted_peers(topology, observed, peer)
    ]
    final = all(one.final for one in wanted)
    written = WriteFile(
        path=path,
        content=interface_file(topology, peer, wanted),
        seen=observed.of(WIREGUARD, peer).files[path],
        mode=0o600,
        validate=CHECK_FILE,
        provisional=not final,
    )
    back = armed(interface, [str(topology.host(host).wireguard.address)])
    return [*back, written, _synchronise(interface, provisional=not final)]


def _with_next_key(peer: WantedPeer, observed: Observed) -> WantedPeer:
    new = observed.of(WIREGUARD, peer.name).next_key
    key = new.public_key if new else ""
    return replace(peer, public_key=key or f"(the new public key of {peer.name})", key_known=bool(key))


def _synchronise(interface: str, *, provisional: bool) -> Change:
    return Run(title=f"bring {interface} in line", argv=(places.SYNC, interface), provisional=provisional)


def plan_settle(topology: Topology, observed: Observed) -> Plan:
    """Forget the old state wherever it is still kept, and stop the way back."""
    change = settle(topology.cluster.wireguard.interface, "keep the new key, forget the old state", pending=True)
    return {host: [change] for host, state in observed.seen(WIREGUARD).items() if state.kept}
