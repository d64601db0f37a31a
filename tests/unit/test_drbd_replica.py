"""What is read of one host: both forms of DRBD's own answer, and what follows for who may do what."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dockyard.errors import CommandFailed, ParseError, UsageError
from dockyard.remote import Completed, Outputs
from dockyard.topology import Backing
from tasks.drbd import DRBD, LIVE, facts
from tasks.drbd.replica import Live, ReplicaState, other_of, replication_of
from tasks.drbd.state import Disk, Link, Resource, Role
from tests.unit.replicas import LOAD, MIRROR, PROD, healthy, resource, topology

FACTS = """\
hostname||dock-prod
loaded||8.4.11
available||8.4.11
secret||abcd
inline||abcd
device|/dev/vdb|10737418240
signature|/dev/vdb|drbd
device|/dev/drbd0|10736000000
unreadable|/dev/drbd0|
generation||9C1F6B2A7D3E4F50
mount|/srv/data|/dev/drbd0
source||/dev/other
source||/dev/drbd0
"""
EVENTS = """\
exists resource name:data role:Primary suspended:no write-ordering:flush
exists connection name:data peer-node-id:0 conn-name:peer connection:Connected role:Secondary congested:no
exists device name:data volume:0 minor:0 disk:UpToDate size:10484380 read:1 written:2 al-writes:1 bm-writes:0 \
upper-pending:0 lower-pending:0 al-suspended:no blocked:no
exists peer-device name:data peer-node-id:0 conn-name:peer volume:0 replication:Established peer-disk:UpToDate \
resync-suspended:no received:0 sent:2 out-of-sync:8 pending:0 unacked:0
exists -
"""
STATUS = """\
data role:Primary suspended:no
    write-ordering:flush
  volume:0 minor:0 disk:UpToDate
      size:10484380 read:1 written:2 al-writes:1 bm-writes:0
      upper-pending:0 lower-pending:0 al-suspended:no blocked:no
  peer connection:Connected role:Secondary congested:no
    volume:0 replication:Established peer-disk:UpToDate resync-suspended:no
        received:0 sent:2 out-of-sync:8 pending:0 unacked:0

"""


def read(answers: Mapping[str, str], codes: Mapping[str, int] | None = None, host: str = PROD) -> ReplicaState:
    """The state out of these answers by the names of commands; files are absent, units inactive."""
    commands = DRBD.probes(topology(), topology().host(host))

    def answer(name: str) -> str:
        if name.startswith("file:"):
            return "absent\n"
        return answers.get(name, "LoadState=loaded\nActiveState=inactive\n" if name.startswith("unit:") else "")

    codes = codes or {}
    done = [Completed(one.name, one.argv, codes.get(one.name, 0), answer(one.name), "", 0.1) for one in commands]
    return DRBD.read(topology(), topology().host(host), Outputs(host, done, commands, sent_at=0.0, received_at=0.0))


WHOLE = {facts.PROBE: FACTS, "drbdsetup status": STATUS, "drbdsetup for machines": EVENTS}


def test_a_running_primary() -> None:
    state = read(WHOLE)
    assert (state.role, state.disk, state.connected, state.out_of_sync_kib) == (Role.PRIMARY, Disk.UP_TO_DATE, True, 8)
    assert (state.doubt, state.primary, state.attached, state.standalone) == ("", True, True, False)
    assert (state.mounted, state.facts.on_mount, state.facts.mounted_at) == (True, "/dev/drbd0", ("/srv/data",))
    assert [(one.path, one.readable, sorted(one.signatures)) for one in state.facts.devices] == [
        ("/dev/vdb", True, ["drbd"]),
        ("/dev/drbd0", False, []),
    ]
    assert (state.facts.fresh, state.facts.generation) == (False, "9C1F6B2A7D3E4F50")


def read_live(answers: Mapping[str, str]) -> Live:
    host = topology().host(PROD)
    commands = LIVE.probes(topology(), host)
    unit = "LoadState=loaded\nActiveState=active\nSubState=exited\n"
    done = [Completed(one.name, one.argv, 0, answers.get(one.name, unit), "", 0.1) for one in commands]
    return LIVE.read(topology(), host, Outputs(PROD, done, commands))


def test_how_a_replica_is_doing_is_a_part_of_all_that_is_seen_of_it() -> None:
    basics = "loaded||8.4.11\nsource||/dev/other\nsource||/dev/drbd0\n"
    live, all_of_it = read_live({**WHOLE, facts.BASIC_PROBE: basics}), read(WHOLE)
    assert isinstance(all_of_it, Live)
    assert LIVE.name == DRBD.name, "a check that asks for the one takes the other"
    assert (live.resource, live.doubt, live.sentence) == (all_of_it.resource, "", all_of_it.sentence)
    assert (live.mounted, live.facts.version, live.storage.is_active) == (True, "8.4.11", True)
    asked = {command.name: command for command in DRBD.probes(topology(), topology().host(PROD))}
    common = [command for command in LIVE.probes(topology(), topology().host(PROD)) if command.name in asked]
    assert len(common) == 3
    assert all(asked[command.name] == command for command in common)


@pytest.mark.parametrize(("mount", "source"), [("/proc", "proc"), ("/nowhere", "")])
def test_what_is_mounted_is_read_on_a_real_machine(mount: str, source: str) -> None:
    probe = facts.basic_probe(replace(replication_of(topology()), mount=mount))
    ran = subprocess.run(probe.argv, capture_output=True, text=True, check=False)
    done = Completed(probe.name, probe.argv, ran.returncode, ran.stdout, ran.stderr, 0.1)
    assert facts.read_basics(Outputs(PROD, [done], [probe])).on_mount == source


@pytest.mark.parametrize(
    ("kernels", "said"),
    [
        (("6.1.0-40-amd64",), ""),
        (("6.1.0-40-amd64", "6.1.0-9-amd64"), ""),
        (("6.1.0-40-amd64", "6.1.0-41-amd64"), "next|6.1.0-41-amd64|8.4.11\n"),
        ((), ""),
    ],
)
def test_the_newest_kernel_that_is_installed_is_told_with_its_drbd(
    tmp_path: Path, kernels: tuple[str, ...], said: str
) -> None:
    for kernel in kernels:
        (tmp_path / f"vmlinuz-{kernel}").touch()
    say = "say() { printf '%s|%s|%s\\n' \"$@\"; }"
    tools = f"{say}; uname() {{ echo 6.1.0-40-amd64; }}; modinfo() {{ echo 8.4.11; }}\n"
    script = tools + facts._NEXT.replace("/boot/", f"{tmp_path}/")
    ran = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == said


def test_two_forms_that_differ_are_a_doubt_and_not_a_guess() -> None:
    state = read({**WHOLE, "drbdsetup status": STATUS.replace("role:Primary", "role:Secondary", 1)})
    assert "resources[0].role: Secondary, Primary" in state.doubt


@pytest.mark.parametrize(
    "answers",
    [
        {"drbdsetup for machines": EVENTS.removesuffix("exists -\n")},
        {"drbdsetup for machines": ""},
        {"drbdsetup for machines": EVENTS.replace("UpToDate", "Marvellous")},
        {"drbdsetup status": STATUS.replace("UpToDate", "Marvellous")},
        {facts.PROBE: FACTS + "new||thing\n"},
    ],
)
def test_what_is_cut_off_or_unknown_is_an_error(answers: dict[str, str]) -> None:
    with pytest.raises(ParseError):
        read({**WHOLE, **answers})


def test_a_probe_that_failed_is_an_error() -> None:
    with pytest.raises(CommandFailed):
        read(WHOLE, {facts.PROBE: 1})


def test_without_the_module_nothing_is_asked_of_drbd() -> None:
    state = read({facts.PROBE: "hostname||dock-prod\navailable||8.4.11\n"})
    assert (state.resource, state.running, state.sentence) == (None, False, "module not loaded")
    assert (state.facts.version, state.facts.is_9, state.disk) == ("8.4.11", False, Disk.DISKLESS)


@pytest.mark.parametrize(
    ("seen", "connected", "standalone"),
    [
        (resource(), True, False),
        (resource(peer=None), False, True),
        (resource(link=Link.STAND_ALONE), False, True),
        (resource(link=Link.CONNECTING), False, False),
        (None, False, False),
    ],
)
def test_a_vanished_peer_is_standalone(seen: Resource | None, connected: bool, standalone: bool) -> None:
    state = replace(healthy()[MIRROR], resource=seen)
    assert (state.connected, state.standalone) == (connected, standalone)


@pytest.mark.parametrize("disk", list(Disk))
def test_a_disk_that_is_gone_is_not_attached(disk: Disk) -> None:
    state = replace(healthy()[MIRROR], resource=resource(disk=disk))
    assert state.attached is (disk not in {Disk.DISKLESS, Disk.FAILED, Disk.DETACHING})


def test_only_who_has_to_do_with_it_is_asked() -> None:
    asked = [host.name for host in topology().hosts.values() if DRBD.concerns(topology(), host)]
    assert sorted(asked) == sorted([PROD, MIRROR, LOAD])
    without = replace(topology(), cluster=replace(topology().cluster, drbd=None))
    assert not any(DRBD.concerns(without, host) for host in without.hosts.values())
    with pytest.raises(UsageError, match="describes no replication"):
        replication_of(without)
    assert [other_of(topology(), host) for host in (PROD, MIRROR, LOAD)] == [MIRROR, PROD, PROD]


@pytest.mark.parametrize("backing", [None, Backing(disk="/nowhere/disk"), Backing(disk="/nowhere/a", metadata="/b")])
def test_the_probe_runs_where_nothing_is(backing: Backing | None, tmp_path: Path) -> None:
    command = facts.probe(replication_of(topology()), backing)
    done = subprocess.run(command.argv, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode in {0, 1}, done.stdout.startswith("hostname||")) == (True, True)
    assert "syntax" not in done.stderr.lower()
