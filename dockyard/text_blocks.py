"""Outputs whose lines each say one thing: nothing twice, nothing out of its order, nothing left out.

Templates for such outputs record every line by itself, and declare their Values in the order in which the tool prints.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from dockyard.parsing import Printed, Row


def said(row: Row) -> dict[str, str]:
    """The values that the line of a row gives."""
    return {name: text for name, text in row.items() if text}


def in_order(printed: Printed, rows: Sequence[Row], required: Collection[str] = ()) -> dict[str, str]:
    """What several lines say together.

    Raises:
        ParseError: a line says something again, or something that comes before what was said; one of ``required``
            is missing.
    """
    together: dict[str, str] = {}
    reached = -1
    for row in rows:
        values = said(row)
        place = list(row).index(next(iter(values)))
        if place <= reached:
            raise printed.error(row.line_number, "comes twice, or not at its place")
        reached = place
        together |= values
    for name in required:
        if name not in together:
            raise printed.error(rows[-1].line_number if rows else 0, f"ends something that has no {label(name)}")
    return together


def blocks(rows: Iterable[Row], *heads: str) -> list[list[Row]]:
    """The rows in groups, each of which begins with a row that has a value of ``heads``; the first may lack one."""
    groups: list[list[Row]] = []
    for row in rows:
        if not groups or any(row[head] for head in heads):
            groups.append([])
        groups[-1].append(row)
    return groups


def label(name: str) -> str:
    """The name of a value, for people."""
    return name.replace("_", " ")
