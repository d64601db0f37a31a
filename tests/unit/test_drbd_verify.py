"""The monthly comparison: set up once, judged by health, and a script that tells the three ways in which it ends."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dockyard.change import UnitState, WriteFile
from dockyard.errors import ParseError, Unreachable
from dockyard.files import ABSENT, FileState
from dockyard.observe import Observed
from dockyard.service import unit_file
from tasks import drbd
from tasks.drbd import places, verify
from tasks.drbd.state import Replication, Role
from tasks.drbd.verify import Result, VerifyState
from tests.unit.replicas import MIRROR, PAIR, PROD, healthy, observed, pristine, resource, titles, topology, unit

CLUSTER = topology()
NOW = 1_800_000_000
DAY = 86400
TIMER = unit_file(places.VERIFY_TIMER)


def service_state(name: str) -> UnitState:
    subs = {"activating": "start", "auto-restart": "auto-restart", "inactive": "dead", "failed": "failed", "absent": ""}
    active = {"auto-restart": "activating", "absent": "inactive"}.get(name, name)
    return UnitState(
        name=places.VERIFY_SERVICE, loaded=name != "absent", active=active, enabled="static", sub=subs[name]
    )


def verify_state(
    *, began: int | None = None, out_of_sync_kib: int = 0, service: str = "inactive", host: str = PROD
) -> VerifyState:
    """A replica that is set up; ``began`` is when its last comparison began, None for never."""
    files = {
        path: FileState(
            path=path, kind="regular file", mode=mode, owner="root", group="root", content=text,
            mtime_ns=(NOW - DAY) * 10**9,
        )
        for path, (text, mode) in verify.verify_texts(CLUSTER, host, nine=False).items()
    }  # fmt: skip
    found = ["start=2048, size=8"] if out_of_sync_kib else []
    result = (
        None if began is None else Result(began=began, ended=began + 60, out_of_sync_kib=out_of_sync_kib, places=found)
    )
    return VerifyState(
        now=NOW,
        files=files,
        timer=unit(places.VERIFY_TIMER, "active"),
        service=service_state(service),
        result=result,
    )


def seen(prod: object = None, mirror: object = None, states: dict[str, object] | None = None) -> Observed:
    base = observed(healthy(CLUSTER) if states is None else states)
    given = {PROD: prod or verify_state(), MIRROR: mirror or verify_state(host=MIRROR)}
    return base.merged(Observed({host: {drbd.VERIFY.name: state} for host, state in given.items()}))


def faults(look: Observed) -> list[str]:
    return [found.fault for found in drbd.check_verify(CLUSTER, look)]


def days_ago(days: float, out_of_sync_kib: int = 0) -> VerifyState:
    return verify_state(began=round(NOW - days * DAY) - 60, out_of_sync_kib=out_of_sync_kib)


# --- set up


def test_a_finished_pair_needs_nothing() -> None:
    assert drbd.plan_verify(CLUSTER, seen()) == {}


def test_both_replicas_get_script_and_timer() -> None:
    bare = replace(
        verify_state(),
        files={path: FileState(path=path, digest=ABSENT) for path in verify._FILES},
        timer=unit(places.VERIFY_TIMER, "inactive", ""),
    )
    plan = titles(drbd.plan_verify(CLUSTER, seen(bare, bare)))
    start = f"systemctl enable -- {places.VERIFY_TIMER}; systemctl start -- {places.VERIFY_TIMER}"
    assert plan == {
        host: [*(f"write {path}" for path in verify._FILES), "let systemd read its units again", start] for host in PAIR
    }


def test_drbd_9_compares_with_the_other_replica_alone() -> None:
    nine = replace(verify_state(), files={path: FileState(path=path, digest=ABSENT) for path in verify._FILES})
    states: dict[str, object] = dict(healthy(CLUSTER, nine=True))
    script = drbd.plan_verify(CLUSTER, seen(nine, nine, states))[PROD][0]
    assert isinstance(script, WriteFile)
    assert " verify data:dock-mirror/0 " in str(script.content)


# --- health


def test_health_is_silent_while_all_is_well() -> None:
    assert faults(seen()) == []  # set up yesterday
    assert faults(seen(days_ago(39))) == []
    assert faults(seen(states={PROD: pristine(PROD), MIRROR: pristine(MIRROR)})) == []


def test_a_timer_that_does_not_run_is_named() -> None:
    off = replace(verify_state(), timer=unit(places.VERIFY_TIMER, "inactive", "disabled"))
    assert faults(seen(mirror=off)) == ["the copies are not compared every month from here"]


def test_what_cannot_be_seen_is_named() -> None:
    assert len(faults(seen(mirror=Unreachable(MIRROR, "gone")))) == 1


def test_too_old_and_never_are_named_and_the_newer_of_both_counts() -> None:
    assert faults(seen(days_ago(41))) == ["the copies of data were last compared 41 days ago"]
    assert faults(seen(days_ago(41), days_ago(3))) == []
    files = {**verify_state().files}
    files[TIMER] = replace(files[TIMER], mtime_ns=(NOW - 50 * DAY) * 10**9)
    old = replace(verify_state(), files=files)
    assert faults(seen(old)) == ["the copies of data were never compared, and that since 50 days"]


def test_one_that_runs_is_no_fault() -> None:
    states: dict[str, object] = dict(healthy(CLUSTER))
    states[PROD] = replace(healthy(CLUSTER)[PROD], resource=resource(Role.PRIMARY, replication=Replication.VERIFY_S))
    assert faults(seen(days_ago(41), states=states)) == []
    assert drbd.check_drbd(CLUSTER, seen(states=states)) == []


def test_blocks_that_differ_stay_a_finding_until_a_clean_comparison() -> None:
    states: dict[str, object] = dict(healthy(CLUSTER))
    states[PROD] = replace(healthy(CLUSTER)[PROD], resource=resource(Role.PRIMARY, out_of_sync_kib=4))
    (found,) = drbd.check_verify(CLUSTER, seen(days_ago(2, out_of_sync_kib=4), states=states))
    assert found.fault == "the last comparison found 4 KiB of data that differ between the replicas"
    assert "start=2048, size=8" in found.evidence
    assert "drbdadm disconnect data; drbdadm connect data" in found.advice
    (mended,) = drbd.check_verify(CLUSTER, seen(days_ago(2, out_of_sync_kib=4)))
    assert mended.fault.endswith("; they were copied anew since")
    assert f"systemctl start --no-block {places.VERIFY_SERVICE}" in mended.advice
    assert faults(seen(days_ago(2, out_of_sync_kib=4), days_ago(1))) == []


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"began": 1, "ended": 2, "out_of_sync_kib": -1, "places": []}'])
def test_a_result_that_is_damaged_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        verify.read_result(text)


# --- the script

BEFORE = """\
[    1.000000] drbd data: conn( WFReportParams -> Connected )
[  900.000000] block drbd0: Online verify done (total 2 sec; paused 0 sec; 9 K/sec)"""
DONE = "[  907.500000] block drbd0: Online verify  done (total 3 sec; paused 0 sec; 174745 K/sec)"
FOUND = "[  905.000000] block drbd0: Out of sync: start=2048, size=8 (sectors)"
EVENTS = """\
exists resource name:data role:{role} suspended:no write-ordering:flush
exists connection name:data peer-node-id:0 conn-name:peer connection:Connected role:Secondary congested:no
exists device name:data volume:0 minor:0 disk:{disk} size:262100 read:1 written:1 al-writes:1 blocked:no
exists peer-device name:data peer-node-id:0 conn-name:peer volume:0 replication:{state} peer-disk:{there} done:7.1 \
resync-suspended:no received:0 sent:1 out-of-sync:{kib} pending:0 unacked:0
exists -
"""


class Script:
    """The rendered script with stand-ins for DRBD and the kernel log; each look takes the next of ``states``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        stubs = {
            "drbdsetup": f"""\
set -- $(cat {folder}/states); cat {folder}/events-$1
[ -z "${{2:-}}" ] || [ ! -e {folder}/started ] || {{ shift; echo "$*" >{folder}/states; }}""",
            "drbdadm": f'echo "$*" >>{folder}/log; touch {folder}/started; [ ! -e {folder}/refuses ]',
            "dmesg": f"cat {folder}/before; [ ! -e {folder}/started ] || cat {folder}/after",
            "sleep": "exit 0",
            "uname": f"echo {PROD}",
        }
        for name, body in stubs.items():
            (folder / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
            (folder / "bin" / name).chmod(0o755)
        text, _ = verify.verify_texts(CLUSTER, PROD, nine=False)[places.VERIFY]
        text = text.replace(places.VERIFIED, str(folder / "result")).replace(places.WRITER, str(folder / "writer"))
        (folder / "script").write_text(text)
        (folder / "before").write_text(f"{BEFORE}\n")
        self.sees()
        self.logs()

    def sees(
        self, *states: str, role: str = "Primary", disk: str = "UpToDate", there: str = "UpToDate", kib: int = 0
    ) -> None:
        chosen = states or ("Established", "VerifyS", "VerifyS", "Established")
        (self.folder / "states").write_text(" ".join(chosen))
        for state in set(chosen):
            text = EVENTS.format(role=role, disk=disk, there=there, state=state, kib=kib)
            (self.folder / f"events-{state}").write_text(text)

    def logs(self, *lines: str) -> None:
        (self.folder / "after").write_text("".join(f"{line}\n" for line in lines or (DONE,)))

    def __call__(self) -> subprocess.CompletedProcess[str]:
        env = {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        return subprocess.run(
            ["sh", str(self.folder / "script")], env=env, capture_output=True, text=True, check=False, timeout=20
        )

    @property
    def asked(self) -> str:
        log = self.folder / "log"
        return log.read_text() if log.exists() else ""

    @property
    def result(self) -> Result | None:
        path = self.folder / "result"
        return verify.read_result(path.read_text()) if path.exists() else None


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


SKIPPED = "[  907.5] drbd data/0 drbd0 dock-mirror: Online verify done but 12 4k blocks skipped (total 3 sec; 9 K/sec)"


@pytest.mark.parametrize("end", [DONE, SKIPPED], ids=["8.4", "9, while it was written to"])
def test_a_clean_comparison_is_kept(script: Script, end: str) -> None:
    script.logs(end)
    ran = script()
    assert ran.returncode == 0, ran
    assert script.asked == "-- --start=0 verify data\n"
    assert script.result
    assert (script.result.out_of_sync_kib, list(script.result.places)) == (0, [])
    assert script.result.began <= script.result.ended


def test_what_differs_is_kept_with_its_places(script: Script) -> None:
    script.sees(kib=8)
    script.logs(FOUND, FOUND.replace("2048", "4096"), DONE)
    assert script().returncode == 0
    assert script.result
    assert script.result.out_of_sync_kib == 8
    assert list(script.result.places) == ["start=2048, size=8", "start=4096, size=8"]


def test_the_places_of_many_blocks_are_few(script: Script) -> None:
    script.logs(*[FOUND.replace("2048", f"{number}") for number in range(50)], DONE)
    assert script().returncode == 0
    assert script.result
    assert len(script.result.places) == 8


@pytest.mark.parametrize(("writer", "code"), [(MIRROR, 0), ("", 0), (PROD, 75)])
def test_the_secondary_does_nothing_and_a_writer_that_is_not_promoted_yet_tries_again(
    script: Script, writer: str, code: int
) -> None:
    (script.folder / "writer").write_text(f"writer={writer}\ngeneration=1\n")
    script.sees("Established", role="Secondary")
    assert script().returncode == code
    assert script.asked == ""
    assert script.result is None


@pytest.mark.parametrize(
    "parts",
    [
        {"disk": "Inconsistent"},
        {"there": "Outdated"},
        {"state": "Off"},
        {"state": "SyncSource"},
        {"state": "StandAlone"},
    ],
)
def test_it_is_put_off_while_the_pair_is_not_whole(script: Script, parts: dict[str, Any]) -> None:
    state = parts.pop("state", "Established")
    script.sees(state, **parts)
    assert script().returncode == 75
    assert script.asked == ""


def test_an_interrupted_one_proves_nothing_and_keeps_what_was_known(script: Script) -> None:
    assert script().returncode == 0
    before = script.result
    (script.folder / "started").unlink()
    script.sees("Established", "VerifyS", "Off")
    script.logs("[  905.000000] block drbd0: conn( VerifyS -> NetworkFailure )")
    ran = script()
    assert ran.returncode == 75
    assert "interrupted" in ran.stdout
    assert script.result == before


def test_an_end_that_was_logged_before_is_not_this_one(script: Script) -> None:
    script.sees("Established", "VerifyS", "Established")
    script.logs("[  905.000000] block drbd0: conn( NetworkFailure -> Connected )")
    assert script().returncode == 75


def test_one_that_runs_already_is_waited_for(script: Script) -> None:
    (script.folder / "started").touch()
    script.sees("VerifyS", "VerifyS", "VerifyS", "VerifyS", "Established")
    (script.folder / "before").write_text(f"{BEFORE}\n")
    ran = script()
    assert ran.returncode in {0, 75}
    assert script.asked == ""


def test_drbd_may_refuse(script: Script) -> None:
    (script.folder / "refuses").touch()
    assert script().returncode == 75
    assert script.result is None


def test_the_result_is_json_that_a_person_can_read(script: Script) -> None:
    script()
    assert set(json.loads((script.folder / "result").read_text())) == {"began", "ended", "out_of_sync_kib", "places"}
