"""Reading what tools print: TextFSM, and nothing that a template does not know.

Templates are ``templates/parse/<tool>.textfsm``; each of their states ends in ``^. -> Error``, so that an unknown line
is a `ParseError` with its number and neighbours and not a silently shorter table.
"""

from __future__ import annotations

import functools
import io
from pathlib import Path

import textfsm

from dockyard.errors import ParseError

TEMPLATES = Path(__file__).parent.parent / "templates" / "parse"

Row = dict[str, str | list[str]]


@functools.cache
def _template(name: str) -> str:
    return (TEMPLATES / f"{name}.textfsm").read_text(encoding="utf-8")


def parse(template: str, text: str, *, tool: str, version: str = "") -> list[Row]:
    """The records of ``text``, one dict per record with the template's value names in lower case.

    Raises:
        ParseError: a line that no rule of ``templates/parse/<template>.textfsm`` knows.
    """
    machine = textfsm.TextFSM(io.StringIO(_template(template)))
    for number, line in enumerate(text.splitlines(), 1):
        try:
            machine.ParseText(line + "\n", eof=False)
        except textfsm.TextFSMError as error:
            raise ParseError(tool, number, line, _neighbours(text, number), version=version) from error
    rows: list[list[str | list[str]]] = machine.ParseText("", eof=True)
    return [dict(zip((name.lower() for name in machine.header), row, strict=True)) for row in rows]


def _neighbours(text: str, number: int) -> str:
    lines = text.splitlines()
    first = max(number - 3, 0)
    shown = enumerate(lines[first : number + 2], first + 1)
    return "\n".join(f"{'>' if at == number else ' '} {at:4} {line}" for at, line in shown)
