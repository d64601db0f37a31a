"""Bring K3s to the release that the inventory names: the control plane first, then the workers, one by one.

The release is brought to all nodes and verified before anything changes; a snapshot of the control plane is taken, and
copied to a worker. Each worker is drained, upgraded, waited for and opened again, and the next one waits until every
pod is ready. Pods without a volume go elsewhere meanwhile; the one that carries the data is away while its node is
drained.

Needs: a healthy K3s (python runbooks/health.py); cluster.k3s.version changed by one minor release at the most.
May destroy: nothing.
Way back: the older release stays on each node. K3s cannot read the datastore of a newer minor release, so back is
only: cluster.k3s.version as before, and k3s_snapshot.py --restore with the snapshot that was taken here.
Cut off in the middle: run it again. A node that is still drained is opened then.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from dockyard.caller import this_run
from dockyard.change import Plan
from dockyard.cli import add_change_options, carry_out, parser
from dockyard.observe import Observed
from dockyard.steps import Converge, Gate, Step, Wait
from dockyard.topology import Role, Topology
from tasks import k3s
from tasks.k3s import copies, upkeep
from tasks.k3s.steps import ALL, ON, SEES, SERVER, keep, require_k3s


def main() -> int:
    """Read the command line, upgrade, and return the exit code."""
    options = parser(__doc__)
    add_change_options(options)
    arguments = options.parse_args()
    return carry_out(arguments, steps_of)


def steps_of(topology: Topology) -> list[Step]:
    """The steps for this cluster; raises UsageError when it has no K3s."""
    require_k3s(topology)
    server = next(host.name for host in topology.with_role(Role.K3S_SERVER))
    others = [host.name for host in topology.with_role(Role.K3S_WORKER) if host.name != server]
    return steps(server, others, this_run())


def steps(server: str, others: Sequence[str], run: str) -> list[Step]:
    """The steps for a control plane and its workers, in this order."""
    return [
        Gate("Every node is ready, and the step is not too large", upkeep.check_upgrade, SEES, on=ON),
        Converge("Bring the release to every node, verified", upkeep.plan_fetch, [k3s.K3S], on=ON),
        Converge("Take a snapshot of the control plane", partial(_before, server=server, run=run), SEES, on=ON),
        keep(f"before-upgrade-{run}", partial(_copy_before, server=server, run=run)),
        Converge(f"Upgrade {server}, the control plane", partial(upkeep.plan_upgrade, host=server), SEES, on=ON),
        Wait(f"{server} is back", partial(upkeep.check_upgraded, host=server), SEES, timeout_s=600, on=ON),
        *(step for host in others for step in _worker(host)),
    ]


def _before(topology: Topology, observed: Observed, *, server: str, run: str) -> Plan:
    behind = upkeep.is_behind(topology, observed, server)
    return upkeep.plan_snapshot(topology, observed, name=f"before-upgrade-{run}") if behind else {}


def _copy_before(topology: Topology, observed: Observed, *, server: str, run: str) -> Plan:
    behind = upkeep.is_behind(topology, observed, server)
    return copies.plan_keep(topology, observed, name=f"before-upgrade-{run}") if behind else {}


def _worker(host: str) -> list[Step]:
    return [
        Converge(f"Drain {host}", partial(upkeep.plan_drain, host=host), ALL, on=ON),
        Converge(f"Upgrade {host}", partial(upkeep.plan_upgrade, host=host), SEES, on=ON),
        Wait(f"{host} is back", partial(upkeep.check_upgraded, host=host), SEES, timeout_s=600, on=ON),
        Converge(f"Open {host} again", partial(upkeep.plan_uncordon, host=host), SEES, on=ON),
        Wait("Every pod is ready", upkeep.check_pods, [k3s.OBJECTS], timeout_s=900, on=SERVER),
    ]


if __name__ == "__main__":
    sys.exit(main())
