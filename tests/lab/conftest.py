"""The lab for tests: five real machines, the real scripts as subprocesses, and evidence kept when a test fails."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from lab import Lab, Machine
from tests.lab import numbered
from tests.lab.drbd import wait_until_alike, wait_until_received

ROOT = Path(__file__).parents[2]
LAB = ROOT / "lab" / "inventory"
EVIDENCE = ROOT / "lab-evidence"
RUN_LIMIT_S = 1800
"""A whole phase 1 takes ten minutes on two slow emulating cores."""
HOSTS = ("dock-dash", "dock-prod", "dock-mirror", "dock-load", "dock-edge")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Phase 1 comes first, as it begins with pristine machines; tests on the whole inventory last: it carries more."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.lab)
    items.sort(key=lambda item: ("everything" in getattr(item, "fixturenames", ()), item.path.name != "test_phase1.py"))


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
    """Starts ``runbooks/NAME.py`` of the checkout ``root`` the way a person does; runs keep their ``state`` there.

    ``inventory`` is what they work on, ``built`` the name of the checkpoint with a finished phase 1 of it.
    """

    state: Path
    root: Path = ROOT
    inventory: Path = LAB
    built: str = "phase1"

    def environment(self) -> dict[str, str]:
        own = {"XDG_STATE_HOME": str(self.state), "PYTHONPATH": str(self.root)}
        return {**os.environ, "DOCKYARD_INVENTORY": str(self.inventory), "COLUMNS": "140", **own}

    def start(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.root / "runbooks" / f"{name}.py"), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
        )

    def run(self, name: str, *arguments: str) -> Ran:
        with self.start(name, *arguments) as process:
            stdout, stderr = process.communicate(timeout=RUN_LIMIT_S)
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
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lab's inventory without what phase 1 builds upon the mesh: tests of mesh and storage need none of it."""
    folder = Path(shutil.copytree(LAB, tmp_path_factory.mktemp("bare") / "inventory"))
    replace_in(folder / "hosts.yaml", "roles: [monitoring]", "roles: []")
    yaml, defaults = YAML(), folder / "defaults.yaml"
    described = yaml.load(defaults)
    for name in ("dns", "k3s", "opencloud"):
        del described["data"]["cluster"][name]
    yaml.dump(described, defaults)
    return folder


@pytest.fixture(scope="session")
def runbooks(tmp_path_factory: pytest.TempPathFactory, bare: Path) -> Runbooks:
    """The runbooks on the mesh and the storage alone."""
    return Runbooks(tmp_path_factory.mktemp("state"), inventory=bare, built="mesh")


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Runbooks:
    """The runbooks on the whole inventory of the lab. Modules that need it call this fixture ``runbooks``."""
    return Runbooks(tmp_path_factory.mktemp("state"))


@dataclass(slots=True)
class Memory:
    """What this session knows of the machines.

    ``built`` is the phase 1 at which they are, whole; ``inventory`` the one of which ``saved`` checkpoints were made.
    """

    built: str = ""
    inventory: str = ""
    saved: set[str] = field(default_factory=set)

    def forget(self) -> None:
        """What a reset leaves: no phase 1 that anybody could count on, and no checkpoints."""
        self.built = ""
        self.saved.clear()


@pytest.fixture(scope="session")
def memory() -> Memory:
    return Memory()


@pytest.fixture
def pristine(lab: Lab, memory: Memory) -> Lab:
    """The machines as they came out of the image."""
    memory.forget()
    lab.reset()
    return lab


@pytest.fixture
def meshed(lab: Lab, runbooks: Runbooks, memory: Memory) -> Iterator[Lab]:
    """The machines with a finished phase 1; what the test before left broken is undone."""
    _begin_with(lab, runbooks, memory)
    if memory.built != runbooks.built:
        _at(lab, runbooks, memory, runbooks.built, "phase1_baseline")
        memory.built = runbooks.built
    yield lab
    if not all(machine.running for machine in lab.machines.values()):
        memory.built = ""


@pytest.fixture
def replicated(lab: Lab, runbooks: Runbooks, memory: Memory) -> Lab:
    """The machines with a finished phase 2, each time as it was just after it."""
    _begin_with(lab, runbooks, memory)
    memory.built = ""
    storage = {"mesh": "storage", "phase1": "phase2"}[runbooks.built]
    if storage not in memory.saved and storage not in lab.status()["checkpoints"]:
        _at(lab, runbooks, memory, runbooks.built, "phase1_baseline")
    _at(lab, runbooks, memory, storage, "phase2_drbd")
    prove_connection(lab["dock-prod"], lab["dock-mirror"])
    return lab


def _begin_with(lab: Lab, runbooks: Runbooks, memory: Memory) -> None:
    """Another inventory than the one before begins with a mesh alone, or with pristine machines."""
    if memory.inventory not in {"", runbooks.built}:
        if memory.inventory == "mesh" and "mesh" in memory.saved:
            go_back(lab, "test-mesh")
        else:
            lab.reset()
        memory.forget()
    memory.inventory = runbooks.built


def prove_connection(writer: Machine, other: Machine) -> None:
    """A block goes to the other replica and arrives: who just woke up may know nothing of a lost peer."""
    writer.succeed("date >/srv/data/.awake; sync /srv/data/.awake; rm /srv/data/.awake", sudo=True)
    wait_until_alike(writer)
    wait_until_received(writer, other)


def _at(lab: Lab, runbooks: Runbooks, memory: Memory, name: str, runbook: str) -> None:
    """Go to a checkpoint of this session. The first time it is made, from one of that name in a lab that ran before.

    That one may be of an older day, so the runbook is run in any case.
    """
    if name in memory.saved:
        go_back(lab, f"test-{name}")
        return
    if name in lab.status()["checkpoints"]:
        go_back(lab, name)
    lab.heal()
    for machine in lab.machines.values():
        if not machine.running:
            machine.start()
    runbooks.succeed(runbook, "--yes")
    keep(lab, memory, name)


def keep(lab: Lab, memory: Memory, name: str) -> None:
    """Let later tests of this session go back to the machines as they are now."""
    lab.save(f"test-{name}")
    memory.saved.add(name)


def go_back(lab: Lab, name: str) -> None:
    """Go to a checkpoint, and make sessions that are as young as they say.

    The kernel counts a session's age from its own start, so it keeps one that was made just before the checkpoint,
    while ``wg show`` subtracts its date from today's and calls it as old as the checkpoint.
    """
    lab.back(name)
    machines = [lab[host] for host in HOSTS]
    with ThreadPoolExecutor(len(machines)) as pool:
        list(pool.map(partial(Machine.succeed, command=_NEW_SESSIONS, sudo=True), machines))
        young = partial(Machine.wait_until_succeeds, command=_YOUNG_SESSIONS, timeout_s=180.0, sudo=True)
        list(pool.map(young, machines))


_NEW_SESSIONS = "umask 077; wg showconf wg0 >/run/wg0.now && wg setconf wg0 /run/wg0.now && rm /run/wg0.now"
_YOUNG_SESSIONS = """\
for peer in $(wg show wg0 allowed-ips | cut -f 2 | cut -d / -f 1); do ping -n -q -c 1 -w 2 $peer >/dev/null & done; wait
! wg show wg0 latest-handshakes | awk -v now=$(date +%s) 'now - $2 > 150 { old = 1 } END { exit !old }'"""


@pytest.fixture
def inventory(runbooks: Runbooks, tmp_path: Path) -> Path:
    """A copy of the inventory to spoil."""
    return Path(shutil.copytree(runbooks.inventory, tmp_path / "inventory"))


@pytest.fixture
def with_writer(replicated: Lab, runbooks: Runbooks, inventory: Path) -> Path:
    """An inventory whose storage is used by a unit that writes numbered records; it runs on the writer."""
    replace_in(inventory / "defaults.yaml", "mount: /srv/data", f"mount: /srv/data\n      units: [{numbered.UNIT}]")
    numbered.install(replicated)
    runbooks.succeed("phase2_drbd", "--yes", "--only", "Write what happens at boot", "--inventory", str(inventory))
    replicated["dock-prod"].succeed(f"systemctl start {numbered.UNIT}", sudo=True)
    return inventory


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def pin_elsewhere(inventory: Path, known: Path) -> None:
    for name in ("hosts.yaml", "defaults.yaml"):
        replace_in(inventory / name, "$XDG_CACHE_HOME/dockyard/lab/known_hosts", str(known))


def typed_at_a_terminal(
    runbooks: Runbooks, name: str, *arguments: str, prompt: str = "\n> ", answer: str = ""
) -> tuple[int, str]:
    """Run at a terminal, and type ``answer`` after ``prompt``; without one, what the run asks for: the line before."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, str(runbooks.root / "runbooks" / f"{name}.py"), *arguments],
        stdin=theirs,
        stdout=subprocess.PIPE,
        text=True,
        env=runbooks.environment(),
    ) as process:
        assert process.stdout is not None
        shown = ""
        while not shown.endswith(prompt) and (character := process.stdout.read(1)):
            shown += character
        os.write(ours, (answer or shown.splitlines()[-2]).encode() + b"\n")
        shown += process.stdout.read()
    os.close(ours)
    os.close(theirs)
    return process.returncode, shown


def wait_until_healthy(runbooks: Runbooks, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while (health := runbooks.run("health", "--json")).faults:
        assert time.monotonic() < deadline, str(health)


def wait_until_off(machine: Machine, timeout_s: float = 120.0) -> None:
    """Wait until a machine that was told to go down has no power any more."""
    deadline = time.monotonic() + timeout_s
    while machine.running:
        assert time.monotonic() < deadline, machine.console()[-2000:]


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
        arguments["memory"].built = ""
    return report
