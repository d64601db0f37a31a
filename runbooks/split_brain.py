"""Both replicas were written without the other: show both histories, and end one of them.

Without --victim it only looks: roles, generations, what the other one lacks, last writes, the files that changed. A
side that is not mounted is read through a snapshot; it is not promoted, and nothing is written to its disk.

--victim HOST ends the history of that host. What uses the storage there is stopped, it is unmounted and demoted; a copy
of the files that changed there (or of the whole disk, --keep image) is made, compared and given a checksum; the other
replica is named as the writer; then DRBD overwrites the victim's blocks with those of the other replica.

Needs: both replicas and the arbitrator; the other replica's copy UpToDate; room for the copy on the victim.
May destroy: what was written on the victim since the two lost each other, except for the copy. The page names it, and
its phrase has to be typed; --yes does not answer it.
Way back: none for the blocks. The copy lies on the victim: tar -tvzf, or gzip -dc for an image.
Cut off in the middle: run it again with the same --victim; a copy that was made is not made twice.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from dockyard.caller import this_run
from dockyard.cli import add_change_options, carry_out, guarded, make_ready, options_of, parser
from dockyard.cluster import open_cluster
from dockyard.errors import UsageError
from dockyard.findings import by_cause
from dockyard.observe import Domains, sweep
from dockyard.report import Report
from dockyard.steps import Confirm, Converge, Gate, Options, Step, Wait
from dockyard.topology import Topology
from dockyard.unseen import once
from tasks import drbd
from tasks.drbd import side_by_side, split, view

SEES: Domains = [drbd.LIVE, drbd.WRITER, drbd.USERS]
ON = drbd.ROLES


def main() -> int:
    """Read the command line, show both sides or end one of them, and return the exit code."""
    options = parser(__doc__)
    options.add_argument("--victim", metavar="HOST", help="the replica whose history ends")
    kept = "what is kept of it: the files that changed (default), an image of its disk, or nothing"
    options.add_argument("--keep", choices=[keep.value for keep in split.Keep], default="files", help=kept)
    options.add_argument("--into", metavar="FOLDER", default=view.KEPT, help="where, on the victim (%(default)s)")
    add_change_options(options)
    arguments = options.parse_args()
    if arguments.victim:
        return carry_out(arguments, partial(_steps, arguments), partial(_options, arguments))
    return guarded(arguments, lambda report: _show(arguments, report))


def _show(arguments: argparse.Namespace, report: Report) -> int:
    domains: Domains = [*SEES, drbd.PARTED, drbd.CHANGES]
    with open_cluster(arguments.inventory) as (nornir, topology):
        make_ready(nornir, topology)
        hosts = [host.name for host in topology.with_role(*ON)]
        with report.progress("looking", hosts) as processors:
            chosen = nornir.filter(filter_func=lambda host: host.name in hosts).with_processors(processors)
            observed = sweep(chosen, domains)
    report.table("side by side", side_by_side.rows(topology, observed))
    report.table("newest files", side_by_side.newest_files(topology, observed))
    report.note(side_by_side.verdict(topology, observed))
    findings = by_cause(once(side_by_side.check_parted(topology, observed)))
    report.judged(findings)
    return 3 if any(finding.unseen for finding in findings) else 1 if findings else 0


def _options(arguments: argparse.Namespace, topology: Topology) -> Options:
    return options_of(arguments, destroy=split.named(_choice(arguments, topology), topology))


def _steps(arguments: argparse.Namespace, topology: Topology) -> list[Step]:
    return resolve(_choice(arguments, topology))


def _choice(arguments: argparse.Namespace, topology: Topology) -> split.Choice:
    victim = drbd.replica_called(topology, arguments.victim)
    if not arguments.into.startswith("/"):
        raise UsageError(f"--into {arguments.into}: a path on the victim begins with /")
    survivor = drbd.other_of(topology, victim)
    return split.Choice(
        victim=victim, survivor=survivor, keep=split.Keep(arguments.keep), into=arguments.into.rstrip("/") or "/"
    )


def resolve(choice: split.Choice) -> list[Step]:
    """The steps that end the history of ``choice.victim``."""
    victim, to, since = choice.victim, choice.survivor, this_run()
    sees = [*SEES, choice.parted]
    looks = [*sees, drbd.CHANGES]
    step = partial(Converge, on=ON)
    return [
        Gate("Both were written without the other", partial(split.check_split, choice=choice), looks, on=ON),
        Confirm(
            "What ends, and what is kept", partial(split.preflight_discard, choice=choice), looks, on=ON, stale_s=30
        ),
        step(
            f"Stop what uses the storage on {victim}, unmount, demote", partial(split.plan_close, choice=choice), sees
        ),
        step(f"Keep a copy of what only {victim} has", partial(split.plan_keep, choice=choice), sees),
        step(f"Name {to} as the writer", partial(drbd.plan_new_writer, to=to, since=since), [drbd.WRITER]),
        step("Tell the replicas who may write", drbd.plan_copies, [drbd.WRITER], together=True),
        step(
            f"Connect; {victim} discards what it has", partial(split.plan_discard, choice=choice), sees, together=True
        ),
        step(f"Promote and mount on {to}", partial(drbd.plan_promote_alone, to=to), SEES),
        Wait(f"{to} has the storage", partial(drbd.check_promoted, to=to), SEES, timeout_s=60, on=ON, every_s=0.5),
        step(f"Mark the storage, and start what uses it on {to}", partial(drbd.plan_start_alone, to=to), SEES),
        Wait(
            f"{victim} holds what {to} holds", partial(drbd.check_all_sent, to=victim), SEES, timeout_s=7 * 86400, on=ON
        ),
        Gate("All is well with the storage", drbd.check_drbd, [drbd.DRBD, drbd.WRITER], on=ON),
    ]


if __name__ == "__main__":
    sys.exit(main())
