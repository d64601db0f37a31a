"""Particular answers of restic."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dockyard.errors import ParseError
from tasks.backup.snapshots import Repository, Snapshots, read_snapshots

ID = "f501d4996dac8bc1b74d8926d554a5620a25c2ee8c7b08beb6fe26061e6e2c27"


def listed(*more: dict[str, Any], **changed: Any) -> str:
    one = {"id": ID, "short_id": ID[:8], "time": "2026-11-25T05:29:54.427351743+01:00", "tree": ID, "paths": ["/srv"]}
    return json.dumps([{key: value for key, value in (one | changed).items() if value is not None}, *more])


def test_time_has_its_zone_and_microseconds() -> None:
    time = read_snapshots(listed()).snapshots[0].time
    assert time == datetime(2026, 11, 25, 4, 29, 54, 427351, tzinfo=UTC)
    assert time.utcoffset() == timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "microsecond"), [("00Z", 0), ("00.5Z", 500000), ("00.000000001Z", 0), ("00.12345678-08:00", 123456)]
)
def test_times_as_go_prints_them(text: str, microsecond: int) -> None:
    assert read_snapshots(listed(time=f"2026-11-25T05:29:{text}")).snapshots[0].time.microsecond == microsecond


@pytest.mark.parametrize(
    "changed",
    [
        {"time": "yesterday"},
        {"time": "2026-02-30T00:00:00Z"},
        {"time": "2026-11-25T05:29:54"},
        {"id": "12"},
        {"short_id": "abcdef01"},
        {"tree": None},
        {"paths": "/srv"},
    ],
)
def test_snapshots_that_are_not_as_we_know_them_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ParseError):
        read_snapshots(listed(**changed))


def test_the_same_snapshot_twice_is_refused() -> None:
    with pytest.raises(ParseError, match="twice"):
        read_snapshots(listed(json.loads(listed())[0]))


@pytest.mark.parametrize("text", ["", "{}", "[{}]", '[{"group_key":{},"snapshots":[]}]', "repository opened\n[]"])
def test_success_without_a_list_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        read_snapshots(text)


@pytest.mark.parametrize(
    ("said", "exit_code", "repository"),
    [
        (
            "Fatal: unable to open config file: Stat: dial tcp: connection refused",
            1,
            Repository.UNREACHABLE,
        ),
        ("Fatal: unable to open config file: exec: rclone: executable file not found", 1, Repository.UNREACHABLE),
        ("Fatal: unable to open config file: stat /r/config: no such file or directory", 1, Repository.MISSING),
        ("Fatal: unable to open config file: Stat: The specified key does not exist.", 1, Repository.MISSING),
        ("Fatal: wrong password or no key found", 1, Repository.WRONG_PASSWORD),
        ("unable to create lock in backend: repository is already locked by PID 5 on vm", 1, Repository.LOCKED),
        ("something that no version said before", 12, Repository.WRONG_PASSWORD),
        ("something that no version said before", 1, Repository.UNREACHABLE),
        ("", 130, Repository.UNREACHABLE),
    ],
)
def test_failures_are_told_apart(said: str, exit_code: int, repository: Repository) -> None:
    assert read_snapshots("", stderr=said, exit_code=exit_code).repository is repository


def test_the_message_is_taken_out_of_its_json() -> None:
    said = '{"message_type":"exit_error","code":10,"message":"Fatal: repository does not exist"}\n'
    assert read_snapshots("", stderr=said, exit_code=10) == Snapshots(
        repository=Repository.MISSING, message="Fatal: repository does not exist"
    )


def test_newest() -> None:
    other = json.loads(listed(id=ID[::-1], short_id=None, time="2026-11-25T05:00:00Z"))[0]
    newest = read_snapshots(listed(other)).newest
    assert newest
    assert newest.id == ID[::-1]
    assert Snapshots(repository=Repository.READABLE).newest is None
