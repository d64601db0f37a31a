"""Write the documents for the day without a laptop: the failover by hand, the picture, the addresses, the table.

Into one folder: failover.en.md and failover.de.md (every command, its host, what it must print and what to do if not),
topology.svg, failures.md (the arbitration table), and all of it as one page for a phone or the printer in each
language: index.en.html, index.de.html. Print them, and put them where you find them without your network.

Needs: an inventory without mistakes that describes the replication. Contacts no host; --live asks the replicas which
DRBD they run, so that only that one is described. Without it both are, wherever 8.4 and 9 differ.
May destroy: its own files of the last time, nothing else. Way back: write them again.
Cut off in the middle: run it again. The same inventory gives the same bytes, under the same number.
"""

from __future__ import annotations

import argparse
import difflib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from dockyard.cli import guarded, make_ready, parser
from dockyard.cluster import open_cluster
from dockyard.errors import UsageError
from dockyard.local_file import replace_file
from dockyard.observe import sweep
from dockyard.report import HostPlan, Report
from dockyard.topology import Topology, folder_of, load_inventory, read_topology
from tasks import backup, drbd
from tasks.drbd.config import is_9
from tasks.drbd.document import digest, documents
from tasks.drbd.failures import Version


def main() -> int:
    """Read the command line, write what is new, and return the exit code."""
    options = parser(__doc__)
    options.add_argument("--output", metavar="DIR", type=Path, default=Path("cluster-documents"), help="the folder")
    options.add_argument("--live", action="store_true", help="ask the replicas which DRBD they run")
    options.add_argument("--drbd", choices=list(Version), help="describe only this version")
    options.add_argument("--dry-run", action="store_true", help="show what would be written as diffs, write nothing")
    arguments = options.parse_args()
    return guarded(arguments, lambda report: _document(arguments, report))


def _document(arguments: argparse.Namespace, report: Report) -> int:
    if arguments.live and arguments.drbd:
        raise UsageError("--live finds the version out, --drbd names it", advice="Leave one of the two out.")
    topology, versions = _asked(arguments, report) if arguments.live else _read(arguments)
    options = f" --inventory {shlex.quote(arguments.inventory)}" if arguments.inventory else ""
    files = documents(topology, versions, options, restore=backup.restore_by_hand(topology))
    report.step_started(1, 1, f"Write the documents of inventory {digest(topology)} into {arguments.output}")
    _write(arguments.output, files, report, dry_run=arguments.dry_run)
    report.step_ended("nothing to do")
    return 0


def _read(arguments: argparse.Namespace) -> tuple[Topology, Sequence[Version]]:
    topology = read_topology(load_inventory(folder_of(arguments.inventory)))
    return topology, [Version(arguments.drbd)] if arguments.drbd else list(Version)


def _asked(arguments: argparse.Namespace, report: Report) -> tuple[Topology, Sequence[Version]]:
    """The topology, and the version that both replicas run; see `is_9` for what is raised."""
    with open_cluster(arguments.inventory) as (nornir, topology):
        make_ready(nornir, topology)
        replicas = [host.name for host in topology.hosts.values() if host.drbd]
        with report.progress("looking", replicas) as processors:
            chosen = nornir.filter(filter_func=lambda host: host.name in replicas)
            observed = sweep(chosen.with_processors(processors), [drbd.DRBD])
    return topology, [Version.V9 if is_9(topology, observed) else Version.V84]


def _write(folder: Path, files: dict[str, str], report: Report, *, dry_run: bool) -> None:
    """Write the files that differ, each whole or not at all.

    Raises:
        UsageError: the folder or a file in it cannot be read or written.
    """
    try:
        old = {name: _text(folder / name) for name in files}
        new = {name: text for name, text in files.items() if old[name] != text}
        if new:
            diffs = [_diff(folder / name, old[name], text) for name, text in new.items()]
            titles = [f"write {folder / name}" for name in new]
            report.planned([HostPlan(host=str(folder), titles=titles, diffs=diffs if dry_run else titles)])
        if new and not dry_run:
            for name, text in new.items():
                replace_file(folder / name, text)
            report.applied(list(new))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{folder}: {error}", advice="Give another folder with --output.") from error


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _diff(path: Path, old: str | None, new: str) -> str:
    before = "/dev/null" if old is None else str(path)
    lines = difflib.unified_diff((old or "").splitlines(), new.splitlines(), before, str(path), lineterm="")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
