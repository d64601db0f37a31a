"""Let the volumes of K3s, and with them OpenCloud, be on another worker: after the storage was handed over.

Its pods end on the old node in good order (it is drained, and opened again afterwards), then the label of the volumes
moves: for a moment nobody has it, and never two. OpenCloud starts on the new node, at the mesh address of that one.
Where the old node is away, its pods are struck off once you have typed that it does not run them any more.

Needs: the API; --to is ready, and the volumes with their markers are there. With volumes.mounted: the storage is
mounted there and on no other worker (python runbooks/failover.py).
May destroy: nothing by itself. Two nodes that write would: that is what the phrase is about; --yes does not answer it.
Way back: --to the other host, once the storage is there again.
Cut off in the middle: run it again with the same --to.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from functools import partial

from dockyard.cli import add_change_options, guarded, options_of, parser, walk
from dockyard.errors import UsageError
from dockyard.observe import Domains
from dockyard.report import Report
from dockyard.steps import Confirm, Converge, Gate, Step, Wait
from dockyard.topology import Role, Topology
from runbooks.phase1_baseline import OPENCLOUD
from tasks import k3s
from tasks.k3s import move
from tasks.k3s.steps import ALL, ON, SERVER, require_k3s

SEES: Domains = [k3s.NODES, k3s.OBJECTS]


def main() -> int:
    """Read the command line, move, and return the exit code."""
    options = parser(__doc__)
    options.add_argument("--to", metavar="HOST", required=True, help="the worker on which the volumes are now")
    add_change_options(options)
    arguments = options.parse_args()
    return guarded(arguments, lambda report: _move(arguments, report))


def _move(arguments: argparse.Namespace, report: Report) -> int:
    def steps_of(topology: Topology) -> list[Step]:
        require_worker(topology, arguments.to)
        if (named := topology.cluster.services.get("opencloud", arguments.to)) != arguments.to:
            report.note(
                f"The name opencloud means {named}. Let it mean {arguments.to} in cluster.services, and run "
                "phase1_baseline.py afterwards."
            )
        return steps(arguments.to)

    walk(arguments.inventory, lambda _: options_of(arguments), steps_of, report)
    return 0


def require_worker(topology: Topology, to: str) -> None:
    """Raise UsageError when ``to`` can never carry the volumes."""
    require_k3s(topology)
    workers = [host.name for host in topology.with_role(Role.K3S_WORKER) if Role.K3S_SERVER not in host.roles]
    if to not in workers:
        raise UsageError(f"--to {to}: is no worker of K3s", advice=f"The workers are: {', '.join(workers)}")


def steps(to: str) -> list[Step]:
    """The steps that let the volumes be on ``to``."""
    converge = partial(Converge, sees=SEES, on=SERVER)
    return [
        Gate(f"{to} is ready, and the volumes are there", partial(move.check_target, to=to), ALL, on=ON),
        Confirm("What is known of pods on a node that is away", partial(move.page, to=to), SEES, on=SERVER),
        converge("Let the pods elsewhere end", partial(move.plan_end, to=to)),
        converge("Strike off the pods of a node that is away", partial(move.plan_strike_off, to=to)),
        converge(f"Apply OpenCloud with the address of {to}", partial(k3s.plan_apply, manifests=at(to))),
        converge(f"Move the label of the volumes to {to}", partial(move.plan_hand_over, to=to)),
        Wait(f"Every pod is ready on {to}", partial(move.check_moved, to=to), [k3s.OBJECTS], timeout_s=900, on=SERVER),
    ]


def at(to: str) -> k3s.Manifests:
    """OpenCloud as it is wanted on ``to``, whoever has the label."""

    def manifests(topology: Topology, _carrier: str) -> Mapping[str, str]:
        return OPENCLOUD(topology, to)

    return manifests


if __name__ == "__main__":
    sys.exit(main())
