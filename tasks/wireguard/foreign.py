"""An interface file that somebody else made and in which keys stand: it may be the only place where they lie.

It is never written over. Whoever wants Dockyard to take over keeps the keys first, with the commands named here.
"""

from __future__ import annotations

import re
import shlex

from dockyard.errors import StepFailed
from dockyard.files import FileState
from dockyard.findings import Cause, Finding
from dockyard.observe import Observed
from dockyard.topology import Topology
from tasks.wireguard import places
from tasks.wireguard.conf import HIDDEN
from tasks.wireguard.state import WIREGUARD, WireguardState

_WRITTEN = "# Written by Dockyard"
_PRIVATE_KEY = re.compile(r"^\s*PrivateKey\s*=", re.IGNORECASE | re.MULTILINE)
_ADOPT = r"s/^[[:space:]]*PrivateKey[[:space:]]*=[[:space:]]*([^[:space:]#]+).*/\1/Ip"


def is_foreign(file: FileState) -> bool:
    """Whether keys stand in a file that we did not write."""
    return HIDDEN in file.content and not file.content.startswith(_WRITTEN)


def foreign(topology: Topology, observed: Observed) -> dict[str, WireguardState]:
    """The seen hosts with such an interface file."""
    path = places.config(topology.cluster.wireguard.interface)
    return {host: state for host, state in observed.seen(WIREGUARD).items() if is_foreign(state.files[path])}


def refuse_foreign(topology: Topology, observed: Observed) -> None:
    """Raise StepFailed when writing our file would destroy keys of somebody else."""
    interface = topology.cluster.wireguard.interface
    found = foreign(topology, observed)
    if found:
        path = places.config(interface)
        keep = [f"On {host}, as root: {commands(interface, state)}" for host, state in found.items()]
        raise StepFailed(
            "\n".join(f"{host}: {path} was not written by Dockyard, and keys stand in it" for host in found),
            advice="\n".join([f"Nothing was done on any host. {_KEEPS}, then run again.", *keep]),
        )


_KEEPS = "This keeps the keys and makes room (tunnels of the old file go down: do not type it through one of them)"


def finding(interface: str, host: str, state: WireguardState) -> Finding:
    """The finding for a host with such a file; it explains everything else about its interface."""
    return Finding(
        cause=Cause.MESH,
        host=host,
        fault=f"{places.config(interface)} is not Dockyard's",
        evidence="it was not written by Dockyard, and keys stand in it; it is left alone",
        advice=f"{_KEEPS}. On {host}, as root: {commands(interface, state)}",
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
