from __future__ import annotations

import argparse
import ast
from pathlib import Path

import pytest

from dockyard import cli
from dockyard.cli import add_change_options, carry_out, options_of, parser, select, walk
from dockyard.errors import UsageError
from dockyard.report import Report
from dockyard.steps import Gate, Options

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


def told(*words: str) -> argparse.Namespace:
    options = parser("A runbook.")
    add_change_options(options)
    return options.parse_args(["--inventory", "lab", *words])


def test_options_are_what_the_command_line_says_and_what_the_runbook_knows() -> None:
    gone = frozenset({"dock-prod"})
    assert options_of(told("--yes"), gone=gone) == Options(yes=True, gone=gone)
    assert options_of(told("--dry-run")) == Options(dry_run=True)


def test_steps_are_carried_out_with_those_options_and_end_with_an_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert carry_out(told("--json"), lambda _: STEPS) == UsageError.exit_code
    assert "--json shows nothing to confirm" in capsys.readouterr().out
    asked: list[Options] = []
    monkeypatch.setattr(cli, "walk", lambda _where, options, _steps, _report: asked.append(options(None)))
    assert carry_out(told("--dry-run"), lambda _: STEPS) == 0
    assert carry_out(told("--dry-run"), lambda _: STEPS, lambda _: Options(yes=True)) == 0
    assert asked == [Options(dry_run=True), Options(yes=True)]


CHANGE = [path for path in sorted((ROOT / "runbooks").glob("*.py")) if path.stem != "document"]
"""``document.py`` writes files on this machine, and has a dry run of its own kind."""


@pytest.mark.parametrize("path", CHANGE, ids=lambda path: path.stem)
def test_no_runbook_explains_a_dry_run_in_its_own_words(path: Path) -> None:
    assert '"--dry-run"' not in path.read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "runbooks").glob("*.py")), ids=lambda path: path.stem)
def test_every_runbook_says_what_it_needs_what_it_may_destroy_and_how_to_get_back(path: Path) -> None:
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert [part for part in ("Needs", "May destroy", "Way back") if part not in doc] == []


@pytest.mark.parametrize("path", sorted((ROOT / "runbooks").glob("*.py")), ids=lambda path: path.stem)
def test_every_runbook_is_started_in_the_same_way(path: Path) -> None:
    text = path.read_text()
    assert (path.stat().st_mode & 0o111, text[:3]) == (0, '"""')
    assert text.endswith(("    sys.exit(main())\n", "    main(__doc__, STEPS)\n"))
