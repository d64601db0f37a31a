"""From pristine machines to a healthy mesh, through the scripts that a person types. In this order."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab
from runbooks.phase1_baseline import STEPS
from tests.lab.conftest import HOSTS, ROOT, RUN_LIMIT_S, Memory, Runbooks, keep

STATE_OF_ETC = r"find /etc -xdev -printf '%p %C@ %s\n' | sort | sha256sum"
"""Whatever is done to a file or a folder, its change time (ctime, inode(7)) moves."""
FILES = "/etc/hosts /etc/wireguard /etc/systemd/system /usr/local/lib/dockyard"
MTIMES = f"find {FILES} -type f -printf '%p %T@ %s\\n' | sort"
EMPTY = f"flock -w 60 /run/dockyard.lock true; find {FILES} -type f -size 0 2>/dev/null || true"
LEFTOVERS = f"{EMPTY}; find /etc /usr/local/lib -xdev -name '.dockyard.*'"


def on_all(lab: Lab, command: str) -> dict[str, str]:
    return {host: lab[host].succeed(command, sudo=True) for host in HOSTS}


@pytest.mark.drill
def test_a_dry_run_and_a_run_without_a_terminal_change_nothing(pristine: Lab, runbooks: Runbooks) -> None:
    before = on_all(pristine, STATE_OF_ETC)
    dry = runbooks.succeed("phase1_baseline", "--dry-run")
    for line in ("+[Interface]", "+AllowedIPs = 10.20.0.2/32", "+10.20.0.3 dock-mirror.dock.internal dock-mirror"):
        assert line in dry.stdout, str(dry)
    assert not re.search(r"^\s*\+PrivateKey", dry.stdout, re.MULTILINE)
    refused = runbooks.run("phase1_baseline")
    assert refused.exit_code == 4, str(refused)
    assert "no terminal" in refused.stdout
    assert on_all(pristine, STATE_OF_ETC) == before


def test_from_pristine_to_twenty_healthy_directions(pristine: Lab, runbooks: Runbooks, memory: Memory) -> None:
    first = runbooks.succeed("phase1_baseline", "--yes", "--json")
    assert set(first.changes) == set(HOSTS)
    health = runbooks.succeed("health", "--json")
    assert health.faults == []
    directions = health.document["tables"]["directions"]
    assert len({(one["source"], one["target"]) for one in directions}) == 20
    assert {one["mtu_proven"] for one in directions} == {"yes"}
    keep(pristine, memory, runbooks.built)
    memory.built = runbooks.built


@pytest.mark.drill
def test_the_second_run_changes_nothing(meshed: Lab, runbooks: Runbooks) -> None:
    before = on_all(meshed, MTIMES)
    again = runbooks.succeed("phase1_baseline", "--yes", "--json")
    assert again.changes == {}
    assert on_all(meshed, MTIMES) == before
    assert on_all(meshed, LEFTOVERS) == dict.fromkeys(HOSTS, "")


def test_what_was_broken_by_hand_is_named_and_mended_and_nothing_else(meshed: Lab, runbooks: Runbooks) -> None:
    find_mirror = "wg show wg0 allowed-ips | awk '/10.20.0.3/{print $1}'"
    meshed["dock-load"].succeed(f"wg set wg0 peer $({find_mirror}) remove", sudo=True)
    meshed["dock-mirror"].succeed("sed -i 's/^10.20.0.1 .*/10.20.0.99 dock-dash/' /etc/hosts", sudo=True)
    meshed["dock-dash"].succeed("systemctl stop wg-quick@wg0", sudo=True)
    meshed["dock-prod"].succeed("ip address flush dev wg0", sudo=True)
    untouched = meshed["dock-edge"].succeed(MTIMES, sudo=True)

    health = runbooks.run("health", "--json")
    assert health.exit_code == 1, str(health)
    named = "\n".join(health.faults)
    assert re.search(r"dock-load: wg0 is not as planned", named), named
    assert re.search(r"dock-mirror: names do not resolve", named), named
    assert re.search(r"dock-dash: wg0 is not up", named), named
    assert re.search(r"dock-prod: wg0 does not have its address", named), named
    assert "dock-edge: " not in named, named

    mended = runbooks.succeed("phase1_baseline", "--yes", "--json")
    assert set(mended.changes) == {"dock-load", "dock-mirror", "dock-dash", "dock-prod"}
    assert mended.changes["dock-mirror"] == ["write /etc/hosts"]
    assert "peer dock-mirror is missing" in "".join(mended.changes["dock-load"])
    assert meshed["dock-edge"].succeed(MTIMES, sudo=True) == untouched
    assert runbooks.succeed("health", "--json").faults == []


@pytest.mark.drill
def test_a_host_that_is_off_is_named_and_the_other_four_are_shown(meshed: Lab, runbooks: Runbooks) -> None:
    meshed["dock-edge"].crash()
    health = runbooks.run("health", "--json")
    assert health.exit_code == 3, str(health)
    assert health.faults == ["dock-edge: could not be looked at"], health.faults
    shown = {row["host"]: row for row in health.document["tables"]["hosts"]}
    assert {host for host in HOSTS if shown[host]["seen"] == "yes"} == set(HOSTS) - {"dock-edge"}
    assert all(shown[host]["names"] == "right" for host in HOSTS if host != "dock-edge")

    refused = runbooks.run("phase1_baseline", "--yes", "--from", "private key")
    assert refused.exit_code == 3, str(refused)
    assert '--only "Write the names into /etc/hosts"' in refused.stdout, str(refused)
    meshed["dock-mirror"].succeed("sed -i '/grafana/d' /etc/hosts", sudo=True)
    left_out = runbooks.run("phase1_baseline", "--yes", "--only", "names into")
    assert left_out.exit_code == 3, str(left_out)
    assert "dock-edge: was left out" in left_out.stdout
    meshed["dock-mirror"].succeed("grep grafana /etc/hosts")


def journals(runbooks: Runbooks) -> Iterator[Path]:
    yield from (runbooks.state / "dockyard" / "journal").glob("*.jsonl")


def written_by(journal: Path, number: int) -> int:
    """Lines of a journal from the one on with which its step of that number began; -1 while it has not."""
    events = [json.loads(line) for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")]
    began = (at for at, event in enumerate(events) if (event["event"], event.get("number")) == ("step", number))
    return len(events) - next(began, len(events) + 1)


def killed_in(runbooks: Runbooks, step: int, lines: int, *, first: int) -> bool:
    """Start phase 1 at step ``first`` and kill it half a second after ``step`` wrote ``lines`` lines into the journal;
    whether the run had not ended by then."""
    before = set(journals(runbooks))
    process = runbooks.start("phase1_baseline", "--yes", "--from", str(first))
    deadline = time.monotonic() + 600
    while process.poll() is None and time.monotonic() < deadline:
        if any(written_by(path, 1 + step - first) >= lines for path in set(journals(runbooks)) - before):
            break
        time.sleep(0.02)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    ended = process.poll() is not None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return not ended


def number_of(title: str) -> int:
    return next(number for number, one in enumerate(STEPS, 1) if one.title == title)


PAIRS, NAMES = number_of("Give every pair a preshared key"), number_of("Write the names into /etc/hosts")
UNDO = (
    "systemctl disable --now wg-quick@wg0; rm -rf /etc/wireguard/* /usr/local/lib/dockyard "
    "/etc/systemd/system/wg-quick@wg0.service.d; sed -i '/BEGIN DOCKYARD/,/END DOCKYARD/d' /etc/hosts"
)


QUICK = [(1, -1), (PAIRS, 2), (NAMES, 1)]
POINTS = [(1, -1), *((number, 1) for number in range(1, NAMES + 3)), (PAIRS, 2), (NAMES, 2)]
"""Steps, and how many lines of them the journal has: the title, then what was planned. (1, -1) is the start. Each run
begins where the one before it was killed, so that what the step needs is there."""


@pytest.mark.drill
@pytest.mark.parametrize("points", [QUICK, POINTS], ids=["some", "all"])
def test_killed_in_a_step_it_converges_when_it_is_run_again(
    meshed: Lab, runbooks: Runbooks, points: list[tuple[int, int]]
) -> None:
    on_all(meshed, UNDO)
    done = 1
    for step, lines in points:
        first = max(1, min(done, step - 1))
        assert killed_in(runbooks, step, lines, first=first), f"the run ended before line {lines} of step {step}"
        done = step
        assert on_all(meshed, EMPTY) == dict.fromkeys(HOSTS, "")
        assert "0\n" not in on_all(meshed, "grep -c 'localhost' /etc/hosts || true").values()
    runbooks.succeed("phase1_baseline", "--yes")
    assert runbooks.succeed("phase1_baseline", "--yes", "--json").changes == {}
    assert runbooks.succeed("health", "--json").faults == []
    assert on_all(meshed, LEFTOVERS) == dict.fromkeys(HOSTS, "")
    meshed["dock-load"].fail("test -e /var/lib/dockyard/lease")


@pytest.mark.drill
def test_the_second_of_two_runs_is_refused_with_owner_and_age(meshed: Lab, runbooks: Runbooks) -> None:
    first = runbooks.start("phase1_baseline", "--yes")
    try:
        meshed["dock-load"].wait_until_succeeds("test -e /var/lib/dockyard/lease", timeout_s=120)
        second = runbooks.run("phase1_baseline", "--yes")
        assert second.exit_code == 5, str(second)
        assert re.search(r"\S+@\S+ is changing the cluster \(phase1_baseline, for \d+ s\)", second.stdout), str(second)
    finally:
        stdout, stderr = first.communicate(timeout=RUN_LIMIT_S)
    assert first.returncode == 0, stdout + stderr
    meshed["dock-load"].fail("test -e /var/lib/dockyard/lease")


def test_ctrl_c_gives_the_lease_back(meshed: Lab, runbooks: Runbooks) -> None:
    run = runbooks.start("phase1_baseline", "--yes")
    meshed["dock-load"].wait_until_succeeds("test -e /var/lib/dockyard/lease", timeout_s=120)
    run.send_signal(signal.SIGINT)
    stdout, stderr = run.communicate(timeout=120)
    assert run.returncode == 130, stdout + stderr
    assert "interrupted by SIGINT" in stdout
    meshed["dock-load"].fail("test -e /var/lib/dockyard/lease")


@pytest.mark.parametrize("option", ["--help", "--list"])
def test_help_and_list_need_no_host(runbooks: Runbooks, option: str) -> None:
    shown = subprocess.run(
        [sys.executable, str(ROOT / "runbooks" / "phase1_baseline.py"), option],
        capture_output=True,
        text=True,
        check=True,
        env=runbooks.environment(),
    )
    assert {"--help": "May destroy", "--list": "Converge"}[option] in shown.stdout
