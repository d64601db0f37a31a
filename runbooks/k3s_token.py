"""A new token for K3s: made on the control plane by K3s itself, brought to the workers, which start with it.

Needs: a healthy K3s (python runbooks/health.py).
May destroy: nothing. Snapshots that were taken before hold the old token beside their datastore, which needs it: the
one that is taken afterwards is the newest from then on. A token that leaked? Remove the older ones on both hosts.
Way back: none is needed; the old token lets nobody in any more.
Cut off in the middle: run it again. It first brings the token that was made to who lacks it, then makes another one
only if it was not cut off. Every whole run makes a new token: a second run does not find "nothing to do".
"""

from __future__ import annotations

import sys
from functools import partial

from dockyard.caller import this_run
from dockyard.cli import add_change_options, carry_out, parser
from dockyard.steps import Converge, Gate, Step, Wait
from dockyard.topology import Topology
from tasks import k3s
from tasks.k3s import upkeep
from tasks.k3s.steps import ON, SEES, SERVER, bring_token, keep, require_k3s


def main() -> int:
    """Read the command line, rotate, and return the exit code."""
    options = parser(__doc__)
    add_change_options(options)
    arguments = options.parse_args()
    return carry_out(arguments, steps_of)


def steps_of(topology: Topology) -> list[Step]:
    """The steps for this cluster; raises UsageError when it has no K3s."""
    require_k3s(topology)
    return steps(this_run())


def steps(run: str) -> list[Step]:
    """The steps of the rotation ``run``."""
    return [
        Gate("Every node is ready", k3s.check_joined, SEES, on=ON),
        Converge(
            "Take a snapshot with the old token", partial(upkeep.plan_snapshot, name=f"before-token-{run}"), SEES, on=ON
        ),
        Wait("The API answers", k3s.check_api, [k3s.NODES], timeout_s=300, on=SERVER),
        keep(f"before-token-{run}"),
        Converge("Make a new token", upkeep.plan_rotate, [k3s.K3S], on=ON),
        Wait("The API answers with it", k3s.check_api, [k3s.NODES], timeout_s=300, on=SERVER),
        bring_token("Bring it to the workers, and start them with it"),
        Wait("Every node is ready with it", upkeep.check_started, SEES, timeout_s=300, on=ON),
        Converge(
            "Take a snapshot with the new token", partial(upkeep.plan_snapshot, name=f"new-token-{run}"), SEES, on=ON
        ),
        Wait("The API answers again", k3s.check_api, [k3s.NODES], timeout_s=300, on=SERVER),
        keep(f"new-token-{run}"),
        Wait("Every node is ready", upkeep.check_started, SEES, timeout_s=300, on=ON),
    ]


if __name__ == "__main__":
    sys.exit(main())
