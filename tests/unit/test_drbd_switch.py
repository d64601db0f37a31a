"""A planned switch over a small simulated pair: it converges wherever it was cut off, and never has two writers."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from dockyard.change import Change, Plan, Run
from dockyard.errors import NotObserved
from dockyard.evidence import EVIDENCE, Evidence, newest
from dockyard.observe import Observed
from dockyard.steps import Confirm, Converge, Gate, Show, Wait
from runbooks.failover import planned
from tasks import drbd
from tasks.drbd import places, switch
from tasks.drbd.flush import DIRTY, LITTLE_KIB, Dirty
from tasks.drbd.parting import PARTING, Parting
from tasks.drbd.replica import ReplicaState
from tasks.drbd.state import Disk, Link, Role
from tasks.drbd.writer import Record
from tasks.k3s.release import RELEASE
from tasks.machine import MACHINE, MachineState, Offset
from tests.unit.replicas import (
    LOAD,
    MIRROR,
    OTHER,
    PAIR,
    PROD,
    SINCE,
    UNITS,
    healthy,
    observed,
    records,
    resource,
    titles,
    topology,
    unit,
    users,
    with_facts,
)

CLUSTER = topology(units=UNITS)
BASE = healthy(CLUSTER)
K3S = "/usr/local/lib/dockyard/k3s-0f0f0f0f0f0f0f0f"
KERNEL = MachineState(clock=Offset(least=0, most=0), kernel="6.12.48", uptime_s=60, file_systems=(), missing=())


@dataclass
class Machine:
    """One replica: what is on its disk is what the pair agreed on last, as long as they are connected.

    One whose disk is ``lost`` reads and writes over the line.
    """

    name: str
    lost: bool = False
    primary: bool = False
    mounted: bool = False
    storage: str = "waiting"
    flushed: str = ""
    units: dict[str, str] = field(default_factory=lambda: dict.fromkeys(UNITS, "inactive"))
    record: Record = field(default_factory=lambda: records()[PROD])


@dataclass
class Pair:
    """Two replicas with one content (the token), an arbitrator, and a line that is up or cut.

    Every effect of a command is here once more, as simple as it can be said: `drbd-storage up` of a unit that waits
    promotes only a host that its record names, beside a Secondary, over a line that is up, mounts, and starts what uses
    the storage if the token is right.
    """

    machines: dict[str, Machine]
    record: Record
    token: int = 0
    connected: bool = True
    most_primaries: int = 0
    evidence: dict[str, Evidence] = field(default_factory=dict)

    @classmethod
    def running(cls, writer: str = PROD, generation: int = 1) -> Pair:
        record = records(writer, generation)[LOAD]
        pair = cls({name: Machine(name, record=record) for name in PAIR}, record, token=generation)
        pair.settle()
        return pair

    def settle(self) -> None:
        """What goes on by itself: a unit that waits looks every few seconds whether it may begin."""
        for machine in self.machines.values():
            other = self.machines[OTHER[machine.name]]
            if machine.storage == "waiting" and machine.record.writer == machine.name and self.connected:
                machine.primary |= not other.primary and not other.lost and not machine.lost
                if machine.primary:
                    machine.mounted, machine.storage = True, "active"
                    if machine.record.generation == 1 or 0 <= self.token - machine.record.generation <= 1:
                        self.token = min(self.token, machine.record.generation)
                        machine.units = dict.fromkeys(UNITS, "active")
        self.most_primaries = max(self.most_primaries, sum(one.primary for one in self.machines.values()))

    def seen(self) -> Observed:
        """As a sweep would see it."""
        base = BASE
        states = {name: self._state(base[name], self.machines[name]) for name in PAIR}
        using = {
            name: switch.UsersState(
                units={one: unit(one, active) for one, active in machine.units.items()},
                token=self.token if machine.mounted else 0,
            )
            for name, machine in self.machines.items()
        }
        record = {LOAD: self.record, **{name: one.record for name, one in self.machines.items()}}
        seen = observed({**states, LOAD: base[LOAD]}, record, using)
        kernels = Observed({name: {MACHINE.name: KERNEL, RELEASE.name: K3S} for name in PAIR})
        flushed = Observed(
            {name: {DIRTY.name: Dirty(kib=LITTLE_KIB, run=one.flushed)} for name, one in self.machines.items()}
        )
        seen = seen.merged(flushed)
        held = Observed({name: {PARTING.name: Parting(let_go_us=2, lost_us=1)} for name in PAIR})
        return seen.merged(kernels).merged(held).merged(Observed({LOAD: {EVIDENCE.name: dict(self.evidence)}}))

    def _state(self, state: ReplicaState, machine: Machine) -> ReplicaState:
        def role(one: Machine) -> Role:
            return Role.PRIMARY if one.primary else Role.SECONDARY

        link = Link.CONNECTED if self.connected else Link.CONNECTING
        other = self.machines[OTHER[machine.name]]
        theirs = role(other) if self.connected else Role.UNKNOWN
        there = {"peer_disk": self._disk(other), "out_of_sync_kib": 4 * other.lost} if self.connected else {}
        seen = replace(
            state,
            resource=resource(role(machine), self._disk(machine), link=link, peer_role=theirs, **there),
            storage=unit(places.STORAGE, machine.storage),
        )
        return with_facts(seen, on_mount="/dev/drbd0" if machine.mounted else "", immutable=not machine.mounted)

    def _disk(self, machine: Machine) -> Disk:
        return Disk.DISKLESS if machine.lost else Disk.UP_TO_DATE

    def carry_out(self, host: str, change: Change) -> None:
        assert isinstance(change, Run)
        words = change.argv
        if places.WRITER in words:
            self._write(host, Record(writer=words[-3], generation=int(words[-2]), since=words[-1]))
        elif change.title.startswith("record that "):
            self.evidence |= newest([words[-1]])
        elif places.TOKEN in " ".join(words):
            assert self.machines[host].mounted
            self.token = int(words[-1])
        elif change.title == "unmount and demote":
            self._down(self.machines[host])
        elif change.title == "promote data beside a replica without a disk":
            other = self.machines[OTHER[host]]
            assert self.connected
            assert other.lost
            assert not other.primary
            assert self.machines[host].storage == "inactive", "it would promote and mount by itself"
            self.machines[host].primary = True
        elif places.STORAGE in change.title:
            wanted = {f"start {places.STORAGE}": "waiting", f"stop {places.STORAGE}, which waits": "inactive"}
            assert (self.machines[host].storage, wanted[change.title]) != ("waiting", "waiting")
            self.machines[host].storage = wanted[change.title]
        elif not change.title.startswith("wait "):
            self._use(self.machines[host], change)

    def _use(self, machine: Machine, change: Run) -> None:
        verb, name = change.title.split()
        assert verb == "stop" or machine.mounted, f"{name} needs its storage"
        if places.FLUSHED in change.argv:
            machine.flushed = change.argv[-2]
        else:
            machine.units[name] = {"start": "active", "stop": "inactive"}[verb]

    def _write(self, host: str, record: Record) -> None:
        seen = self.record if host == LOAD else self.machines[host].record
        assert (record.generation, record.writer) == (seen.generation, seen.writer) or (
            record.generation > seen.generation
        ), f"{host} refuses {record}, it has {seen}"
        if host == LOAD:
            self.record = record
        else:
            self.machines[host].record = record

    def _down(self, machine: Machine) -> None:
        assert not any(active == "active" for active in machine.units.values()), "the mount is busy"
        machine.storage, machine.mounted, machine.primary = "inactive", False, False

    def reboot(self, name: str) -> None:
        """What a power cut leaves: both units are enabled, and begin anew."""
        machine = self.machines[name]
        self.machines[name] = Machine(name, record=machine.record)
        self.settle()

    def has_moved(self, to: str) -> bool:
        new, old = self.machines[to], self.machines[OTHER[to]]
        named = {self.record.writer, new.record.writer, old.record.writer}
        runs = set(new.units.values()) == {"active"} and set(old.units.values()) == {"inactive"}
        return named == {to} and new.primary and new.mounted and not old.primary and not old.mounted and runs


class CutOff(Exception):
    """The controller is gone."""


class Stopped(Exception):
    """The runbook stopped by itself."""


UNFIT = ("Inconsistent", "Outdated", "Consistent", "Diskless")


def walk(pair: Pair, to: str, budget: float = float("inf")) -> int:
    """Walk the real steps of the runbook, at most ``budget`` single changes; returns how many there were.

    A step that may take what was seen before does so always: only hosts that were changed are looked at again.
    """
    done, seen = 0, Observed()
    for step in planned(to):
        pair.settle()
        assert not isinstance(step, Confirm | Show)
        seen = seen if step.stale_s else pair.seen()
        if isinstance(step, Converge):
            plan = step.plan(CLUSTER, seen)
            for host, change in single(plan):
                if done >= budget:
                    raise CutOff(step.title)
                pair.carry_out(host, change)
                pair.settle()
                done += 1
            seen = seen.merged(read_again(pair, step, plan))
            left = titles(step.plan(CLUSTER, seen))
            assert left == {}, f"{step.title}: {left} did not last"
        elif isinstance(step, Wait) and step.check(CLUSTER, seen):
            seen = pair.seen()
        if isinstance(step, Gate | Wait) and (findings := step.check(CLUSTER, seen)):
            raise Stopped(f"{step.title}: {findings}")
    return done


def read_again(pair: Pair, step: Converge, plan: Plan) -> Observed:
    """What the exec that changed these hosts says at its end, of what the step sees."""
    domains = {domain.name for domain in step.sees}
    states = {host: pair.seen().states[host] for host in plan}
    return Observed(
        {host: {name: one for name, one in state.items() if name in domains} for host, state in states.items()}
    )


def come(pair: Pair, to: str) -> None:
    """Switch to ``to``; where the runbook says that the other side must have it first, do as it says."""
    try:
        walk(pair, to)
    except Stopped as stopped:
        if "failover.py --to" not in str(stopped):
            raise
        walk(pair, OTHER[to])
        walk(pair, to)


def single(plan: Plan) -> Iterator[tuple[str, Change]]:
    """The changes one by one; those of several hosts run side by side, so any order may be seen."""
    hosts = [[(host, change) for change in changes] for host, changes in plan.items()]
    for turn in itertools.zip_longest(*reversed(hosts)):
        yield from (one for one in turn if one)


@pytest.fixture(params=[(PROD, MIRROR), (MIRROR, PROD)])
def ways(request: pytest.FixtureRequest) -> tuple[str, str]:
    found: tuple[str, str] = request.param
    return found


def test_there_and_back_and_again(ways: tuple[str, str]) -> None:
    source, target = ways
    pair = Pair.running(source)
    for generation, to in enumerate((target, source, target), 2):
        assert walk(pair, to) > 0
        assert pair.has_moved(to)
        assert (pair.record.generation, pair.token) == (generation, generation)
        assert walk(pair, to) == 0, "a second run has nothing to do"
    assert pair.most_primaries == 1


def length(source: str, target: str) -> int:
    return walk(Pair.running(source), target)


@pytest.mark.parametrize("generation", [1, 7])
def test_cut_off_anywhere_and_run_again(ways: tuple[str, str], generation: int) -> None:
    source, target = ways
    for budget in range(length(source, target)):
        pair = Pair.running(source, generation)
        with pytest.raises(CutOff):
            walk(pair, target, budget)
        walk(pair, target)
        assert pair.has_moved(target), budget
        assert (pair.record.generation, pair.most_primaries) == (generation + 1, 1)


@pytest.mark.parametrize("generation", [1, 7])
def test_cut_off_anywhere_and_run_back(ways: tuple[str, str], generation: int) -> None:
    source, target = ways
    for budget in range(length(source, target)):
        pair = Pair.running(source, generation)
        with pytest.raises(CutOff):
            walk(pair, target, budget)
        come(pair, source)
        assert pair.has_moved(source), budget
        assert pair.most_primaries == 1


@pytest.mark.parametrize("generation", [7])
def test_cut_off_twice_in_either_direction(ways: tuple[str, str], generation: int) -> None:
    source, target = ways
    for first, second, middle, last in itertools.product(range(14), range(14), ways, ways):
        pair = Pair.running(source, generation)
        for to, budget in ((target, first), (middle, second)):
            with contextlib.suppress(CutOff, Stopped):
                walk(pair, to, budget)
        come(pair, last)
        assert pair.has_moved(last), (first, second, middle, last)
        assert pair.most_primaries == 1


@pytest.mark.parametrize("victim", PAIR)
def test_a_replica_reboots_wherever_the_switch_was_cut_off(ways: tuple[str, str], victim: str) -> None:
    source, target = ways
    for budget in range(length(source, target)):
        pair = Pair.running(source, 3)
        with pytest.raises(CutOff):
            walk(pair, target, budget)
        pair.reboot(victim)
        come(pair, target)
        assert pair.has_moved(target), budget
        assert pair.most_primaries == 1


def test_a_writer_that_lost_its_disk_hands_over(ways: tuple[str, str]) -> None:
    old, new = ways
    pair = Pair.running(old, 2)
    pair.machines[old].lost = True
    walk(pair, new)
    assert pair.has_moved(new)
    assert walk(pair, new) == 0
    with pytest.raises(Stopped, match="data has no disk here"):
        walk(pair, old)


def test_a_writer_that_lost_its_disk_hands_over_wherever_that_was_cut_off(ways: tuple[str, str]) -> None:
    old, new = ways
    whole = Pair.running(old, 2)
    whole.machines[old].lost = True
    for budget in range(walk(whole, new)):
        pair = Pair.running(old, 2)
        pair.machines[old].lost = True
        with pytest.raises(CutOff):
            walk(pair, new, budget)
        walk(pair, new)
        assert pair.has_moved(new), f"cut off after {budget}"
        assert pair.most_primaries == 1


OWN = "data role:Secondary\n  disk:UpToDate"
TIE_BREAKER = "\n  dock-load role:Secondary\n    peer-disk:Diskless peer-client:yes"
BESIDE = {
    "8.4": f"{OWN}\n  peer role:Secondary\n    replication:Established peer-disk:Diskless",
    "9": f"{OWN}{TIE_BREAKER}\n  dock-prod role:Secondary\n    peer-disk:Diskless",
}
"""How `drbdadm status` shows a replica without a disk that handed over."""


@pytest.mark.parametrize(
    ("status", "promotes"),
    [
        *((text, True) for text in BESIDE.values()),
        *((text.replace("disk:UpToDate", f"disk:{disk}"), False) for text in BESIDE.values() for disk in UNFIT),
        *((text.replace("prod role:Secondary", "prod role:Primary"), False) for text in [BESIDE["9"]]),
        (BESIDE["8.4"].replace("peer role:Secondary", "peer role:Primary"), False),
        (BESIDE["8.4"].partition("\n  peer")[0], False),
        (f"{OWN}\n  peer connection:Connecting", False),
        (f"{OWN}{TIE_BREAKER}\n  dock-prod connection:Connecting", False),
        (
            f"{OWN}{TIE_BREAKER}\n  dock-prod role:Secondary\n    peer-disk:UpToDate",
            False,
        ),
    ],
)
def test_who_promotes_beside_a_replica_without_a_disk_looks_again(tmp_path: Path, status: str, promotes: bool) -> None:
    pair = Pair.running(PROD, 2)
    pair.machines[PROD] = Machine(PROD, lost=True, storage="inactive")
    promote = drbd.plan_promote(CLUSTER, pair.seen(), to=MIRROR)[MIRROR][1]
    tool = tmp_path / "drbdadm"
    tool.write_text(f"#!/bin/sh\n[ $1 != status ] || echo '{status}'\n[ $1 != primary ] || touch {tmp_path}/primary\n")
    tool.chmod(0o755)
    assert isinstance(promote, Run)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(promote.argv, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, (tmp_path / "primary").exists()) == ((0, True) if promotes else (75, False)), done.stderr


def test_a_cut_line_stops_the_switch_before_anything_is_stopped(ways: tuple[str, str]) -> None:
    source, target = ways
    pair = Pair.running(source)
    pair.connected = False
    with pytest.raises(Stopped, match="Both replicas are up"):
        walk(pair, target)
    assert set(pair.machines[source].units.values()) == {"active"}


def test_a_line_that_is_cut_in_the_middle_never_makes_two_writers(ways: tuple[str, str]) -> None:
    source, target = ways
    for budget in range(length(source, target)):
        for to in ways:
            pair = Pair.running(source, 2)
            with pytest.raises(CutOff):
                walk(pair, target, budget)
            pair.connected = False
            with pytest.raises(Stopped):
                walk(pair, to)
            pair.connected = True
            pair.settle()
            come(pair, to)
            assert pair.has_moved(to)
            assert pair.most_primaries == 1


def test_the_arbitrator_is_told_before_the_replicas() -> None:
    titled = [step.title for step in planned(MIRROR)]
    named, told = titled.index("Name dock-mirror as the writer"), titled.index("Tell the replicas who may write")
    assert told == named + 1
    plan = switch.plan_new_writer(CLUSTER, Pair.running().seen(), to=MIRROR, since=SINCE)
    assert titles(plan) == {LOAD: ["name dock-mirror as the writer (generation 2)"]}


def test_dirty_memory_goes_over_the_line_before_anything_is_stopped_once_in_a_run() -> None:
    pair = Pair.running()
    assert titles(drbd.plan_flush(CLUSTER, pair.seen(), to=MIRROR, run="one")) == {PROD: ["flush /srv/data"]}
    pair.machines[PROD].flushed = "one"
    assert drbd.plan_flush(CLUSTER, pair.seen(), to=MIRROR, run="one") == {}
    assert drbd.plan_flush(CLUSTER, pair.seen(), to=MIRROR, run="two") != {}
    assert drbd.plan_flush(CLUSTER, pair.seen(), to=PROD, run="two") == {}, "what is not mounted has nothing dirty"
    little = pair.seen().merged(Observed({PROD: {DIRTY.name: Dirty(kib=LITTLE_KIB - 1, run="")}}))
    assert drbd.plan_flush(CLUSTER, little, to=MIRROR, run="two") == {}, "unmounting sends it in seconds"


def test_what_is_dirty_is_counted_as_the_kernel_says_it(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemFree: 9 kB\nDirty: 4100 kB\nWriteback: 20 kB\nWritebackTmp: 7 kB\n")
    argv = [
        word.replace("/proc/meminfo", f"{tmp_path}/meminfo")
        for word in DIRTY.probes(CLUSTER, CLUSTER.host(PROD))[0].argv
    ]
    assert subprocess.run(argv, check=True, capture_output=True, text=True).stdout == "4120\n"


def test_a_switch_is_kept_as_evidence_and_phase_2_is_no_switch() -> None:
    pair = Pair.running()
    walk(pair, PROD)
    assert pair.evidence == {}
    walk(pair, MIRROR)
    kept = pair.evidence[drbd.SWITCHOVER]
    assert (kept.passed, kept.facts, kept.run) == (True, {"to": MIRROR, "generation": 2}, pair.record.since)
    assert kept.versions["kernel"] == "6.12.48"
    assert kept.versions["drbd"].startswith("8.4")
    assert kept.versions["k3s"] == "k3s-0f0f0f0f0f0f0f0f"


def test_a_switch_that_is_done_and_known_as_a_failover_is_no_switchover() -> None:
    pair = Pair.running(MIRROR, generation=2)
    kept = Evidence(kind=drbd.DISASTER, run=SINCE, by="owner@laptop", passed=True, facts={"generation": 2})
    pair.evidence[kept.kind] = kept
    walk(pair, MIRROR)
    assert pair.evidence == {kept.kind: kept}


def test_the_arbitrator_must_be_seen() -> None:
    seen = observed(healthy(), {**records(), LOAD: NotObserved(LOAD, "no route")})
    for plan in (switch.plan_token, switch.plan_new_writer):
        with pytest.raises(NotObserved, match=LOAD):
            plan(CLUSTER, seen, to=MIRROR, **({"since": SINCE} if plan is switch.plan_new_writer else {}))


@pytest.mark.parametrize(
    "parts",
    [
        {"primary": True},
        {"mounted": True},
        {"storage": "waiting"},
        {"storage": "active"},
        {"storage": "deactivating"},
    ],
)
def test_whatever_holds_the_old_side_is_let_go(parts: dict[str, Any]) -> None:
    pair = Pair.running(MIRROR)
    pair.machines[PROD].storage = "inactive"
    for name, value in parts.items():
        setattr(pair.machines[PROD], name, value)
    assert titles(switch.plan_demote(CLUSTER, pair.seen(), to=MIRROR)) == {PROD: ["unmount and demote"]}


def test_units_are_stopped_in_order_and_started_the_other_way_round() -> None:
    running = observed(healthy(), using=users(active=PROD))
    stops = switch.plan_stop(CLUSTER, running, to=MIRROR)
    assert titles(stops) == {PROD: [f"stop {name}" for name in UNITS]}
    starts = switch.plan_start(CLUSTER, running, to=MIRROR)
    assert titles(starts) == {MIRROR: [f"start {name}" for name in reversed(UNITS)]}


@pytest.mark.parametrize("active", ["activating", "deactivating", "reloading"])
def test_units_that_hang_are_not_taken_for_stopped(active: str) -> None:
    using = users(active=PROD)
    hanging = replace(using[PROD], units={name: unit(name, active) for name in UNITS})
    plan = switch.plan_stop(CLUSTER, observed(healthy(), using={**using, PROD: hanging}), to=MIRROR)
    assert titles(plan) == {PROD: [f"stop {name}" for name in UNITS]}
