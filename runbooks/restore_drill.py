"""Prove that a backup can be restored: into a scratch folder, with every file compared with its checksum.

The checksums were taken from the files themselves before they were saved. Progress is shown; the restored files are
removed afterwards; the result is kept as evidence at the arbitrator, whether it is good or bad.

Needs: a backup (python runbooks/backup.py --now), and room for all of it in the scratch folder.
May destroy: nothing. It writes into a new folder beside the live data, and removes that one only.
Way back: none needed.
Cut off in the middle: the host goes on and cleans up by itself (journalctl -u dockyard-restore-drill). Run it again
for the evidence.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from dockyard.caller import this_run, whoever
from dockyard.cli import add_change_options, guarded, options_of, parser, walk
from dockyard.errors import UsageError
from dockyard.evidence import EVIDENCE
from dockyard.observe import Domains, Observed
from dockyard.report import Report
from dockyard.steps import Converge, Gate, Options, Step, Wait
from dockyard.topology import Topology
from dockyard.topology.names import mount_point
from tasks import backup, drbd, machine
from tasks.backup import drill

SCRATCH = "/var/lib/dockyard-restore"
SEES: Domains = [backup.BACKUP]
ON = drbd.REPLICAS
DAY_S = 86400


def main() -> int:
    """Read the command line, restore, and return the exit code."""
    options = parser(__doc__)
    options.add_argument("--on", metavar="HOST", default="", help="the replica to restore on (default: the writer)")
    options.add_argument(
        "--snapshot", metavar="ID", default="latest", help="which one (the beginning of its id; default: the newest)"
    )
    options.add_argument(
        "--scratch", metavar="FOLDER", default=SCRATCH, help=f"where on the host to restore (default: {SCRATCH})"
    )
    add_change_options(options)
    arguments = options.parse_args()
    return guarded(arguments, lambda report: _drill(arguments, report))


def _drill(arguments: argparse.Namespace, report: Report) -> int:
    try:
        mount_point(arguments.scratch)
    except ValueError as error:
        raise UsageError(f"--scratch: {error}") from None

    def options(topology: Topology) -> Options:
        on = arguments.on and drbd.replica_called(topology, arguments.on)
        gone = frozenset({drbd.other_of(topology, on)}) if on else frozenset()
        return options_of(arguments, gone=gone)

    run = this_run()
    steps = steps_of(arguments.on, arguments.snapshot, arguments.scratch, run)
    seen = walk(arguments.inventory, options, lambda _: steps, report)
    if not arguments.dry_run:
        report.note(drill.verdict(seen, on=arguments.on, run=run))
    return 0


def steps_of(on: str, snapshot: str, scratch: str, run: str) -> list[Step]:
    """The steps of one drill, called ``run``; ``on`` may be empty: where the storage is mounted."""
    room = drill.room(scratch, snapshot)
    restore = partial(drill.plan_restore, on=on, run=run, snapshot=snapshot, scratch=scratch)
    record = partial(drill.plan_record, on=on, run=run, snapshot=snapshot, by=whoever(), kernel=_kernel)
    record_sees: Domains = [backup.BACKUP, backup.TOOLS, EVIDENCE, machine.MACHINE]
    look = partial(drill.check_snapshot, on=on, snapshot=snapshot)
    fits = partial(drill.check_room, on=on, domain=room)
    return [
        Gate("The backup is there and can be read", look, [backup.BACKUP, backup.SNAPSHOTS], on=ON),
        Gate("There is room for it, beside the live data", fits, [room], on=ON),
        Converge("Restore it, and compare every file", restore, SEES, on=ON, each=True),
        Wait("The restore has ended", partial(drill.check_ended, on=on, run=run), SEES, timeout_s=7 * DAY_S, on=ON),
        Converge("Keep the result as evidence", record, record_sees, on=drbd.ROLES, each=True),
        Gate("Every file is as it was saved", partial(drill.check_equal, on=on, run=run), SEES, on=ON),
    ]


def _kernel(observed: Observed, host: str) -> str:
    return observed.of(machine.MACHINE, host).kernel


if __name__ == "__main__":
    sys.exit(main())
