"""JSON of a tool, checked against types: what they name must be there and be right, other keys are ignored."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from dockyard.errors import ParseError
from dockyard.parsing import Printed

T = TypeVar("T")


def typed(printed: Printed, value: Any, kind: type[T]) -> T:
    """``value``, a part of the JSON that was printed, as ``kind`` (a msgspec.Struct or a container of them).

    Raises:
        ParseError: a key is missing or holds something else; the message has its path as ``$[2].mtu``.
    """
    try:
        return msgspec.convert(value, kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise printed.error(0, f"is not what we know: {error}") from error


def every(printed: Printed, value: Any) -> list[Any]:
    """The entries of a list; raises ParseError for anything else."""
    if not isinstance(value, list):
        raise ParseError(printed.tool, 0, "", "", version=printed.version, why="is not a list")
    return value
