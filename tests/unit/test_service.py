"""A service is only as wanted when the process that runs was started with the files that are there."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dockyard.change import UnitState, WriteFile
from dockyard.errors import CommandFailed, ParseError
from dockyard.files import FileState
from dockyard.remote import Completed, Outputs
from dockyard.service import MARK, ServiceState, mark_of, plan_service, service_probe

NAME = "thing.service"
RUNS = ServiceState(
    unit=UnitState(name=NAME, loaded=True, active="active", enabled="enabled", sub="running"),
    result="success",
    restarts=0,
    mark="0123456789abcdef",
    reload_needed=False,
)
UNIT = "/etc/systemd/system/thing.service"
SHOWN = """\
Result=success
NRestarts=3
MainPID={pid}
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
NeedDaemonReload=no
"""


def asked(tmp_path: Path, shown: str, *, code: int = 0) -> Outputs:
    """The answer of the real probe on this machine, with a systemctl that prints ``shown``."""
    stub = tmp_path / "systemctl"
    stub.write_text(f"#!/bin/sh\ncat <<'END'\n{shown}END\nexit {code}\n")
    stub.chmod(0o755)
    command = service_probe(NAME)
    path = f"{tmp_path}:{os.environ['PATH']}"
    ran = subprocess.run(command.argv, capture_output=True, text=True, env={**os.environ, "PATH": path}, check=False)
    answer = Completed(
        name=command.name,
        argv=command.argv,
        exit_code=ran.returncode,
        stdout=ran.stdout,
        stderr=ran.stderr,
        duration_s=0.1,
    )
    return Outputs("dock-load", [answer], [command])


def test_the_mark_is_that_of_the_process_which_runs(tmp_path: Path) -> None:
    environment = {MARK: "0123456789abcdef", f"X{MARK}": "no", "OTHER": f"{MARK}=neither"}
    with subprocess.Popen(["sleep", "60"], env=environment) as process:
        state = ServiceState.of(asked(tmp_path, SHOWN.format(pid=process.pid)), NAME)
        process.kill()
    assert state == replace(RUNS, restarts=3)
    assert str(state) == "active (running), success, restarted 3 times"


def test_no_process_and_no_mark_are_no_error(tmp_path: Path) -> None:
    assert ServiceState.of(asked(tmp_path, SHOWN.format(pid=0)), NAME).mark == ""
    with subprocess.Popen(["sleep", "60"], env={}) as process:
        assert ServiceState.of(asked(tmp_path, SHOWN.format(pid=process.pid)), NAME).mark == ""
        process.kill()


def test_an_answer_that_lacks_something_is_no_state(tmp_path: Path) -> None:
    with pytest.raises(ParseError, match="NeedDaemonReload"):
        ServiceState.of(asked(tmp_path, SHOWN.format(pid=0).replace("NeedDaemonReload=no\n", "")), NAME)
    with pytest.raises(CommandFailed):
        ServiceState.of(asked(tmp_path, "", code=1), NAME)


def file(content: str, seen: str) -> WriteFile:
    there = FileState(path=UNIT, kind="regular file", mode=0o644, owner="root", group="root", content=seen)
    return WriteFile(path=UNIT, content=content, seen=there)


def titles(state: ServiceState, *, content: str = "a", seen: str = "a", mark: str = RUNS.mark) -> list[str]:
    return [change.title for change in plan_service(state, [file(content, seen)], mark)]


def test_a_service_that_runs_with_its_files_is_left_alone() -> None:
    assert titles(RUNS) == []


def test_a_process_that_never_read_the_files_is_restarted() -> None:
    assert titles(RUNS, mark="f" * 16) == [f"systemctl restart -- {NAME}"]


def test_a_file_that_was_edited_restarts_the_process_which_may_have_read_it() -> None:
    assert titles(RUNS, seen="edited") == [
        f"write {UNIT}",
        "let systemd read its units again",
        f"systemctl restart -- {NAME}",
    ]


def test_what_was_written_and_never_read_by_systemd_is_read() -> None:
    assert titles(replace(RUNS, reload_needed=True)) == ["let systemd read its units again"]


def test_a_dead_and_disabled_service_is_enabled_and_started() -> None:
    off = UnitState(name=NAME, loaded=True, active="failed", enabled="disabled", sub="failed")
    assert titles(replace(RUNS, unit=off, mark="")) == [f"systemctl enable -- {NAME}; systemctl restart -- {NAME}"]


def test_marks_tell_texts_apart() -> None:
    assert mark_of("a", "b") != mark_of("ab") != mark_of("b", "a")
    assert len(mark_of("a")) == 16
