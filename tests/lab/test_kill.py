"""The failover is killed between two steps, and somebody else ends it: from another checkout, on another laptop."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab
from runbooks.failover import planned
from tests.lab.conftest import ROOT, Ran, Runbooks
from tests.lab.numbered import PAIR, UNIT, acknowledged, records
from tests.lab.roles import Roles

TITLES = [step.title for step in planned("dock-mirror")]
NAMED = TITLES.index("Tell the replicas who may write") + 1
"""The step before which the arbitrator names the new writer, and the replicas know nothing of it."""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Runbooks:
    """Another checkout of the project, with a state folder of its own."""
    left_out = shutil.ignore_patterns(".*", "__pycache__", "lab-evidence")
    checkout = Path(shutil.copytree(ROOT, tmp_path / "checkout", ignore=left_out))
    other = Runbooks(tmp_path / "state", checkout)
    where = [sys.executable, "-c", "import dockyard, tasks; print(dockyard.__file__, tasks.__file__)"]
    used = subprocess.run(where, env=other.environment(), capture_output=True, text=True, check=True, cwd=tmp_path)
    assert all(Path(path).is_relative_to(checkout) for path in used.stdout.split())
    return other


@pytest.fixture
def roles(replicated: Lab) -> Iterator[Roles]:
    """Sampled for the whole test; at no moment may both be Primary."""
    with Roles(replicated) as sampled:
        yield sampled
    assert sampled.two_primaries() == []
    assert sampled.longest_gap_s() < 1.5


def kill_before(runbooks: Runbooks, step: int, to: str, inventory: Path) -> None:
    """Begin a switch, and kill -9 it when it says that it is at this step."""
    with runbooks.start("failover", "--to", to, "--yes", "--inventory", str(inventory)) as run:
        assert run.stdout is not None
        assert any(line.startswith(f"[{step}/{len(TITLES)}]") for line in run.stdout)
        run.kill()
    assert run.returncode == -9


def come(runbooks: Runbooks, to: str, inventory: Path) -> None:
    """Switch to ``to``; where the run says that the other side must have it first, do as it says."""
    where = ("--yes", "--inventory", str(inventory))
    ran = runbooks.run("failover", "--to", to, *where)
    if ran.exit_code == 1 and "failover.py --to" in ran.stdout:
        (other,) = set(PAIR) - {to}
        runbooks.succeed("failover", "--to", other, *where)
        ran = runbooks.run("failover", "--to", to, *where)
    assert ran.exit_code == 0, str(ran)


def assert_moved(lab: Lab, to: str) -> None:
    """The storage is on ``to`` alone, and no acknowledged record is lost."""
    (other,) = set(PAIR) - {to}
    lab[to].succeed(f"mountpoint -q /srv/data && systemctl -q is-active {UNIT}")
    lab[other].fail("mountpoint -q /srv/data")
    assert lab[to].succeed("drbdadm role data", sudo=True) == "Primary/Secondary\n"
    assert 0 < max(acknowledged(lab[host]) for host in PAIR) <= records(lab[to])
    names = {lab[host].succeed("grep ^writer= /var/lib/dockyard/writer") for host in (*PAIR, "dock-load")}
    assert names == {f"writer={to}\n"}


def test_a_killed_switch_is_ended_from_another_checkout_and_one_goes_back(
    replicated: Lab, runbooks: Runbooks, elsewhere: Runbooks, with_writer: Path, roles: Roles
) -> None:
    kill_before(runbooks, NAMED, "dock-mirror", with_writer)
    come(elsewhere, "dock-mirror", with_writer)
    assert_moved(replicated, "dock-mirror")
    where = ("--yes", "--json", "--inventory", str(with_writer))
    runbooks.succeed("failover", "--to", "dock-prod", *where)
    assert_moved(replicated, "dock-prod")
    assert runbooks.succeed("failover", "--to", "dock-prod", *where).changes == {}
    assert roles.changes("dock-prod") == ["Primary", "Secondary", "Primary"]
    assert roles.changes("dock-mirror") == ["Secondary", "Primary", "Secondary"]


@pytest.mark.drill
@pytest.mark.parametrize("back", [False, True], ids=["there", "back"])
def test_killed_between_any_two_steps(
    replicated: Lab, runbooks: Runbooks, elsewhere: Runbooks, with_writer: Path, roles: Roles, back: bool
) -> None:
    source, target = PAIR
    for step in range(1, len(TITLES) + 1):
        kill_before(runbooks, step, target, with_writer)
        to = source if back else target
        come(elsewhere, to, with_writer)
        assert_moved(replicated, to)
        source, target = (source, target) if back else (target, source)


@pytest.mark.drill
def test_another_person_waits_until_the_lease_of_a_killed_run_ends(
    replicated: Lab, runbooks: Runbooks, elsewhere: Runbooks, with_writer: Path, roles: Roles,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    kill_before(runbooks, NAMED, "dock-mirror", with_writer)
    monkeypatch.setenv("LOGNAME", "colleague")
    refused, waited_s = _until_free(elsewhere, with_writer)
    assert "its lease on dock-load ends by itself in" in refused.stdout
    assert 20 < waited_s < 150
    assert_moved(replicated, "dock-mirror")


def _until_free(runbooks: Runbooks, inventory: Path) -> tuple[Ran, float]:
    """Try until the lease is free; returns the first refusal, and how long it took until a run got through."""
    began = time.monotonic()
    ran = refused = runbooks.run("failover", "--to", "dock-mirror", "--yes", "--inventory", str(inventory))
    assert refused.exit_code == 5, str(refused)
    while ran.exit_code == 5:
        assert time.monotonic() - began < 180, str(ran)
        ran = runbooks.run("failover", "--to", "dock-mirror", "--yes", "--inventory", str(inventory))
    assert ran.exit_code == 0, str(ran)
    return refused, time.monotonic() - began
