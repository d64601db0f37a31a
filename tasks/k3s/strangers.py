"""A K3s that is there already and is not Dockyard's: ours over it would move its API and drop its add-ons."""

from __future__ import annotations

from collections.abc import Iterator

from dockyard.files import FileState
from dockyard.findings import Finding
from dockyard.observe import Observed
from dockyard.service import unit_file
from dockyard.topology import Topology
from tasks.k3s import places
from tasks.k3s.facts import K3S, NodeHost
from tasks.k3s.join import finding

OURS = "Written by Dockyard"
"""In the first line of every file of ours."""


def check_strangers(_topology: Topology, observed: Observed) -> list[Finding]:
    """Nobody else's K3s would be taken over. What was changed by hand in a K3s of ours is none."""
    return [one for host, state in observed.seen(K3S).items() for one in _taken_over(host, state)]


def _taken_over(host: str, state: NodeHost) -> Iterator[Finding]:
    if evidence := _foreign(state):
        away = "k3s-uninstall.sh (on a worker k3s-agent-uninstall.sh) of its own install.sh removes it with its data"
        yield finding(
            host,
            "a K3s of somebody else would be taken over",
            "; ".join(evidence),
            f"Take what it runs elsewhere first; then {away}. Or give its role to another host (docs/k3s.md)",
        )


def _foreign(state: NodeHost) -> list[str]:
    """What says that somebody else has installed K3s here."""
    if state.binary:
        return []
    binary = [f"{state.foreign} is no link to a release of Dockyard's"] if state.foreign else []
    path = unit_file(state.unit.name)
    unit = [f"{state.unit.name} is {state.unit.active}"] if state.unit.loaded and not _ours(state.files[path]) else []
    config = state.files[places.CONFIG]
    return [*binary, *unit, *([f"{places.CONFIG} is there"] if config.exists and not _ours(config) else [])]


def _ours(file: FileState) -> bool:
    return OURS in file.content.partition("\n")[0]
