"""Snapshots of K3s' control plane: its SQLite datastore together with the certificates and the token that belong to it.

Without options one is taken, in /var/lib/dockyard/k3s-snapshots on the control plane, which stands still for some
seconds while pods go on. A copy goes to a worker, at another site if there is one: into the same folder, for root
alone. Snapshots hold every secret of the cluster.

--restore NAME puts the control plane back to one, with the release that the inventory names; what it is now is moved
aside, not removed. If the API answers, pods end in good order before where the volumes are: a worker gives those that
the older datastore does not know a second. Workers whose token is another one get that of the snapshot, and all are
started anew, as what they have seen is newer. If the snapshot is from before k3s_move.py, the volumes are where they
were then. On a new disk: run phase1_baseline.py, which stops before the workers, then this (the snapshot is brought
from the worker that has kept it), then phase1_baseline.py again.

Needs: ssh to the nodes (the copy travels through the memory of this machine); --restore also --destroy with the folder
that is replaced, HOST:/var/lib/rancher/k3s/server.
May destroy: with --restore, what the cluster learnt since the snapshot. No data of applications.
Way back: --restore of what was moved aside (before-...).
Cut off in the middle: run it again; the control plane is started again in any case.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from dockyard import cli
from dockyard.caller import this_run
from dockyard.observe import Domains
from dockyard.report import Report
from dockyard.steps import Converge, Gate, Step, Wait
from tasks import k3s
from tasks.k3s import copies, move, places, upkeep
from tasks.k3s.steps import ON, SEES, SERVER, bring_token, keep


def main() -> int:
    """Read the command line, take or restore, and return the exit code."""
    options = cli.parser(__doc__)
    cli.add_step_options(options)
    options.add_argument("--restore", metavar="NAME", help="put the control plane back to this snapshot")
    arguments = options.parse_args()
    run = this_run()
    steps = restoring(arguments.restore, run) if arguments.restore else taking(run)
    return cli.guarded(arguments, lambda report: _run(arguments, steps, run, report))


def _run(arguments: argparse.Namespace, steps: list[Step], run: str, report: Report) -> int:
    seen = cli.run_steps(arguments, steps, report)
    if seen and not arguments.dry_run and not arguments.restore:
        report.note(f"The snapshot is {places.SNAPSHOTS}/{run}, on the control plane and on the worker that keeps it.")
    return 0


def taking(run: str) -> list[Step]:
    """The steps of a snapshot called ``run``."""
    return [
        Converge(
            "Copy datastore, certificates and token", partial(upkeep.plan_snapshot, name=run), [k3s.K3S], on=ON[:1]
        ),
        Wait("The API answers again", k3s.check_api, [k3s.NODES], timeout_s=300, on=SERVER),
        keep(run),
    ]


def restoring(name: str, run: str) -> list[Step]:
    """The steps back to the snapshot ``name``."""
    bring = partial(copies.plan_bring, name=name)
    sees: Domains = [k3s.K3S, copies.kept(name)]
    return [
        Converge("Bring the snapshot from a worker, if it is not there", bring, sees, on=ON, each=True),
        Gate("No volume lies on two workers", move.check_one_copy, [k3s.K3S], on=ON),
        Converge("Bring the release of the inventory, verified", upkeep.plan_fetch, [k3s.K3S], on=ON, each=True),
        Converge("Put the control plane back", partial(upkeep.plan_restore, name=name, run=run), [k3s.K3S], on=ON[:1]),
        Wait("The API answers", k3s.check_api, [k3s.NODES], timeout_s=300, on=SERVER),
        bring_token("Bring its token to the workers"),
        Converge(
            "Start the workers anew", partial(upkeep.plan_follow, name=name, run=run), [k3s.K3S], on=ON, each=True
        ),
        Wait("Every node is ready", upkeep.check_started, SEES, timeout_s=300, on=ON),
        Converge("Let pods start where the volumes are", upkeep.plan_open, [k3s.NODES], on=SERVER),
    ]


if __name__ == "__main__":
    sys.exit(main())
