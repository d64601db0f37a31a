"""The writer that was replaced is back: make it the other replica again, and give it the storage back.

Its copy of who may write is brought in line, so that it stays Secondary; if it lives on as Primary beside the one that
is named, its units are stopped, and it is unmounted and demoted. If both sides were written it stops here and says so:
which of two histories ends is for a person to say, with split_brain.py. If DRBD gave the connection up without need,
it connects again. When it holds all that the present writer holds, the storage is handed over to it, by the very
steps of a planned switchover.

What it had written and not sent when it went down is kept at boot, before DRBD connects and overwrites it
(drbd-catch); the copies are named here.

Needs: both replicas and the arbitrator.
May destroy: nothing. The storage is away for seconds during the switchover; --stay leaves it where it is.
Way back: python runbooks/failover.py --to the other host.
Cut off in the middle: run it again.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from dockyard.cli import add_change_options, carry_out, parser
from dockyard.observe import Domains
from dockyard.steps import Converge, Gate, Show, Step, Wait
from dockyard.topology import Role, Topology
from runbooks.failover import planned
from tasks import drbd

SEES: Domains = [drbd.LIVE, drbd.WRITER, drbd.PARTED]
ON = drbd.ROLES


def main() -> int:
    """Read the command line, bring the replica back, and return the exit code."""
    options = parser(__doc__)
    options.add_argument("--to", metavar="HOST", help="who gets the storage (the host with the role drbd-primary)")
    options.add_argument("--stay", action="store_true", help="only bring it back as the other replica")
    add_change_options(options)
    arguments = options.parse_args()
    return carry_out(arguments, partial(_steps, arguments))


def _steps(arguments: argparse.Namespace, topology: Topology) -> list[Step]:
    home = arguments.to or topology.with_role(Role.DRBD_PRIMARY)[0].name
    return failback(drbd.replica_called(topology, home), stay=arguments.stay)


def failback(to: str, *, stay: bool) -> list[Step]:
    """The steps that bring the replaced writer back; with ``stay`` it does not get the storage."""
    back: list[Step] = [
        Converge("Tell the replicas who may write", drbd.plan_copies, [drbd.WRITER], on=ON, together=True),
        Converge("Close the storage on a replaced writer that lives on", drbd.plan_retire, [*SEES, drbd.USERS], on=ON),
        Gate("There is one history", drbd.check_one_history, SEES, on=ON),
        Converge("Connect the replicas", drbd.plan_reconnect, SEES, on=ON, together=True),
        Show("What came back", drbd.what_came_back, SEES, on=ON),
        Wait("Both hold the same data", partial(drbd.check_all_sent, to=to), SEES, timeout_s=7 * 86400, on=ON),
    ]
    return back if stay else [*back, *planned(to)]


if __name__ == "__main__":
    sys.exit(main())
