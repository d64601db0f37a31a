"""Back the replicated storage up with restic, every night, from whichever replica is the writer.

Both replicas get the same script, timers and password, and an ssh key each; the script does something only where the
storage is mounted as DRBD Primary, so backups go on after a failover, in the same repository. How files are kept still
meanwhile is the inventory's choice (cluster.backup.units): see docs/backup.md.

--now makes one backup and waits for it, and changes nothing else.

Needs: a finished phase 2; cluster.backup in the inventory; a NAS with SFTP (or restic's REST server), whose host key
you pin and whose user gets the replicas' public keys: the run stops and shows both.
May destroy: nothing of yours. The repository is made once, and only where there is none. Backups that the inventory
does not want to keep any more are removed after each new one (cluster.backup.keep).
Way back: `systemctl disable --now dockyard-backup.timer dockyard-backup-check.timer` on both replicas. The repository
stays readable with restic and the password.
Cut off in the middle: run it again.
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
from tasks import backup, drbd
from tasks.backup import places
from tasks.drbd.places import WRITER

SEES: Domains = [backup.BACKUP]
NAS: Domains = [backup.BACKUP, backup.REPOSITORY]
SECRETS: Domains = [backup.PASSWORD, backup.REST_PASSWORD]
ON = drbd.REPLICAS
STORAGE = places.Storage(unit=drbd.STORAGE, record=WRITER)
DAY_S = 86400
KEEP_A_COPY = (
    "Keep a copy of the password away from both sites; without it nobody can read the backups. "
    f"On either replica: sudo cat {places.PASSWORD}"
)

GATE = partial(Gate, sees=SEES, on=ON, stale_s=30.0)
CONVERGE = partial(Converge, sees=SEES, on=ON, stale_s=30.0)
"""Steps for which it is enough what the step before has seen; what is there already the host itself leaves alone."""

SET_UP: list[Step] = [
    Gate("The storage has a writer and two copies", drbd.check_drbd, [drbd.DRBD, drbd.WRITER], on=drbd.ROLES),
    Converge("Install restic", backup.plan_tools, [backup.TOOLS], on=ON, each=True),
    GATE("Restic is new enough", backup.check_tools, sees=[backup.TOOLS]),
    CONVERGE("Make the password of the repository", backup.plan_password),
    GATE("The REST server's password is there, if it wants one", backup.check_rest_password),
    Converge("Share the passwords", backup.plan_share_password, [*SEES, *SECRETS], on=ON, together=True),
    CONVERGE("Make each replica's ssh key", backup.plan_keys, each=True),
    Gate("The NAS shows the host key that is pinned", backup.check_host_key, [backup.NAS_KEYS], on=ON),
    CONVERGE("Write the script, its units and the pinned key", partial(backup.plan_files, storage=STORAGE), each=True),
    Gate("The NAS lets both replicas in", backup.check_login, NAS, on=ON),
    CONVERGE("Make the repository, once", backup.plan_repository, sees=NAS),
    CONVERGE("Note which repository is ours", backup.plan_note, sees=NAS, together=True),
    GATE("Both replicas can use it", backup.check_repository, sees=NAS),
    CONVERGE("Wake it every night, and a check every week", backup.plan_timers, each=True),
]


def now(run: str) -> list[Step]:
    """The steps of one backup, called ``run``."""
    return [
        Gate("The storage is mounted somewhere", backup.check_mounted, SEES, on=ON),
        Wait("No other backup or check is at work", backup.check_idle, SEES, timeout_s=DAY_S, on=ON, every_s=10),
        Converge("Back up now", partial(backup.plan_now, run=run), SEES, on=ON, each=True),
        Wait("The backup has ended", backup.check_ended, SEES, timeout_s=7 * DAY_S, on=ON),
        Gate("It was saved", partial(backup.check_saved, run=run), SEES, on=ON),
    ]


def main() -> int:
    """Read the command line, set up or back up, and return the exit code."""
    options = cli.parser(__doc__)
    cli.add_step_options(options)
    options.add_argument("--now", action="store_true", help="make one backup now and wait for it, set nothing up")
    arguments = options.parse_args()
    run = this_run()
    steps = now(run) if arguments.now else SET_UP
    return cli.guarded(arguments, lambda report: _run(arguments, steps, run, report))


def _run(arguments: argparse.Namespace, steps: list[Step], run: str, report: Report) -> int:
    seen = cli.run_steps(arguments, steps, report)
    if seen and not arguments.dry_run:
        report.note(backup.summary(seen, run) if arguments.now else KEEP_A_COPY)
    return 0


if __name__ == "__main__":
    sys.exit(main())
