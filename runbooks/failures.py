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
from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table

from dockyard.cli import guarded, parser
from dockyard.report import Report
from dockyard.topology import folder_of, load_inventory, read_topology
from tasks.drbd import sizing
from tasks.drbd.arbitration import Case, Verdict
from tasks.drbd.failures import Setup, Version
from tasks.drbd.others import shown
from tasks.drbd.table import Doubles, Seat, doubles, power_back, seats, singles

Row = dict[str, str]
Letters = dict[tuple[str, str], str]
"""What to type and what happens when all is back, by the letter that stands for both in the tables."""


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
    alone = singles(setup)
    pairs = doubles(setup, alone)
    worse = [case for cases in pairs.worse.values() for case in cases]
    first = list(power_back(setup))
    letters = _letters([*(case.verdict for case in (*alone, *worse)), *(verdict for _, verdict in first)])
    _assumptions(setup, report)
    _table(report, "one failure", [_single(case) for case in alone], letters)
    _table(report, "two failures, where they mean more than each alone", [*_worse(pairs)], letters)
    _folded(report, pairs)
    _table(report, "after all power was lost at once, these are back", [_back(*one) for one in first], letters)
    _letter_list(report, letters)
    _seats(report, seats(setup, [*alone, *worse]))


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


def _letters(verdicts: Iterable[Verdict]) -> Letters:
    answers = dict.fromkeys((verdict.do, verdict.back) for verdict in verdicts)
    return {answer: _letter(number) for number, answer in enumerate(answers)}


def _letter(number: int) -> str:
    """A to Z, then AA, AB and so on."""
    before, last = divmod(number, 26)
    return (_letter(before - 1) if before else "") + chr(ord("A") + last)


def _single(case: Case) -> Row:
    return {"failure": case.name, **_row(case.verdict), "besides": shown(case.facts)}


def _worse(pairs: Doubles) -> list[Row]:
    return [
        {"failures": "\n".join(case.name for case in cases), **_row(verdict)} for verdict, cases in pairs.worse.items()
    ]


def _back(lit: str, verdict: Verdict) -> Row:
    return {"on again": lit, **_row(verdict)}


def _row(verdict: Verdict) -> Row:
    return {
        "storage": verdict.data,
        "waits": verdict.waits,
        "can be lost": verdict.lost,
        "do": verdict.do,
        "when all is back": verdict.back,
    }


def _table(report: Report, title: str, rows: Sequence[Row], letters: Letters) -> None:
    """Show ``rows`` with a letter for the two long columns; JSON gets them in full."""
    report.record(title, [_literal(row) for row in rows])
    short = [{key: cell for key, cell in row.items() if key != "when all is back"} for row in rows]
    table = Table(*(short[0] if short else ()), title=title, title_justify="left", show_lines=True)
    for full, row in zip(rows, short, strict=True):
        row["do"] = letters[full["do"], full["when all is back"]]
        table.add_row(*row.values())
    report.console.print(table, soft_wrap=False)


def _literal(row: Row) -> Row:
    """Cells that rich shows as they are: a folder may have brackets in its name."""
    return {key: escape(cell) for key, cell in row.items()}


def _folded(report: Report, pairs: Doubles) -> None:
    """The pairs that need no line of their own."""
    report.record(
        "pairs that mean no more", [{"failure": one, "with": ", ".join(pairs.folded[one])} for one in pairs.folded]
    )
    report.note(f"{pairs.count} pairs were run, in both orders. The others mean no more than the lines of their parts")
    report.note("together (an order that does has its line above). What decides for the storage stands first:")
    for one, others in pairs.folded.items():
        report.note(f"  {one}, with: {', '.join(others)}")


def _letter_list(report: Report, letters: Letters) -> None:
    report.console.print("what to do")
    for (do, back), letter in letters.items():
        for number, line in enumerate(do.split("; ")):
            report.note(f"{letter if not number else '':2} {line}")
        report.note(f"   when all is back: {back}")


def _seats(report: Report, found: Sequence[Seat]) -> None:
    title = "what is different where you sit, and are cut off with your site"
    rows = [
        _literal({"failure": seat.case, "you are at": ", ".join(seat.sites), "then": seat.change}) for seat in found
    ]
    report.record(title, rows)
    table = Table("failure", "you are at", "then", title=title, title_justify="left", show_lines=True)
    for row in rows:
        table.add_row(*row.values())
    report.console.print(table, soft_wrap=False)


if __name__ == "__main__":
    sys.exit(main())
