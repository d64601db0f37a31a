"""Evidence of drills: written as one line, read back as it was, refused when it is damaged."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from dockyard.change import Run
from dockyard.errors import NotObserved, ParseError
from dockyard.evidence import EVIDENCE, FOLDER, Evidence, decode, encode, newest, plan_record
from dockyard.observe import Observed
from tests.unit.replicas import topology

DRILL = Evidence(
    kind="replication-drill",
    run="2026-11-25T03:00:00Z",
    by="owner@laptop",
    passed=True,
    versions={"drbd": "8.4.11", "kernel": "6.12.48"},
    facts={"behind_s": 1.5, "lost_bytes": 0, "verified": True, "host": "dock-mirror"},
)
ARBITRATOR = topology().cluster.arbitrator


def seen(*lines: str) -> Observed:
    return Observed({ARBITRATOR: {EVIDENCE.name: newest(lines)}})


def test_a_run_comes_back_as_it_was() -> None:
    assert "\n" not in encode(DRILL)
    assert decode(encode(DRILL)) == DRILL
    assert DRILL.age_days(datetime(2026, 11, 26, 15, tzinfo=UTC)) == 1.5


@pytest.mark.parametrize("end", range(len(encode(DRILL))))
def test_a_line_that_was_cut_off_is_refused(end: int) -> None:
    with pytest.raises(ParseError):
        decode(encode(DRILL)[:end])


@pytest.mark.parametrize(
    ("name", "value"), [("kind", "../escape"), ("kind", ""), ("run", "yesterday"), ("passed", "yes"), ("facts", [])]
)
def test_what_is_not_evidence_is_refused(name: str, value: object) -> None:
    line = msgspec.json.encode({**msgspec.to_builtins(DRILL), name: value}).decode()
    with pytest.raises(ParseError):
        decode(line)


def test_it_is_recorded_once() -> None:
    later = msgspec.structs.replace(DRILL, run="2026-11-26T03:00:00Z", passed=False)
    assert plan_record(topology(), seen(encode(DRILL)), DRILL) == {}
    (change,) = plan_record(topology(), seen(encode(DRILL)), later)[ARBITRATOR]
    assert change.title == "record that replication-drill failed"


def test_without_the_arbitrator_nothing_is_recorded() -> None:
    with pytest.raises(NotObserved):
        plan_record(topology(), Observed(), DRILL)


def test_each_run_is_a_line_and_the_newest_is_the_last(tmp_path: Path) -> None:
    later = msgspec.structs.replace(DRILL, run="2026-11-26T03:00:00Z", by='owner\'s "other" laptop')
    for one in (DRILL, later):
        (change,) = plan_record(topology(), seen(), one)[ARBITRATOR]
        assert isinstance(change, Run)
        argv = [str(tmp_path / "made") if word == FOLDER else word for word in change.argv]
        subprocess.run(argv, check=True)
    (file,) = (tmp_path / "made").iterdir()
    assert file.name == "replication-drill.jsonl"
    assert [decode(line) for line in file.read_text().splitlines()] == [DRILL, later]
