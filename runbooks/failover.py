"""Hand the storage over to the other replica: planned while both are up, or --disaster when the writer is gone.

Planned: flushes the storage, stops what uses it, unmounts and demotes, waits until everything has arrived, names the
new writer at the arbitrator (with the next generation), lets the other side promote and mount, and starts again only
when a token that was written before is read there. Nothing is lost, by proof.

--disaster: refuses while anybody who matters (this machine, the arbitrator, the other replica) still sees the writer,
or while the other copy is not UpToDate; shows the evidence and what it may cost; goes on when the phrase is typed.

Needs: the arbitrator; planned also both replicas, connected and in sync; a writer that lost its disk and goes on over
the line hands over, too. DRBD's own refusals are never overridden.
May destroy: planned nothing, the storage is away for seconds. --disaster: what the writer could not send any more.
Way back: --to the other host, once both are connected and in sync again.
Cut off in the middle: run it again with the same --to, from any machine; to go back instead, --to the other host.
Pods of K3s that have it mounted keep a planned switch back: drain their node before, k3s_move.py afterwards.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from dockyard.caller import this_run
from dockyard.cli import add_change_options, carry_out, options_of, parser
from dockyard.evidence import EVIDENCE
from dockyard.observe import Domains, Observed
from dockyard.steps import Confirm, Converge, Gate, Options, Show, Step, Wait
from dockyard.topology import Topology
from tasks import drbd, machine
from tasks.k3s import release

SEES: Domains = [drbd.LIVE, drbd.WRITER, drbd.USERS]
ON = drbd.ROLES
CONVERGE = partial(Converge, sees=SEES, on=ON, stale_s=30.0)
WAIT = partial(Wait, sees=SEES, on=ON, stale_s=30.0)
GATE = partial(Gate, sees=SEES, on=ON, stale_s=30.0)
"""Steps for which it is enough what the step before has seen; what must not happen is refused by the host itself."""

VERSIONS: Domains = [EVIDENCE, machine.MACHINE, release.RELEASE]
"""What evidence holds for. A switch does not change it: `planned` looks at it while the storage still serves."""


def main() -> int:
    """Read the command line, switch over, and return the exit code."""
    options = parser(__doc__)
    options.add_argument("--to", metavar="HOST", required=True, help="the replica that is to become the writer")
    options.add_argument("--disaster", action="store_true", help="the present writer is gone and cannot be asked")
    add_change_options(options)
    arguments = options.parse_args()
    return carry_out(arguments, partial(_steps, arguments), partial(_options, arguments))


def _options(arguments: argparse.Namespace, topology: Topology) -> Options:
    gone = {drbd.other_of(topology, drbd.replica_called(topology, arguments.to))} if arguments.disaster else set()
    return options_of(arguments, gone=frozenset(gone))


def _steps(arguments: argparse.Namespace, topology: Topology) -> list[Step]:
    to = drbd.replica_called(topology, arguments.to)
    return [*(disaster(to) if arguments.disaster else planned(to)), *_following(topology, to)]


def _following(topology: Topology, to: str) -> list[Step]:
    """What does not follow the storage by itself: pods whose volumes lie in it."""
    if not (topology.cluster.k3s and topology.cluster.k3s.volumes.mounted):
        return []
    line = f"OpenCloud does not follow the storage by itself: python runbooks/k3s_move.py --to {to}"
    return [Show("What is left to do", lambda _topology, _observed: [line], [])]


def planned(to: str) -> list[Step]:
    """The steps of a switch to ``to`` while both replicas are up. What they must say is asked anew: 1, 6, 7.

    7 is there because 6 asks both at once, and one may answer late: what is out of sync on the old side is known to it
    when the new one has read the end of its role, and only a look that begins then is sure to show it.
    """
    run, ready, handed_over = this_run(), partial(drbd.check_ready, to=to), partial(drbd.check_handed_over, to=to)
    return [
        Gate("Both replicas are up, connected and in sync", ready, [*SEES, drbd.DIRTY, *VERSIONS], on=ON),
        CONVERGE(
            "Flush what is dirty while everything runs",
            partial(drbd.plan_flush, to=to, run=run),
            sees=[drbd.LIVE, drbd.DIRTY],
        ),
        GATE("The replicas are still in sync", ready),
        CONVERGE(f"{to} does not begin before it is told to", partial(drbd.plan_hold, to=to)),
        CONVERGE("Write a token, stop what uses the storage, unmount, demote", partial(drbd.plan_let_go, to=to)),
        Wait(
            "Everything has arrived on the other side",
            handed_over,
            [drbd.LIVE],
            timeout_s=600,
            on=drbd.REPLICAS,
        ),
        Gate(
            "The side that let go lacks nothing, and stays so",
            partial(drbd.check_let_go, to=to),
            [drbd.beside(drbd.LIVE, to), drbd.beside(drbd.PARTING, to)],
            on=drbd.REPLICAS,
        ),
        CONVERGE(f"Name {to} as the writer", partial(drbd.plan_new_writer, to=to, since=run), sees=[drbd.WRITER]),
        CONVERGE("Tell the replicas who may write", drbd.plan_copies, sees=[drbd.WRITER], together=True),
        CONVERGE(f"Promote and mount on {to}", partial(drbd.plan_promote, to=to)),
        WAIT(f"{to} has the storage", partial(drbd.check_promoted, to=to), timeout_s=60, every_s=0.5),
        GATE("The token is there: nothing was lost", partial(drbd.check_token, to=to)),
        CONVERGE(f"Start what uses the storage on {to}", partial(drbd.plan_start, to=to)),
        _keep(to, drbd.SWITCHOVER),
    ]


def disaster(to: str) -> list[Step]:
    """The steps that give the storage to ``to`` when the other replica is gone."""
    sees = [*SEES, drbd.WITNESS]
    since = this_run()
    return [
        Gate("The writer is gone, and the copy here is good", partial(drbd.check_gone, to=to), sees, on=ON),
        Confirm("What is known, and what it may cost", partial(drbd.preflight, to=to), sees, on=ON, for_all=True),
        Gate("The writer is still gone", partial(drbd.check_gone, to=to), sees, on=ON),
        CONVERGE(f"Name {to} as the writer", partial(drbd.plan_new_writer_alone, to=to, since=since)),
        CONVERGE(f"Tell {to}", partial(drbd.plan_told_alone, to=to)),
        CONVERGE(f"Promote and mount on {to}", partial(drbd.plan_promote_alone, to=to)),
        WAIT(f"{to} has the storage", partial(drbd.check_promoted, to=to), timeout_s=60, every_s=0.5),
        CONVERGE(f"Mark the storage, and start what uses it on {to}", partial(drbd.plan_start_alone, to=to)),
        _keep(to, drbd.DISASTER),
    ]


def _keep(to: str, kind: str) -> Converge:
    plan = partial(drbd.plan_switched, to=to, kind=kind, versions=_versions)
    sees: Domains = [drbd.LIVE, drbd.WRITER, *VERSIONS]
    return Converge("Keep it as evidence", plan, sees, on=ON, stale_s=600.0, proved_by=[EVIDENCE])


def _versions(topology: Topology, observed: Observed, host: str) -> dict[str, str]:
    return {"kernel": observed.of(machine.MACHINE, host).kernel, **release.versions(topology, observed, host)}


if __name__ == "__main__":
    sys.exit(main())
