"""The WireGuard file of a laptop or a phone: into the mesh from anywhere, with the cluster's names.

Prints what wg-quick(8) and WireGuard's apps read: the laptop's address, the DNS server for the cluster's names alone,
and every host that has a public endpoint, with the key that it has now. Comments name the hosts that are out of reach,
and those that do not know the laptop yet. The private key is not in it: `wg genkey` makes it on the laptop, where it
stays, and `wg pubkey` makes of it what the inventory has (cluster.wireguard.laptops).

Needs: the laptop in the inventory, and ssh to every host that has a public endpoint. Changes nothing on any host: the
laptop becomes a peer of all of them with phase1_baseline.py. After rotate_keys.py the file is out of date.
May destroy: nothing. --output makes a file, for its owner alone (0600); one that is there may hold the laptop's private
key, and is left alone.
Way back: take the laptop out of the inventory, and run phase1_baseline.py.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rich.markup import escape

from dockyard.cli import guarded, make_ready, parser
from dockyard.cluster import open_cluster
from dockyard.errors import UsageError
from dockyard.observe import sweep
from dockyard.report import Report
from tasks import wireguard


def main() -> int:
    """Read the command line, look at the hosts, print the file, and return the exit code."""
    options = parser(__doc__)
    options.add_argument("name", metavar="NAME", help="the laptop, as the inventory calls it")
    options.add_argument("--output", metavar="FILE", type=Path, help="write it there instead (mode 0600)")
    arguments = options.parse_args()
    return guarded(arguments, lambda report: _laptop(arguments, report))


def _laptop(arguments: argparse.Namespace, report: Report) -> int:
    with open_cluster(arguments.inventory) as (nornir, topology):
        wireguard.laptop_named(topology, arguments.name)
        make_ready(nornir, topology)
        asked = [host.name for host in topology.hosts.values() if host.wireguard.endpoint]
        with report.progress("looking", asked) as processors:
            chosen = nornir.filter(filter_func=lambda host: host.name in asked)
            observed = sweep(chosen.with_processors(processors), [wireguard.WIREGUARD])
    hand_over(wireguard.laptop_file(topology, observed, arguments.name), arguments.output, report)
    return 0


def hand_over(text: str, output: Path | None, report: Report) -> None:
    """Write the file to ``output``, or show it and nothing else; JSON gets it in either case."""
    report.record("file", [{"text": escape(text)}])
    if output:
        write_new(output, text)
        report.note(f"{output} is written. Fill in the private key on the laptop.")
    else:
        report.console.print(text, end="", markup=False, emoji=False)


def write_new(path: Path, text: str) -> None:
    """Write a file for its owner alone, where none is yet.

    Raises:
        UsageError: there is one, or it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(
            f"{path} is there already, and may hold the laptop's private key",
            advice="Nothing was written. Give another name with --output.",
        ) from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", advice="Give another file with --output.") from error


if __name__ == "__main__":
    sys.exit(main())
