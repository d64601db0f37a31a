"""A value that nobody sees by accident."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """Text that does not print itself: ``repr``, ``str`` and ``format`` give ``(hidden)``, pickling is refused.

    Two secrets are equal when their values are. `reveal` is the only way to the value.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "(hidden)"

    def __format__(self, specification: str) -> str:
        return format("(hidden)", specification)

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere")
