"""Take a worker out of K3s, or forget one whose machine is gone or was installed anew.

--remove NODE: its pods end in good order, the API forgets it, K3s is stopped there and its token removed. A node that
is not in the inventory is only forgotten.
--replace NODE: only forgotten, and only when it is not ready; then `python runbooks/phase1_baseline.py` brings the new
machine in. (For one that was installed anew, phase 1 does both by itself; if it carried the volumes: docs/k3s.md.)

Needs: the API; --remove also the host, if it is in the inventory.
May destroy: nothing. Volumes stay where they are; a node that carries them is refused.
Way back: python runbooks/phase1_baseline.py, as long as the host has its role.
Cut off in the middle: run it again.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from dockyard.cli import add_change_options, carry_out, parser
from dockyard.steps import Converge, Gate, Step
from dockyard.topology import Topology
from tasks import k3s
from tasks.k3s import upkeep
from tasks.k3s.steps import ALL, ON, SERVER, require_k3s


def main() -> int:
    """Read the command line, take the node out, and return the exit code."""
    options = parser(__doc__)
    which = options.add_mutually_exclusive_group(required=True)
    which.add_argument("--remove", metavar="NODE", help="drain it, forget it, stop K3s there")
    which.add_argument("--replace", metavar="NODE", help="forget it: its machine is gone or new")
    add_change_options(options)
    arguments = options.parse_args()
    return carry_out(arguments, partial(_steps, arguments))


def _steps(arguments: argparse.Namespace, topology: Topology) -> list[Step]:
    require_k3s(topology)
    return removing(topology, arguments.remove) if arguments.remove else replacing(arguments.replace)


def _spared(node: str) -> Gate:
    return Gate(f"{node} can be spared", partial(upkeep.check_leaving, node=node), [k3s.NODES], on=SERVER)


def removing(topology: Topology, node: str) -> list[Step]:
    """The steps that take out ``node``, and stop K3s on the host of that name if there is one."""
    stop = Converge(f"Stop K3s on {node}", partial(upkeep.plan_stop, host=node), [k3s.K3S], on=ON)
    return [
        _spared(node),
        Converge(f"Drain {node}", partial(upkeep.plan_drain, host=node, leaving=True), ALL, on=ON),
        *([stop] if node in topology.hosts else []),
        Converge(f"Forget {node}", partial(upkeep.plan_leave, node=node), [k3s.NODES], on=SERVER),
    ]


def replacing(node: str) -> list[Step]:
    """The steps that forget ``node``."""
    leave = partial(upkeep.plan_leave, node=node, unless_ready=True)
    return [_spared(node), Converge(f"Forget {node}, if it is not ready", leave, [k3s.NODES], on=SERVER)]


if __name__ == "__main__":
    sys.exit(main())
