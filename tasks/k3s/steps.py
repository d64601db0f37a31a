"""What the runbooks of K3s share: where they work, what they look at, and steps that several of them take."""

from __future__ import annotations

from functools import partial

from dockyard.errors import UsageError
from dockyard.observe import Domains
from dockyard.steps import Converge, Planner
from dockyard.topology import Role, Topology
from tasks.k3s import copies
from tasks.k3s.api import NODES, OBJECTS
from tasks.k3s.facts import K3S
from tasks.k3s.join import TOKEN, plan_token

ON = (Role.K3S_SERVER, Role.K3S_WORKER)
SERVER = (Role.K3S_SERVER,)
SEES: Domains = [K3S, NODES]
ALL: Domains = [*SEES, OBJECTS]


def require_k3s(topology: Topology) -> None:
    """Raise UsageError when the inventory has no K3s."""
    if topology.cluster.k3s is None:
        raise UsageError("the inventory has no cluster.k3s", advice="See docs/k3s.md.")


def keep(name: str, plan: Planner | None = None) -> Converge:
    """The step that copies a snapshot to another host; ``plan`` in the place of `copies.plan_keep`."""
    sees = [*SEES, copies.taken(name)]
    return Converge("Keep a copy on another host", plan or partial(copies.plan_keep, name=name), sees, on=ON)


def bring_token(title: str) -> Converge:
    """The step that brings the control plane's token to the workers and starts them with it."""
    return Converge(title, plan_token, [K3S, TOKEN], on=ON, together=True)
