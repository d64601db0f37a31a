"""Reading what tools print: TextFSM, JSON and XML, and nothing that we do not know.

Templates are ``templates/parse/<name>.textfsm``; each of their states ends in ``^. -> Error``, so that an unknown line
is a `ParseError` with its number and neighbours and not a silently shorter table.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree as ET

import textfsm

from dockyard.errors import ParseError

TEMPLATES = Path(__file__).parent.parent / "templates" / "parse"

E = TypeVar("E", bound=Enum)


class Row(dict[str, str]):
    """One record of a template, by value name in lower case; ``line_number`` is that of the line that completed it."""

    def __init__(self, values: Mapping[str, str], line_number: int) -> None:
        super().__init__(values)
        self.line_number = line_number


@dataclass(frozen=True, slots=True)
class Printed:
    """What a tool printed on standard output, with the names that an error message needs."""

    tool: str
    text: str
    version: str = ""

    @property
    def lines(self) -> list[str]:
        """The lines without their line feeds; no other character ends a line."""
        return self.text.removesuffix("\n").split("\n") if self.text else []

    @property
    def whole(self) -> bool:
        """False when the last line has no end: the tools that we read end each line, so something was cut off."""
        return not self.text or self.text.endswith("\n")

    def rows(self, template: str) -> list[Row]:
        """The records that ``templates/parse/<template>.textfsm`` finds.

        Raises:
            ParseError: a line that no rule knows.
        """
        machine = textfsm.TextFSM(io.StringIO(_template(template)))
        names = [name.lower() for name in machine.header]
        rows: list[Row] = []
        for number, line in enumerate([*self.lines, None], 1):
            try:
                found = machine.ParseText("" if line is None else _one_line(line), eof=line is None)
            except (textfsm.TextFSMError, ValueError) as error:
                raise self.error(number) from error
            rows += [Row(dict(zip(names, row, strict=True)), number) for row in found[len(rows) :]]
        return rows

    def member(self, kind: type[E], word: str, line_number: int) -> E:
        """The member of an enumeration that has the value ``word``.

        Raises:
            ParseError: there is none; the message lists the known words.
        """
        try:
            return kind(word)
        except ValueError as error:
            known = ", ".join(str(member.value) for member in kind)
            raise self.error(
                line_number, f"holds {word!r}, which is no {kind.__name__} that we know ({known})"
            ) from error

    def json(self) -> Any:
        """The JSON document; raises ParseError for anything else."""
        try:
            return json.loads(self.text)
        except json.JSONDecodeError as error:
            raise self.error(error.lineno, f"is not JSON ({error.msg})") from error
        except (ValueError, RecursionError) as error:
            raise self.error(0, f"is not JSON that we can hold ({error})") from error

    def xml(self) -> ET.Element:
        """The root of the XML document; raises ParseError for anything else."""
        try:
            return ET.fromstring(self.text.encode("utf-8", "surrogateescape"))  # noqa: S314  # expat 2.4.1 stops bombs
        except ET.ParseError as error:
            raise self.error(error.position[0], f"is not XML ({error})") from error

    def error(self, line_number: int = 0, why: str = "is not understood") -> ParseError:
        """The error for one line, with its neighbours; see `ParseError`."""
        lines = self.lines
        line = lines[line_number - 1] if 0 < line_number <= len(lines) else ""
        first = max(line_number - 3, 0)
        shown = enumerate(lines[first : line_number + 2], first + 1)
        neighbours = "\n".join(f"{'>' if at == line_number else ' '} {at:4} {text}" for at, text in shown)
        return ParseError(self.tool, line_number, line, neighbours, version=self.version, why=why)


@functools.cache
def _template(name: str) -> str:
    return (TEMPLATES / f"{name}.textfsm").read_text(encoding="utf-8")


def _one_line(line: str) -> str:
    """The line for TextFSM, which would take form feeds and other separators for ends of lines."""
    if len(line.splitlines()) > 1:
        raise ValueError("a control character in the middle of a line")
    return line + "\n"
