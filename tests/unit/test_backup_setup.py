"""From nothing to a repository and timers on both replicas; secrets that are made once and shown nowhere."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dockyard.change import Plan, WriteFile
from dockyard.errors import NotObserved, StepFailed, Unreachable
from dockyard.host_keys import HostKey, KnownHosts
from dockyard.observe import Observed
from dockyard.secret import Secret
from dockyard.service import unit_file
from dockyard.topology import Rest, Topology
from tasks import backup
from tasks.backup import nas, places, setup
from tasks.backup.facts import BackupState, SecretSeen
from tasks.backup.nas import RepositoryState
from tasks.backup.script import known_hosts, texts
from tasks.backup.snapshots import Repository
from tasks.backup.tools import Tools
from tests.unit.backups import KEY, MIRROR, PAIR, PROD, REPOSITORY, SFTP, STORAGE, healthy, observed, pristine, topology
from tests.unit.replicas import argvs, titles

WORD = Secret("0f" * 32)
MISSING = RepositoryState(standing=Repository.MISSING, message="Fatal: repository does not exist")
THERE = RepositoryState(standing=Repository.READABLE, id=REPOSITORY)
LAB = topology()


def seen(states: Mapping[str, object] | None = None, **domains: Mapping[str, object]) -> Observed:
    return observed(healthy(LAB) if states is None else states, **domains)


def all_plans(cluster: Topology, found: Observed) -> list[Plan]:
    return [
        backup.plan_password(cluster, found),
        backup.plan_share_password(cluster, found),
        backup.plan_keys(cluster, found),
        backup.plan_files(cluster, found, storage=STORAGE),
        backup.plan_repository(cluster, found),
        backup.plan_note(cluster, found),
        backup.plan_timers(cluster, found),
    ]


def test_what_is_set_up_is_left_alone() -> None:
    found = seen(repository=dict.fromkeys(PAIR, THERE))
    assert [plan for plan in all_plans(LAB, found) if plan] == []
    rest = topology(rest=Rest(url="https://nas.lan:8000/"))
    found = observed(healthy(rest), repository=dict.fromkeys(PAIR, THERE))
    assert [plan for plan in all_plans(rest, found) if plan] == []


def test_from_nothing_the_first_replica_makes_the_password_and_each_its_own_key() -> None:
    bare = dict.fromkeys(PAIR, pristine(LAB))
    assert titles(backup.plan_password(LAB, seen(bare))) == {PROD: [f"make the password {places.PASSWORD}"]}
    assert set(titles(backup.plan_keys(LAB, seen(bare)))) == set(PAIR)
    timers = titles(backup.plan_timers(LAB, seen(bare)))
    assert set(timers) == set(PAIR)
    assert all("enable" in title and "start" in title for title in timers[MIRROR])


@pytest.mark.parametrize("lacks", PAIR)
def test_the_password_goes_to_who_has_none_and_is_shown_nowhere(lacks: str) -> None:
    states = healthy(LAB)
    states[lacks] = replace(states[lacks], password=None)
    (other,) = set(PAIR) - {lacks}
    found = seen(states, backup_password={other: WORD})
    assert backup.plan_password(LAB, found) == {}
    plan = backup.plan_share_password(LAB, found)
    ((change,),) = plan.values()
    assert list(plan) == [lacks]
    assert isinstance(change, WriteFile)
    assert (change.path, change.content, change.mode) == (places.PASSWORD, WORD, 0o600)
    assert WORD.reveal() not in change.diff() + repr(change) + " ".join(argvs(plan))


def test_a_password_that_others_may_read_is_written_anew() -> None:
    states = healthy(LAB)
    states[MIRROR] = replace(states[MIRROR], password=SecretSeen(fingerprint="0123456789abcdef", private=False))
    plan = backup.plan_share_password(LAB, seen(states, backup_password={PROD: WORD}))
    assert titles(plan) == {MIRROR: [f"write {places.PASSWORD}"]}


def test_two_passwords_are_not_decided_by_us() -> None:
    states = healthy(LAB)
    states[MIRROR] = replace(states[MIRROR], password=SecretSeen(fingerprint="f" * 16, private=True))
    with pytest.raises(StepFailed, match="differs between dock-prod and dock-mirror"):
        backup.plan_share_password(LAB, seen(states))


def test_a_lost_password_is_not_replaced_by_a_new_one() -> None:
    states = {host: replace(state, password=None) for host, state in healthy(LAB).items()}
    with pytest.raises(StepFailed, match="gone from both"):
        backup.plan_password(LAB, seen(states))


def test_who_cannot_be_seen_stops_what_needs_both() -> None:
    states: dict[str, object] = {**healthy(LAB), MIRROR: Unreachable(MIRROR, "no route")}
    for plan in (backup.plan_password, backup.plan_share_password):
        with pytest.raises(NotObserved, match=MIRROR):
            plan(LAB, seen(states))
    assert backup.plan_timers(LAB, seen(states)) == {}


def test_a_rest_server_with_a_login_waits_for_its_password() -> None:
    rest = topology(rest=Rest(url="https://nas.lan:8000/", user="homelab"))
    (finding,) = backup.check_rest_password(rest, observed(healthy(rest)))
    assert places.REST_PASSWORD in finding.advice
    states = healthy(rest)
    states[MIRROR] = replace(states[MIRROR], rest_password=SecretSeen(fingerprint="a" * 16, private=True))
    found = observed(states, REST_password={MIRROR: WORD})
    assert backup.check_rest_password(rest, found) == []
    assert titles(backup.plan_share_password(rest, found)) == {PROD: [f"write {places.REST_PASSWORD}"]}
    assert backup.check_rest_password(LAB, seen()) == []


def test_files_that_somebody_changed_are_mended() -> None:
    states = healthy(LAB)
    path = unit_file(places.RUN_TIMER)
    spoiled = replace(states[MIRROR].files[path], content="OnCalendar=never\n")
    states[MIRROR] = replace(states[MIRROR], files={**states[MIRROR].files, path: spoiled})
    plan = titles(backup.plan_files(LAB, seen(states), storage=STORAGE))
    assert plan == {MIRROR: [f"write {path}", "let systemd read its units again"]}


def test_the_repository_is_made_once_and_both_note_it() -> None:
    states = {host: replace(state, repository="") for host, state in healthy(LAB).items()}
    plan = backup.plan_repository(LAB, seen(states, repository=dict.fromkeys(PAIR, MISSING)))
    assert titles(plan) == {PROD: ["make the repository"]}
    made = seen(states, repository={PROD: THERE, MIRROR: MISSING})
    assert backup.plan_repository(LAB, made) == {}
    assert set(backup.plan_note(LAB, made)) == set(PAIR)


@pytest.mark.parametrize(
    ("standing", "words"),
    [
        (MISSING, "not there any more, but none"),
        (RepositoryState(standing=Repository.READABLE, id="0" * 64), "another one"),
        (RepositoryState(standing=Repository.WRONG_PASSWORD), "our password does not open it"),
    ],
)
def test_a_repository_that_was_made_is_never_made_again(standing: RepositoryState, words: str) -> None:
    found = seen(repository=dict.fromkeys(PAIR, standing))
    with pytest.raises(StepFailed, match=words):
        backup.plan_repository(LAB, found)
    with pytest.raises(StepFailed, match=words):
        backup.plan_note(LAB, found)


def test_two_repositories_at_one_place_are_none() -> None:
    states = {host: replace(state, repository="") for host, state in healthy(LAB).items()}
    other = RepositoryState(standing=Repository.READABLE, id="0" * 64)
    with pytest.raises(StepFailed, match="different repositories"):
        backup.plan_repository(LAB, seen(states, repository={PROD: THERE, MIRROR: other}))


def pinned(line: str) -> Topology:
    lab = topology()
    assert lab.cluster.backup
    return replace(
        lab, cluster=replace(lab.cluster, backup=replace(lab.cluster.backup, sftp=replace(SFTP, host_key=line or None)))
    )


def shown(line: str = KEY) -> Mapping[str, object]:
    (key,) = KnownHosts.parse(f"nas {line}\n").keys_of("nas")
    return dict.fromkeys(PAIR, (key,))


def keys(cluster: Topology, found: Mapping[str, object]) -> list[str]:
    by_name = {nas.NAS_KEYS.name.replace(" ", "_"): found}
    return [
        f"{finding.fault} | {finding.evidence} | {finding.advice}"
        for finding in backup.check_host_key(cluster, observed({}, **by_name))
    ]


def test_a_host_key_is_trusted_only_when_the_inventory_pins_it() -> None:
    assert keys(pinned(KEY), shown()) == []
    unknown = keys(pinned(""), shown())
    assert len(unknown) == 2
    assert all("unknown | ssh-ed25519 SHA256:" in text and f'host_key: "{KEY}"' in text for text in unknown)
    other = KEY.replace("Ye9H", "AAAA")
    assert all("NOT THE PINNED ONE" in text for text in keys(pinned(KEY), shown(other)))
    assert all("does not answer" in text for text in keys(pinned(KEY), dict.fromkeys(PAIR, ())))
    assert keys(topology(rest=Rest(url="http://nas.lan:8000/")), {}) == []


def test_no_key_that_nobody_pinned_is_ever_written() -> None:
    plan = backup.plan_files(pinned(""), observed(dict.fromkeys(PAIR, pristine(LAB))), storage=STORAGE)
    kept_back = {host: [change.title for change in changes if change.provisional] for host, changes in plan.items()}
    assert kept_back == {host: [f"write {places.KNOWN_HOSTS}"] for host in PAIR}


@pytest.mark.parametrize(("port", "name"), [(22, "nas.lan"), (2222, "[nas.lan]:2222")])
def test_the_pinned_key_is_what_ssh_finds(port: int, name: str) -> None:
    known = KnownHosts.parse(known_hosts(replace(SFTP, port=port)))
    (key,) = known.keys_of(name)
    assert isinstance(key, HostKey)
    assert key.line("").strip() == KEY


def test_who_is_not_let_in_is_told_which_key_to_give_to_the_nas() -> None:
    out = RepositoryState(standing=Repository.UNREACHABLE, message="Permission denied (publickey).\nFatal: EOF")
    findings = backup.check_login(LAB, seen(repository={PROD: THERE, MIRROR: out}))
    ((host, advice),) = [(finding.host, finding.advice) for finding in findings]
    assert host == MIRROR
    assert f"restrict {KEY} backup of dockyard-lab from dock-mirror" in advice
    assert backup.check_login(LAB, seen(repository=dict.fromkeys(PAIR, MISSING))) == []
    assert len(backup.check_repository(LAB, seen(repository=dict.fromkeys(PAIR, MISSING)))) == 2
    assert backup.check_repository(LAB, seen(repository=dict.fromkeys(PAIR, THERE))) == []


@pytest.mark.parametrize(
    ("version", "fine"),
    [
        ("restic 0.18.0 compiled with go1.24.4 on linux/amd64", True),
        ("restic 0.17.3 compiled", True),
        ("restic 1.0.0 compiled", True),
        ("restic 0.14.0 compiled with go1.19.8 on linux/amd64", False),
        ("", False),
    ],
)
def test_a_restic_that_does_not_say_what_went_wrong_is_too_old(version: str, fine: bool) -> None:
    found = observed({}, backup_tools={PROD: Tools(frozenset(), version)})
    assert (backup.check_tools(LAB, found) == []) is fine


def test_what_is_missing_is_installed() -> None:
    found = observed({}, backup_tools={MIRROR: Tools(frozenset({"restic", "fsfreeze", "unshare"}), "")})
    assert titles(backup.plan_tools(LAB, found)) == {MIRROR: ["install restic, util-linux"]}


def run(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", script, "x", *words], capture_output=True, text=True, check=False)


def test_a_password_is_made_once_for_root_alone(tmp_path: Path) -> None:
    path = tmp_path / "backup" / "password"
    assert run(setup._MAKE_PASSWORD, str(path)).returncode == 0
    made = path.read_text()
    assert (len(made), path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (65, 0o600, 0o700)
    assert run(setup._MAKE_PASSWORD, str(path)).returncode != 0
    assert path.read_text() == made
    assert [one.name for one in path.parent.iterdir()] == ["password"]


def test_a_key_is_made_once_and_its_public_half_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "backup" / "id_ed25519"
    assert run(setup._MAKE_KEY, str(path), "backup of a from b").returncode == 0
    public = path.with_suffix(".pub").read_text()
    assert public.endswith(" backup of a from b\n")
    path.with_suffix(".pub").unlink()
    assert run(setup._MAKE_KEY, str(path), "").returncode == 0
    assert path.with_suffix(".pub").read_text().split()[:2] == public.split()[:2]


def test_only_replicas_are_asked_and_nobody_without_backups() -> None:
    def asked(cluster: Topology) -> set[str]:
        return {host.name for host in cluster.hosts.values() if backup.BACKUP.concerns(cluster, host)}

    assert asked(LAB) == set(PAIR)
    none: Any = replace(LAB, cluster=replace(LAB.cluster, backup=None))
    assert asked(none) == set()


def test_nothing_secret_is_in_any_file_that_is_written() -> None:
    assert LAB.cluster.backup
    written = texts(LAB, LAB.host(PROD), storage=STORAGE)
    assert set(written) == set(places.files(LAB.cluster.backup)) > {places.SCRIPT, places.KNOWN_HOSTS}
    for text, mode in written.values():
        assert "PRIVATE" not in text
        assert mode in {0o644, 0o755}


def test_the_units_are_stopped_by_whoever_unmounts() -> None:
    written = texts(LAB, LAB.host(PROD), storage=STORAGE)
    for name in (places.RUN, places.CHECK):
        text, _ = written[unit_file(name)]
        assert f"PartOf={STORAGE.unit}\n" in text
        assert f"After=network-online.target {STORAGE.unit}\n" in text
        assert f"ExecStopPost={places.SCRIPT} release " in text
    timer, _ = written[unit_file(places.RUN_TIMER)]
    check, _ = written[unit_file(places.CHECK_TIMER)]
    assert "OnCalendar=*-*-* 02:30:00\n" in timer
    assert "OnCalendar=Sun *-*-* 06:30:00\n" in check
    assert isinstance(healthy(LAB)[PROD], BackupState)
