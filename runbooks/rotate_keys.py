"""New WireGuard keys, one host at a time, with an automatic way back.

For each host: make a new key there, change over on it and on all its peers at the same moment, prove all directions,
and only then forget the old key. Each host starts a timer of its own before it changes anything: should the new key not
work after three minutes (ssh itself ran through the mesh and was cut, this machine died), the old one comes back.

Needs: a healthy mesh (python runbooks/health.py). All hosts must be up, as all of them have to learn the new key.
Laptops learn it from a new file, when all is done: python runbooks/laptop.py NAME.
May destroy: nothing. The old key is gone after a rotation that was proven.
Way back: by itself within three minutes. A rotation that was cut off leaves either key, on all hosts alike; run
phase1_baseline.py, then this again.
Every run makes new keys: a second run does not find "nothing to do".
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from dockyard.cli import add_change_options, guarded, options_of, parser, walk
from dockyard.observe import Domains
from dockyard.report import Report
from dockyard.steps import Converge, Gate, Step, Wait
from dockyard.topology import Topology
from tasks import wireguard

SEES = [wireguard.WIREGUARD]
ALL: Domains = [wireguard.WIREGUARD, wireguard.REACH]


def main() -> int:
    """Read the command line, rotate, and return the exit code."""
    options = parser(__doc__)
    options.add_argument(
        "hosts", metavar="HOST", nargs="*", help="hosts that get a new key, in this order (default: all)"
    )
    add_change_options(options)
    arguments = options.parse_args()
    return guarded(arguments, partial(_rotate, arguments))


def _rotate(arguments: argparse.Namespace, report: Report) -> int:
    def steps_of(topology: Topology) -> list[Step]:
        for name in topology.laptops:
            report.note(f"{name} needs a new file afterwards: python runbooks/laptop.py {name}")
        return steps([topology.host(name).name for name in arguments.hosts or topology.hosts])

    walk(arguments.inventory, lambda _: options_of(arguments), steps_of, report)
    return 0


def steps(hosts: Sequence[str]) -> list[Step]:
    """The steps for ``hosts``, one host after the other."""
    healthy = Gate("The mesh is healthy before anything is changed", wireguard.check_mesh, ALL)
    return [healthy, *(step for host in hosts for step in _one(host))]


def _one(host: str) -> list[Step]:
    return [
        Converge(f"Make a new key on {host}", partial(wireguard.plan_new_key, host=host), SEES, together=True),
        Converge(
            f"Change over to the new key of {host} everywhere",
            partial(wireguard.plan_swap, host=host),
            SEES,
            together=True,
        ),
        Wait(f"The new key of {host} works in all directions", wireguard.check_swap, ALL, timeout_s=90),
        Converge(f"Keep the new key of {host}", wireguard.plan_settle, SEES, together=True),
    ]


if __name__ == "__main__":
    sys.exit(main())
