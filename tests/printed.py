"""The printed procedure as a person reads it: chapters, and in them what to type where and what must appear."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

ANY = "…"
_HOST = re.compile(r"\*\*(?:On|Auf) (?P<host>[a-z0-9-]+):\*\*")
_AGAIN = ("Type it again until it prints", "Gib es so lange wieder ein, bis dies erscheint")
_ANSWER = re.compile(
    rf"(?P<how>It prints|Es erscheint|{'|'.join(_AGAIN)})(?: nothing| nichts)?"
    r"(?: (?:with|bei) DRBD (?P<version>[0-9.]+))?(?P<end>[:.])"
)


@dataclass(slots=True)
class Block:
    """One command and, by version of DRBD (``""``: all), what it must print."""

    host: str
    command: str = ""
    prints: dict[str, str] = field(default_factory=dict)
    again: bool = False

    def expected(self, version: str) -> str:
        return self.prints[""] if "" in self.prints else self.prints[version]


def chapters(page: str) -> dict[str, str]:
    """The text of each chapter by its title."""
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def blocks(text: str) -> list[Block]:
    """What is typed, in order. Everything in a fence belongs to a host, and every command has an answer."""
    found: list[Block] = []
    version = ""
    lines = iter(text.splitlines())
    for line in lines:
        if host := _HOST.fullmatch(line):
            found.append(Block(host["host"]))
        elif line.startswith("```"):
            _fence(found[-1], line, "\n".join(iter(lines.__next__, "```")), version)
        elif found and (answer := _ANSWER.fullmatch(line)):
            version = answer["version"] or ""
            found[-1].again |= answer["how"] in _AGAIN
            found[-1].prints |= {version: ""} if answer["end"] == "." else {}
    return found


def _fence(block: Block, kind: str, text: str, version: str) -> None:
    if kind == "```sh":
        assert not block.command, f"two commands under one host: {text}"
        block.command = text
    else:
        assert kind == "```text", kind
        block.prints[version] = text


def fits(seen: str, expected: str) -> bool:
    """Whether what appeared is what is printed, where `ANY` stands for anything within a line."""
    pattern = ".+".join(re.escape(part) for part in expected.split(ANY))
    return re.fullmatch(pattern, seen.strip("\n")) is not None
