"""The arbitration table as rows of text, for the terminal and for paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasks.drbd.arbitration import Case, Verdict
from tasks.drbd.failures import Setup
from tasks.drbd.others import shown
from tasks.drbd.table import Doubles, Seat, doubles, power_back, seats, singles

Row = dict[str, str]
Letters = dict[tuple[str, str], str]
"""What to type and what happens when all is back, by the letter that stands for both in the tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """All tables of one setup, each row in full. ``count`` pairs were run; `folded` is explained in `Doubles`."""

    alone: Sequence[Row]
    worse: Sequence[Row]
    back: Sequence[Row]
    seats: Sequence[Row]
    folded: Mapping[str, Sequence[str]]
    count: int
    letters: Letters


def sheet_of(setup: Setup) -> Sheet:
    """Run the model and write down what it says."""
    alone = singles(setup)
    pairs = doubles(setup, alone)
    worse = [case for cases in pairs.worse.values() for case in cases]
    back = list(power_back(setup))
    verdicts = [*(case.verdict for case in (*alone, *worse)), *(verdict for _, verdict in back)]
    return Sheet(
        alone=[_single(case) for case in alone],
        worse=_worse(pairs),
        back=[{"on again": lit, **_row(verdict)} for lit, verdict in back],
        seats=[_seat(seat) for seat in seats(setup, [*alone, *worse])],
        folded=pairs.folded,
        count=pairs.count,
        letters=_letters(verdicts),
    )


def short(rows: Iterable[Row], letters: Letters) -> list[Row]:
    """The rows with a letter in the place of the two long columns."""
    return [_short(row, letters[row["do"], row["when all is back"]]) for row in rows]


def _short(row: Row, letter: str) -> Row:
    return {key: letter if key == "do" else cell for key, cell in row.items() if key != "when all is back"}


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


def _row(verdict: Verdict) -> Row:
    return {
        "storage": verdict.data,
        "waits": verdict.waits,
        "can be lost": verdict.lost,
        "do": verdict.do,
        "when all is back": verdict.back,
    }


def _seat(seat: Seat) -> Row:
    return {"failure": seat.case, "you are at": ", ".join(seat.sites), "then": seat.change}
