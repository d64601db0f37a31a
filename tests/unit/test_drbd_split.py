"""Split brain: what is refused, what a person reads before a history ends, and what is done then."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dockyard.errors import NotObserved, Unreachable
from dockyard.observe import Observed
from dockyard.report import Report
from tasks import drbd
from tasks.drbd import side_by_side, split, view
from tasks.drbd.generations import Generations, Relation
from tasks.drbd.parted import PARTED, Changes, Together, Young, read_changes, read_parted
from tasks.drbd.replica import replication_of
from tasks.drbd.split import Choice, Keep
from tasks.drbd.state import Disk, Link
from tests.unit.histories import BASE, CLUSTER, FILES, GIB, OURS, apart
from tests.unit.replicas import (
    LOAD,
    MIRROR,
    PAIR,
    PROD,
    SINCE,
    UNITS,
    argvs,
    destroyed,
    records,
    titles,
)

ROOT = Path(__file__).parents[2]
CHOICE = Choice(victim=PROD, survivor=MIRROR)


def faults(view_of: Observed, choice: Choice = CHOICE) -> list[str]:
    return [f"{one.host}: {one.fault}" for one in split.check_split(CLUSTER, view_of, choice=choice)]


def test_two_histories_and_room_for_a_copy_are_no_obstacle() -> None:
    assert faults(apart()) == []
    assert faults(apart(link=Link.CONNECTING)) == []
    assert faults(apart(nine=True)) == []


@pytest.mark.parametrize(
    ("view_of", "fault"),
    [
        (
            lambda: apart(ids={MIRROR: BASE}),
            "dock-prod: they are apart, and there is no split brain: dock-prod goes on from what dock-mirror",
        ),
        (
            lambda: apart(ids={PROD: OURS[MIRROR]}),
            "dock-prod: they are apart, and there is no split brain: both are of",
        ),
        (
            lambda: apart(ids={PROD: None}, disks={PROD: Disk.DISKLESS}),
            "dock-prod: a replica without a disk has no history to compare",
        ),
        (
            lambda: apart(ids={PROD: Generations(current=10, base=0, history=())}),
            "dock-prod: they have no generation in common: DRBD never connects them",
        ),
        (
            lambda: apart(link=Link.CONNECTED),
            "dock-prod: there is no split brain: dock-prod is connected, and it is the writer",
        ),
        (
            lambda: apart(disks={MIRROR: Disk.INCONSISTENT}),
            "dock-mirror: its copy is Inconsistent: it cannot be the one",
        ),
        (lambda: apart(room_bytes=4_000_000), "dock-prod: there is no room in /var/lib/dockyard/kept for a copy"),
        (
            lambda: apart(room_on="/dev/drbd0"),
            "dock-prod: /var/lib/dockyard/kept lies in the storage that is overwritten",
        ),
        (
            lambda: apart(unread=PROD),
            "dock-prod: its files cannot be read",
        ),
        (
            lambda: apart(unread=MIRROR),
            "dock-mirror: its files cannot be read: it cannot be the one that goes on",
        ),
        (
            lambda: apart().merged(Observed({PROD: {PARTED.name: Unreachable(PROD, "no answer")}})),
            "dock-prod: could not be looked at",
        ),
        (
            lambda: apart().merged(Observed({LOAD: {drbd.WRITER.name: records(PROD, 0)[LOAD]}})),
            "dock-load: who may write is not certain",
        ),
    ],
)
def test_any_doubt_refuses(view_of: Any, fault: str) -> None:
    assert any(one.startswith(fault) for one in faults(view_of())), faults(view_of())


def test_generations_that_could_not_be_read_once_are_not_taken_for_no_split_brain() -> None:
    """Else nothing would be closed, kept or discarded, and the survivor promoted beside a victim that writes."""
    for plan in (split.plan_close, split.plan_keep, split.plan_discard):
        with pytest.raises(NotObserved, match="dock-prod: did not tell the generations"):
            plan(CLUSTER, apart(ids={PROD: None}), choice=CHOICE)


def test_whose_files_cannot_be_read_can_be_kept_as_an_image_if_there_is_room() -> None:
    blind: dict[str, Any] = {"unread": PROD}
    image = replace(CHOICE, keep=Keep.IMAGE)
    assert faults(apart(**blind), image) == ["dock-prod: there is no room in /var/lib/dockyard/kept for a copy"]
    assert faults(apart(**blind, room_bytes=11 * GIB), image) == []
    assert faults(apart(**blind, room_bytes=0), replace(CHOICE, keep=Keep.NOTHING)) == []


def page(view_of: Observed, choice: Choice = CHOICE) -> tuple[str, str]:
    found = split.preflight_discard(CLUSTER, view_of, choice=choice)
    assert found
    return "\n".join(found.lines), found.phrase


def test_the_page_names_the_victim_its_files_the_copy_and_who_is_stopped() -> None:
    text, phrase = page(apart())
    for words in (
        "dock-mirror goes on. dock-prod is overwritten: 272.0 KiB of blocks that only dock-prod has",
        "2 files of 4.8 MiB changed since shortly before the contact was lost",
        "photos/ä|b.jpg (4.8 MiB)",
        "dock-prod:/var/lib/dockyard/kept/data-C3C43B759EF3992C-files.tar.gz (at most 4.8 MiB; 1.0 GiB are free)",
        "Before that, on dock-prod: app.service, k3s-agent.service stopped, the storage unmounted, DRBD demoted",
        "The arbitrator names dock-prod since 2026-01-02T03:04:05Z, generation 1. dock-mirror is named instead.",
    ):
        assert words in text, text
    assert phrase == "discard 272.0 kib of dock-prod"
    text, phrase = page(apart(), replace(CHOICE, keep=Keep.NOTHING))
    assert "NO COPY" in text
    assert phrase == "discard 272.0 kib of dock-prod and keep nothing"


def test_the_victims_side_is_closed_and_the_other_one_left_alone() -> None:
    assert titles(split.plan_close(CLUSTER, apart(), choice=CHOICE)) == {
        PROD: [*(f"stop {name}" for name in UNITS), "unmount and demote"]
    }
    other = Choice(victim=MIRROR, survivor=PROD)
    assert titles(split.plan_close(CLUSTER, apart(), choice=other)) == {MIRROR: ["unmount and demote"]}


def test_what_is_kept_is_named_after_the_generation_that_ends_and_not_kept_twice() -> None:
    path = "/var/lib/dockyard/kept/data-C3C43B759EF3992C-files.tar.gz"
    assert titles(split.plan_keep(CLUSTER, apart(), choice=CHOICE)) == {PROD: [f"keep a copy in {path}"]}
    closed = apart(kept={path: 4096}, primaries=(MIRROR,))
    assert titles(split.plan_keep(CLUSTER, closed, choice=CHOICE)) == {}
    assert faults(apart(kept={path: 4096}, primaries=(MIRROR,), room_bytes=0)) == []
    assert "already" in page(closed)[0]
    image = replace(CHOICE, keep=Keep.IMAGE, into="/mnt/usb")
    assert titles(split.plan_keep(CLUSTER, apart(kept={path: 4096}), choice=image)) == {
        PROD: ["keep a copy in /mnt/usb/data-C3C43B759EF3992C-disk.img.gz"]
    }
    assert titles(split.plan_keep(CLUSTER, apart(), choice=replace(CHOICE, keep=Keep.NOTHING))) == {}


def test_a_copy_from_before_the_victim_was_written_again_is_set_aside() -> None:
    path = "/var/lib/dockyard/kept/data-C3C43B759EF3992C-files.tar.gz"
    written = apart(kept={path: 4096})
    assert titles(split.plan_close(CLUSTER, written, choice=CHOICE))[PROD][-1] == f"set the older copy {path} aside"
    assert "already" not in page(written)[0]
    assert faults(apart(kept={path: 4096}, room_bytes=0)) == [
        "dock-prod: there is no room in /var/lib/dockyard/kept for a copy"
    ]


def test_only_the_victim_discards_and_only_what_was_shown() -> None:
    plan = split.plan_discard(CLUSTER, apart(), choice=CHOICE)
    assert destroyed(plan) == {"dock-prod:/dev/vdb"} == split.named(CHOICE, CLUSTER)
    (look, discard), (connect,) = plan[PROD], plan[MIRROR]
    assert look.title.startswith("see that nothing was written since the copy")
    assert discard.commands()[0].argv[3:] == (
        "discard",
        "data",
        "data",
        "C3C43B759EF3992",
        "/var/lib/dockyard/kept/data-C3C43B759EF3992C-files.tar.gz",
    )
    assert "--discard-my-data" not in argvs({MIRROR: [connect]})[0]
    nothing = split.plan_discard(CLUSTER, apart(), choice=replace(CHOICE, keep=Keep.NOTHING))
    assert nothing[PROD][0].commands()[0].argv[-1] == ""
    nine = split.plan_discard(CLUSTER, apart(nine=True), choice=CHOICE)
    assert nine[PROD][1].commands()[0].argv[4] == "data:dock-mirror"
    assert nine[MIRROR][0].commands()[0].argv[4] == "data:dock-prod"


def test_once_they_are_connected_nothing_of_it_is_left_to_do() -> None:
    done = apart(link=Link.CONNECTED, primaries=(MIRROR,), writer=MIRROR)
    assert faults(done) == []
    assert split.preflight_discard(CLUSTER, done, choice=CHOICE) is None
    for plan in (split.plan_close, split.plan_keep, split.plan_discard):
        assert titles(plan(CLUSTER, done, choice=CHOICE)) == {}


def test_both_sides_are_shown_side_by_side() -> None:
    rows = {row.pop(""): row for row in side_by_side.rows(CLUSTER, apart())}
    assert rows["the other one lacks"] == {PROD: "272.0 KiB", MIRROR: "304.0 KiB"}
    assert rows["generation"] == {PROD: "C3C43B759EF3992C", MIRROR: "360F09FBD22FAB40"}
    assert rows["written since generation"] == dict.fromkeys(PAIR, "F6E9F4E7CB17FBC8")
    assert rows["newest file"][MIRROR] == "2023-11-14 22:20:00 UTC photos/ä|b.jpg"
    assert rows["units that run"] == {PROD: ", ".join(UNITS), MIRROR: "-"}
    assert [row["host"] for row in side_by_side.newest_files(CLUSTER, apart())] == list(PAIR)
    assert side_by_side.verdict(CLUSTER, apart()) == "In short: both were written without the other."
    (found,) = side_by_side.check_parted(CLUSTER, apart())
    assert found.fault == f"split brain: {Relation.SPLIT.value}"
    assert "split_brain.py --victim dock-mirror" in found.advice
    assert side_by_side.check_parted(CLUSTER, apart(ids={MIRROR: BASE})) == []
    unseen = apart(ids={MIRROR: None}).merged(Observed({MIRROR: {drbd.LIVE.name: Unreachable(MIRROR, "no answer")}}))
    assert [one.unseen for one in side_by_side.check_parted(CLUSTER, unseen)] == [True]
    assert {row[MIRROR] for row in side_by_side.rows(CLUSTER, unseen) if row[""] == "DRBD"} == {"-"}


@pytest.mark.parametrize("path", ["[bold]x[/bold]", "[/x", "a\\\\[red]b", "[1] plain", "photos/ä|b.jpg"])
def test_a_table_shows_any_path_as_it_is(path: str) -> None:
    out = io.StringIO()
    report = Report("split_brain", out=out)
    newest = replace(FILES, newest=(Young(changed_at=1, size_bytes=1, path=path),))
    report.table("newest files", side_by_side.newest_files(CLUSTER, apart(files=newest)))
    assert report.tables["newest files"][0]["file"] == path
    assert path in out.getvalue()


PARTED_TEXT = """\
generations||C3C43B759EF3992D:F6E9F4E7CB17FBC9:FFAB18CCB7B1484F:D3F646E65274D955:1:1:1:0:0:0:0
missing||272
disk||10737418240
room|/dev/vda|1073741824
kept|4096|/var/lib/dockyard/kept/data-C3C43B759EF3992C-files.tar.gz
"""
CHANGES_TEXT = """\
now||1700001000
lost||1700000000
mounted||
written||1700000500
used||3000
changed|2|5000000
newest|1700000400 4990000|photos/ä|b.jpg
"""


def test_what_the_probes_printed_is_read() -> None:
    found = read_parted(PARTED_TEXT)
    assert found.generations
    assert found.generations.name == "C3C43B759EF3992C"
    assert (found.missing_kib, found.room_on, list(found.kept.values())) == (272, "/dev/vda", [4096])
    changes = read_changes(CHANGES_TEXT)
    assert isinstance(changes, Changes)
    assert (changes.mounted_at, changes.count, changes.newest[0].path) == (None, 2, "photos/ä|b.jpg")
    unknown = read_changes(CHANGES_TEXT.replace("lost||1700000000", "lost||0"))
    assert isinstance(unknown, Changes)
    assert unknown.lost_at is None
    assert read_changes("together||yes\n") == Together()


def test_the_list_of_young_files_bears_any_name(tmp_path: Path) -> None:
    names = ["plain", "with space", "tab\there", "new\nline", "pipe|bar", "ä\u2028ö", "\x1besc"]
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "folder").mkdir()
    body = f"root={tmp_path}; lost_at() {{ echo 0; }}; young | clean; young | tr -dc '\\000' | wc -c"
    script = view.script(replication_of(CLUSTER), body)
    ran = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    *lines, count = ran.stdout.splitlines()
    assert int(count) == len(names) == len(lines)
    assert {line.split(" ", 2)[2] for line in lines} == {
        "plain", "with space", "tab?here", "new?line", "pipe|bar", "ä?ö", "?esc",
    }  # fmt: skip


LOG = {
    "Jan 1 drbd data: conn( Connected -> NetworkFailure )": True,
    "Jan 1 drbd data: peer( Primary -> Unknown ) conn( Connected -> Disconnecting )": True,
    "Jan 1 drbd data dock-mirror: conn( Connected -> Timeout ) peer( Secondary -> Unknown )": True,
    "Jan 1 drbd data dock-load: conn( Connected -> Timeout ) peer( Secondary -> Unknown )": False,
    "Jan 1 drbd data2: conn( Connected -> Timeout )": False,
    "Jan 1 drbd data: conn( WFReportParams -> Disconnecting )": False,
    "Jan 1 drbd data: conn( VerifyS -> NetworkFailure )": True,
    "Jan 1 drbd data: peer( Primary -> Unknown ) conn( PausedSyncT -> BrokenPipe )": True,
    "Jan 1 drbd data: conn( NetworkFailure -> Unconnected )": False,
}


@pytest.mark.parametrize(("line", "counts"), LOG.items())
def test_contact_was_lost_when_the_other_replica_went_and_not_the_tie_breaker(line: str, counts: bool) -> None:
    journal = (
        'for word; do case $word in --grep=*) ! echo "$LINE" | grep -qE "${word#--grep=}" || echo 17.5; esac; done'
    )
    script = view.script(replication_of(CLUSTER), f"journalctl() {{ {journal}; }}; lost_at", other=MIRROR)
    ran = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True, env={**os.environ, "LINE": line}
    )
    assert ran.stdout == ("17\n" if counts else "0\n")


@pytest.mark.parametrize(("words", "says"), [
    (["--victim", "dock-load"], "dock-load has no replica"),
    (["--victim", "dock-prod", "--into", "usb"], "--into usb: a path on the victim begins with /"),
])  # fmt: skip
def test_a_wrong_command_line_is_refused_before_anything_is_asked(words: list[str], says: str) -> None:
    script = [sys.executable, "runbooks/split_brain.py", *words, "--dry-run", "--inventory", "lab"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(script, capture_output=True, text=True, check=False, cwd=ROOT, env=env)
    assert (ran.returncode, says in ran.stdout) == (2, True), ran


def test_the_record_follows_the_survivor() -> None:
    plan = drbd.plan_new_writer(CLUSTER, apart(), to=MIRROR, since=SINCE)
    assert titles(plan) == {LOAD: ["name dock-mirror as the writer (generation 2)"]}
