"""The locks hold what the project asks for, and nothing of the machine on which they were made."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NEEDED = PROJECT["project"]["dependencies"]
WANTED = {
    "requirements.lock": NEEDED,
    "requirements-dev.lock": [*NEEDED, *PROJECT["project"]["optional-dependencies"]["dev"]],
    "requirements-bench.lock": PROJECT["dependency-groups"]["bench"],
}


def canonical(requirement: str) -> str:
    """Name of a requirement as PEP 503 writes it."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def entries(lock: str) -> list[str]:
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", "")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("lock", WANTED)
def test_everything_is_locked_with_hashes(lock: str) -> None:
    assert {canonical(entry) for entry in entries(lock)} >= {canonical(requirement) for requirement in WANTED[lock]}
    assert [entry for entry in entries(lock) if "==" not in entry or "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("lock", WANTED)
def test_locks_name_no_place(lock: str) -> None:
    assert not re.search(
        r"://|file:|(^|\s)/|find-links|index-url", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE
    )


def test_the_development_lock_has_the_versions_that_people_run() -> None:
    versions = {lock: {entry.split()[0] for entry in entries(lock)} for lock in WANTED}
    assert versions["requirements.lock"] <= versions["requirements-dev.lock"]


def test_the_setup_explains_itself() -> None:
    run = subprocess.run([ROOT / "setup.sh", "--help"], capture_output=True, text=True, timeout=20, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert "--check" in run.stdout
    assert "Exit codes" in run.stdout


def test_the_setup_refuses_what_it_does_not_know() -> None:
    run = subprocess.run([ROOT / "setup.sh", "--chekc"], capture_output=True, text=True, timeout=20, check=False)
    assert run.returncode == 2
    assert "--chekc" in run.stderr


def test_the_readme_leads_to_every_document_and_to_targets_that_exist() -> None:
    readme, makefile = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "Makefile"))
    assert [path.name for path in (ROOT / "docs").glob("*.md") if f"docs/{path.name}" not in readme] == []
    wanted = set(re.findall(r"(?:`|^)make ([a-z-]+)", readme, re.MULTILINE))
    assert "python" in wanted
    assert wanted <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
