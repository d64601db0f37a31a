"""Prove the replication: known data under load, a cut line, and both sides compared afterwards.

Writes known files into one scratch folder of the storage on the Primary, cuts the line between the replicas for DRBD
alone meanwhile, waits until the Secondary has caught up, compares all blocks (drbdadm verify) and the files on both
sides, and shows how far behind the Secondary was over time and how fast it caught up. The result is kept as evidence
at the arbitrator, and the folder is removed.

Needs: a healthy phase 2; room for the data, with a tenth of the file system left free.
May destroy: nothing. While the line is cut (--cut) and until the Secondary has caught up, the data exists once: a
disaster then costs what was written since. Applications go on; the load and the comparison slow them down.
Way back: the line comes back by itself, as the kernel of the Secondary keeps the time; the load ends by itself.
Cut off in the middle: run it again, it clears up first; --clear does nothing else.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from dockyard.caller import this_run
from dockyard.cli import add_change_options, carry_out, number, parser, read_by
from dockyard.errors import UsageError
from dockyard.evidence import EVIDENCE
from dockyard.observe import Domains
from dockyard.steps import Converge, Gate, Show, Step, Wait
from dockyard.topology import Role, Topology
from tasks import drbd
from tasks.drbd import drill
from tasks.drbd.quantities import parse_size, size
from tasks.k3s import release

ON = drbd.REPLICAS
JUDGE = (Role.ARBITRATOR,)
SEES: Domains = [drbd.LIVE, drill.SCENE]
DAY_S = 86400.0
BYTES = read_by(parse_size)


def main() -> int:
    """Read the command line, carry the drill out, and return the exit code."""
    options = parser(__doc__)
    options.add_argument("--cut", type=number(30, 3600), default=60, metavar="SECONDS", help="length of the cut (60)")
    options.add_argument("--rate", type=BYTES, help="written a second, such as 2M (a quarter of the line)")
    options.add_argument("--size", type=BYTES, help="the most that is written, such as 500M (rate x time)")
    options.add_argument("--no-verify", action="store_true", help="do not compare all blocks, which may take days")
    options.add_argument("--clear", action="store_true", help="only remove what a drill left that was cut off")
    add_change_options(options)
    arguments = options.parse_args()
    return carry_out(arguments, clearing if arguments.clear else lambda topology: drilling(asked(arguments, topology)))


def asked(arguments: argparse.Namespace, topology: Topology) -> drill.Drill:
    """The drill that the command line describes; what it leaves out follows from the line between the replicas.

    Raises:
        UsageError: all would be written before the cut is over.
    """
    rate = arguments.rate or drill.usual_rate(drbd.replication_of(topology).wan)
    one = drill.Drill(
        run=this_run(),
        rate_bytes_s=rate,
        size_bytes=arguments.size or drill.usual_size(rate, int(arguments.cut)),
        cut_s=int(arguments.cut),
        verify=not arguments.no_verify,
    )
    least = one.file_bytes * (drill.LEAD_S + one.cut_s)
    if one.size_bytes < least:
        raise UsageError(
            f"{size(one.size_bytes)} are written before a cut of {one.cut_s} s is over",
            advice=f"Give at least --size {-(-least // 2**20)}M, or less of --rate or --cut.",
        )
    return one


def clearing(_topology: Topology) -> list[Step]:
    """The step that removes what any drill left."""
    return [Converge("Clear up after a drill", drill.plan_clear, SEES, on=ON)]


def drilling(one: drill.Drill) -> list[Step]:
    """The steps of a drill."""
    read_back = drill.sums(one)
    begin = partial(drill.check_begin, drill=one)
    idle = partial(drill.check_idle, drill=one)
    compare = [*SEES, drbd.VERIFY]
    readable = partial(drill.check_read_back, read_back=read_back)
    keep = partial(drill.plan_evidence, drill=one, read_back=read_back, versions=release.versions)
    return [
        Converge("Install what a drill needs", drill.plan_tools, SEES, on=ON),
        Converge("Clear up after a drill that was cut off", drill.plan_clear, SEES, on=ON),
        Gate("The replicas are in sync, and there is room", begin, SEES, on=ON),
        Gate("Nobody compares the replicas at the moment", idle, compare, on=ON),
        Converge("Write known data on the Primary", partial(drill.plan_load, drill=one), SEES, on=ON),
        Wait("It goes over", drill.check_loaded, [*SEES, drill.SAMPLES], timeout_s=120, on=ON),
        Converge("Cut the line", partial(drill.plan_cut, drill=one), SEES, on=ON),
        Wait("DRBD notices", drill.check_noticed, SEES, timeout_s=one.cut_s, on=ON),
        Wait("The line is back, by itself", drill.check_line, SEES, timeout_s=one.cut_s + 60, on=ON),
        Wait("The Secondary has caught up", drill.check_caught_up, SEES, timeout_s=DAY_S, on=ON),
        Converge("Stop sampling", drill.plan_stop, SEES, on=ON),
        Show("How far the Secondary was behind", drill.behind_rows, [drill.SAMPLES], on=ON),
        Converge("Compare all blocks", partial(drill.plan_verify_now, drill=one), compare, on=ON),
        Wait("They are compared", partial(drill.check_compared, drill=one), compare, timeout_s=7 * DAY_S, on=ON),
        Converge("Find the files on the Secondary's disk", drill.plan_map, [*SEES, drill.KNOWN, drill.PLACES], on=ON),
        Gate("The files are read back on both sides", readable, [read_back], on=ON),
        Converge("Keep the result", keep, [EVIDENCE, release.RELEASE], on=drbd.ROLES, each=True),
        Converge("Clear up", drill.plan_clear, SEES, on=ON),
        Show("Result", drill.result_rows, [EVIDENCE], on=JUDGE),
        Gate("The drill is passed", partial(drill.check_passed, drill=one), [EVIDENCE], on=JUDGE),
    ]


if __name__ == "__main__":
    sys.exit(main())
