"""One element of an XML document, read so that nothing is missing and nothing unknown is passed over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar
from xml.etree import ElementTree as ET

from dockyard.errors import ParseError
from dockyard.parsing import Printed

E = TypeVar("E", bound=Enum)


@dataclass(frozen=True, slots=True)
class Element:
    """An element whose attributes must be there, and nothing but known elements in it."""

    printed: Printed
    node: ET.Element

    def error(self, why: str) -> ParseError:
        named = self.node.get("id") or self.node.get("name") or ""
        return self.printed.error(0, f"has an element {self.node.tag} {named!r} that {why}")

    def children(self, *tags: str) -> Iterator[Element]:
        """All child elements; raises ParseError for one with another tag, or for text between them."""
        for child in self.node:
            if child.tag not in tags:
                raise self.error(f"holds {child.tag!r}, where we know of {', '.join(tags) or 'nothing'}")
            if (child.tail or "").strip():
                raise self.error("holds text")
            yield Element(self.printed, child)
        if len(self.node) and (self.node.text or "").strip():
            raise self.error("holds text")

    def text(self, name: str) -> str:
        value = self.node.get(name)
        if value is None:
            raise self.error(f"has no {name}")
        return value

    def optional(self, name: str) -> str:
        return self.node.get(name) or ""

    def flag(self, name: str) -> bool:
        if (value := self.text(name)) not in {"true", "false"}:
            raise self.error(f"has {name}={value!r}, neither true nor false")
        return value == "true"

    def maybe(self, name: str) -> bool:
        """A flag that not every version prints; False where it is missing."""
        return name in self.node.keys() and self.flag(name)  # noqa: SIM118  # an Element is no dict

    def count(self, name: str) -> int:
        if not re.fullmatch(r"\d{1,9}", value := self.text(name)):
            raise self.error(f"has {name}={value!r}, which is no number")
        return int(value)

    def member(self, kind: type[E], word: str) -> E:
        return self.printed.member(kind, word, 0)
