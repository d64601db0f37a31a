"""Who may write: one record that counts, copies that follow it, generations that only grow."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dockyard.change import Run
from dockyard.errors import NotObserved, ParseError, Unreachable
from tasks import drbd
from tasks.drbd import places
from tasks.drbd.writer import NOBODY, Record, designated, keepers, read_record, shown, write_record
from tests.unit.replicas import LOAD, MIRROR, PAIR, PROD, SINCE, observed, records, titles, topology

TEXT = f"writer=dock-prod\ngeneration=3\nsince={SINCE}\n"


def test_a_record_is_read_whole_or_not_at_all() -> None:
    assert read_record(TEXT) == Record(writer=PROD, generation=3, since=SINCE)
    assert read_record("") == NOBODY


@pytest.mark.parametrize(
    "text",
    [
        "\n",
        TEXT[:-1],
        TEXT + TEXT,
        TEXT.replace("generation=3\n", ""),
        TEXT.replace("=3", "=-3"),
        TEXT.replace("=3", "=1234567890"),
        TEXT.replace("dock-prod", "dock prod"),
        TEXT.replace("dock-prod", ""),
        "writer=dock-prod\n",
    ],
)
def test_anything_else_is_an_error_and_nobody_is_never_guessed(text: str) -> None:
    with pytest.raises(ParseError):
        read_record(text)


def write(path: Path, record: Record) -> subprocess.CompletedProcess[str]:
    change = write_record(record)
    assert isinstance(change, Run)
    argv = [str(path) if word == places.WRITER else word for word in change.argv]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "dockyard" / "writer"
    record = Record(writer=PROD, generation=1, since=SINCE)
    assert write(path, record).returncode == 0
    assert read_record(path.read_text()) == record
    assert [one.name for one in path.parent.iterdir()] == ["writer"]


@pytest.mark.parametrize(
    ("writer", "generation", "written"),
    [
        (PROD, 4, True),
        (MIRROR, 4, True),
        (MIRROR, 30, True),
        (PROD, 3, True),
        (MIRROR, 3, False),
        (PROD, 2, False),
        (MIRROR, 1, False),
    ],
)
def test_generations_only_grow_and_have_one_writer(tmp_path: Path, writer: str, generation: int, written: bool) -> None:
    path = tmp_path / "writer"
    path.write_text(TEXT)
    done = write(path, Record(writer=writer, generation=generation, since="later"))
    assert done.returncode == (0 if written else 75)
    assert (path.read_text() == TEXT) is not written
    assert written or "names dock-prod at generation 3 already" in done.stderr


def test_a_record_that_is_not_understood_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "writer"
    path.write_text("writer=x\ngeneration=many\n")
    assert write(path, Record(writer=PROD, generation=9, since=SINCE)).returncode == 75
    assert path.read_text() == "writer=x\ngeneration=many\n"


def test_the_first_writer_is_named_at_the_arbitrator_and_then_to_the_replicas() -> None:
    nobody = records("")
    plan = drbd.plan_record(topology(), observed({}, nobody), since=SINCE)
    assert titles(plan) == {LOAD: ["name dock-prod as the writer (generation 1)"]}
    assert drbd.plan_copies(topology(), observed({}, nobody)) == {}
    named = {**nobody, LOAD: records()[LOAD]}
    assert drbd.plan_record(topology(), observed({}, named), since="later") == {}
    copies = drbd.plan_copies(topology(), observed({}, named))
    assert titles(copies) == {host: ["name dock-prod as the writer (generation 1)"] for host in PAIR}


def test_a_record_that_is_there_is_kept_and_stale_copies_follow() -> None:
    record = {**records(MIRROR, 4), PROD: records(PROD, 3)[PROD]}
    assert drbd.plan_record(topology(), observed({}, record), since=SINCE) == {}
    plan = drbd.plan_copies(topology(), observed({}, record))
    assert titles(plan) == {PROD: ["name dock-mirror as the writer (generation 4)"]}
    assert designated(topology(), observed({}, record)) == MIRROR


@pytest.mark.parametrize(
    ("arbitrator", "copy"),
    [
        (NOBODY, Record(writer=MIRROR, generation=1, since=SINCE)),
        (Record(writer=PROD, generation=3, since=SINCE), Record(writer=PROD, generation=4, since=SINCE)),
        (Record(writer=PROD, generation=3, since=SINCE), Record(writer=MIRROR, generation=4, since=SINCE)),
        (Record(writer=PROD, generation=3, since=SINCE), Record(writer=MIRROR, generation=3, since=SINCE)),
        (Record(writer="dock-edge", generation=3, since=SINCE), NOBODY),
    ],
)
@pytest.mark.parametrize("host", PAIR)
def test_an_arbitrator_that_forgot_stops_everything(arbitrator: Record, copy: Record, host: str) -> None:
    record = {**dict.fromkeys((LOAD, *PAIR), arbitrator), host: copy}
    for plan in (lambda *seen: drbd.plan_record(*seen, since=SINCE), drbd.plan_copies):
        with pytest.raises(NotObserved, match="dock-load: its record") as caught:
            plan(topology(), observed({}, record))
        assert "Find out who writes" in caught.value.advice


@pytest.mark.parametrize("lost", [LOAD, *PAIR])
def test_who_cannot_be_asked_is_not_nobody(lost: str) -> None:
    record = {**records(""), lost: Unreachable(lost, "no route")}
    with pytest.raises(NotObserved, match=lost):
        drbd.plan_record(topology(), observed({}, record), since=SINCE)


def test_only_the_three_keep_a_record() -> None:
    assert keepers(topology()) == [LOAD, PROD, MIRROR]
    domain = drbd.WRITER
    asked = [host.name for host in topology().hosts.values() if domain.concerns(topology(), host)]
    assert sorted(asked) == sorted([LOAD, PROD, MIRROR])
    without = replace(topology(), cluster=replace(topology().cluster, drbd=None))
    assert not any(domain.concerns(without, host) for host in without.hosts.values())


def test_a_record_for_a_person() -> None:
    assert shown(NOBODY) == "nobody"
    assert shown(read_record(TEXT)) == f"dock-prod since {SINCE}, generation 3"
