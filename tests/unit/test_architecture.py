"""The directions in which modules may import, and the rules that every template keeps."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {
    "dockyard": {"dockyard"},
    "tasks": {"tasks", "dockyard"},
    "lab": {"lab", "dockyard"},
    "runbooks": {"runbooks", "tasks", "dockyard"},
}
OURS = set(ALLOWED) | {"tests", "bench"}
IGNORED = "# type: " + "ignore"
FILES = sorted(path for top in ALLOWED for path in (ROOT / top).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full names of our own modules that ``path`` imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide the direction"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in OURS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    top = path.relative_to(ROOT).parts[0]
    wrong = {name for name in imported(path) if name.split(".")[0] not in ALLOWED[top]}
    assert not wrong


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tasks").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT / "tasks"))
)
def test_domains_do_not_import_each_other(path: Path) -> None:
    own = path.relative_to(ROOT / "tasks").parts[0].removesuffix(".py")
    assert {name.split(".")[1] for name in imported(path) if name.startswith("tasks.")} <= {own}


def test_whoever_ignores_a_type_says_why() -> None:
    places = [*FILES, *(path for top in ("tests", "bench") for path in (ROOT / top).rglob("*.py"))]
    lines = [line for path in places for line in path.read_text(encoding="utf-8").splitlines() if IGNORED in line]
    assert lines
    assert [line for line in lines if not re.search(r"ignore\[[^]]+\]  # \S", line)] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_readable(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", sorted((ROOT / "templates" / "parse").glob("*.textfsm")), ids=lambda path: path.stem)
def test_every_state_of_a_template_refuses_unknown_lines(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    states = re.split(r"^(?=[A-Za-z]\w*$)", text, flags=re.MULTILINE)[1:]
    assert states
    for state in states:
        name, *rules = [
            line.strip() for line in state.splitlines() if line.strip() and not line.lstrip().startswith("#")
        ]
        if name != "EOF":
            assert rules[-1] == "^. -> Error", f"state {name}"
