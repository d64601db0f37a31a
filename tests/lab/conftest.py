"""The lab for tests: five real machines, the real scripts as subprocesses, and evidence kept when a test fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import Lab

ROOT = Path(__file__).parents[2]
EVIDENCE = ROOT / "lab-evidence"
HOSTS = ("dock-dash", "dock-prod", "dock-mirror", "dock-load", "dock-edge")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.lab)


@dataclass(frozen=True, slots=True)
class Ran:
    """A runbook that ended, as a person at a shell would see it."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        """What ``--json`` printed."""
        parsed: dict[str, Any] = json.loads(self.stdout)
        return parsed

    @property
    def changes(self) -> dict[str, list[str]]:
        """The titles of all changes by host, from the JSON document."""
        found: dict[str, list[str]] = {}
        for step in self.document["steps"]:
            for plan in step["planned"]:
                found.setdefault(plan["host"], []).extend(plan["titles"])
        return found

    @property
    def faults(self) -> list[str]:
        """``host: fault`` of every finding, in the order in which they are shown."""
        return [
            f"{finding['host']}: {finding['fault']}" for step in self.document["steps"] for finding in step["findings"]
        ]

    def __str__(self) -> str:
        return f"exit code {self.exit_code}\n{self.stdout}\n{self.stderr}"


@dataclass(frozen=True, slots=True)
class Runbooks:
    """Starts ``runbooks/NAME.py`` the way a person does."""

    state: Path

    def environment(self) -> dict[str, str]:
        return {**os.environ, "DOCKYARD_INVENTORY": "lab", "XDG_STATE_HOME": str(self.state), "COLUMNS": "140"}

    def start(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "runbooks" / f"{name}.py"), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
        )

    def run(self, name: str, *arguments: str) -> Ran:
        with self.start(name, *arguments) as process:
            stdout, stderr = process.communicate(timeout=600)
        return Ran(process.returncode, stdout, stderr)

    def succeed(self, name: str, *arguments: str) -> Ran:
        ran = self.run(name, *arguments)
        assert ran.exit_code == 0, str(ran)
        return ran


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Five running machines, the ones of ``python -m lab up`` when they are up."""
    with Lab() as machines:
        yield machines


@pytest.fixture(scope="session")
def runbooks(tmp_path_factory: pytest.TempPathFactory) -> Runbooks:
    return Runbooks(tmp_path_factory.mktemp("state"))


@dataclass(slots=True)
class Memory:
    """Whether the machines are known to be meshed, so that not every test has to converge them first."""

    meshed: bool = False


@pytest.fixture(scope="session")
def memory() -> Memory:
    return Memory()


@pytest.fixture
def pristine(lab: Lab, memory: Memory) -> Lab:
    """The machines as they came out of the image."""
    memory.meshed = False
    lab.reset()
    return lab


@pytest.fixture
def meshed(lab: Lab, runbooks: Runbooks, memory: Memory) -> Iterator[Lab]:
    """The machines with a finished phase 1; what the test before left broken is mended by the runbook itself."""
    if not memory.meshed:
        lab.heal()
        for machine in lab.machines.values():
            if not machine.running:
                machine.start()
        runbooks.succeed("phase1_baseline", "--yes")
        memory.meshed = True
    yield lab
    memory.meshed &= all(machine.running for machine in lab.machines.values())


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """A copy of the lab's inventory to spoil."""
    return Path(shutil.copytree(ROOT / "lab" / "inventory", tmp_path / "inventory"))


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """When a test that uses the lab fails, keep consoles and journals and say where."""
    report = yield
    arguments = getattr(item, "funcargs", {})
    if report.failed and "lab" in arguments:
        folder = EVIDENCE / item.name
        arguments["lab"].keep_evidence(folder)
        report.sections.append(("lab", f"consoles and journals of the machines: {folder}"))
    if report.failed and "memory" in arguments:
        arguments["memory"].meshed = False
    return report
