from __future__ import annotations

import ast
from pathlib import Path

import pytest

from dockyard.cli import select, walk
from dockyard.errors import UsageError
from dockyard.report import Report
from dockyard.runbook import Gate, Options

ROOT = Path(__file__).parents[2]
STEPS = [Gate(title, lambda _topology, _observed: [], sees=()) for title in ("Make keys", "Write peers", "Write names")]


def titles(only: list[str], start: str | None = None) -> list[str]:
    return [step.title for step in select(STEPS, only, start)]


@pytest.mark.parametrize(
    ("only", "start", "chosen"),
    [
        ([], None, ["Make keys", "Write peers", "Write names"]),
        (["2"], None, ["Write peers"]),
        (["names", "keys"], None, ["Make keys", "Write names"]),
        ([], "peers", ["Write peers", "Write names"]),
    ],
)
def test_steps_are_chosen_by_number_or_title(only: list[str], start: str | None, chosen: list[str]) -> None:
    assert titles(only, start) == chosen


@pytest.mark.parametrize("text", ["write", "nothing", "0", "4"])
def test_an_ambiguous_or_unknown_step_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=text):
        titles([text])


def test_selections_that_leave_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="leave no step"):
        titles(["1"], "2")


def test_json_without_an_answer_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(UsageError, match="--json shows nothing to confirm"):
        walk("lab", lambda _: Options(), lambda _: STEPS, Report("failover", json_mode=True))


@pytest.mark.parametrize("path", sorted((ROOT / "runbooks").glob("*.py")), ids=lambda path: path.stem)
def test_every_runbook_says_what_it_needs_what_it_may_destroy_and_how_to_get_back(path: Path) -> None:
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert [part for part in ("Needs", "May destroy", "Way back") if part not in doc] == []
