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
from tests.unit.replicas import MIRROR, PROD, UNITS, argvs, titles

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
    "findmnt": "exit 1",
    "drbdadm": 'case $1 in get-gi) cat "$S/generations" ;; *) echo "$S/disk" ;; esac',
    "drbdsetup": '[ -e "$S/up" ] || exit 10',
    "blockdev": "exit 0",
    "losetup": 'case $* in *--show*) echo "$S/disk" ;; esac',
    "dmsetup": "exit 0",
    "mountpoint": "exit 1",
    "mount": '[ ! -e "$S/broken" ]',
    "dd": "exit 0",
    "find": '/usr/bin/find "$@" && [ ! -e "$S/unreadable" ]',
    "tar": '[ ! -e "$S/full" ] || exit 2; [ ! -e "$S/slow" ] || { kill -TERM $PPID; exit 143; }; exec /bin/tar "$@"',
}
CRASHED = "C3C43B759EF3992D:0000000000000000:FFAB18CCB7B1484F:D3F646E65274D955:1:1:1:1:0:0:0\n"
"""What DRBD 8.4 says of a host that was Primary when it went down."""


class Returned:
    """The script on a host that boots, whose storage is a folder."""

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
        files = folder / "view" / "root"
        files.mkdir(parents=True)
        (files / "last").write_text("not sent")
        self.finds("writer", f"writer={PROD}\ngeneration=1\nsince=x\n")
        self.finds("generations", CRASHED)

    def finds(self, name: str, text: str = "") -> None:
        (self.folder / name).write_text(text)

    def boots(self, code: int = 0) -> str:
        """What it says; whatever comes of it, DRBD comes up."""
        env = {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "S": str(self.folder)}
        script = ["sh", str(self.folder / "catch")]
        ended = subprocess.run(script, env=env, check=False, capture_output=True, text=True)
        assert ended.returncode == code, ended
        return ended.stdout

    @property
    def named(self) -> str:
        return (self.folder / "kept" / "data-returned-C3C43B759EF3992-files.txt").read_text()

    @property
    def kept(self) -> list[str]:
        return sorted(
            path.name.removeprefix("data-returned-C3C43B759EF3992-") for path in (self.folder / "kept").glob("*")
        )


@pytest.fixture
def returned(tmp_path: Path) -> Returned:
    return Returned(tmp_path)


def test_the_last_minutes_of_a_writer_that_went_down_are_kept(returned: Returned) -> None:
    for _ in range(2):
        assert "is kept in" in returned.boots()
        assert returned.kept == ["files.tar.gz", "files.tar.gz.sha256"]
    (archive,) = (returned.folder / "kept").glob("*.tar.gz")
    listed = subprocess.run(["tar", "-tzf", str(archive)], capture_output=True, text=True, check=True)
    assert "last" in listed.stdout.split()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("writer", f"writer={MIRROR}\ngeneration=2\nsince=x\n"),
        ("generations", CRASHED.replace(":1:1:1:", ":1:1:0:")),
        ("generations", ""),
        ("up", ""),
    ],
)
def test_who_was_not_the_writer_or_went_down_in_good_order_keeps_nothing(
    returned: Returned, name: str, text: str
) -> None:
    returned.finds(name, text)
    assert (returned.boots(), returned.kept) == ("", [])


def test_a_folder_that_cannot_be_read_makes_no_complete_copy(returned: Returned) -> None:
    returned.finds("unreadable")
    assert "could not be kept" in returned.boots()
    assert "files.tar.gz.sha256" not in returned.kept
    assert returned.named.startswith("nobody looked at its files to the end"), "a part is not all of them"


def test_a_second_boot_without_room_does_not_cost_the_copy_of_the_first(returned: Returned) -> None:
    returned.boots()
    returned.finds("full")
    assert "what is known of it is in" in returned.boots()
    assert {"files.tar.gz", "files.tar.gz.sha256", "files.txt"} <= set(returned.kept)


def test_without_room_the_files_are_named_and_without_a_view_it_says_so(returned: Returned) -> None:
    returned.finds("full")
    assert "what is known of it is in" in returned.boots()
    assert returned.kept == ["files.txt", "files.txt.sha256"]
    assert "last" in returned.named
    returned.finds("broken")
    assert "cannot be read" in returned.boots()
    assert "last" in returned.named, "an older list is better than none"


def test_whoever_is_stopped_in_the_middle_has_named_them(returned: Returned) -> None:
    returned.finds("slow")
    returned.boots(code=143)
    assert returned.kept == ["files.txt", "files.txt.sha256"]
    assert "last" in returned.named


def test_a_disk_that_nobody_can_look_into_is_not_one_without_writes(returned: Returned) -> None:
    returned.finds("broken")
    assert "cannot be read" in returned.boots()
    assert returned.kept == ["files.txt", "files.txt.sha256"]
    assert returned.named.startswith("nobody looked at its files to the end")
