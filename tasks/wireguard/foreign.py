"""What somebody else has where the mesh would go: an interface file, an interface of that name, its network.

It is never written over or removed: a file may be the only place where keys lie, an interface may be somebody's VPN,
and a mesh inside the home LAN would take the LAN's place. Whoever wants Dockyard to take over makes room first, with
the commands named here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from dockyard.errors import StepFailed
from dockyard.files import WRITTEN, FileState
from dockyard.findings import Cause, Finding
from dockyard.observe import Observed
from dockyard.topology import Mesh, Topology
from tasks.wireguard import places
from tasks.wireguard.conf import HIDDEN
from tasks.wireguard.overlap import MESH, Overlap
from tasks.wireguard.state import WIREGUARD, WireguardState

_PRIVATE_KEY = re.compile(r"^\s*PrivateKey\s*=", re.IGNORECASE | re.MULTILINE)
_ADOPT = r"s/^[[:space:]]*PrivateKey[[:space:]]*=[[:space:]]*([^[:space:]#]+).*/\1/Ip"
_KEEPS = (
    "This keeps file and keys, and makes room (tunnels of the old file go down: do not type it through one of them)"
)
_INVENTORY = "inventory/defaults.yaml"


def refuse_foreign(topology: Topology, observed: Observed) -> None:
    """Raise StepFailed when carrying on would destroy, replace or cover what is somebody else's."""
    mesh = topology.cluster.wireguard
    found = [
        one
        for host, state in observed.seen(WIREGUARD).items()
        for one in (foreign_interface(mesh, host, state), *used_networks(host, state))
        if one
    ]
    if found:
        advice = ["Nothing was done on any host. Make room, then run again.", *(one.advice for one in found)]
        raise StepFailed("\n".join(map(str, found)), advice="\n".join(advice))


def foreign_interface(mesh: Mesh, host: str, state: WireguardState) -> Finding | None:
    """An interface file or an interface of somebody else; it explains everything else about the interface."""
    file = state.files[places.config(mesh.interface)]
    if file.is_foreign:
        return _file(mesh.interface, host, state)
    if _written(file) or state.link is None or _started_here(mesh.interface, state):
        return None
    return _interface(mesh.interface, host, state)


def _written(file: FileState) -> bool:
    return file.exists and bool(file.content.strip())


def _started_here(interface: str, state: WireguardState) -> bool:
    """Whether an interface without its file is ours all the same: it has our key, or wg-quick has our drop-in."""
    running = state.interface
    if running is None:
        return False
    ours = bool(running.public_key) and running.public_key == state.public_key
    return ours or (state.service.is_active and state.files[places.drop_in(interface)].exists)


def _file(interface: str, host: str, state: WireguardState) -> Finding:
    path = places.config(interface)
    keys = ", and keys stand in it" if HIDDEN in state.files[path].content else ""
    return Finding(
        cause=Cause.MESH,
        host=host,
        fault=f"{path} is not Dockyard's",
        evidence=f"it does not begin with '{WRITTEN}'{keys}; it is left alone",
        advice=f"{_KEEPS}. On {host}, as root: {commands(interface, state)}",
    )


def _interface(interface: str, host: str, state: WireguardState) -> Finding:
    kind = "without a key of ours" if state.interface is not None else "and no WireGuard interface"
    return Finding(
        cause=Cause.MESH,
        host=host,
        fault=f"{interface} is not Dockyard's",
        evidence=f"it is there without {places.config(interface)}, {kind}; it is left alone",
        advice=f"On {host}, see who made it: networkctl status {interface}; nmcli device show {interface}. Take it "
        f"away there (made by hand: ip link delete dev {interface}), or give the mesh's interface another name: "
        f"cluster.wireguard.interface in {_INVENTORY}",
    )


def used_networks(host: str, state: WireguardState) -> list[Finding]:
    """Each network of the cluster that is in use on another device of the host."""
    keys = dict.fromkeys(one.key for one in state.overlaps)
    return [_used(host, [one for one in state.overlaps if one.key == key]) for key in keys]


def _used(host: str, overlaps: Sequence[Overlap]) -> Finding:
    key = overlaps[0].key
    more = ", and the addresses in hosts.yaml" if key == MESH else ""
    devices = [device for device in dict.fromkeys(one.device for one in overlaps) if device]
    look = [f"ip -4 address show dev {device}; ip -4 route show dev {device}" for device in devices]
    return Finding(
        cause=Cause.MESH,
        host=host,
        fault=f"{overlaps[0].network}, is used for something else, too",
        evidence="; ".join(map(str, overlaps)),
        advice=f"Let it be a network that no host uses: {key} in {_INVENTORY}{more}. Or free this one; on {host}: "
        f"{'; '.join(look) or 'ip -4 route show'}",
    )


def commands(interface: str, state: WireguardState) -> str:
    """What root types to keep the keys of the foreign file: the private key becomes ours unless there is one already.

    The interface goes down while its own file is there, as wg-quick(8) reads PreDown and PostDown from it.
    """
    path, key = places.config(interface), places.private_key(interface)
    steps = [*_stop(interface, state), f"mv -n {path} {path}.mine"]
    if state.key is None and _PRIVATE_KEY.search(state.files[path].content):
        adopt = f"sed -nE {shlex.quote(_ADOPT)} {path} >{key}"
        steps[:0] = [f"(umask 077; set -C; {adopt})", f"wg pubkey <{key}"]
    return " && ".join(steps)


def _stop(interface: str, state: WireguardState) -> list[str]:
    if state.service.is_active:
        return [f"systemctl stop {state.service.name}"]
    return [f"wg-quick down {interface}"] if state.interface is not None else []
