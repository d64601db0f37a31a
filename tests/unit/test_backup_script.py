"""The script that backs up, with stand-ins for restic and the machine: who backs up, what is held and let go again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dockyard.topology import DuringBackup, Rest
from tasks.backup import places
from tasks.backup.facts import read_state
from tasks.backup.result import LastRun, Reason
from tasks.backup.script import keep, parts, repository, texts
from tests.unit.backups import MIRROR, PROD, STORAGE, topology

UNITS = ("app.service", "k3s-agent.service")
STUBS = {
    "uname": f"echo {PROD}",
    "findmnt": 'cat "$S/mounted"',
    "drbdadm": 'case $1 in dstate) cat "$S/disks" ;; status) cat "$S/status" ;; *) cat "$S/role" ;; esac',
    "lvs": '[ -e "$S/lvm" ] || exit 5; case $* in */dockyard-backup*) [ -e "$S/left" ] ;; *) echo "  vg0/data" ;; esac',
    "lvcreate": 'echo "lvcreate $*" >>"$S/log"; [ ! -e "$S/no-room" ]',
    "lvremove": 'echo "lvremove $*" >>"$S/log"; rm -f "$S/left"',
    "fsfreeze": 'echo "fsfreeze $*" >>"$S/log"',
    "systemctl": 'echo "systemctl $*" >>"$S/log"; [ "$1" != is-active ] || cat "$S/state"',
    "unshare": 'echo "unshare $1" >>"$S/log"; shift; exec "$@"',
    "umount": 'echo "umount $*" >>"$S/log"',
    "mount": 'echo "mount $*" >>"$S/log"',
    "sftp": 'echo "sftp $*" >>"$S/log"; cat; [ ! -e "$S/df" ] || cat "$S/df"',
    "sleep": 'echo "sleep $*" >>"$S/log"; [ ! -e "$S/locked" ] || rm "$S/locked"; [ ! -e "$S/soon" ] || . "$S/soon"',
    "restic": """\
echo "restic $*" >>"$S/log"
[ "$1" != -o ] || shift 2
verb=$1
case $verb in
  unlock) ;;
  *) [ ! -e "$S/locked" ] || { echo "Fatal: repository is already locked" >&2; exit 11; } ;;
esac
[ ! -e "$S/fails-$verb" ] || { cat "$S/fails-$verb" >&2; exit "$(cat "$S/code")"; }
case $verb in
  backup)
    [ ! -e "$S/meanwhile" ] || ( . "$S/meanwhile" )
    rm -rf "$S/repo"; mkdir "$S/repo"
    while [ "$1" != -- ]; do shift; done; shift
    for path; do mkdir -p "$S/repo$(dirname "$path")"; cp -a "$path" "$S/repo$path"; done
    echo '{"message_type":"summary","total_files_processed":3,"total_bytes_processed":9,"snapshot_id":"abc"}' ;;
  restore)
    while [ "$1" != --target ]; do shift; done
    cp -a "$S/repo/." "$2/" ;;
esac""",
}
"""Each of them writes down what it was asked; the stand-in for restic keeps one copy of what it is given."""

OTHER_WRITES = "data role:Secondary\n  disk:UpToDate\n  peer role:Primary\n    replication:Established"
NOBODY_WRITES = OTHER_WRITES.replace("Primary", "Secondary")
ODD = ("plain", "two words", " lead", "-dash", "back\\slash", "new\nline", "tab\tand\rreturn", "ä", "a/b/c", "empty")


class Script:
    """The rendered script in a folder of its own, and the machine that it finds."""

    def __init__(self, folder: Path, **parts: Any) -> None:
        self.folder = folder
        self.live = folder / "live"
        cluster = topology(**parts)
        text, _ = texts(cluster, cluster.host(PROD), storage=STORAGE)[places.SCRIPT]
        for path in (places.STATE, places.WORK, places.FOLDER, STORAGE.record, "/var/cache/dockyard-backup"):
            text = text.replace(path, f"{folder}{path}")
        (folder / "script").write_text(text.replace("/srv/data", str(self.live)))
        (folder / "script").chmod(0o755)
        (folder / "bin").mkdir()
        for name, body in STUBS.items():
            (folder / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
            (folder / "bin" / name).chmod(0o755)
        self.live.mkdir()
        self.finds("mounted", "/dev/drbd0")
        self.finds("role", "Primary/Secondary")
        self.finds("disks", "UpToDate/UpToDate")
        self.finds("state", "active")
        self.finds("status", OTHER_WRITES)
        self.names(PROD)
        self.write("letter", "one")

    def finds(self, name: str, said: str = "") -> None:
        (self.folder / name).write_text(f"{said}\n" if said else "")

    def names(self, writer: str) -> None:
        """Who may write, as this host was told."""
        path = self.folder / STORAGE.record[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"writer={writer}\ngeneration=1\n")

    def write(self, name: str, text: str) -> Path:
        path = self.live / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def __call__(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        env = {"PATH": path, "S": str(self.folder), "INVOCATION_ID": "1", **environment}
        argv = ["sh", str(self.folder / "script"), *words]
        return subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=30)

    def unit(self, verb: str, *words: str) -> LastRun | None:
        """What systemd does with a unit of ours: the verb, and whatever it ended with, ``release``."""
        ended = self(verb, *words)
        self("release", verb, SERVICE_RESULT="success", EXIT_STATUS=str(ended.returncode))
        return self.last(verb)

    def last(self, verb: str) -> LastRun | None:
        path = self.folder / places.STATE[1:] / f"last-{verb}"
        lines = path.read_text().splitlines() if path.exists() else []
        facts = "".join(f"last-{verb}|{line}\n" for line in lines)
        run: LastRun | None = getattr(read_state(f"now||1\n{facts}"), verb)
        return run

    def done(self, *words: str) -> list[str]:
        """What was asked of the tools in ``words``, in order, without the questions."""
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if line.split()[0] in words and "is-active" not in line]

    @property
    def manifest(self) -> Path:
        return self.folder / places.STATE[1:] / "about" / "manifest"


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path, units=UNITS)


@pytest.mark.parametrize(
    ("mounted", "role"), [("", "Primary/Secondary"), ("/dev/vdb", "Primary"), ("/dev/drbd0", "Secondary/Primary")]
)
@pytest.mark.parametrize("verb", ["run", "check"])
def test_who_is_not_the_writer_does_nothing_and_that_is_fine(
    script: Script, mounted: str, role: str, verb: str
) -> None:
    script.finds("mounted", mounted)
    script.finds("role", role)
    ended = script(verb)
    assert (ended.returncode, ended.stdout.startswith("not the writer: ")) == (0, True)
    assert script.unit(verb) is None
    assert script.done("restic", "systemctl", "fsfreeze") == []


def test_after_a_boot_the_storage_is_waited_for_until_somebody_has_it(script: Script) -> None:
    script.finds("mounted", "")
    script.finds("status", NOBODY_WRITES)
    script.finds("soon", 'echo /dev/drbd0 >"$S/mounted"')
    assert (run := script.unit("run"))
    assert run.saved
    assert script.done("sleep") == ["sleep 10"]
    script.finds("mounted", "")
    script.finds("soon", f"printf '{OTHER_WRITES}' >\"$S/status\"")
    assert script("run").stdout == f"not the writer: {script.live} is not mounted here\n"
    script.finds("status", NOBODY_WRITES)
    assert "not the writer" in script("run", PATIENCE_S="0").stdout, "not for ever"
    script.names(MIRROR)
    before = len(script.done("sleep"))
    assert "not the writer" in script("run").stdout, "nor where it is not expected"
    assert len(script.done("sleep")) == before


def test_units_are_stopped_in_their_order_and_started_in_the_other(script: Script) -> None:
    run = script.unit("run")
    assert run
    assert (run.ok, run.saved, run.how, run.snapshot, run.files) == (True, True, "stopped", "abc", 3)
    backup = next(line for line in script.done("restic") if " backup " in line)
    assert "--host dockyard-lab --tag dockyard" in backup
    assert script.done("systemctl") == [
        *(f"systemctl stop -- {unit}" for unit in UNITS),
        *(f"systemctl start --no-block -- {unit}" for unit in reversed(UNITS)),
    ]
    log = (script.folder / "log").read_text()
    assert log.index("stop -- k3s") < log.index(" backup ") < log.index("start --no-block") < log.index(" forget ")


@pytest.mark.parametrize("state", ["inactive", "failed"])
def test_units_that_do_not_run_are_not_started(script: Script, state: str) -> None:
    script.finds("state", state)
    assert script.unit("run")
    assert script.done("systemctl") == []


def test_a_unit_that_is_only_starting_would_write_meanwhile(script: Script) -> None:
    script.finds("state", "activating")
    assert script.unit("run")
    assert script.done("systemctl")[:2] == [f"systemctl stop -- {unit}" for unit in UNITS]


def test_by_hand_it_does_not_run_beside_its_unit(script: Script) -> None:
    ended = script("run", INVOCATION_ID="")
    assert (ended.returncode, "only dockyard-backup.service and" in ended.stderr) == (2, True)
    assert script.done("restic", "systemctl") == []


@pytest.mark.parametrize("verb", ["backup", "forget"])
@pytest.mark.parametrize("code", [1, 10, 12, 130])
def test_whatever_fails_what_was_stopped_is_started_again(script: Script, verb: str, code: int) -> None:
    script.finds(f"fails-{verb}", "it went wrong")
    script.finds("code", str(code))
    run = script.unit("run")
    assert run
    assert (run.ok, run.code, run.saved) == (False, str(code), verb == "forget")
    assert run.said == ("it went wrong",)
    assert script.done("systemctl")[-2:] == [f"systemctl start --no-block -- {unit}" for unit in reversed(UNITS)]
    assert not (script.folder / places.WORK[1:] / "run").exists()


def test_what_was_saved_counts_even_if_some_files_could_not_be_read(script: Script) -> None:
    script.finds("fails-backup", "permission denied")
    script.finds("code", "3")
    run = script.unit("run")
    assert run
    assert (run.ok, run.saved, run.reason) == (False, True, Reason.UNREADABLE)


def test_killed_in_the_middle_it_is_cleaned_up_and_named(script: Script) -> None:
    script.finds("meanwhile", "kill -9 $PPID")
    ended = script("run")
    assert ended.returncode == -9
    script("release", "run", SERVICE_RESULT="signal", EXIT_STATUS="KILL")
    run = script.last("run")
    assert run
    assert (run.ok, run.stage, run.reason) == (False, "backup", Reason.INTERRUPTED)
    assert script.done("systemctl")[-1] == "systemctl start --no-block -- app.service"


def test_a_lock_is_waited_for_and_only_stale_ones_are_taken_away(script: Script) -> None:
    script.finds("locked")
    run = script.unit("run")
    assert run
    assert run.ok
    unlocks = [line for line in script.done("restic") if "unlock" in line]
    assert [line.split("sftp.command=")[1].split(" ")[-2:] for line in unlocks] == [["unlock", "--quiet"]]
    assert not any("--remove-all" in line for line in script.done("restic"))


def test_a_lock_that_stays_ends_the_run(script: Script) -> None:
    script.finds("locked")
    ended = script("run", PATIENCE_S="0")
    assert ended.returncode == 11
    script("release", "run", SERVICE_RESULT="exit-code", EXIT_STATUS="11")
    run = script.last("run")
    assert run
    assert (run.reason, run.stage, script.done("systemctl")) == (Reason.LOCKED, "reach", [])


def test_a_lock_that_comes_in_between_does_not_keep_the_units_away(script: Script) -> None:
    script.finds("fails-backup", "Fatal: repository is already locked")
    script.finds("code", "11")
    ended = script("run", PATIENCE_S="19")
    assert ended.returncode == 11
    assert script.done("sleep") == []


DF = """\
        Size         Used        Avail       (root)    %Capacity
       65536        65000          {}          536          99%"""


@pytest.mark.parametrize(("free_kib", "ok"), [("536", False), ("0", False), ("1024", True), ("9999999", True)])
def test_a_full_nas_is_noticed_before_anything_is_stopped(script: Script, free_kib: str, ok: bool) -> None:
    script.finds("df", DF.format(free_kib))
    run = script.unit("run")
    assert run
    assert run.ok is ok
    if not ok:
        assert (run.reason, script.done("systemctl")) == (Reason.FULL, [])
        assert f"{free_kib} KiB" in run.said[0]


def test_a_nas_that_does_not_answer_stops_nothing(script: Script) -> None:
    script.finds("fails-snapshots", "ssh: connect to host nas.lan port 2222: No route to host")
    script.finds("code", "1")
    run = script.unit("run")
    assert run
    assert (run.stage, run.reason, script.done("systemctl")) == ("reach", Reason.GONE, [])


@pytest.mark.parametrize("during", DuringBackup)
def test_with_lvm_only_the_snapshot_is_waited_for(tmp_path: Path, during: DuringBackup) -> None:
    script = Script(tmp_path, units=("app.service",), during=during)
    script.finds("lvm")
    script.finds("left")
    run = script.unit("run")
    assert run
    assert (run.ok, run.how) == (True, "snapshot")
    stop, start = (["systemctl stop -- app.service"], ["systemctl start --no-block -- app.service"])
    if during is DuringBackup.RUN:
        stop = start = []
    assert [line.replace(str(tmp_path), "") for line in script.done(
        "systemctl", "fsfreeze", "lvcreate", "lvremove", "unshare", "umount", "mount"
    )] == [
        "lvremove --quiet --yes vg0/dockyard-backup",
        *stop,
        "fsfreeze --freeze /live",
        "lvcreate --quiet --yes --snapshot --extents 10%ORIGIN --name dockyard-backup vg0/data",
        "fsfreeze --unfreeze /live",
        *start,
        "unshare --mount",
        "umount --lazy /live",
        "mount -t ext4 -o ro /dev/vg0/dockyard-backup /live",
    ]  # fmt: skip


def test_without_room_for_a_snapshot_it_goes_on_without_one(script: Script) -> None:
    script.finds("lvm")
    script.finds("no-room")
    run = script.unit("run")
    assert run
    assert (run.ok, run.how) == (True, "stopped")
    assert script.done("fsfreeze")[-1].startswith("fsfreeze --unfreeze")
    assert script.done("unshare") == []


@pytest.mark.parametrize("disks", ["Diskless/UpToDate", "Inconsistent/UpToDate"])
def test_a_volume_that_holds_old_data_gets_no_snapshot(script: Script, disks: str) -> None:
    script.finds("lvm")
    script.finds("disks", disks)
    run = script.unit("run")
    assert run
    assert (run.ok, run.how, script.done("lvcreate")) == (True, "stopped", [])


@pytest.mark.parametrize("disks", ["UpToDate/DUnknown", ""])
def test_while_the_other_replica_is_not_seen_nothing_is_forgotten(script: Script, disks: str) -> None:
    script.finds("disks", disks)
    run = script.unit("run")
    assert run
    assert run.ok
    assert not any(" forget " in line for line in script.done("restic"))


def test_the_manifest_is_one_of_sha256sum_whatever_files_are_called(script: Script) -> None:
    for number, name in enumerate(ODD):
        script.write(name, f"{number}" if name != "empty" else "")
    script.write(".dockyard-token", "7")
    script.write("volume/.dockyard-volume", "volume")
    assert script.unit("run")
    check = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", str(script.manifest)], cwd=script.live, check=False
    )
    assert check.returncode == 0
    assert len(script.manifest.read_text().splitlines()) == len(ODD) + 2, "a marker is data, the token is not"


def test_a_checksum_is_kept_while_a_file_stays_as_it_is_and_no_longer(script: Script) -> None:
    script.write("stays", "as it is")
    script.write("goes", "away")
    changes = script.write("changes", "before")
    assert script.unit("run")
    (script.live / "goes").unlink()
    kept = changes.stat()
    changes.write_text("after.")
    os.utime(changes, ns=(kept.st_atime_ns, kept.st_mtime_ns))  # same size, same time: the inode's own time tells
    script.finds(
        "bin/sha256sum", '#!/bin/sh\nfor name; do echo "$name" >>"$S/hashed"; done\nexec /usr/bin/sha256sum "$@"'
    )
    (script.folder / "bin" / "sha256sum").chmod(0o755)
    assert script.unit("run")
    assert (script.folder / "hashed").read_text().split() == ["-z", "--", "changes"]
    assert "goes" not in script.manifest.read_text()
    assert subprocess.run(["sha256sum", "-c", "--quiet", script.manifest], cwd=script.live, check=False).returncode == 0


def drilled(script: Script) -> tuple[bool, dict[str, int]]:
    drill = script.unit("drill", "latest", str(script.folder / "scratch"))
    assert drill
    assert not (script.folder / "scratch").exists()
    return drill.ok, {name: number for name, number in drill.counts if number and name != "bytes"}


def test_what_was_saved_comes_back_equal(script: Script) -> None:
    for name in ODD:
        script.write(name, name)
    assert script.unit("run")
    count = len(ODD) + 1
    assert drilled(script) == (True, {"files": count, "equal": count})


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("printf two >letter; touch -r {live}/letter letter", {"files": 2, "equal": 1, "differing": 1}),
        ("rm letter", {"files": 2, "equal": 1, "missing": 1}),
        ("printf x >more", {"files": 2, "equal": 2, "extra": 1}),
        ("printf longer >letter", {"files": 2, "equal": 1, "changed": 1}),
    ],
)
def test_what_differs_is_counted_and_fails(script: Script, damage: str, found: dict[str, int]) -> None:
    script.write("other", "other")
    assert script.unit("run")
    subprocess.run(
        damage.format(live=script.live), shell=True, cwd=script.folder / "repo" / str(script.live)[1:], check=True
    )
    assert drilled(script) == (False, found)
    drill = script.last("drill")
    assert drill
    assert drill.reason is Reason.DIFFERS


def test_a_live_storage_may_change_meanwhile_but_not_rot(tmp_path: Path) -> None:
    script = Script(tmp_path, units=UNITS, during=DuringBackup.RUN)
    script.write("goes", "away")
    script.finds("meanwhile", f"cd {script.live}; rm goes; echo more >>letter; echo new >new")
    run = script.unit("run")
    assert run
    assert run.how == "live"
    assert script.done("systemctl") == []
    assert drilled(script) == (True, {"files": 2, "changed": 1, "missing": 1, "extra": 1})
    rotten = script.folder / "repo" / str(script.live)[1:] / "letter"
    script.finds("meanwhile", "true")
    assert script.unit("run")
    before = rotten.stat()
    rotten.write_text("X" * before.st_size)
    os.utime(rotten, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert drilled(script) == (False, {"files": 2, "equal": 1, "differing": 1})


def test_a_snapshot_without_a_file_proves_nothing(script: Script) -> None:
    (script.live / "letter").unlink()
    assert script.unit("run")
    drill = script.unit("drill", "latest", str(script.folder / "scratch"))
    assert drill
    assert (drill.ok, drill.code, drill.said) == (
        False,
        "66",
        ("the snapshot holds no file at all: it proves nothing",),
    )


def test_a_snapshot_of_somebody_else_is_no_backup_of_ours(script: Script) -> None:
    (script.folder / "repo").mkdir()
    drill = script.unit("drill", "latest", str(script.folder / "scratch"))
    assert drill
    assert (drill.ok, drill.code) == (False, "65")


def test_a_folder_that_is_there_is_never_restored_into_nor_removed(script: Script) -> None:
    assert script.unit("run")
    (script.folder / "scratch").mkdir()
    drill = script.unit("drill", "latest", str(script.folder / "scratch"))
    assert drill
    assert not drill.ok
    assert (script.folder / "scratch").exists()
    assert not any(" restore " in line for line in script.done("restic"))


def test_every_week_another_part_is_read_back(script: Script) -> None:
    check = script.unit("check")
    assert check
    number, of = check.how.split("/")
    assert (check.ok, of) == (True, "10")
    assert 1 <= int(number) <= 10
    assert any(f"--read-data-subset={check.how}" in line for line in script.done("restic"))


def test_secrets_stay_out_of_arguments(tmp_path: Path) -> None:
    script = Script(tmp_path, rest=Rest(url="https://nas.lan:8000/homelab/", user="homelab"))
    (tmp_path / places.FOLDER[1:]).mkdir(parents=True)
    (tmp_path / places.REST_PASSWORD[1:]).write_text("very secret\n")
    script.write("letter", "one")
    assert script.unit("run")
    assert "very secret" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("words", [(), ("backup",), ("--force",)])
def test_it_knows_few_words(script: Script, words: Sequence[str]) -> None:
    ended = script(*words)
    assert (ended.returncode, "usage:" in ended.stderr) == (2, True)


def test_places_and_numbers_as_restic_writes_them() -> None:
    lab = topology().cluster.backup
    assert lab
    assert repository(lab) == "sftp://backup@nas.lan:2222//backups/homelab"
    rest = topology(rest=Rest(url="https://nas.lan:8000/homelab/")).cluster.backup
    assert rest
    assert repository(rest) == "rest:https://nas.lan:8000/homelab/"
    assert keep(lab.keep) == "--keep-within 1d --keep-daily 7 --keep-weekly 5 --keep-monthly 12"
    assert [parts(share) for share in (1, 0.5, 0.3, 0.1, 0.05)] == [1, 2, 4, 10, 20]
