"""What all readers of outputs stand on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import pytest

from dockyard.errors import ParseError
from dockyard.parsing import Printed
from dockyard.standing import Level, is_better


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Leaf:
    colour: Colour
    source: str = field(default="", compare=False)


@dataclass(frozen=True)
class Tree:
    leaves: tuple[Leaf, ...]


RED, BLUE = Tree((Leaf(Colour.RED, "text"),)), Tree((Leaf(Colour.BLUE, "json"),))


def test_a_row_knows_its_line_and_an_unknown_line_its_neighbours() -> None:
    names = "dock-prod|0| 10.20.0.2\ndock-load|2|\n"
    assert [row.line_number for row in Printed("getent", names).rows("getent_names")] == [1, 2]
    with pytest.raises(ParseError) as caught:
        Printed("getent", names + "oops\n", "2.41").rows("getent_names")
    assert str(caught.value).startswith("getent 2.41: line 3 is not understood: 'oops'")
    assert "     2 dock-load|2|\n>    3 oops" in str(caught.value)


@pytest.mark.parametrize("character", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\r"])
def test_a_control_character_does_not_make_two_lines_of_one(character: str) -> None:
    with pytest.raises(ParseError, match="line 1"):
        Printed("getent", f"dock-prod|0|{character}dock-load|2|\n").rows("getent_names")


def test_an_unknown_word_is_refused_with_the_known_ones() -> None:
    printed = Printed("paint", "red\n")
    assert printed.member(Colour, "red", 1) is Colour.RED
    with pytest.raises(ParseError, match=r"line 1 holds 'rod', which is no Colour that we know \(red, blue\): 'red'"):
        printed.member(Colour, "rod", 1)


@pytest.mark.parametrize(("text", "whole"), [("", True), ("red\n", True), ("red", False), ("red\nbl", False)])
def test_a_last_line_without_its_end_is_noticed(text: str, whole: bool) -> None:  # a parameter of a test
    assert Printed("paint", text).whole is whole


@pytest.mark.parametrize("text", ["", "{", '{"a": 1} x', "[1,]"])
def test_what_is_not_json_or_xml_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="is not JSON"):
        Printed("paint", text).json()
    with pytest.raises(ParseError, match="is not XML"):
        Printed("paint", text).xml()


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000])
def test_json_beyond_all_bounds_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="no JSON that a tool prints"):
        Printed("paint", text).json()


def test_two_forms_must_agree() -> None:
    printed = Printed("paint", "red\n")
    assert printed.agree(RED, Tree((Leaf(Colour.RED, "json"),))).leaves[0].source == "json"
    with pytest.raises(ParseError, match=r"the output does not say what .*: leaves\[0\].colour: red, blue"):
        printed.agree(RED, BLUE)


def test_what_is_missing_or_changed_places_stands_no_better() -> None:
    truth = {"disk": Level.FAILED, "peer": Level.HEALTHY}
    assert not is_better(truth, truth)
    assert not is_better({"peer": Level.HEALTHY}, truth)
    assert not is_better({"disk": Level.HEALTHY, "peer": Level.FAILED}, truth)
    assert not is_better({**truth, "another": Level.HEALTHY}, truth)
    assert is_better({**truth, "disk": Level.DEGRADED}, truth)
