from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dockyard.change import Run, Unit, UnitState, WriteFile, joined, unit, write_file
from dockyard.files import FileState
from dockyard.mount_point import closed_mount_point
from dockyard.remote import Command
from dockyard.secret import Secret

HOSTS = FileState(path="/etc/hosts", kind="regular file", mode=0o644, owner="root", group="root", content="a\nb\n")


def executed(command: Command) -> subprocess.CompletedProcess[bytes]:
    """Run one command of a change on this machine, as the batch would on a host."""
    data = command.stdin.reveal().encode() if isinstance(command.stdin, Secret) else command.stdin
    return subprocess.run(command.argv, input=data, capture_output=True, check=False, timeout=30)


def written(path: Path, content: str, **more: object) -> subprocess.CompletedProcess[bytes]:
    me = {"owner": str(path.parent.owner()), "group": str(path.parent.group())}
    change = WriteFile(path=str(path), content=content, seen=FileState(path=str(path)), **{**me, **more})  # type: ignore[arg-type]  # options by name
    (command,) = change.commands()
    return executed(command)


def test_a_file_that_is_as_wanted_is_left_alone() -> None:
    assert write_file(WriteFile(path="/etc/hosts", content="a\nb\n", seen=HOSTS)) == []


@pytest.mark.parametrize("wanted", [{"content": "a\n"}, {"mode": 0o600}, {"owner": "ada"}, {"group": "ada"}])
def test_any_difference_makes_a_change(wanted: dict[str, object]) -> None:
    change = WriteFile(**{"path": "/etc/hosts", "content": "a\nb\n", "seen": HOSTS, **wanted})  # type: ignore[arg-type]  # options by name
    assert write_file(change) == [change]


def test_plans_are_joined_in_order_and_hosts_without_changes_are_left_out() -> None:
    first, second = Run(title="one", argv=("a",)), Run(title="two", argv=("b",))
    assert joined({"a": [first], "b": []}, {"c": [], "b": [first], "a": [second]}) == {
        "a": [first, second],
        "b": [first],
    }
    assert joined() == {}


def test_the_diff_is_unified() -> None:
    change = WriteFile(path="/etc/hosts", content="a\nc\n", seen=HOSTS)
    assert change.diff().splitlines() == ["--- /etc/hosts", "+++ /etc/hosts", "@@ -1,2 +1,2 @@", " a", "-b", "+c"]


def test_a_change_of_mode_alone_shows_it() -> None:
    assert (
        "0644 root:root becomes 0600 root:root"
        in WriteFile(path="/etc/hosts", content="a\nb\n", seen=HOSTS, mode=0o600).diff()
    )


def test_a_secret_shows_nowhere() -> None:
    change = WriteFile(path="/etc/key", content=Secret("hunter2"), seen=FileState(path="/etc/key"), mode=0o600)
    (command,) = change.commands()
    assert "hunter2" not in change.diff() + repr(change) + " ".join(command.argv)


def test_writing_makes_the_folder_the_content_and_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.conf"
    tmp_path.joinpath("new").mkdir()
    assert written(path, "text\n", mode=0o640).returncode == 0
    assert (path.read_text(), path.stat().st_mode & 0o7777) == ("text\n", 0o640)
    assert [found.name for found in path.parent.iterdir()] == ["file.conf"]


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    command = WriteFile(
        path=str(tmp_path / "a" / "b"),
        content="x",
        seen=FileState(path="b"),
        owner=tmp_path.owner(),
        group=tmp_path.group(),
    ).commands()[0]
    assert executed(command).returncode == 0
    assert (tmp_path / "a" / "b").read_text() == "x"


def test_a_file_that_does_not_validate_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file.conf"
    path.write_text("old")
    done = written(path, "new", validate=("grep", "-q", "old", "{}"))
    assert (done.returncode, path.read_text()) == (1, "old")
    assert [found.name for found in tmp_path.iterdir()] == ["file.conf"]


def test_why_a_file_does_not_validate_is_told_wherever_its_tool_says_it(tmp_path: Path) -> None:
    """amtool(1) prints its reason on standard output."""
    refuse = ("sh", "-c", "echo field url_file not found; echo failed >&2; exit 3")
    done = written(tmp_path / "file", "x", validate=refuse)
    assert (done.returncode, done.stderr) == (3, b"failed\nfield url_file not found\n")
    fine = written(tmp_path / "file", "x", validate=("echo", "22 rules found"))
    assert (fine.returncode, fine.stdout, fine.stderr) == (0, b"", b"")


def test_validators_see_the_final_name(tmp_path: Path) -> None:
    assert (
        written(
            tmp_path / "wg0.conf", "x", validate=("sh", "-c", "case $1 in */wg0.conf) ;; *) exit 1; esac", "-", "{}")
        ).returncode
        == 0
    )


def test_content_that_arrives_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    change = WriteFile(
        path=str(path), content="complete", seen=FileState(path="x"), owner=tmp_path.owner(), group=tmp_path.group()
    )
    (command,) = change.commands()
    done = subprocess.run(command.argv, input=b"comp", capture_output=True, check=False, timeout=30)
    assert (done.returncode, path.read_text()) == (74, "old")
    assert b"incomplete" in done.stderr


def test_a_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    assert written(link, "new").returncode == 0
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_what_a_killed_run_left_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".dockyard.AbCdEf").mkdir()
    (tmp_path / ".dockyard.AbCdEf" / "file").write_text("half")
    assert written(tmp_path / "file", "whole").returncode == 0
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


WG = UnitState(name="wg-quick@wg0.service", loaded=True, active="inactive", enabled="disabled")


@pytest.mark.parametrize(
    ("wanted", "commands"),
    [
        ({}, []),
        ({"enabled": False, "active": False}, []),
        ({"enabled": True}, ["enable"]),
        ({"enabled": True, "active": True}, ["enable", "start"]),
        ({"restart": True, "reload_manager": True}, ["daemon-reload", "restart"]),
        ({"reload_manager": True}, []),
    ],
)
def test_a_unit_changes_only_what_differs(wanted: dict[str, bool], commands: list[str]) -> None:
    changes = unit(Unit(name=WG.name, seen=WG, **wanted))  # type: ignore[arg-type]  # options by name
    assert [command.argv[1] for change in changes for command in change.commands()] == commands


@pytest.mark.parametrize(("active", "stopped"), [("activating", 1), ("deactivating", 1), ("failed", 0)])
def test_a_unit_that_is_only_starting_is_stopped_too(active: str, stopped: int) -> None:
    assert len(unit(Unit(name=WG.name, seen=replace(WG, active=active), active=False))) == stopped


def test_a_command_shows_as_it_would_be_typed() -> None:
    assert Run(title="make a key", argv=("sh", "-c", "wg genkey")).diff() == "# make a key\n$ sh -c 'wg genkey'"


def test_a_secret_of_the_host_can_be_put_in_before_the_file_is_checked(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    fill = 'printf "s/(hidden)/%s/" "$(cat "$2")" | sed -i -f - "$1"'
    ran = written(
        tmp_path / "file",
        "password (hidden)\n",
        mode=0o600,
        prepare=("sh", "-c", fill, "fill", "{}", str(tmp_path / "secret")),
        validate=("grep", "-q", "hunter2", "{}"),
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "file").read_text() == "password hunter2\n"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_a_mount_point_that_holds_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    (command,) = closed_mount_point(str(tmp_path)).commands()
    ran = executed(command)
    assert (ran.returncode, ran.stderr) == (75, f"{tmp_path} is not empty: a mount would hide its files\n".encode())
