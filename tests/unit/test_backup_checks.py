"""What health says of backups, how runs are read, and what a drill proves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dockyard.change import Plan
from dockyard.errors import ParseError, StepFailed, Unreachable
from dockyard.evidence import EVIDENCE
from dockyard.findings import Finding
from dockyard.observe import Observed
from tasks import backup
from tasks.backup import drill, places
from tasks.backup.facts import SecretSeen, read_state
from tasks.backup.result import Progress, Reason, readable
from tasks.backup.snapshots import Repository, Snapshot, Snapshots
from tasks.backup.tools import Tools
from tests.unit.backups import (
    MIRROR,
    NOW,
    PAIR,
    PROD,
    REPOSITORY,
    STORAGE,
    healthy,
    last,
    observed,
    pristine,
    topology,
    unit,
)
from tests.unit.replicas import LOAD, titles

LAB = topology()
RUN = "2026-11-25T02:30:00Z"
UNTRUSTED = (
    'Fatal: unable to open config file: Head "https://homelab:***@nas.lan:8000/homelab/config": '
    "tls: failed to verify certificate: x509: certificate signed by unknown authority"
)


def faults(states: Mapping[str, object]) -> list[str]:
    findings: list[Finding] = backup.check_backup(LAB, observed(states), storage=STORAGE)
    return [f"{finding.host}: {finding.fault}" for finding in findings]


def having(host: str, **parts: Any) -> dict[str, object]:
    states = healthy(LAB)
    return {**states, host: replace(states[host], **parts)}


def test_a_backup_of_last_night_is_fine() -> None:
    assert faults(healthy(LAB)) == []
    assert faults(healthy(LAB, writer=MIRROR)) == []


def test_without_backups_in_the_inventory_nothing_is_said() -> None:
    none = replace(LAB, cluster=replace(LAB.cluster, backup=None))
    assert backup.check_backup(none, observed({}), storage=STORAGE) == []


def test_what_was_never_set_up_is_one_finding() -> None:
    assert faults(dict.fromkeys(PAIR, pristine(LAB))) == ["dock-prod: backups were never set up"]


def test_a_replica_that_cannot_be_seen_is_a_finding_and_the_other_is_judged() -> None:
    away = Unreachable(MIRROR, "no route")
    assert faults({**healthy(LAB), MIRROR: away}) == ["dock-mirror: could not be looked at"]
    assert faults({MIRROR: away, PROD: replace(healthy(LAB)[PROD], run=None, good=None)}) == [
        "dock-mirror: could not be looked at",
        "dock-prod: there is no backup yet",
    ]


def test_passwords_that_differ_lack_or_lie_open() -> None:
    other = SecretSeen(fingerprint="f" * 16, private=True)
    assert faults(having(MIRROR, password=other)) == [
        "dock-prod: the replicas have different passwords for the repository"
    ]
    assert faults(having(MIRROR, password=None)) == ["dock-mirror: has no password for the repository"]
    open_ = SecretSeen(fingerprint="0123456789abcdef", private=False)
    assert faults(having(MIRROR, password=open_)) == [f"dock-mirror: others than root may read {places.PASSWORD}"]


@pytest.mark.parametrize(("active", "enabled"), [("inactive", "enabled"), ("active", "disabled"), ("inactive", "")])
def test_a_timer_that_wakes_nobody(active: str, enabled: str) -> None:
    units = {**healthy(LAB)[MIRROR].units, places.RUN_TIMER: unit(places.RUN_TIMER, active, enabled)}
    assert faults(having(MIRROR, units=units)) == [f"dock-mirror: {places.RUN_TIMER} does not wake anybody"]


def test_a_script_that_somebody_changed() -> None:
    files = healthy(LAB)[PROD].files
    files = {**files, places.SCRIPT: replace(files[places.SCRIPT], content="#!/bin/sh\nexit 0\n")}
    assert faults(having(PROD, files=files)) == ["dock-prod: what makes the backups is not as planned"]


@pytest.mark.parametrize(("hours", "old"), [(1, False), (35, False), (37, True), (200, True)])
def test_the_age_is_that_of_the_newest_on_either_replica(hours: int, old: bool) -> None:
    run = last(began=NOW - hours * 3600, ended=NOW - hours * 3600 + 60)
    states = having(PROD, run=run, good=run)
    assert faults(states) == ([f"dock-prod: the newest backup is {hours} hours old"] if old else [])
    newer = replace(healthy(LAB)[MIRROR], run=last(), good=last())
    assert faults({**states, MIRROR: newer}) == []


@pytest.mark.parametrize(
    ("code", "said", "reason"),
    [
        ("12", "Fatal: wrong password or no key found", Reason.PASSWORD),
        ("11", "unable to create lock in backend: repository is already locked", Reason.LOCKED),
        ("10", "Fatal: repository does not exist", Reason.NO_REPOSITORY),
        ("3", "error: open /srv/data/x: permission denied", Reason.UNREADABLE),
        ("1", 'Fatal: unable to save snapshot: Save(<data/1>): "sftp: no space left on device"', Reason.FULL),
        ("1", "subprocess ssh: ssh: connect to host nas port 22: No route to host", Reason.GONE),
        ("1", "ssh: Could not resolve hostname nas.lan: Name or service not known", Reason.GONE),
        ("1", "Fatal: unable to save snapshot: ssh command exited: exit status 255", Reason.GONE),
        ("1", "subprocess ssh: Host key verification failed.", Reason.HOST_KEY),
        ("1", "backup@nas.lan: Permission denied (publickey).", Reason.LOGIN),
        ("1", "unexpected HTTP response (401): 401 Unauthorized", Reason.LOGIN),
        ("1", UNTRUSTED, Reason.CERTIFICATE),
        ("1", "Fatal: repository contains errors", Reason.DAMAGED),
        ("TERM", "", Reason.INTERRUPTED),
        ("130", "", Reason.INTERRUPTED),
        ("1", "something new", Reason.OTHER),
    ],
)
def test_a_failed_run_is_named_by_its_cause(code: str, said: str, reason: Reason) -> None:
    run = last(stage="backup", code=code, said=(said,), ended=NOW - 100, saved=False)
    assert run.reason is reason
    assert faults(having(PROD, run=run)) == [f"dock-prod: the last backup failed: {reason}"]
    assert backup.check_backup(LAB, observed(having(PROD, run=run)), storage=STORAGE)[0].advice


def test_what_restic_wraps_into_json_is_unwrapped() -> None:
    assert (
        readable('{"message_type":"exit_error","code":12,"message":"Fatal: wrong password"}') == "Fatal: wrong password"
    )
    lost = '{"message_type":"error","error":{"message":"permission denied"},"during":"archival","item":"/srv/data/x"}'
    assert readable(lost) == "permission denied /srv/data/x"
    assert [readable(line) for line in ("plain", "[1]", "{}", "12")] == ["plain", "[1]", "{}", "12"]


def test_a_failure_that_the_other_replica_has_made_good_since_is_none() -> None:
    old = last(stage="backup", code="1", ended=NOW - 50_000)
    states = healthy(LAB, writer=MIRROR)
    states[PROD] = replace(states[PROD], run=old)
    assert faults(states) == []


def test_what_could_not_be_removed_is_no_lost_backup() -> None:
    run = last(stage="retention", code="11")
    assert faults(having(PROD, run=run, good=run)) == [f"dock-prod: old backups could not be removed: {Reason.LOCKED}"]


def test_a_check_that_failed_or_is_old() -> None:
    bad = last(stage="check", code="1", said=("Fatal: repository contains errors",))
    assert faults(having(PROD, check=bad)) == [f"dock-prod: the last check of the backups failed: {Reason.DAMAGED}"]
    old = last(ended=NOW - 17 * 86400, how="3/10")
    assert faults(having(PROD, check=old)) == ["dock-prod: the backups were last read back 17 days ago"]
    assert faults(having(PROD, check=last(ended=NOW - 8 * 86400))) == []


TEXT = f"""\
now||{NOW}
password|600:root|0123456789abcdef
key||ssh-ed25519 AAAA backup of homelab from dock-prod
repository||{REPOSITORY}
mounted||yes
last-run|began|10
last-run|ended|25
last-run|result|success
last-run|code|0
last-run|stage|done
last-run|how|live
last-run|asked|{RUN}
last-run|saved|yes
last-run|summary|{{"message_type":"summary","total_files_processed":3,"total_bytes_processed":9,"snapshot_id":"abc"}}
last-run|said|a line | with a bar
progress|drill|{{"message_type":"status","percent_done":0.5,"total_bytes":2097152,"bytes_restored":1048576}}
"""


def test_a_replica_tells_what_it_knows() -> None:
    state = read_state(TEXT)
    assert (state.now, state.mounted, state.repository) == (NOW, True, REPOSITORY)
    assert state.password == SecretSeen(fingerprint="0123456789abcdef", private=True)
    run = state.run
    assert run
    assert (run.ok, run.asked, run.saved, run.snapshot, run.files, run.bytes) == (True, RUN, True, "abc", 3, 9)
    assert run.said == ("a line | with a bar",)
    assert str(state.progress["drill"]) == "50% of 2 MiB"
    assert (state.good, state.check, state.drill) == (None, None, None)


@pytest.mark.parametrize(
    "damage",
    [
        (f"now||{NOW}\n", ""),
        ("last-run|began|10\n", ""),
        ("last-run|ended|25", "last-run|ended|"),
        ("mounted||yes", "mounted: yes"),
        ("last-run|code", "last-time|code"),
        ('{"message_type":"summary"', '{"message_type":"summ'),
    ],
)
def test_what_is_cut_off_or_unknown_is_an_error(damage: tuple[str, str]) -> None:
    with pytest.raises(ParseError):
        read_state(TEXT.replace(*damage))


def test_a_line_of_progress_that_is_still_being_written_is_no_news() -> None:
    assert read_state('now||1\nprogress|run|{"message_type":"sta\n').progress == {"run": Progress(0.0, 0)}


def asked(**parts: Any) -> dict[str, object]:
    return having(PROD, run=last(asked=RUN, **parts))


def test_one_backup_now_where_the_storage_is_mounted() -> None:
    before = observed(healthy(LAB))
    assert titles(backup.plan_now(LAB, before, run=RUN)) == {PROD: ["back up now"]}
    assert backup.plan_now(LAB, observed(asked()), run=RUN) == {}
    at_work = having(PROD, units={**healthy(LAB)[PROD].units, places.RUN: unit(places.RUN, "activating")})
    assert backup.plan_now(LAB, observed(at_work), run=RUN) == {}
    assert len(backup.check_ended(LAB, observed(at_work))) == 1
    assert len(backup.check_idle(LAB, observed(at_work))) == 1
    assert backup.check_ended(LAB, before) == backup.check_idle(LAB, before) == []
    gone = before.merged(Observed({PROD: {backup.BACKUP.name: Unreachable(PROD, "no answer")}}))
    assert backup.check_idle(LAB, gone) == []
    assert backup.check_mounted(LAB, before) == []
    assert len(backup.check_mounted(LAB, observed(having(PROD, mounted=False)))) == 1


def test_only_the_backup_that_was_asked_for_counts() -> None:
    assert backup.check_saved(LAB, observed(asked()), run=RUN) == []
    assert "in 100 s" in backup.summary(observed(asked()), RUN)
    (other,) = backup.check_saved(LAB, observed(healthy(LAB)), run=RUN)
    assert "did not run" in other.fault
    (failed,) = backup.check_saved(LAB, observed(asked(stage="backup", code="12")), run=RUN)
    assert str(Reason.PASSWORD) in failed.fault
    assert "may have been written" in backup.summary(observed(asked(how="live")), RUN)


def snapshot(name: str, days_ago: int = 0) -> Snapshot:
    at = datetime(2026, 11, 25, tzinfo=UTC) - timedelta(days=days_ago)
    return Snapshot(id=name * 8, short_id=name, time=at, host="lab", user="root", paths=("/srv/data",), tags=())


OLD, NEW = snapshot("aaaa1111", 3), snapshot("bbbb2222")
READABLE = Snapshots(repository=Repository.READABLE, snapshots=(NEW, OLD))


def drilled(**parts: Any) -> Observed:
    counts = (("files", 3), ("equal", 3), ("differing", 0), ("missing", 0), ("extra", 0), ("bytes", 2**20))
    ended = last(**{"asked": RUN, "saved": False, "counts": counts} | parts)
    return observed(
        having(PROD, drill=ended),
        snapshots=dict.fromkeys(PAIR, READABLE),
        backup_tools=dict.fromkeys(PAIR, Tools(frozenset(), "restic 0.18.0 compiled with go1.24.4")),
        **{EVIDENCE.name: {LOAD: {}}},
    )


def test_a_snapshot_is_named_by_the_beginning_of_its_id() -> None:
    assert drill.pick(READABLE, "latest") == NEW
    assert drill.pick(READABLE, "aaaa") == OLD
    assert drill.pick(READABLE, "c") is None
    assert drill.pick(replace(READABLE, snapshots=(NEW, replace(OLD, id="bbbb" * 16))), "bbbb") is None
    assert drill.check_snapshot(LAB, drilled(), on="", snapshot="latest") == []
    assert len(drill.check_snapshot(LAB, drilled(), on=MIRROR, snapshot="cc")) == 1
    gone = observed(healthy(LAB), snapshots={PROD: Snapshots(repository=Repository.UNREACHABLE, message="EOF")})
    assert len(drill.check_snapshot(LAB, gone, on="", snapshot="latest")) == 1


@pytest.mark.parametrize(
    ("room", "count"),
    [
        (drill.Room(size_bytes=100, free_bytes=200, mount="/"), 0),
        (drill.Room(size_bytes=100, free_bytes=105, mount="/"), 1),
        (drill.Room(size_bytes=100, free_bytes=200, mount="/srv/data"), 1),
        (drill.Room(size_bytes=100, free_bytes=50, mount="/srv/data/pvc"), 2),
        (drill.Room(size_bytes=None, free_bytes=50, mount="/", message="EOF"), 1),
        (drill.Room(size_bytes=100, free_bytes=200, mount="/srv/database"), 0),
    ],
)
def test_a_restore_needs_room_beside_the_live_data(room: drill.Room, count: int) -> None:
    domain = drill.room("/var/tmp/x", "latest")
    found = observed(healthy(LAB), **{domain.name.replace(" ", "_"): {PROD: room}})
    assert len(drill.check_room(LAB, found, on="", domain=domain)) == count


def restore(found: Observed, **parts: str) -> dict[str, list[str]]:
    wanted = {"on": "", "run": RUN, "snapshot": "latest", "scratch": "/var/lib/x"} | parts
    return titles(drill.plan_restore(LAB, found, **wanted))


def test_the_newest_is_restored_beside_the_data_once() -> None:
    before = drilled(asked="another")
    title = "restore snapshot bbbb2222 of 2026-11-25 00:00 UTC+0000 into /var/lib/x/dockyard-drill-2026-11-25T023000Z"
    assert restore(before) == {PROD: [title]}
    assert list(restore(before, on=MIRROR, snapshot="aaaa")) == [MIRROR]
    assert restore(drilled()) == {}
    with pytest.raises(StepFailed, match="no snapshot cc"):
        restore(before, snapshot="cc")


def test_nobody_guesses_where_to_restore() -> None:
    nowhere = observed(having(PROD, mounted=False))
    with pytest.raises(StepFailed, match="mounted nowhere"):
        drill.place(nowhere, "")
    assert drill.place(nowhere, MIRROR) == MIRROR


def test_what_was_proved_is_written_down_good_or_bad() -> None:
    about = {"on": "", "run": RUN, "snapshot": "latest", "by": "me@here"}

    def keep(found: Observed) -> Plan:
        return drill.plan_record(LAB, found, **about, kernel=lambda _, host: f"6.12 of {host}")

    good = keep(drilled())
    assert titles(good) == {LOAD: ["record that restore-drill passed"]}
    (change,) = good[LOAD]
    assert all(word in change.diff() for word in ('"equal":3', '"snapshot":"bbbb2222"', '"restic":"0.18.0"', "stopped"))
    assert all(word in change.diff() for word in (f'"kernel":"6.12 of {PROD}"', f'"repository":"{REPOSITORY[:8]}"'))
    assert drill.check_equal(LAB, drilled(), on="", run=RUN) == []
    bad = drilled(stage="compare", code="66", counts=(("files", 3), ("equal", 2), ("missing", 1)))
    assert titles(keep(bad)) == {LOAD: ["record that restore-drill failed"]}
    (finding,) = drill.check_equal(LAB, bad, on="", run=RUN)
    assert "2 of 3 files are equal" in finding.evidence
    assert "1 missing" in finding.evidence
    assert keep(drilled(asked="another")) == {}
    (finding,) = drill.check_equal(LAB, drilled(asked="another"), on="", run=RUN)
    assert "no result" in finding.evidence


def test_progress_of_a_restore_is_shown_until_it_has_ended() -> None:
    units = {**healthy(LAB)[PROD].units, places.DRILL: unit(places.DRILL, "activating")}
    at_work = having(PROD, units=units, progress={"drill": Progress(0.25, 4 * 2**20)})
    (finding,) = drill.check_ended(LAB, observed(at_work), on="", run=RUN)
    assert finding.evidence == "25% of 4 MiB"
    assert drill.check_ended(LAB, drilled(), on="", run=RUN) == []
