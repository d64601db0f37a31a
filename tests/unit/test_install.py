"""Installing packages, with a stand-in for apt-get(8) that keeps what it was asked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dockyard.change import install

APT = """#!/bin/sh
echo "$*" >>{folder}/asked
case $1 in
update)
  n=$(grep -c ^update {folder}/asked)
  [ "$n" -gt {locked} ] || {{ echo "E: Could not get lock /var/lib/apt/lists/lock." >&2; exit 100; }}
  {update}
  ;;
install) {install} ;;
esac
"""
BROKEN = 'echo "E: The repository has no Release file." >&2; exit 100'


def ran(folder: Path, *, locked: int = 0, update: str = ":", install_: str = ":") -> subprocess.CompletedProcess[str]:
    """What the command does where apt-get finds the lists locked so many times, and sleep(1) takes no time."""
    for name, text in (
        ("apt-get", APT.format(folder=folder, locked=locked, update=update, install=install_)),
        ("sleep", f"#!/bin/sh\necho sleep $1 >>{folder}/asked\n"),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (command,) = install(["drbd-utils", "jq"]).commands()
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    return subprocess.run(command.argv, env=environment, capture_output=True, text=True, timeout=30, check=False)


def asked(folder: Path) -> list[str]:
    return (folder / "asked").read_text().splitlines()


def test_nobody_is_asked_and_dpkg_may_be_busy(tmp_path: Path) -> None:
    assert ran(tmp_path).returncode == 0
    update, installed = asked(tmp_path)
    assert update.startswith("update")
    assert installed.endswith("-- drbd-utils jq")
    for option in ("DPkg::Lock::Timeout=120", "Dpkg::Options::=--force-confdef", "Dpkg::Options::=--force-confold"):
        assert f"-o {option} " in installed


def test_a_source_that_is_broken_does_not_keep_back_the_others(tmp_path: Path) -> None:
    done = ran(tmp_path, update=BROKEN)
    assert (done.returncode, [line.split()[0] for line in asked(tmp_path)]) == (0, ["update", "install"])


def test_when_the_installation_fails_both_say_why(tmp_path: Path) -> None:
    done = ran(tmp_path, update=BROKEN, install_='echo "E: Unable to locate package jq" >&2; exit 100')
    assert done.returncode == 100
    assert done.stderr.splitlines() == ["E: The repository has no Release file.", "E: Unable to locate package jq"]


def test_lists_that_somebody_else_reads_are_waited_for(tmp_path: Path) -> None:
    assert ran(tmp_path, locked=2).returncode == 0
    words = [" ".join(line.split()[:1]) for line in asked(tmp_path)]
    assert words == ["update", "sleep", "update", "sleep", "update", "install"]


@pytest.mark.parametrize("fails", [0, 100])
def test_lists_that_stay_locked_are_left_as_they_are(tmp_path: Path, fails: int) -> None:
    done = ran(tmp_path, locked=999, install_=f"exit {fails}")
    assert done.returncode == fails
    assert sum(int(line.split()[1]) for line in asked(tmp_path) if line.startswith("sleep")) == 120
    assert "Could not get lock /var/lib/apt/lists/lock" in done.stderr
