"""From plain YAML values to a frozen dataclass: every mistake is collected with its path, none stops the walk.

The fields' types say what is wanted. msgspec converts single values, strictly (no text for numbers, no number for a
flag); `Annotated` may add msgspec's limits and checks of our own (functions that raise ValueError).
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import StrEnum
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from string import Template
from types import MappingProxyType, NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from dockyard.errors import Problem
from dockyard.topology import names

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
XDG = {"XDG_CACHE_HOME": "~/.cache", "XDG_CONFIG_HOME": "~/.config", "XDG_STATE_HOME": "~/.local/state"}
"""What these variables mean in a path when they are not set (XDG Base Directory Specification)."""

_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "object": "a mapping",
    "array": "a list",
    "null": "nothing",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A value as the inventory has it, and the path of the place where it stands."""

    path: str
    value: object


@dataclass(slots=True)
class Reader:
    """Reads values into types. `problems` grows; what does not fit becomes its default, so that the walk goes on."""

    problems: list[Problem] = field(default_factory=list)

    def report(self, path: str, message: str) -> None:
        """Note one mistake; the same one is noted once, however many hosts inherit it."""
        problem = Problem(path, message)
        if problem not in self.problems:
            self.problems.append(problem)

    def unknown(self, path: str, given: Iterable[object], known: Iterable[str]) -> None:
        """Report every key of ``given`` that is not in ``known``."""
        wanted = list(known)
        for key in given:
            if key not in wanted:
                self.report(f"{path}.{key}", f"unknown key{_suggestion(str(key), wanted)}")

    def mapping(self, found: Found) -> Mapping[Any, Any] | None:
        """The value if it is a mapping (nothing at all counts as an empty one), else None and a problem."""
        if found.value is None:
            return {}
        if isinstance(found.value, Mapping):
            return found.value
        self.report(found.path, f"expected a mapping (key: value), but it is {_kind(found.value)}")
        return None

    def section(self, cls: type[T], found: Found) -> T | None:
        """Read a mapping into the dataclass ``cls``."""
        values = self.mapping(found)
        if values is None:
            return None
        self.unknown(found.path, values, (item.name for item in fields(cls)))
        children = {key: Found(f"{found.path}.{key}", value) for key, value in values.items()}
        return self.fields(cls, children, found.path)

    def fields(self, cls: type[T], found: Mapping[str, Found], path: str, reported: Container[str] = ()) -> T | None:
        """Build ``cls`` out of values that may stand in different places; ``path`` is where a missing one belongs.

        Missing keys in ``reported`` were reported by the caller.
        """
        values: dict[str, object] = {}
        for item in fields(cls):
            default = None if item.default is MISSING else item.default
            given = found.get(item.name)
            read = self.value(_hints(cls)[item.name], given) if given else None
            if given is None and item.default is MISSING and item.name not in reported:
                self.report(f"{path}.{item.name}", "is missing")
            values[item.name] = default if read is None else read
        lost = (key for key, value in values.items() if value is None and key in found)
        unread = {key for key in lost if found[key].value is not None}
        needed = {item.name for item in fields(cls) if item.default is MISSING and values[item.name] is None}
        return None if unread | needed else cls(**values)

    def value(self, hint: Any, found: Found) -> object:
        """Read one value of any type; None when it does not fit (then there is a problem) or may be None."""
        hint, checks = _without_checks(hint)
        origin = get_origin(hint)
        if origin in {Union, UnionType}:
            return None if found.value is None else self.value(_without_none(hint), found)
        if found.value is None:
            return self._refused(found, "has no value")
        if is_dataclass(hint) and isinstance(hint, type):
            return self.section(hint, found)
        if origin in {frozenset, tuple}:
            items = self._items(get_args(hint)[0], found)
            return None if items is None else origin(items)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return self._pairs(get_args(hint), found)
        return self._leaf(hint, checks, found)

    def _items(self, hint: Any, found: Found) -> list[object] | None:
        if not isinstance(found.value, list):
            self.report(found.path, f"expected a list, but it is {_kind(found.value)}")
            return None
        items = [self.value(hint, Found(f"{found.path}[{at}]", item)) for at, item in enumerate(found.value)]
        return [item for item in items if item is not None]

    def _pairs(self, hints: tuple[Any, ...], found: Found) -> object:
        pairs: dict[object, object] = {}
        for key, value in (self.mapping(found) or {}).items():
            path = f"{found.path}.{key}"
            pair = self.value(hints[0], Found(path, key)), self.value(hints[1], Found(path, value))
            if None not in pair:
                pairs[pair[0]] = pair[1]
        return MappingProxyType(pairs)

    def _leaf(self, hint: Any, checks: list[Callable[[str], None]], found: Found) -> object:
        if isinstance(found.value, str) and names.is_example(found.value):
            self.report(found.path, f"example value still in place: {found.value}")
        try:
            value: Any = msgspec.convert(found.value, hint, dec_hook=_convert)
            for check in checks:
                check(value)
        except msgspec.ValidationError as error:
            return self._refused(found, _in_words(str(error), hint, found.value))
        except ValueError as error:
            return self._refused(found, str(error))
        return value

    def _refused(self, found: Found, message: str) -> object:
        self.report(found.path, message)
        return None


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _without_checks(hint: Any) -> tuple[Any, list[Callable[[str], None]]]:
    if get_origin(hint) is not Annotated:
        return hint, []
    base, *extras = get_args(hint)
    limits = tuple(extra for extra in extras if isinstance(extra, msgspec.Meta))
    return (Annotated[(base, *limits)] if limits else base), [extra for extra in extras if extra not in limits]


def _without_none(hint: Any) -> Any:
    return next(option for option in get_args(hint) if option is not NoneType)


def _convert(hint: type, value: object) -> object:
    """What msgspec does not know by itself: addresses and paths, and our own words for roles and the like."""
    if not isinstance(value, str):
        raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
    if hint is IPv4Address:
        return _address(value)
    if hint is IPv4Network:
        return _network(value)
    if issubclass(hint, Path):
        return _path(value)
    raise TypeError(hint)


def _address(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise ValueError(f"{text} is not an IPv4 address") from None


def _network(text: str) -> IPv4Network:
    try:
        return IPv4Network(text)
    except ValueError as error:
        raise ValueError(f"{text} is not an IPv4 network such as 10.20.0.0/24 ({error})") from None


def _path(text: str) -> Path:
    path = Path(Template(text).safe_substitute(XDG | os.environ))
    try:
        path = path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{text}: {error}") from None
    if not path.is_absolute() or "\0" in text:
        raise ValueError(f"{text!r} is not a full path: begin with / or ~ (or a variable that is set)")
    return path


def _in_words(message: str, hint: Any, value: object) -> str:
    """What msgspec says, for a person who knows YAML and not Python."""
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return f"{value!r} is unknown{_suggestion(str(value), [str(word) for word in hint])}"
    if not message.startswith("Expected"):
        return message
    wanted = message.removeprefix("Expected ").partition(", got ")[0]
    worded = re.sub(r"`(\w+)`", lambda match: _WORDS.get(match[1], match[1]), wanted)
    return f"expected {worded}, but it is {_kind(value)}"


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    return f"the text {value!r}" if isinstance(value, str) else str(value)


def _suggestion(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(known)}"
