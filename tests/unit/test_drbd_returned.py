"""The writer that was replaced is back: stopped where histories parted, connected where they did not, and named."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dockyard.errors import Unreachable
from dockyard.observe import Observed
from tasks import drbd
from tasks.drbd import places, view
from tasks.drbd.generations import Generations
from tasks.drbd.replica import replication_of
from tasks.drbd.state import Link
from tests.unit.histories import BASE, CLUSTER, apart
from tests.unit.replicas import LOAD, MIRROR, PROD, UNITS, argvs, records, titles

BEHIND = {PROD: BASE}
"""dock-prod wrote nothing that dock-mirror does not have."""


def back(**parts: Any) -> Observed:
    """dock-mirror took over; dock-prod is there again, with nothing of its own."""
    return apart(**{"ids": BEHIND, "writer": MIRROR, "primaries": (MIRROR,), **parts})


@pytest.mark.parametrize("view_of", [back, lambda: back(link=Link.CONNECTED), lambda: back(nine=True)])
def test_one_history_is_no_obstacle(view_of: Any) -> None:
    assert drbd.check_one_history(CLUSTER, view_of()) == []


@pytest.mark.parametrize(
    ("view_of", "fault", "advice"),
    [
        (lambda: back(ids={}), "split brain: both were written without the other", "split_brain.py --victim"),
        (
            lambda: back(ids={MIRROR: BASE}),
            "it holds more than dock-mirror, which is named as the writer",
            "failover.py --to dock-prod",
        ),
        (
            lambda: back(ids={PROD: Generations(current=10, base=0, history=())}),
            "split brain: they have no",
            "different",
        ),
        (lambda: back(writer=""), "nobody was ever named as the writer", "phase2_drbd.py"),
        (
            lambda: back().merged(Observed({PROD: {drbd.LIVE.name: Unreachable(PROD, "no answer")}})),
            "could not be looked at",
            "",
        ),
    ],
)
def test_what_a_person_must_decide_stops_it(view_of: Any, fault: str, advice: str) -> None:
    found = drbd.check_one_history(CLUSTER, view_of())
    assert any(one.fault.startswith(fault) and advice in one.advice for one in found), found


def test_a_replaced_writer_that_lives_on_is_closed_while_the_other_one_serves() -> None:
    two = back(primaries=(PROD, MIRROR))
    assert titles(drbd.plan_retire(CLUSTER, two)) == {PROD: [*(f"stop {name}" for name in UNITS), "unmount and demote"]}
    assert drbd.plan_retire(CLUSTER, back()) == {}
    alone = back(primaries=(PROD,))
    assert drbd.plan_retire(CLUSTER, alone) == {}
    assert any(
        "it is Primary, and the arbitrator names dock-mirror" in one.fault
        for one in drbd.check_one_history(CLUSTER, alone)
    )


def test_it_connects_where_drbd_gave_up_without_need_and_discards_nothing() -> None:
    plan = drbd.plan_reconnect(CLUSTER, back())
    assert titles(plan) == {PROD: ["connect data"], MIRROR: ["connect data"]}
    assert not any("discard" in argv for argv in argvs(plan))
    for nothing in (back(ids={}), back(link=Link.CONNECTED), back(link=Link.CONNECTING)):
        assert drbd.plan_reconnect(CLUSTER, nothing) == {}


def test_the_copy_of_what_was_not_sent_is_named() -> None:
    path = "/var/lib/dockyard/kept/data-returned-20260102T030405Z-files.tar.gz"
    other = "/var/lib/dockyard/kept/data-C3C43B759EF3992C-files.tar.gz"
    _, *lines = drbd.what_came_back(CLUSTER, back(kept={path: 2048, other: 4096}))
    assert lines == [f"What dock-prod wrote last, before it was overwritten: dock-prod:{path} (2.0 KiB)"]
    assert "holds no copy" in drbd.what_came_back(CLUSTER, back(kept={other: 4096}))[1]


STUBS = {
    "uname": "echo dock-prod",
    "findmnt": '[ -e "$S/mounted" ]',
    "drbdadm": 'echo "drbdadm $*" >>"$S/log"; echo "$S/disk"',
    "logger": 'echo "$*" >>"$S/log"',
    "blockdev": "exit 0",
    "losetup": 'case $* in *--show*) echo "$S/disk" ;; esac',
    "dmsetup": "exit 0",
    "mountpoint": "exit 1",
    "mount": '[ ! -e "$S/broken" ]',
    "dd": "exit 0",
    "tar": '[ ! -e "$S/full" ] || exit 2; exec /bin/tar "$@"',
}


class Returned:
    """The handler on a host whose storage is a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        for name, body in STUBS.items():
            (folder / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
            (folder / "bin" / name).chmod(0o755)
        text = view.catch(replication_of(CLUSTER))
        for path, here in ((view.FOLDER, "view"), (view.KEPT, "kept"), (places.WRITER, "writer")):
            text = text.replace(path, str(folder / here))
        (folder / "catch").write_text(text)
        (folder / "catch").chmod(0o755)
        self.files = folder / "view" / "root"
        self.files.mkdir(parents=True)
        (self.files / "last").write_text("not sent")
        self.writes(records(PROD)[LOAD].writer)

    def writes(self, host: str) -> None:
        (self.folder / "writer").write_text(f"writer={host}\ngeneration=1\nsince=x\n")

    def runs(self) -> list[str]:
        """What it keeps; the answer to DRBD is always yes."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        subprocess.run(["sh", str(self.folder / "catch")], env={"PATH": path, "S": str(self.folder)}, check=True)
        return sorted(one.name.split("-", 2)[1] + one.name[-7:] for one in (self.folder / "kept").glob("*"))

    @property
    def log(self) -> str:
        log = self.folder / "log"
        return log.read_text() if log.exists() else ""


@pytest.fixture
def returned(tmp_path: Path) -> Returned:
    return Returned(tmp_path)


def test_the_last_minutes_of_a_writer_that_is_overwritten_are_kept(returned: Returned) -> None:
    assert returned.runs() == ["returned.sha256", "returned.tar.gz"]
    (archive,) = (returned.folder / "kept").glob("*.tar.gz")
    listed = subprocess.run(["tar", "-tzf", str(archive)], capture_output=True, text=True, check=True)
    assert "last" in listed.stdout.split()
    assert "is kept in" in returned.log


def test_who_is_not_the_writer_or_has_it_mounted_keeps_nothing(returned: Returned) -> None:
    returned.writes(MIRROR)
    assert returned.runs() == []
    returned.writes(PROD)
    (returned.folder / "mounted").touch()
    assert returned.runs() == []
    assert returned.log == ""


def test_without_room_the_files_are_named_and_without_a_view_it_says_so(returned: Returned) -> None:
    (returned.folder / "full").touch()
    returned.runs()
    (listed,) = (returned.folder / "kept").glob("*.txt")
    assert "last" in listed.read_text()
    assert "named in" in returned.log
    (returned.folder / "broken").touch()
    returned.runs()
    assert "cannot be read" in returned.log


def test_the_handler_asks_nothing_of_the_module_that_waits_for_it(returned: Returned) -> None:
    returned.runs()
    assert {line for line in returned.log.splitlines() if line.startswith("drbdadm")} == {"drbdadm sh-ll-dev data"}
