"""A drill as data: what is planned when, what is left of one that was cut off, and what its scripts really do."""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dockyard.change import Run, WriteFile
from dockyard.errors import ParseError, StepFailed, UsageError
from dockyard.evidence import EVIDENCE, decode
from dockyard.observe import Observed
from dockyard.steps import Converge, Gate, Wait
from dockyard.topology import Wan
from runbooks.replication_drill import asked, drilling
from tasks.drbd import drill, places
from tasks.drbd.drill import lag, load, proof, result, scene
from tasks.drbd.drill.lag import Sample
from tasks.drbd.drill.proof import Known, Part
from tasks.drbd.drill.scene import Drill, Room, Scene
from tasks.drbd.state import Link, Role
from tasks.drbd.verify import VERIFY
from tests.unit.replicas import LOAD, MIRROR, PAIR, PROD, argvs, healthy, observed, resource, titles, topology, unit
from tests.unit.test_drbd_verify import verify_state

CLUSTER = topology()
RUN = "2026-11-25T03:00:00Z"
OLDER = "2026-10-25T03:00:00Z"
MIB = 1024**2
ONE = Drill(run=RUN, size_bytes=8 * MIB, rate_bytes_s=MIB, cut_s=60)
QUIET = Scene(
    kernel="6.12.48",
    lacks=(),
    run="",
    began_s=None,
    written_s=None,
    failed="",
    files=0,
    scratch=None,
    cut="",
    cut_left_s=None,
    table=False,
    room=None,
    verify=None,
    unit=unit(scene.UNIT, "inactive", ""),
)
HELD = """{"nftables": [{"metainfo": {"version": "1.1.3", "json_schema_version": 1}}, {"set": {"family": "ip", \
"name": "cut", "table": "dockyard_drill", "type": "ipv4_addr", "handle": 1, "flags": ["timeout"], "elem": \
[{"elem": {"val": "10.20.0.2", "timeout": 60, "expires": 41}}]}}]}"""
FREE = HELD[: HELD.index(', "elem": [')] + "}}]}"
STATUS = """data role:Primary suspended:no
    write-ordering:flush
  volume:0 minor:0 disk:UpToDate
      size:524236 read:70644 written:{written} al-writes:3 bm-writes:0 upper-pending:0
      lower-pending:0 al-suspended:no blocked:no
  peer connection:{link} role:{role} congested:no
    volume:0 replication:{state} peer-disk:{disk} resync-suspended:no
        received:0 sent:69652 out-of-sync:{lacking} pending:0 unacked:0
"""


def seen(
    prod: Scene = QUIET,
    mirror: Scene = QUIET,
    states: Mapping[str, object] | None = None,
    more: Mapping[str, object] | None = None,
) -> Observed:
    """A healthy pair with these scenes; further domains by name, each with a state for the Primary."""
    base = observed(healthy(CLUSTER) if states is None else states)
    extra: dict[str, dict[str, object]] = {
        PROD: {drill.SCENE.name: prod, **(more or {})},
        MIRROR: {drill.SCENE.name: mirror},
    }
    return base.merged(Observed(extra))


def begun(**parts: Any) -> Scene:
    running = unit(scene.UNIT, "active", "transient")
    return replace(QUIET, **{"run": RUN, "began_s": 100.0, "scratch": 1, "files": 1, "unit": running, **parts})


# --- what is seen


def test_a_quiet_host_is_clean_and_says_how_much_room_there_is() -> None:
    found = scene.read_scene("kernel|6.12.48\nroom|1000 4000 4096\n", unit(scene.UNIT))
    assert found.clean
    assert found.room == Room(free_bytes=4_096_000, size_bytes=16_384_000)


def test_a_drill_under_way_is_read() -> None:
    text = f"kernel|6\nlacks|nft\nrun|{RUN}\nbegan|12.50\ncut|{RUN}\nfailed|disk full\nfiles|3\nscratch|4\nset|{HELD}\n"
    found = scene.read_scene(text, unit(scene.UNIT))
    assert (found.run, found.cut, found.began_s, found.failed) == (RUN, RUN, 12.5, "disk full")
    assert (found.files, found.scratch, found.cut_left_s, found.table, found.lacks) == (3, 4, 41, True, ("nft",))
    assert not found.clean


def test_a_table_whose_time_is_over_holds_nothing_back_and_is_still_to_be_removed() -> None:
    found = scene.read_scene(f"kernel|6\nset|{FREE}\n", unit(scene.UNIT))
    assert (found.cut_left_s, found.table, found.clean) == (None, True, False)


@pytest.mark.parametrize(
    "line",
    ["set|{}", 'set|{"nftables": []}', "set|" + HELD.replace("41", '"x"'), "set|" + HELD[:-1], "run|now", "room|1 2",
     "scratch|-1", "odd|1", "lacks|rm"],
)  # fmt: skip
def test_anything_else_is_refused(line: str) -> None:
    with pytest.raises(ParseError):
        scene.read_scene(f"kernel|6\n{line}\n", unit(scene.UNIT))


# --- defaults


def test_defaults_follow_from_the_line() -> None:
    wan = Wan(mbit=50, rtt_ms=30, share=0.8)
    rate = scene.usual_rate(wan)
    assert rate == 1_562_500
    one = Drill(run=RUN, size_bytes=scene.usual_size(rate, 60), rate_bytes_s=rate, cut_s=60)
    assert one.file_bytes == 23 * 64 * 1024
    assert one.files >= 60 + 2 * scene.LEAD_S
    assert one.longest_s(wan) > 3 * (one.files + 60)


def test_the_slowest_line_still_writes_whole_files() -> None:
    one = Drill(run=RUN, size_bytes=1, rate_bytes_s=1, cut_s=30)
    assert (one.file_bytes, one.files) == (64 * 1024, 1)


def typed(**given: object) -> argparse.Namespace:
    return argparse.Namespace(**{"rate": None, "size": None, "cut": 60.0, "no_verify": False, **given})


def test_the_command_line_makes_a_drill_whose_load_outlasts_the_cut() -> None:
    usual = asked(typed(), CLUSTER)
    assert (usual.cut_s, usual.verify, usual.rate_bytes_s) == (60, True, 1_562_500)
    assert asked(typed(rate=MIB, size=75 * MIB, no_verify=True), CLUSTER).files == 75
    with pytest.raises(UsageError, match="written before a cut of 60 s is over") as raised:
        asked(typed(rate=MIB, size=74 * MIB), CLUSTER)
    assert "--size 75M" in raised.value.advice


# --- plans


def test_a_clean_pair_needs_no_clearing_and_no_tools() -> None:
    assert drill.plan_clear(CLUSTER, seen()) == {}
    assert drill.plan_tools(CLUSTER, seen()) == {}


def test_lacking_tools_are_installed_by_their_packages() -> None:
    plan = drill.plan_tools(CLUSTER, seen(mirror=replace(QUIET, lacks=("nft", "filefrag"))))
    assert titles(plan) == {MIRROR: ["install e2fsprogs, nftables"]}


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (begun(), "stop the load, remove /srv/data/.dockyard-drill with 1 files, remove /run/dockyard-drill"),
        (replace(QUIET, scratch=0), "remove /srv/data/.dockyard-drill with 0 files"),
        (replace(QUIET, table=True, cut=OLDER), "let the line go, remove /run/dockyard-drill"),
        (replace(QUIET, table=True), "let the line go"),
    ],
)
def test_what_a_drill_left_is_removed_and_named(left: Scene, said: str) -> None:
    assert titles(drill.plan_clear(CLUSTER, seen(prod=left))) == {PROD: [f"clear up after a drill: {said}"]}


def test_the_load_begins_on_the_primary_once() -> None:
    plan = drill.plan_load(CLUSTER, seen(), drill=ONE)
    assert list(plan) == [PROD]
    script, start = plan[PROD]
    assert isinstance(script, WriteFile)
    assert "dst 10.20.0.3 and ( sport = :7788 or dport = :7788 )" in str(script.content)
    assert start.title == "write 8.0 MiB of known data into /srv/data/.dockyard-drill, 1.0 MiB a second"
    assert places.STORAGE in argvs({PROD: [start]})[0]  # it ends with the storage
    assert drill.plan_load(CLUSTER, seen(prod=begun()), drill=ONE) == {}
    assert drill.plan_load(CLUSTER, seen(prod=begun(run=OLDER)), drill=ONE) != {}


def test_the_line_is_cut_on_the_secondary_for_the_port_of_drbd_alone_and_for_a_time() -> None:
    (cut,) = drill.plan_cut(CLUSTER, seen(prod=begun()), drill=ONE)[MIRROR]
    assert isinstance(cut, Run)
    rules = cut.stdin.decode() if isinstance(cut.stdin, bytes) else ""
    assert "elements = { 10.20.0.2 timeout 60s }" in rules
    drops = [line.strip() for line in rules.splitlines() if line.endswith("drop")]
    assert len(drops) == 4
    assert all("port 7788" in drop and "@cut" in drop for drop in drops)
    assert drill.plan_cut(CLUSTER, seen(mirror=replace(QUIET, cut=RUN)), drill=ONE) == {}


def test_after_a_switch_the_other_side_writes_and_the_other_one_cuts() -> None:
    turned = healthy(CLUSTER, writer=MIRROR)
    assert list(drill.plan_load(CLUSTER, seen(states=turned), drill=ONE)) == [MIRROR]
    assert list(drill.plan_cut(CLUSTER, seen(states=turned), drill=ONE)) == [PROD]


@pytest.mark.parametrize("roles", [(Role.SECONDARY, Role.SECONDARY), (Role.PRIMARY, Role.PRIMARY)])
def test_without_exactly_one_primary_nothing_begins(roles: tuple[Role, Role]) -> None:
    states = healthy(CLUSTER)
    for host, role in zip(PAIR, roles, strict=True):
        states[host] = replace(states[host], resource=resource(role))
    with pytest.raises(StepFailed, match="exactly one Primary"):
        drill.plan_load(CLUSTER, seen(states=states), drill=ONE)
    faults = [found.fault for found in drill.check_begin(CLUSTER, seen(states=states), drill=ONE)]
    assert "not exactly one replica is Primary with the storage mounted" in faults


@pytest.mark.parametrize(("free_mib", "enough"), [(18, True), (17, False)])
def test_a_tenth_of_the_file_system_stays_free(free_mib: int, enough: bool) -> None:
    room = replace(QUIET, room=Room(free_bytes=free_mib * MIB, size_bytes=100 * MIB))
    found = drill.check_begin(CLUSTER, seen(prod=room), drill=ONE)
    assert [one.fault for one in found] == ([] if enough else ["too little room in /srv/data for 8.0 MiB"])


def test_nothing_begins_while_the_replicas_are_apart() -> None:
    states = healthy(CLUSTER)
    states[PROD] = replace(states[PROD], resource=resource(Role.PRIMARY, link=Link.CONNECTING))
    assert any("not connected" in one.fault for one in drill.check_begin(CLUSTER, seen(states=states), drill=ONE))


# --- waiting


def samples(*states: str, every_s: float = 1.0, **parts: int) -> list[Sample]:
    base = {"waiting_bytes": 0, "written_bytes": 0, "lacking_bytes": 0, **parts}
    return [Sample(at_s=100 + number * every_s, state=state, **base) for number, state in enumerate(states)]


def test_the_load_has_to_run_for_a_while_in_sync() -> None:
    def check(found: list[Sample]) -> list[Any]:
        return drill.check_loaded(CLUSTER, seen(prod=begun(), more={drill.SAMPLES.name: found}))

    assert check([])
    assert check(samples("Established"))
    assert check(samples("Established", "Connecting", every_s=20))
    assert not check(samples("Established", "Established", every_s=20))


@pytest.mark.parametrize("gone", [begun(failed="No space left on device"), begun(unit=unit(scene.UNIT, "failed"))])
def test_a_load_that_ended_early_stops_the_drill(gone: Scene) -> None:
    look = seen(prod=gone, more={drill.SAMPLES.name: []})
    for check in (drill.check_loaded, drill.check_noticed, drill.check_caught_up):
        with pytest.raises(StepFailed, match="load"):
            check(CLUSTER, look)


def test_the_cut_is_noticed_and_over_when_host_and_kernel_say_so() -> None:
    states = healthy(CLUSTER)
    apart = {**states, PROD: replace(states[PROD], resource=resource(Role.PRIMARY, link=Link.CONNECTING))}
    assert drill.check_noticed(CLUSTER, seen(prod=begun()))
    assert not drill.check_noticed(CLUSTER, seen(prod=begun(), states=apart))
    assert drill.check_line(CLUSTER, seen(mirror=replace(QUIET, cut=RUN, cut_left_s=12, table=True)))
    assert not drill.check_line(CLUSTER, seen(mirror=replace(QUIET, cut=RUN, table=True)))


def test_all_has_to_be_written_and_there() -> None:
    assert [one.fault for one in drill.check_caught_up(CLUSTER, seen(prod=begun()))] == ["data is still being written"]
    assert not drill.check_caught_up(CLUSTER, seen(prod=begun(written_s=200.0)))
    states = healthy(CLUSTER)
    states[PROD] = replace(states[PROD], resource=resource(Role.PRIMARY, out_of_sync_kib=4))
    assert drill.check_caught_up(CLUSTER, seen(prod=begun(written_s=200.0), states=states))


def test_a_dry_run_sees_every_step_and_writes_nothing() -> None:
    look = seen(more={drill.SAMPLES.name: [], drill.KNOWN.name: Known(sums={}, parts={}), VERIFY.name: verify_state()})
    look = look.merged(Observed({LOAD: {EVIDENCE.name: {}}, MIRROR: {VERIFY.name: verify_state()}}))
    planned: list[str] = []
    for step in drilling(ONE):
        if isinstance(step, Converge):
            planned += [change.title for changes in step.plan(CLUSTER, look).values() for change in changes]
        elif isinstance(step, Wait | Gate) and "read back" not in step.title:
            step.check(CLUSTER, look)
    assert [title.split(" ")[0] for title in planned] == ["write", "write", "cut", "compare"]


# --- how far behind


def text_of(at_s: float, waiting: int = 0, **parts: object) -> str:
    said = {"written": 0, "link": "Connected", "role": "Secondary", "state": "Established", "disk": "UpToDate"}
    return f"at {at_s:.2f} {waiting}\n{STATUS.format(**{**said, 'lacking': 0, **parts})}\n"


APART: dict[str, Any] = {"link": "Connecting", "role": "Unknown", "state": "Off", "disk": "DUnknown"}


def test_samples_are_read_and_one_that_is_not_whole_yet_is_left_out() -> None:
    text = text_of(1.5, 4096, written=8) + text_of(2.5, **APART, lacking=12)
    found = lag.read_samples(text, "data", MIRROR)
    assert found == [
        Sample(at_s=1.5, waiting_bytes=4096, written_bytes=8192, lacking_bytes=0, state="Established"),
        Sample(at_s=2.5, waiting_bytes=0, written_bytes=0, lacking_bytes=12288, state="Connecting"),
    ]
    for end in range(len(text)):
        assert (
            lag.read_samples(text[:end], "data", MIRROR) == found[: len(lag.read_samples(text[:end], "data", MIRROR))]
        )


def test_a_peer_that_vanished_is_standalone() -> None:
    text = text_of(1.5)
    alone = text[: text.index("  peer")] + "\n\n"
    assert [one.state for one in lag.read_samples(alone, "data", MIRROR)] == ["StandAlone"]


@pytest.mark.parametrize("odd", ["at noon 0\n", "data role:Primary\n", "oops\n\n"])
def test_what_is_no_sample_is_refused(odd: str) -> None:
    with pytest.raises(ParseError):
        lag.read_samples(text_of(1) + odd + "\n" + text_of(2), "data", MIRROR)


def test_another_resource_is_not_ours() -> None:
    with pytest.raises(ParseError, match="does not tell of other"):
        lag.read_samples(text_of(1), "other", MIRROR)


def sample(at_s: float, state: str = "Established", *, waiting: int = 0, written: int = 0, lacking: int = 0) -> Sample:
    return Sample(at_s=at_s, waiting_bytes=waiting, written_bytes=written, lacking_bytes=lacking, state=state)


def test_what_waits_is_as_old_as_the_time_since_so_much_less_was_written() -> None:
    found = lag.moments([sample(0), sample(1, written=1000), sample(2, written=2000, waiting=500)])
    assert [(one.behind_bytes, one.behind_s) for one in found] == [(0, 0), (0, 0), (500, 0.5)]


def test_while_apart_it_is_as_old_as_the_oldest_byte_that_waited() -> None:
    found = lag.moments(
        [
            sample(0),
            sample(10, written=1000, waiting=1000),
            sample(20, "Connecting", written=2000, lacking=4096),
            sample(30, "SyncSource", written=2000, lacking=2048),
            sample(40, written=2000),
        ]
    )
    assert [(one.behind_bytes, one.behind_s) for one in found] == [(0, 0), (1000, 10), (4096, 20), (2048, 30), (0, 0)]
    assert lag.lag(found) == lag.Lag(most_bytes=4096, most_s=30, mean_bytes=1429, mean_s=12)
    assert [one.at_s for one in lag.while_connected(found)] == [0, 10]


def test_nothing_written_while_apart_is_nothing_missing() -> None:
    found = lag.moments([sample(0), sample(10, "Connecting"), sample(20, "Connecting", lacking=4096)])
    assert [one.behind_s for one in found] == [0, 0, 20]


def test_no_samples_are_no_lag() -> None:
    assert lag.moments([]) == []
    assert lag.lag([]) is None
    assert lag.catch_up([]) is None


def test_the_catch_up_is_what_the_resync_took_from_first_to_last_sight() -> None:
    resync = [("SyncSource", 30), ("SyncSource", 20), ("SyncSource", 10)]
    line = [sample(at, state, lacking=kib * 1024) for at, (state, kib) in enumerate([("Connecting", 40), *resync])]
    assert lag.catch_up([*line, sample(4)]) == lag.CatchUp(bytes=20 * 1024, seconds=2)
    assert lag.catch_up(line) is None  # it has not ended
    assert lag.catch_up([line[0], line[1], sample(4)]) == lag.CatchUp(bytes=30 * 1024, seconds=3)
    assert lag.catch_up([line[0], sample(4)]) is None


def test_a_table_is_short_and_shows_every_change() -> None:
    states = ["Established"] * 500 + ["Connecting"] * 3 + ["SyncSource"] * 2 + ["Established"] * 500
    rows = list(lag.rows(lag.moments(samples(*states))))
    assert len(rows) <= lag.ROWS + 6
    kinds = [row["replication"] for row in rows]
    assert [kind for at, kind in enumerate(kinds) if not at or kind != kinds[at - 1]] == [
        "Established",
        "Connecting",
        "SyncSource",
        "Established",
    ]


# --- where the files lie, and what is read back

EXTENTS = """Filesystem type is: ef53
File size of block-000000 is 131072 (32 blocks of 4096 bytes)
 ext:     logical_offset:        physical_offset: length:   expected: flags:
   0:        0..      15:      34816..     34831:     16:            
   1:       16..      31:      40960..     40975:     16:      34832: last,eof
block-000000: 2 extents found
File size of block-000001 is 65536 (64 blocks of 1024 bytes)
 ext:     logical_offset:        physical_offset: length:   expected: flags:
   0:        0..      63:       8192..      8255:     64:             last,merged,eof
block-000001: 1 extent found
"""  # noqa: W291  # as filefrag prints it


def test_extents_are_bytes_on_the_device() -> None:
    assert proof.read_extents(EXTENTS) == {
        "block-000000": (Part(offset=142606336, length=65536), Part(offset=167772160, length=65536)),
        "block-000001": (Part(offset=8388608, length=65536),),
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("last,eof", "last,unwritten,eof"),
        ("last,eof", "last,unknown_loc,delalloc,eof"),
        ("last,eof", "last,eof,inline"),
        ("  1:       16..      31:", "  1:       17..      32:"),
        ("131072", "135168"),
        ("File size of block-000000 is 131072 (32 blocks of 4096 bytes)\n", ""),
        ("1 extent found", "1 extent lost"),
    ],
)
def test_a_file_that_cannot_be_read_from_the_disk_is_refused(old: str, new: str) -> None:
    assert old in EXTENTS
    with pytest.raises(ParseError):
        proof.read_extents(EXTENTS.replace(old, new, 1))


def test_a_real_file_is_found_on_its_device(tmp_path: Path) -> None:
    (tmp_path / "block-000000").write_bytes(os.urandom(256 * 1024))
    subprocess.run(["sync", "block-000000"], cwd=tmp_path, check=True)
    found = subprocess.run(
        ["filefrag", "-v", "block-000000"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    if found.returncode:
        pytest.skip(f"no extents here: {found.stderr or found.stdout}")
    try:
        parts = proof.read_extents(found.stdout)
    except ParseError:
        assert any(flag in found.stdout for flag in ("encoded", "shared", "unknown", "delalloc")), found.stdout
        return
    assert sum(part.length for part in parts["block-000000"]) == 256 * 1024


def known(**sums: str) -> Known:
    parts = {name.replace("_", "-"): (Part(offset=4096, length=8), Part(offset=0, length=4)) for name in sums}
    return Known(sums={name.replace("_", "-"): digest for name, digest in sums.items()}, parts=parts)


def test_the_secondary_is_told_where_the_files_lie() -> None:
    from dockyard.files import FileState

    look = seen(more={drill.KNOWN.name: known(block_000000="a" * 64)})
    absent = look.merged(Observed({MIRROR: {drill.PLACES.name: FileState(path=proof.MAP)}}))
    (change,) = drill.plan_map(CLUSTER, absent)[MIRROR]
    assert isinstance(change, WriteFile)
    assert change.content == "block-000000 4096:8 0:4\n"
    there = FileState(
        path=proof.MAP, kind="regular file", mode=0o600, owner="root", group="root", content=str(change.content)
    )
    assert drill.plan_map(CLUSTER, look.merged(Observed({MIRROR: {drill.PLACES.name: there}}))) == {}


def test_both_ways_of_reading_back_give_the_sums(tmp_path: Path) -> None:
    state, folder, disk = tmp_path / "state", tmp_path / "scratch", tmp_path / "disk"
    state.mkdir()
    folder.mkdir()
    content = os.urandom(128 * 1024)
    (folder / "block-000000").write_bytes(content)
    disk.write_bytes(content[65536:] + b"gap" * 100 + content[:65536])
    (state / "sums").write_text(f"block-000000 {'0' * 64}\nblock-000001 {'0' * 64}\n")
    (state / "map").write_text("block-000000 65836:65536 0:65536\nblock-000001 x:1\n")
    wanted = {"block-000000": hashlib.sha256(content).hexdigest(), "block-000001": ""}
    scripts = {
        "files": proof._READ_FILES.format(state=state, scratch=folder),
        "blocks": proof._READ_BLOCKS.format(map=state / "map", disk=disk),
    }
    for name, script in scripts.items():
        buffered = script.replace("iflag=direct,", "iflag=").replace("iflag=direct ", "")
        ran = subprocess.run(
            ["bash", "-o", "pipefail", "-c", buffered], capture_output=True, text=True, check=False, timeout=20
        )
        assert proof.read_sums(ran.stdout) == wanted, f"{name}: {ran}"


# --- the load, for real


def test_the_load_writes_sums_and_samples_what_it_is_told(tmp_path: Path) -> None:
    state, folder, bin_ = tmp_path / "state", tmp_path / "scratch", tmp_path / "bin"
    for path in (state, folder, bin_):
        path.mkdir()
    stubs = {
        "ss": "echo '0 1000 10.20.0.2:7788 10.20.0.3:4711'; echo '0 24 10.20.0.2:7788 10.20.0.3:4712'",
        "drbdsetup": f"cat {tmp_path}/status",
        "sleep": "exec /bin/sleep 0.05",
    }
    (tmp_path / "status").write_text(text_of(1).partition("\n")[2])
    for name, body in stubs.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{body}\n")
        (bin_ / name).chmod(0o755)
    script, _ = drill.plan_load(CLUSTER, seen(), drill=replace(ONE, size_bytes=256 * 1024, rate_bytes_s=1))[PROD]
    assert isinstance(script, WriteFile)
    text = str(script.content).replace("/srv/data/.dockyard-drill", str(folder)).replace(scene.STATE, str(state))
    (state / "load").write_text(text)
    environment = {"PATH": f"{bin_}:{os.environ['PATH']}"}
    with subprocess.Popen(["sh", str(state / "load")], env=environment) as process:
        deadline = time.monotonic() + 30
        while not (state / "written").exists() or "at " not in (state / "samples").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.terminate()
    sums = proof.read_sums((state / "sums").read_text())
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()} == sums
    assert len(sums) == 4
    found = lag.read_samples((state / "samples").read_text(), "data", MIRROR)
    assert (found[0].waiting_bytes, found[0].state) == (1024, "Established")
    assert not (state / "failed").exists()


def test_what_is_cleared_is_ours_and_nothing_else(tmp_path: Path) -> None:
    bin_, folder, state = tmp_path / "bin", tmp_path / "scratch", tmp_path / "state"
    for path in (bin_, folder, state):
        path.mkdir()
    for name, body in {"systemctl": "exit 5", "nft": f'echo "nft $*" >>{tmp_path}/log; echo "table ip filter"'}.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{body}\n")
        (bin_ / name).chmod(0o755)
    (folder / "block-000000").touch()
    foreign = folder / "letter"
    foreign.write_text("mine")
    argv = ["sh", "-c", load._CLEAR, "clear", scene.UNIT, scene.TABLE, str(folder), str(state)]
    environment = {"PATH": f"{bin_}:{os.environ['PATH']}"}
    assert subprocess.run(argv, env=environment, capture_output=True, check=False).returncode
    assert foreign.read_text() == "mine"
    foreign.unlink()
    assert subprocess.run(argv, env=environment, capture_output=True, check=False).returncode == 0
    assert not folder.exists()
    assert not state.exists()
    assert "delete" not in (tmp_path / "log").read_text()


# --- the verdict


def carried_out(*, wrong: str = "", differing_kib: int = 0, verified: bool = True) -> Observed:
    """All that is seen at the end of a drill of two files; ``wrong`` on the Secondary."""
    sums = {"block-000000": "a" * 64, "block-000001": "b" * 64}
    back = drill.sums(ONE).name
    line = [
        sample(0),
        sample(20, written=20 * MIB, waiting=MIB),
        sample(40, "Connecting", lacking=10 * MIB),
        sample(60, "SyncSource", lacking=10 * MIB),
        sample(64, "SyncSource", lacking=2 * MIB),
        sample(65),
    ]
    after = verify_state(began=1000, out_of_sync_kib=differing_kib) if verified else verify_state()
    look = seen(
        prod=begun(written_s=120.0, files=20, verify=900),
        more={
            drill.SAMPLES.name: line,
            drill.KNOWN.name: Known(sums=sums, parts={}),
            back: sums,
            VERIFY.name: after,
        },
    )
    there = {**sums, wrong: "c" * 64} if wrong else sums
    return look.merged(Observed({MIRROR: {back: there, VERIFY.name: verify_state()}, LOAD: {EVIDENCE.name: {}}}))


def kept(look: Observed) -> tuple[Observed, dict[str, Any]]:
    """What the plan keeps, and the observation that follows."""
    keep = partial(drill.plan_evidence, drill=ONE, read_back=drill.sums(ONE), versions=lambda *_: {"k3s": "v1.33.5"})
    plan = keep(CLUSTER, look)
    (change,) = plan[LOAD]
    assert isinstance(change, Run)
    evidence = decode(change.argv[-1])
    after = look.merged(Observed({LOAD: {EVIDENCE.name: {evidence.kind: evidence}}}))
    assert keep(CLUSTER, after) == {}
    return after, {"passed": evidence.passed, **evidence.versions, **evidence.facts}


def test_a_good_drill_is_kept_with_its_numbers_and_passed() -> None:
    after, facts = kept(carried_out())
    assert drill.check_passed(CLUSTER, after, drill=ONE) == []
    assert facts["passed"] is True
    assert (facts["drbd"], facts["kernel"], facts["k3s"], facts["primary"]) == ("8.4.11", "6.12.48", "v1.33.5", PROD)
    assert (facts["written_bytes"], facts["written_mbit"]) == (20 * MIB, 8.39)
    assert (facts["behind_connected_most_bytes"], facts["behind_connected_most_s"]) == (MIB, 1.0)
    assert (facts["behind_most_bytes"], facts["behind_most_s"]) == (10 * MIB, 45.0)
    assert (facts["catch_up_bytes"], facts["catch_up_s"], facts["catch_up_mbit"]) == (8 * MIB, 4.0, 16.78)
    assert (facts["line_mbit"], facts["resync_share_mbit"]) == (50, 40)
    assert (facts["verified"], facts["differing_kib"], facts["files"]) == (True, 0, 2)
    assert {row["what"] for row in drill.result_rows(CLUSTER, after)} == facts.keys() - {
        "passed",
        "drbd",
        "kernel",
        "k3s",
    }


@pytest.mark.parametrize(
    ("look", "said"),
    [
        (carried_out(wrong="block-000001"), "1 files whose blocks are not on the Secondary what was written"),
        (carried_out(differing_kib=4), "4 KiB that differ between the replicas (drbdadm verify)"),
        (carried_out(verified=False), "the blocks were not compared"),
    ],
)
def test_a_bad_drill_is_kept_too_and_is_not_passed(look: Observed, said: str) -> None:
    after, facts = kept(look)
    assert facts["passed"] is False
    assert [one.evidence for one in drill.check_passed(CLUSTER, after, drill=ONE)] == [said]


def test_a_drill_that_was_not_to_compare_says_so_and_passes() -> None:
    one = replace(ONE, verify=False)
    seen_of = carried_out(verified=False)
    evidence = result.evidence(CLUSTER, seen_of, drill=one, read_back=drill.sums(one), versions=lambda *_: {})
    assert evidence
    assert (evidence.passed, evidence.facts["verified"]) == (True, False)


def test_an_older_drill_is_not_taken_for_this_one() -> None:
    after, _ = kept(carried_out())
    (found,) = drill.check_passed(CLUSTER, after, drill=replace(ONE, run="2026-11-26T03:00:00Z"))
    assert found.fault == "this drill was not recorded"


# --- comparing


def test_the_comparison_is_started_once_and_waited_for() -> None:
    look = partial(seen, more={VERIFY.name: verify_state(service="activating")})
    assert titles(drill.plan_verify_now(CLUSTER, look(prod=begun()), drill=ONE)) == {
        PROD: ["compare all blocks of both replicas (drbdadm verify)"]
    }
    assert drill.plan_verify_now(CLUSTER, look(prod=begun()), drill=replace(ONE, verify=False)) == {}
    started = look(prod=begun(verify=900))
    assert drill.plan_verify_now(CLUSTER, started, drill=ONE) == {}
    assert [one.fault for one in drill.check_compared(CLUSTER, started, drill=ONE)] == ["all blocks are being compared"]
    done = seen(prod=begun(verify=900), more={VERIFY.name: verify_state(began=900)})
    assert drill.check_compared(CLUSTER, done, drill=ONE) == []


@pytest.mark.parametrize("service", ["inactive", "failed", "auto-restart"])
def test_a_comparison_that_was_interrupted_stops_the_drill(service: str) -> None:
    look = seen(prod=begun(verify=900), more={VERIFY.name: verify_state(began=800, service=service)})
    with pytest.raises(StepFailed, match="interrupted"):
        drill.check_compared(CLUSTER, look, drill=ONE)


def test_a_drill_needs_the_unit_that_compares() -> None:
    absent = seen(more={VERIFY.name: verify_state(service="absent")})
    assert [one.advice for one in drill.check_idle(CLUSTER, absent, drill=ONE)] == ["python runbooks/phase2_drbd.py"]
    assert drill.check_idle(CLUSTER, absent, drill=replace(ONE, verify=False)) == []
