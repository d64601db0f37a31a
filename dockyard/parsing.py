"""Reading what tools print: TextFSM, JSON and XML, and nothing that we do not know.

Templates are ``templates/parse/<name>.textfsm``; each of their states ends in ``^. -> Error``, so that an unknown line
is a `ParseError` with its number and neighbours and not a silently shorter table.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree as ET

import textfsm

from dockyard.errors import ParseError

TEMPLATES = Path(__file__).parent.parent / "templates" / "parse"

E = TypeVar("E", bound=Enum)
S = TypeVar("S")


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
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, or as many brackets
            raise self.error(0, f"is no JSON that a tool prints ({error})") from error

    def xml(self) -> ET.Element:
        """The root of the XML document; raises ParseError for anything else."""
        try:
            return ET.fromstring(self.text.encode("utf-8", "surrogateescape"))  # noqa: S314  # expat 2.4.1 stops bombs
        except ET.ParseError as error:
            raise self.error(error.position[0], f"is not XML ({error})") from error

    def agree(self, text: S, machine: S) -> S:
        """``machine``, when the text says the same.

        Both are states that were reduced to what either form can say. The two commands ran one after the other, so a
        difference may also be a change in between: look again before you believe in a fault.

        Raises:
            ParseError: they differ; the message names the fields.
        """
        if text != machine:
            differing = "; ".join(_differences(text, machine))
            raise self.error(0, f"does not say what its machine-readable form says: {differing}")
        return machine

    def error(self, line_number: int = 0, why: str = "is not understood") -> ParseError:
        """The error for one line, with its neighbours; see `ParseError`."""
        lines = self.lines
        line = lines[line_number - 1] if 0 < line_number <= len(lines) else ""
        first = max(line_number - 3, 0)
        shown = enumerate(lines[first : line_number + 2], first + 1)
        neighbours = "\n".join(f"{'>' if at == line_number else ' '} {at:4} {text}" for at, text in shown)
        return ParseError(self.tool, line_number, line, neighbours, version=self.version, why=why)


def first(rows: Iterable[Row], kind: str) -> str:
    """The value of the first row of a kind, where each line is ``kind|name|value``; "" when there is none."""
    return next((row["value"] for row in rows if row["kind"] == kind), "")


def _differences(one: object, other: object, path: str = "") -> Iterator[str]:
    """Where two states differ, as ``resources[0].role: Primary, Secondary``."""
    if is_dataclass(one) and type(one) is type(other):
        for item in fields(one):
            if item.compare:
                name = f"{path}.{item.name}".lstrip(".")
                yield from _differences(getattr(one, item.name), getattr(other, item.name), name)
    elif isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        for at, pair in enumerate(zip(one, other, strict=True)):
            yield from _differences(*pair, f"{path}[{at}]")
    elif one != other:
        yield f"{path}: {one}, {other}"


@functools.cache
def _template(name: str) -> str:
    return (TEMPLATES / f"{name}.textfsm").read_text(encoding="utf-8")


def _one_line(line: str) -> str:
    """The line for TextFSM, which would take form feeds and other separators for ends of lines."""
    if len(line.splitlines()) > 1:
        raise ValueError("a control character in the middle of a line")
    return line + "\n"
