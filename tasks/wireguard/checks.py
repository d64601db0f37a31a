"""What is wrong with the mesh, causes first. Pure.

A fault on a host (no interface, no address) explains every direction from and to it, so those directions are named in
its evidence and are no findings of their own. A host that could not be looked at is one finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from dockyard.findings import Cause, Finding
from dockyard.observe import Observed
from dockyard.topology import Topology
from dockyard.unseen import once, unseen
from tasks.wireguard import places
from tasks.wireguard.cuts import unexplained
from tasks.wireguard.directions import Direction, directions
from tasks.wireguard.foreign import foreign_interface, used_networks
from tasks.wireguard.overlap import MESH
from tasks.wireguard.reach import REACH
from tasks.wireguard.state import WIREGUARD, WireguardState
from tasks.wireguard.wanted import (
    WantedPeer,
    address,
    differences,
    files,
    is_paired,
    laptop_peers,
    name_of,
    unknown_peers,
    wanted_peer,
)
from tasks.wireguard.way_back import check_rotation

AGAIN = "python runbooks/phase1_baseline.py mends this"


@dataclass(frozen=True, slots=True)
class _Fault:
    """A finding, and whether it stops the traffic of its host (or, with a subject, of its pair)."""

    finding: Finding
    blocks: bool = False

    def explains(self, direction: Direction) -> bool:
        pair = {direction.source, direction.target}
        ends = {self.finding.host, self.finding.subject} - {""}
        return self.blocks and ends <= pair and (self.finding.cause is not Cause.MTU or direction.answered)


def check_mesh(topology: Topology, observed: Observed) -> list[Finding]:
    """All faults of the mesh: files, running interfaces, each of the n x (n - 1) directions, unsettled key rotations.

    Needs the domains `WIREGUARD` and `REACH`.
    """
    return [*check_rotation(topology, observed), *check_swap(topology, observed)]


def check_swap(topology: Topology, observed: Observed) -> list[Finding]:
    """`check_mesh` in the middle of a key rotation, while the way back is pending on purpose."""
    seen = observed.seen(WIREGUARD)
    judged = [direction for direction in directions(topology, observed) if direction.target in seen]
    failing = [direction for direction in judged if direction.faults]
    faults = _all_faults(topology, observed)
    cause = {direction: next((fault for fault in faults if fault.explains(direction)), None) for direction in failing}
    return [
        *_unseen(topology, observed),
        *(_with_consequences(fault.finding, [d for d, by in cause.items() if by is fault]) for fault in faults),
        *unexplained(topology, judged, [direction for direction, by in cause.items() if by is None]),
    ]


def _all_faults(topology: Topology, observed: Observed) -> list[_Fault]:
    seen = observed.seen(WIREGUARD)
    found = [fault for host, state in seen.items() for fault in _host(topology, observed, host, state)]
    mesh = topology.cluster.wireguard
    ours = {host: state for host, state in seen.items() if not foreign_interface(mesh, host, state)}
    return [*found, *_pairs(topology, ours)]


def _host(topology: Topology, observed: Observed, host: str, state: WireguardState) -> list[_Fault]:
    mesh = topology.cluster.wireguard
    interface = foreign_interface(mesh, host, state)
    covered = any(one.key == MESH for one in state.overlaps)
    others = [_Fault(used, blocks=covered) for used in used_networks(host, state)]
    if interface:
        return [*others, _Fault(interface, blocks=True)]
    known = [peer.name for peer in topology.peers_of(host) if peer.name in observed.seen(WIREGUARD)]
    wanted = [*(wanted_peer(topology, observed, host, name) for name in known), *laptop_peers(topology)]
    return [
        *others,
        *_key(host, mesh.interface, state),
        *_service(host, mesh.interface, state),
        *_link(topology, host, state),
        *_running(topology, host, state, wanted),
        *_names(host, state),
        *_files(topology, host, state, wanted),
        *_units(host, state),
    ]


def _fault(
    host: str,
    fault: str,
    evidence: str,
    advice: str = AGAIN,
    *,
    peer: str = "",
    blocks: bool = False,
    cause: Cause = Cause.MESH,
) -> _Fault:
    finding = Finding(cause=cause, host=host, fault=fault, evidence=evidence, advice=advice, subject=peer)
    return _Fault(finding, blocks)


def _key(host: str, interface: str, state: WireguardState) -> list[_Fault]:
    path = places.private_key(interface)
    if state.key is None:
        return [_fault(host, "has no private key", f"{path} is not there", blocks=True)]
    if not state.key.public_key:
        return [
            _fault(
                host,
                "the private key is unusable",
                f"{path} holds no key",
                f"Look at {path}, move it away",
                blocks=True,
            )
        ]
    if not state.key.private:
        return [
            _fault(
                host, "others than root may read the private key", f"{path} is {state.key.mode:04o} {state.key.owner}"
            )
        ]
    return []


def _service(host: str, interface: str, state: WireguardState) -> list[_Fault]:
    unit = state.service
    said = f"{unit.name} is {unit.active} and {unit.enabled or 'not installed'}"
    if state.interface is None:
        advice = f"{AGAIN}; journalctl -u {unit.name} says why it stopped"
        return [_fault(host, f"{interface} is not up", said, advice, blocks=True)]
    if not unit.is_enabled:
        return [_fault(host, f"{interface} will not come back after a reboot", said)]
    return [] if unit.is_active else [_fault(host, f"{interface} was not started by systemd", said)]


def _link(topology: Topology, host: str, state: WireguardState) -> list[_Fault]:
    mesh, link, own = topology.cluster.wireguard, state.link, address(topology, host)
    if link is None or state.interface is None:
        return []
    held = ", ".join(link.addresses) or "no address"
    found = []
    if not link.up:
        found.append(_fault(host, f"{mesh.interface} is set down", "ip link: not UP", blocks=True))
    elif own not in link.addresses:
        found.append(_fault(host, f"{mesh.interface} does not have its address {own}", f"it has {held}", blocks=True))
    elif str(mesh.network) not in link.routes:
        routes = f"routes by {mesh.interface}: {', '.join(link.routes) or 'none'}"
        found.append(_fault(host, f"there is no route to {mesh.network}", routes, blocks=True))
    if own in link.addresses and len(link.addresses) > 1:
        found.append(_fault(host, f"{mesh.interface} has addresses that are not planned", f"it has {held}"))
    if link.mtu != mesh.mtu:
        evidence = f"it is {link.mtu} bytes, planned are {mesh.mtu}"
        found.append(_fault(host, f"the MTU of {mesh.interface} is wrong", evidence, blocks=True, cause=Cause.MTU))
    return found


def _running(topology: Topology, host: str, state: WireguardState, wanted: Sequence[WantedPeer]) -> list[_Fault]:
    mesh = topology.cluster.wireguard
    if state.interface is None:
        return []
    away = {f"{peer.wireguard.address}/32" for peer in topology.peers_of(host)} - {peer.allowed_ip for peer in wanted}
    unknown = [peer for peer in unknown_peers(wanted, state.interface) if not away & set(peer.allowed_ips)]
    return [
        *(_fault(host, f"{mesh.interface} has an unknown peer", name_of(peer, wanted)) for peer in unknown),
        *(
            _fault(host, f"{mesh.interface} is not as planned", difference.text, peer=difference.peer, blocks=True)
            for difference in differences(wanted, state, mesh.port)
        ),
    ]


def _names(host: str, state: WireguardState) -> list[_Fault]:
    """Endpoint names that mean nothing just now; a tunnel that works goes on where it was."""
    return [
        _fault(
            host,
            f"the endpoint {name} does not resolve",
            f"getent ahosts {name}: nothing",
            f"Mend the DNS, or the name in the inventory. Then on {host}: systemctl start {places.RESOLVE_UNIT}",
        )
        for name, found in state.resolved.items()
        if not found
    ]


def _files(topology: Topology, host: str, state: WireguardState, wanted: Sequence[WantedPeer]) -> list[_Fault]:
    """Files that someone else changed; only when all peers are known, as the interface file names them."""
    complete = len(wanted) == len(topology.peers_of(host)) + len(topology.laptops) and all(
        peer.final for peer in wanted
    )
    found = []
    for path, (content, mode) in files(topology, host, wanted).items() if complete else ():
        seen = state.files[path]
        if not seen.exists:
            found.append(_fault(host, f"{path} is missing", "there is no such file"))
        elif (seen.content, seen.mode, seen.owner) != (content, mode, "root"):
            found.append(_fault(host, f"{path} was changed", _changed(seen.content, content, seen.mode)))
    return found


def _units(host: str, state: WireguardState) -> list[_Fault]:
    """What systemd does with those files: the timer for endpoints that are names, and whether it has read them."""
    timer, found = state.timer, []
    if places.RESOLVE in state.files and not (timer.is_active and timer.is_enabled):
        said = f"{timer.name} is {timer.active} and {timer.enabled or 'not installed'}"
        found.append(_fault(host, "names of endpoints are not resolved again when they change", said))
    if state.reload_needed:
        said = f"NeedDaemonReload=yes (systemctl show), for {state.service.name} or {timer.name}"
        found.append(_fault(host, "systemd has not read its changed files yet", said))
    return found


def _changed(seen: str, wanted: str, mode: int) -> str:
    """The first line that differs, of a file that holds no secret by design; what looks like a key is left out."""
    foreign = [line for line in seen.splitlines() if line not in wanted.splitlines()]
    missing = [line for line in wanted.splitlines() if line not in seen.splitlines()]
    if foreign:
        line = foreign[0].strip()
        return f"not planned: {line.partition('=')[0] + '= ...' if 'Key' in line else line}"
    return f"missing: {missing[0]}" if missing else f"order of lines, mode ({mode:04o}) or owner differ"


def _pairs(topology: Topology, seen: Mapping[str, WireguardState]) -> list[_Fault]:
    if not topology.cluster.wireguard.preshared_keys:
        return []
    return [
        _fault(one, f"shares no preshared key with {other}", _unpaired(one, other, seen), peer=other, blocks=True)
        for one, other in combinations([host for host in topology.hosts if host in seen], 2)
        if not is_paired(one, seen[one], other, seen[other])
    ]


def _unpaired(one: str, other: str, seen: Mapping[str, WireguardState]) -> str:
    ends = {one: seen[one].preshared.get(other), other: seen[other].preshared.get(one)}
    missing = [host for host, file in ends.items() if file is None]
    readable = [host for host, file in ends.items() if file and not file.private]
    if missing:
        return f"no file on {' and '.join(missing)}"
    return f"others than root may read it on {' and '.join(readable)}" if readable else "the two files differ"


def _unseen(topology: Topology, observed: Observed) -> list[Finding]:
    """Hosts that could not be looked at, with what the others say of them."""
    found = [*unseen(observed, WIREGUARD, Cause.MESH), *unseen(observed, REACH, Cause.MESH)]
    return [
        replace(finding, evidence=finding.evidence + _heard(topology, observed, finding.host))
        for finding in once(found)
    ]


def _heard(topology: Topology, observed: Observed, away: str) -> str:
    towards = [direction for direction in directions(topology, observed) if direction.target == away]
    heard = [direction.source for direction in towards if direction.answered]
    if heard:
        return f"; but through the mesh it answers {', '.join(heard)}"
    return f"; through the mesh it answers none of {', '.join(d.source for d in towards)}" if towards else ""


def _with_consequences(cause: Finding, consequences: Sequence[Direction]) -> Finding:
    if not consequences:
        return cause
    shown = ", ".join(str(direction) for direction in consequences)
    return replace(cause, evidence=f"{cause.evidence}; so {len(consequences)} directions fail: {shown}")
