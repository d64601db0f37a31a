"""Volumes: static, local, kept when their claim goes, and only on the node that carries them.

Each is a folder with a marker in it that is made once, together with the folder. A pod starts only where the marker is,
so that an empty folder (nothing mounted) is never filled in the place of the data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from dockyard.change import Change, Plan, Run, filled
from dockyard.errors import StepFailed
from dockyard.mount_point import closed_mount_point
from dockyard.observe import Observed
from dockyard.rendering import render
from dockyard.topology import Topology
from tasks.k3s import places
from tasks.k3s.api import NODES, OBJECTS
from tasks.k3s.config import server_of, settings
from tasks.k3s.facts import K3S, NodeHost
from tasks.k3s.join import carrier

_MAKE = """\
set -eu; root=$1 path=$2 name=$3 mounted=$4 marker=$5
[ "$mounted" = no ] || mountpoint -q -- "$root" || { echo "nothing is mounted at $root" >&2; exit 75; }
rm -f -- "$path/.new"
[ ! -e "$path" ] || [ -z "$(ls -A -- "$path")" ] || { echo "$path holds files, and no $marker" >&2; exit 75; }
install -d -m 0755 -- "$root"
install -d -m 2770 -o root -g 1000 -- "$path"
printf '%s\\n' "$name" >"$path/.new"; chmod 0644 "$path/.new"; sync -- "$path/.new"
mv -T -- "$path/.new" "$path/$marker"
install -d -m 2770 -o root -g 1000 -- "$path/data" "$path/config\""""
"""Group and mode are what fsGroup 1000 wants, so that OnRootMismatch finds nothing to change. The folders below
are subPaths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One folder on the carrier."""

    path: str


def volumes(topology: Topology) -> dict[str, Volume]:
    """Every volume by name, which is also the namespace and the name of its claim."""
    root = settings(topology).volumes.path
    return {"opencloud": Volume(path=f"{root}/opencloud")} if topology.cluster.opencloud else {}


def holding(observed: Observed, name: str, volume: Volume) -> list[str]:
    """The hosts on which the volume ``name`` lies, as its marker says."""
    return [host for host, state in observed.seen(K3S).items() if state.volumes.get(volume.path) == name]


def manifests(topology: Topology, _carrier: str) -> Mapping[str, str]:
    """The manifest of storage class and volumes, by name."""
    text = render(
        "k3s-volumes.yaml",
        storage_class=places.STORAGE_CLASS,
        labels=json.dumps(places.MANAGED),
        label=places.STORAGE_LABEL,
        here=places.HERE,
        size=places.CLAIMED,
        volumes=volumes(topology),
    )
    return {"volumes": text}


def plan_volumes(topology: Topology, observed: Observed) -> Plan:
    """Make the folders of the volumes on their carrier, each once, with its marker.

    Raises:
        StepFailed: a volume that the cluster knows is not there; or its file system is not mounted; or the cluster
            cannot say which ones it knows.
    """
    if topology.cluster.k3s is None:
        return {}
    _refuse_unknown(topology, observed)
    home = carrier(topology, observed.of(NODES, server_of(topology).name))
    return filled({home: _on_carrier(topology, observed, home)}) if home else {}


def _refuse_unknown(topology: Topology, observed: Observed) -> None:
    """Only where K3s was never installed is there no cluster that could know a volume."""
    server = server_of(topology).name
    nodes, live = observed.of(NODES, server), observed.of(OBJECTS, server)
    if observed.of(K3S, server).binary and not (nodes.answers and live.answers):
        raise StepFailed(
            f"the API of K3s does not answer on {server}, so nobody knows which volumes were made before",
            advice=f"Nothing was made. It said: {nodes.said or live.said}. Run this again when it answers.",
        )


def _on_carrier(topology: Topology, observed: Observed, home: str) -> list[Change]:
    state, root = observed.of(K3S, home), settings(topology).volumes
    known = {str(found["metadata"]["name"]) for found in _known(topology, observed)}
    missing = {name: one for name, one in volumes(topology).items() if state.volumes.get(one.path) != name}
    lost = sorted(missing.keys() & known)
    if lost:
        raise StepFailed(
            f"the volume {lost[0]} was made before, and is not on {home} ({missing[lost[0]].path}/{places.MARKER})",
            advice=_lost_advice(home, root.path, state),
        )
    if missing and root.mounted and not state.mounted:
        if state.closed:
            _refuse_unmounted(home, root.path)
        return [closed_mount_point(root.path)]
    return [_make(topology, name, one) for name, one in missing.items()]


def _known(topology: Topology, observed: Observed) -> list[Mapping[str, Any]]:
    return observed.of(OBJECTS, server_of(topology).name).of_kind("PersistentVolume")


def _refuse_unmounted(home: str, root: str) -> NoReturn:
    raise StepFailed(
        f"nothing is mounted at {root} on {home}, and the inventory wants a file system of its own there",
        advice=f"Mount it (/etc/fstab; with DRBD, phase 2 does) and run this again. {root} is immutable until then.",
    )


def _lost_advice(home: str, root: str, state: NodeHost) -> str:
    there = "something is" if state.mounted else "nothing is"
    return (
        f"Nothing is made in its place. On {home} {there} mounted at {root}: findmnt {root}; ls -A {root}. "
        "Are the data on another host? python runbooks/k3s_move.py --to HOST"
    )


def _make(topology: Topology, name: str, volume: Volume) -> Change:
    root = settings(topology).volumes
    mounted = "yes" if root.mounted else "no"
    argv = ("sh", "-c", _MAKE, "make", root.path, volume.path, name, mounted, places.MARKER)
    return Run(title=f"make the volume {name} in {volume.path}", argv=argv)
