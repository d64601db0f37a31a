"""The script that promotes and mounts, with stand-ins for drbdadm and mount: it promotes in one state and no other."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.drbd import places, storage, view
from tests.unit.replicas import PROD, UNITS, topology

STUBS = {
    "drbdadm": """\
echo "drbdadm $*" >>"$S/log"
case $1 in
  role | cstate | dstate | status | get-gi) [ -e "$S/$1" ] || exit 10; cat "$S/$1" ;;
  primary) [ ! -e "$S/refuses" ] || exit 11; sed -i 's/^Secondary/Primary/' "$S/role" ;;
  secondary) [ ! -e "$S/held" ] || exit 11; sed -i 's/^Primary/Secondary/' "$S/role" ;;
esac""",
    "mountpoint": '[ "$1" = -q ] || exec echo 147:0; [ -e "$S/mounted" ]',
    "mount": 'echo "mount $*" >>"$S/log"; [ ! -e "$S/broken" ] || exit 32; touch "$S/mounted"',
    "umount": 'echo "umount $*" >>"$S/log"; [ ! -e "$S/busy" ] || exit 32; [ "$1" != /srv/data ] || rm "$S/mounted"',
    "dd": 'echo "dd ${1#if=}" >>"$S/log"; [ ! -e "$S/dead" ] || { echo "dd: Input/output error" >&2; exit 1; }',
    "systemctl": '[ "$1" != is-system-running ] || exec cat "$S/system"; echo "systemctl $*" >>"$S/log"',
    "uname": "echo dock-prod",
    "sleep": '[ -e "$S/again" ] || exec kill "$PPID"; mv "$S/again" "$S/role"',
}
"""Each of them writes down what it was asked; ``sleep`` ends the script, as nothing changes any more."""

GOOD = {
    False: {"role": "Secondary/Secondary", "cstate": "Connected", "dstate": "UpToDate/UpToDate"},
    True: {
        "role": "Secondary",
        "cstate": "Connected\nConnected",
        "dstate": "UpToDate/Diskless/UpToDate",
        "status": "data role:Secondary\n  disk:UpToDate\n  dock-mirror role:Secondary\n    peer-disk:UpToDate",
    },
}


TIE_BREAKER = "\n  dock-load role:Secondary\n    peer-disk:Diskless peer-client:yes"


BACKING = topology().host(PROD).drbd


class Guard:
    """The rendered script in a folder of its own; a file for each thing that it may find."""

    def __init__(self, folder: Path, nine: bool, units: Sequence[str] = ()) -> None:
        self.folder = folder
        for name, body in STUBS.items():
            (folder / "bin").mkdir(exist_ok=True)
            (folder / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
            (folder / "bin" / name).chmod(0o755)
        text, _ = storage.unit_texts(topology(units=units), quorum=nine, backing=BACKING)[places.GUARD]
        text = text.replace(f"$mount/{places.TOKEN}", f"{folder}/token").replace(view.KEPT, str(folder))
        text = text.replace("/proc/", f"{folder}/proc/").replace("/sys/fs/cgroup", f"{folder}/cgroup")
        (folder / "guard").write_text(text.replace(places.WRITER, str(folder / "writer")))
        self.finds("system", "running")
        self.finds("writer", f"writer={PROD}\ngeneration=3\nsince=now")
        for name, said in GOOD[nine].items():
            self.finds(name, said)

    def finds(self, name: str, said: str | None = "") -> None:
        path = self.folder / name
        path.unlink(missing_ok=True)
        if said is not None:
            path.write_text(f"{said}\n" if said else "")

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "S": str(self.folder)}
        script = ["sh", str(self.folder / "guard"), *words]
        return subprocess.run(script, env=env, capture_output=True, text=True, check=False, timeout=20)

    @property
    def changed(self) -> list[str]:
        """What was done, without the questions."""
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if line.split()[1] not in {"role", "cstate", "dstate", "status", "get-gi"}]


@pytest.fixture(params=[False, True], ids=["8.4", "9"])
def nine(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def guard(tmp_path: Path, nine: bool) -> Guard:
    return Guard(tmp_path, nine)


def test_the_named_writer_is_promoted_and_mounts(guard: Guard) -> None:
    assert guard("why").stdout == ""
    assert guard("up").returncode == 0
    assert guard.changed == ["drbdadm primary data", "mount -t ext4 /dev/drbd0 /srv/data"]


def test_a_second_time_changes_nothing(guard: Guard) -> None:
    guard("up")
    before = guard.changed
    assert guard("up").returncode == 0
    assert guard.changed == before


def test_who_goes_on_as_the_writer_forgets_what_was_kept_in_case_it_would_not(guard: Guard) -> None:
    ours, others = "data-returned-C3C43B759EF3992-files.tar.gz", "data-returned-360F09FBD22FAB4-files.tar.gz"
    for name in (ours, f"{ours}.sha256", others, "data-C3C43B759EF3992C-files.tar.gz"):
        guard.finds(name)
    guard("up")
    assert (guard.folder / ours).exists()
    guard.finds("get-gi", "C3C43B759EF3992D:F6E9F4E7CB17FBC8:0:0:1:1:1:1:0:0:0")
    guard("up")
    assert {path.name for path in guard.folder.glob("data-*")} == {others, "data-C3C43B759EF3992C-files.tar.gz"}


OBSTACLES = {
    "no record": ("writer", None, "names '' as the writer"),
    "another writer": ("writer", "writer=dock-mirror\ngeneration=4\nsince=now", "names 'dock-mirror' as the writer"),
    "a longer name": ("writer", "writer=dock-prod-2\ngeneration=4\nsince=now", "names 'dock-prod-2' as the writer"),
    "two names": ("writer", "writer=dock-prod\nwriter=dock-mirror", "as the writer"),
}
OBSTACLES_84 = {
    **{
        f"connection {state}": ("cstate", state, "no connection to the other replica")
        for state in ("StandAlone", "WFConnection", "Connecting")
    },
    **{
        f"connection {state}": ("cstate", state, f"the replicas are being brought in line ({state})")
        for state in ("SyncSource", "SyncTarget", "PausedSyncS", "WFBitMapT", "WFSyncUUID", "StartingSyncS")
    },
    **{
        f"disks {state}": ("dstate", state, "the disks are")
        for state in (
            "UpToDate/DUnknown", "UpToDate/Diskless", "UpToDate/Inconsistent", "UpToDate/Outdated",
            "UpToDate/Consistent", "Inconsistent/UpToDate",
            "Outdated/UpToDate", "Diskless/UpToDate", "Consistent/UpToDate", "Failed/UpToDate",
        )
    },
    "the other side is Primary": ("role", "Secondary/Primary", "the roles are Secondary/Primary"),
    "the other side is not known": ("role", "Secondary/Unknown", "the roles are Secondary/Unknown"),
    "drbdadm does not answer to role": ("role", None, "the roles are"),
    "drbdadm does not answer to cstate": ("cstate", None, "no connection"),
    "drbdadm does not answer to dstate": ("dstate", None, "the disks are"),
}  # fmt: skip
OBSTACLES_9 = {
    **{
        f"disk {state}": ("dstate", f"{state}/Diskless/UpToDate", "the disk is not UpToDate")
        for state in ("Inconsistent", "Outdated", "Consistent", "Diskless", "Failed", "Negotiating")
    },
    "no quorum": ("status", "data role:Secondary\n  disk:UpToDate quorum:no\n", "there is no quorum"),
    "no status": ("status", None, "does not tell of quorum"),
    "the other replica is Primary": (
        "status",
        GOOD[True]["status"].replace("mirror role:Secondary", "mirror role:Primary"),
        "another host is Primary",
    ),
    **{
        f"quorum, and the other replica {state}": (
            "status",
            GOOD[True]["status"].replace("peer-disk:UpToDate", state),
            "the other replica is not connected and UpToDate",
        )
        for state in ("peer-disk:Diskless", "peer-disk:Inconsistent", "peer-disk:Outdated", "peer-disk:Consistent")
    },
    "quorum by the tie-breaker alone": (
        "status",
        GOOD[True]["status"].rpartition("\n  dock-mirror")[0] + TIE_BREAKER + "\n  dock-mirror connection:Connecting",
        "the other replica is not connected and UpToDate",
    ),
    "drbdadm does not answer to dstate": ("dstate", None, "the disk is not UpToDate"),
}
CASES = [
    *((case, False) for case in [*OBSTACLES.items(), *OBSTACLES_84.items()]),
    *((case, True) for case in [*OBSTACLES.items(), *OBSTACLES_9.items()]),
]


@pytest.mark.parametrize(("case", "nine"), CASES, ids=[f"{'9' if nine else '8.4'}: {case[0]}" for case, nine in CASES])
def test_with_any_obstacle_it_waits_and_says_why(
    tmp_path: Path, case: tuple[str, tuple[str, str | None, str]], nine: bool
) -> None:
    guard = Guard(tmp_path, nine)
    _, (name, said, why) = case
    guard.finds(name, said)
    assert why in guard("why").stdout
    waits = guard("up")
    assert waits.stdout.startswith("waiting: ")
    assert why in waits.stdout
    assert guard.changed == []


def test_a_writer_that_is_primary_and_cannot_mount_has_no_obstacle(guard: Guard, nine: bool) -> None:
    """Else a person at night is sent to bring the dead host back, where the file system wants to be checked."""
    guard.finds("role", "Primary/Unknown" if not nine else "Primary")
    guard.finds("cstate", "WFConnection")
    guard.finds("broken")
    assert guard("why").stdout == ""
    assert guard("up").returncode == 32


def test_a_primary_that_is_not_named_does_not_mount(guard: Guard) -> None:
    guard.finds("role", "Primary/Unknown")
    guard.finds("writer", "writer=dock-mirror\ngeneration=4\nsince=now")
    assert "names 'dock-mirror'" in guard("up").stdout
    assert guard.changed == []


def test_a_primary_that_is_named_mounts_whatever_became_of_the_line(guard: Guard) -> None:
    guard.finds("role", "Primary/Unknown")
    guard.finds("cstate", "WFConnection")
    assert guard("up").returncode == 0
    assert guard.changed == ["mount -t ext4 /dev/drbd0 /srv/data"]


def test_what_drbd_refuses_stays_refused(guard: Guard) -> None:
    guard.finds("refuses")
    assert guard("up").stdout == "waiting: DRBD refuses\n"
    assert guard.changed == ["drbdadm primary data"]


def test_a_file_system_that_cannot_be_mounted_is_a_failure(guard: Guard) -> None:
    guard.finds("broken")
    assert guard("up").returncode != 0


def test_down_unmounts_and_demotes(guard: Guard) -> None:
    guard("up")
    (guard.folder / "log").unlink()
    assert guard("down").returncode == 0
    assert guard.changed == ["umount /srv/data", "drbdadm secondary data"]
    (guard.folder / "log").unlink()
    assert guard("down").returncode == 0
    assert guard.changed == []


def test_down_stops_at_a_busy_mount(guard: Guard) -> None:
    guard("up")
    guard.finds("busy")
    (guard.folder / "log").unlink()
    assert guard("down").returncode == 32
    assert guard.changed == ["umount /srv/data"]


def test_down_fails_while_something_holds_the_device(guard: Guard) -> None:
    guard("up")
    guard.finds("held")
    assert guard("down").returncode == 11


@pytest.mark.parametrize("disk", ["Diskless", "Failed", "Detaching"])
def test_down_without_a_disk_reads_back_behind_what_was_written_before_it_demotes(guard: Guard, disk: str) -> None:
    guard("up")
    guard.finds("dstate", f"{disk}/UpToDate")
    (guard.folder / "log").unlink()
    guard.finds("dead")
    refused = guard("down")
    assert (refused.returncode, refused.stderr) == (1, "dd: Input/output error\n")
    assert guard.changed == ["umount /srv/data", "dd /dev/drbd0"]
    guard.finds("dead", None)
    again = guard("down")
    assert (again.returncode, "systemctl start dockyard-storage, then again" in again.stderr) == (1, True)
    guard("up")
    assert guard("down").returncode == 0
    remounted = ["mount -t ext4 /dev/drbd0 /srv/data", "umount /srv/data"]
    assert guard.changed[2:] == [*remounted, "dd /dev/drbd0", "drbdadm secondary data"]


def test_down_of_a_replaced_writer_without_a_disk_does_not_wait_for_an_answer(guard: Guard) -> None:
    guard("up")
    guard.finds("dstate", "Diskless/DUnknown")
    guard.finds("dead")
    guard.finds("writer", "writer=dock-mirror\ngeneration=5\nsince=now")
    assert guard("down").returncode == 0
    assert guard.changed[-1] == "drbdadm secondary data"


MOUNTINFO = """\
29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
441 29 147:0 / /srv/data rw,relatime shared:199 - ext4 /dev/drbd0 rw
"""
OF_A_POD = "/var/lib/kubelet/pods/4f1c/volumes/kubernetes.io~local-volume/opencloud"
HELD = f"{MOUNTINFO}560 29 147:0 /opencloud {OF_A_POD} rw,relatime shared:199 - ext4 /dev/drbd0 rw\n"


def mounted_by(guard: Guard, **tables: str) -> None:
    """What each process of /proc has mounted; ``self`` is the script."""
    for process, table in tables.items():
        folder = guard.folder / "proc" / process.removeprefix("process_")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mountinfo").write_text(table)


def in_pods(guard: Guard, *pids: int) -> Path:
    """The processes that the control groups of Kubernetes hold."""
    procs = guard.folder / "cgroup" / "kubepods.slice" / "pod" / "cgroup.procs"
    procs.parent.mkdir(parents=True)
    procs.write_text("".join(f"{pid}\n" for pid in pids))
    return procs


@pytest.mark.parametrize("mounted", [True, False])
@pytest.mark.parametrize(
    ("ours", "of_the_pod", "held"),
    [
        (HELD, MOUNTINFO.replace("/srv/data", "/var/lib/opencloud"), f"{OF_A_POD} /var/lib/opencloud"),
        (HELD, "", OF_A_POD),
        (MOUNTINFO, MOUNTINFO, "/srv/data"),
    ],
    ids=["bound by a kubelet", "of a pod that has just ended", "in a pod, at the same place"],
)
def test_down_leaves_all_as_it_is_while_a_pod_has_it_mounted(
    guard: Guard, mounted: bool, ours: str, of_the_pod: str, held: str
) -> None:
    guard("up")
    before = guard.changed
    mounted_by(guard, self=ours, process_77=of_the_pod)
    in_pods(guard, 77, 78)
    guard.finds("mounted", "" if mounted else None)
    refused = guard("down")
    assert (refused.returncode, guard.changed) == (1, before)
    assert guard("alone").stderr == refused.stderr
    assert f"nothing was unmounted: {held}\n" in refused.stderr
    assert "k3s kubectl drain dock-prod" in refused.stderr


def test_down_does_not_mind_our_own_mount_and_namespaces_that_follow_it(guard: Guard) -> None:
    """The namespace of a backup holds the binds of pods that have ended, and ends with the storage."""
    guard("up")
    mounted_by(guard, self=MOUNTINFO, process_77=HELD)
    assert guard("down").returncode == 0


def test_pods_end_and_let_go_before_the_storage_does_when_the_machine_goes_down(guard: Guard) -> None:
    guard("up")
    guard.finds("system", "stopping")
    mounted_by(guard, self=HELD)
    procs = in_pods(guard)
    (guard.folder / "bin" / "sleep").write_text(f"#!/bin/sh\n: >{procs}\n")
    with subprocess.Popen(["/bin/sleep", "600"]) as pod:
        procs.write_text(f"{pod.pid}\n")
        done = guard("down")
        assert pod.wait(timeout=10) == -signal.SIGTERM
    assert done.returncode == 0, done.stderr
    assert guard.changed[2:] == [f"umount {OF_A_POD}", "umount /srv/data", "drbdadm secondary data"]


def test_a_container_that_ends_with_the_machine_is_waited_for(guard: Guard) -> None:
    guard("up")
    guard.finds("system", "stopping")
    guard.finds("held")
    (guard.folder / "bin" / "sleep").write_text('#!/bin/sh\nrm "$S/held"\n')
    assert guard("down").returncode == 0
    assert guard.changed[2:] == ["umount /srv/data", "drbdadm secondary data", "drbdadm secondary data"]


def test_down_of_a_resource_that_is_down_is_nothing(guard: Guard) -> None:
    guard.finds("role", None)
    assert guard("down").returncode == 0
    assert guard.changed == []


STARTS = [f"systemctl start -- {unit}" for unit in reversed(UNITS)]


@pytest.mark.parametrize(
    ("generation", "token", "starts"),
    [
        (1, None, STARTS),
        (1, "2", STARTS),
        (3, "3", STARTS),
        (3, "4", STARTS),
        (3, None, []),
        (3, "2", []),
        (3, "torn", []),
    ],
)
def test_what_uses_the_storage_starts_when_what_was_written_last_is_there(
    tmp_path: Path, nine: bool, generation: int, token: str | None, starts: list[str]
) -> None:
    guard = Guard(tmp_path, nine, UNITS)
    guard.finds("writer", f"writer={PROD}\ngeneration={generation}\nsince=now")
    guard.finds("token", token)
    up = guard("up")
    assert up.returncode == 0
    assert guard.changed == ["drbdadm primary data", "mount -t ext4 /dev/drbd0 /srv/data", *starts]
    assert ("its units are not started" in up.stdout) == (not starts)
    left = (tmp_path / "token").read_text().strip() if token else ""
    assert left == (str(generation) if starts and token else token or ""), "a switch that was given up proves nothing"


@pytest.mark.parametrize(("token", "left"), [(None, ""), ("2", "2"), ("3", "3"), ("4", "3"), ("torn", "torn")])
def test_a_switch_that_was_given_up_proves_nothing_where_no_unit_is_named_either(
    tmp_path: Path, nine: bool, token: str | None, left: str
) -> None:
    guard = Guard(tmp_path, nine)
    guard.finds("token", token)
    up = guard("up")
    assert (up.returncode, up.stdout) == (0, "")
    assert guard.changed == ["drbdadm primary data", "mount -t ext4 /dev/drbd0 /srv/data"]
    assert ((tmp_path / "token").read_text().strip() if token else "") == left


@pytest.mark.parametrize("token", ["5", "33"])
def test_who_was_replaced_and_never_told_lets_go_of_the_storage_again(tmp_path: Path, nine: bool, token: str) -> None:
    guard = Guard(tmp_path, nine, UNITS)
    guard.finds("token", token)
    up = guard("up")
    mounted = ["drbdadm primary data", "mount -t ext4 /dev/drbd0 /srv/data"]
    assert guard.changed == [*mounted, "umount /srv/data", "drbdadm secondary data"]
    assert up.stdout == "waiting: the token in the storage is from after generation 3: docs/drbd.md, Who may write\n"
    assert (tmp_path / "token").read_text().strip() == token
    guard.finds("writer", f"writer={PROD}\ngeneration={token}\nsince=later")
    guard("up")
    assert guard.changed[4:] == [*mounted, *STARTS], "once it is named again, it begins"


def test_a_unit_that_does_not_start_leaves_the_storage_there(tmp_path: Path, nine: bool) -> None:
    guard = Guard(tmp_path, nine, UNITS)
    guard.finds("token", "3")
    (guard.folder / "bin" / "systemctl").write_text('#!/bin/sh\necho "systemctl $*" >>"$S/log"; exit 1\n')
    up = guard("up")
    assert (up.returncode, guard.changed[2:]) == (0, STARTS)
    assert f"{UNITS[0]} did not start" in up.stdout


def test_nothing_starts_without_the_mount(tmp_path: Path, nine: bool) -> None:
    guard = Guard(tmp_path, nine, UNITS)
    guard.finds("token", "3")
    guard.finds("broken")
    guard("up")
    assert guard.changed == ["drbdadm primary data", "mount -t ext4 /dev/drbd0 /srv/data"]


@pytest.mark.parametrize("words", [(), ("promote",), ("--force",)])
def test_it_knows_three_words(guard: Guard, words: tuple[str, ...]) -> None:
    done = guard(*words)
    assert (done.returncode, "up|down|alone|why" in done.stderr) == (2, True)
    assert guard.changed == []


def test_nothing_in_it_forces(nine: bool) -> None:
    texts = storage.unit_texts(topology(), quorum=nine, backing=BACKING)
    assert not any("--force" in text or "--overwrite" in text for text, _ in texts.values())
