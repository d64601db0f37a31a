"""Generation identifiers: what was recorded of a real split brain, and what the kernel's rules say of other pairs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockyard.errors import ParseError
from tasks.drbd.generations import Generations, Relation, read_generations, relation

MIRROR = "360F09FBD22FAB41:F6E9F4E7CB17FBC8:FFAB18CCB7B1484E:D3F646E65274D954:1:1:1:0:0:0:0\n"
PROD = "C3C43B759EF3992D:F6E9F4E7CB17FBC9:FFAB18CCB7B1484F:D3F646E65274D955:1:1:1:0:0:0:0\n"
NINE = "C3C43B759EF3992D:F6E9F4E7CB17FBC9:FFAB18CCB7B1484F:D3F646E65274D955:1:1:1:0:0:0:0:1:0:0:0:1\n"


def generations(current: int, base: int = 0, *history: int) -> Generations:
    return Generations(current=current, base=base, history=history)


def test_a_split_brain_as_two_hosts_printed_it() -> None:
    mirror, prod = read_generations(MIRROR), read_generations(PROD)
    assert relation(mirror, prod) is Relation.SPLIT
    assert mirror.base == prod.base
    assert (mirror.name, prod.name) == ("360F09FBD22FAB40", "C3C43B759EF3992C")
    assert read_generations(NINE) == prod


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        (generations(8), generations(8, 6), Relation.SAME),
        (generations(8, 6), generations(6), Relation.AHEAD),
        (generations(6, 0, 2), generations(8, 6), Relation.BEHIND),
        (generations(8, 0, 6), generations(6), Relation.AHEAD),
        (generations(8, 0, 6), generations(10, 6), Relation.SPLIT),
        (generations(8, 0, 6), generations(10, 0, 6), Relation.SPLIT),
        (generations(8, 0, 0), generations(10, 0, 0), Relation.UNRELATED),
        (generations(8, 4), generations(10, 4), Relation.UNRELATED),
        (generations(8, 6), generations(4), Relation.AHEAD),
    ],
)
def test_how_two_copies_stand_to_each_other(one: Generations, two: Generations, expected: Relation) -> None:
    assert relation(one, two) is expected
    turned = {Relation.AHEAD: Relation.BEHIND, Relation.BEHIND: Relation.AHEAD}
    assert relation(two, one) is turned.get(expected, expected)


@pytest.mark.parametrize(
    "text", ["", MIRROR[:-1], MIRROR.replace(":0\n", ":2\n"), MIRROR + MIRROR, MIRROR[5:], "no resources defined!\n"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        read_generations(text)


@given(st.integers(0, len(NINE) - 1), st.characters(codec="ascii"))
def test_a_damaged_line_is_refused_or_another_generation(at: int, character: str) -> None:
    damaged = NINE[:at] + character + NINE[at + 1 :]
    try:
        read = read_generations(damaged)
    except ParseError:
        return
    assert len(damaged) == len(NINE)
    assert len(read.history) == 2
