"""The arbitration table: what every single and double failure means for this inventory, and what to type then.

Fails every host, every line between two sites and every site (cut off, without power) alone and in pairs, in a model of
DRBD and of Dockyard's rules. Shows who still serves the storage, who waits, which writes can be lost and what to type;
what is different when you sit at one of the sites; and what the hosts do that get power back first.

Needs: nothing but the inventory, with the roles drbd-primary and drbd-secondary. Contacts no host, changes nothing.
May destroy: nothing. Way back: none needed.
docs/failures.md explains the words, and where the arbitrator should stand.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from dockyard.cli import guarded, parser
from dockyard.report import Report
from dockyard.topology import folder_of, load_inventory, read_topology
from tasks.drbd import sizing
from tasks.drbd.failures import Setup, Version
from tasks.drbd.sheet import Letters, Row, Sheet, sheet_of, short


def main() -> int:
    """Read the command line, run the model, show the tables, and return the exit code."""
    options = parser(__doc__)
    options.add_argument(
        "--drbd", choices=list(Version), default=Version.V84, help="the version on the replicas (8.4: Debian's kernel)"
    )
    arguments = options.parse_args()
    return guarded(arguments, lambda report: _tables(arguments, report))


def _tables(arguments: argparse.Namespace, report: Report) -> int:
    options = f" --inventory {shlex.quote(arguments.inventory)}" if arguments.inventory else ""
    topology = read_topology(load_inventory(folder_of(arguments.inventory)))
    show(Setup.of(topology, Version(arguments.drbd), options), report)
    return 0


def show(setup: Setup, report: Report) -> None:
    """All tables, each with its rows in full for JSON."""
    sheet = sheet_of(setup)
    _assumptions(setup, report)
    _table(report, "one failure", sheet.alone, sheet.letters)
    _table(report, "two failures, where they mean more than each alone", sheet.worse, sheet.letters)
    _folded(report, sheet)
    _table(report, "after all power was lost at once, these are back", sheet.back, sheet.letters)
    _letter_list(report, sheet.letters)
    _seats(report, sheet.seats)


def _assumptions(setup: Setup, report: Report) -> None:
    site = setup.site(setup.arbitrator)
    report.note(
        f"{setup.topology.cluster.name}: {setup.writer} writes, {setup.other} follows (DRBD {setup.version}, "
        f"asynchronous), {setup.arbitrator} at {site} is the arbitrator."
    )
    report.note("Assumed: you reach every host that is on. The last table says what is different where that is not so.")
    report.note("Mend what failed: that is not said again. `do` is a letter of the list below the tables.")
    replication = setup.topology.cluster.drbd
    if replication:
        waiting_kib = sizing.send_buffer_kib(replication.wan)
        line_s = waiting_kib / sizing.rate_kib_s(replication.wan)
        report.note(
            f"The last seconds: what waits in DRBD's send buffer (up to {waiting_kib} KiB, {line_s:.1f} s of a full "
            "line) and what is on its way. The failover shows the number before it asks."
        )


def _table(report: Report, title: str, rows: Sequence[Row], letters: Letters) -> None:
    """Show ``rows`` with a letter for the two long columns; JSON gets them in full."""
    report.record(title, [_literal(row) for row in rows])
    lines = short(rows, letters)
    table = Table(*(lines[0] if lines else ()), title=title, title_justify="left", show_lines=True)
    for line in lines:
        table.add_row(*line.values())
    report.console.print(table, soft_wrap=False)


def _literal(row: Row) -> Row:
    """Cells that rich shows as they are: a folder may have brackets in its name."""
    return {key: escape(cell) for key, cell in row.items()}


def _folded(report: Report, sheet: Sheet) -> None:
    """The pairs that need no line of their own."""
    report.record(
        "pairs that mean no more", [{"failure": one, "with": ", ".join(others)} for one, others in sheet.folded.items()]
    )
    report.note(f"{sheet.count} pairs were run, in both orders. The others mean no more than the lines of their parts")
    report.note("together (an order that does has its line above). What decides for the storage stands first:")
    for one, others in sheet.folded.items():
        report.note(f"  {one}, with: {', '.join(others)}")


def _letter_list(report: Report, letters: Letters) -> None:
    report.console.print("what to do")
    for (do, back), letter in letters.items():
        for number, line in enumerate(do.split("; ")):
            report.note(f"{letter if not number else '':2} {line}")
        report.note(f"   when all is back: {back}")


def _seats(report: Report, found: Sequence[Row]) -> None:
    title = "what is different where you sit, and are cut off with your site"
    rows = [_literal(row) for row in found]
    report.record(title, rows)
    table = Table("failure", "you are at", "then", title=title, title_justify="left", show_lines=True)
    for row in rows:
        table.add_row(*row.values())
    report.console.print(table, soft_wrap=False)


if __name__ == "__main__":
    sys.exit(main())
