"""Ending one of two histories, over a simulated pair: cut off anywhere and run again, only the victim's ever ends."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from dockyard.change import Change, Run
from dockyard.observe import Observed
from dockyard.steps import Confirm, Converge, Show
from runbooks.split_brain import resolve
from tasks.drbd import places
from tasks.drbd.parted import CHANGES, PARTED, Parted
from tasks.drbd.split import Choice
from tasks.drbd.state import Disk, Link, Role
from tasks.drbd.switch import UsersState
from tasks.drbd.writer import Record
from tests.unit.histories import CLUSTER, FILES, GIB, OURS
from tests.unit.replicas import (
    LOAD,
    OTHER,
    PAIR,
    PROD,
    UNITS,
    healthy,
    observed,
    records,
    resource,
    unit,
    with_facts,
)

BASE = healthy(CLUSTER)


@dataclass
class Machine:
    """One replica; ``history`` names whose writes lie on its disk."""

    name: str
    history: str
    primary: bool
    mounted: bool
    storage: str
    units: dict[str, str]
    token: int = 1
    kept: dict[str, int] = field(default_factory=dict)
    waits_to_discard: bool = False
    record: Record = field(default_factory=lambda: records()[PROD])


@dataclass
class Pair:
    """Both sides are StandAlone; they meet when the victim discards and the other one connects."""

    choice: Choice
    machines: dict[str, Machine]
    record: Record = field(default_factory=lambda: records()[LOAD])
    connected: bool = False

    @classmethod
    def split(cls, choice: Choice, primaries: tuple[str, ...]) -> Pair:
        def machine(name: str) -> Machine:
            up = name in primaries
            active = "active" if up else "inactive"
            storage = "active" if up else "waiting"
            return Machine(name, name, up, up, storage, dict.fromkeys(UNITS, active))

        return cls(choice, {name: machine(name) for name in PAIR})

    def seen(self) -> Observed:
        states: dict[str, Any] = {**BASE}
        extra: dict[str, dict[str, object]] = {}
        for name, one in self.machines.items():
            link = Link.CONNECTED if self.connected else Link.CONNECTING if one.waits_to_discard else Link.STAND_ALONE
            theirs = Role.PRIMARY if self.machines[OTHER[name]].primary and self.connected else Role.UNKNOWN
            seen = with_facts(BASE[name], on_mount="/dev/drbd0" if one.mounted else "", immutable=not one.mounted)
            states[name] = replace(
                seen,
                resource=resource(
                    Role.PRIMARY if one.primary else Role.SECONDARY,
                    Disk.UP_TO_DATE,
                    link=link,
                    peer="peer" if link is not Link.STAND_ALONE else None,
                    peer_role=theirs,
                ),
                storage=unit(places.STORAGE, one.storage),
            )
            held = Parted(
                generations=OURS[one.history], missing_kib=4, disk_bytes=GIB, room_bytes=GIB, room_on="/", kept=one.kept
            )
            extra[name] = {PARTED.name: held, CHANGES.name: FILES}
        using = {
            name: UsersState(units={unit_: unit(unit_, state) for unit_, state in one.units.items()}, token=one.token)
            for name, one in self.machines.items()
        }
        record = {LOAD: self.record, **{name: one.record for name, one in self.machines.items()}}
        return observed(states, record, using).merged(Observed(extra))

    def carry_out(self, host: str, change: Change) -> None:
        assert isinstance(change, Run)
        words = change.argv
        if places.WRITER in words:
            record = Record(writer=words[-3], generation=int(words[-2]), since=words[-1])
            holder: Pair | Machine = self if host == LOAD else self.machines[host]
            holder.record = record
        elif change.title in {"unmount and demote", "connect data, discarding what is here"} or "copy" in change.title:
            self._end(self.machines[host], change.title)
        elif not change.title.startswith("wait "):
            self._go_on(self.machines[host], change.title)

    def _end(self, machine: Machine, title: str) -> None:
        """What is done to the victim alone."""
        assert (machine.name, machine.history) == (self.choice.victim, self.choice.victim)
        assert set(machine.units.values()) == {"inactive"}, "the mount is busy"
        if title == "unmount and demote":
            machine.mounted, machine.primary, machine.storage = False, False, "inactive"
        assert not machine.primary
        if title.startswith("keep a copy"):
            machine.kept[title.removeprefix("keep a copy in ")] = 4096
        elif "discarding" in title:
            assert machine.kept, "nothing is discarded without a copy"
            machine.waits_to_discard = True

    def _go_on(self, machine: Machine, title: str) -> None:
        verb, what, *_ = title.split()
        if what in UNITS:
            machine.units[what] = {"start": "active", "stop": "inactive"}[verb]
            return
        assert machine.name == self.choice.survivor
        if verb == "promote":
            assert not self.machines[OTHER[machine.name]].primary
            machine.primary = True
        elif what.startswith(places.STORAGE):
            machine.mounted, machine.storage = (True, "active") if verb == "start" else (False, "inactive")
        elif title.startswith("write the token "):
            machine.token = self.record.generation
        else:
            assert title == "connect data"

    def settle(self, hosts: set[str]) -> None:
        """Both were told to connect, and do so; the victim takes over what the other one holds."""
        victim = self.machines[self.choice.victim]
        if victim.waits_to_discard and not self.connected and self.choice.survivor in hosts:
            self.connected, victim.waits_to_discard = True, False
            victim.history = self.choice.survivor


class CutOff(Exception):
    """The controller is gone."""


def walk(pair: Pair, budget: float = float("inf")) -> int:
    """Walk the runbook's own steps, at most ``budget`` changes; returns how many there were."""
    done = 0
    for step in resolve(pair.choice):
        if isinstance(step, Confirm | Show):
            continue
        if not isinstance(step, Converge):
            assert step.check(CLUSTER, pair.seen()) == [], step.title
            continue
        plan = {host: changes for host, changes in step.plan(CLUSTER, pair.seen()).items() if changes}
        for host, changes in plan.items():
            for change in changes:
                if done >= budget:
                    raise CutOff(step.title)
                pair.carry_out(host, change)
                done += 1
        if "Connect" in step.title:
            pair.settle(set(plan))
        assert not step.plan(CLUSTER, pair.seen()), f"{step.title} did not last"
    return done


CHOICES = [Choice(victim=victim, survivor=OTHER[victim]) for victim in PAIR]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.victim)
@pytest.mark.parametrize("primaries", [PAIR, PAIR[:1], PAIR[1:], ()], ids=str)
def test_it_converges_wherever_it_was_cut_off(choice: Choice, primaries: tuple[str, ...]) -> None:
    changes = walk(Pair.split(choice, primaries))
    assert changes >= 4
    for budget in range(changes):
        pair = Pair.split(choice, primaries)
        with pytest.raises(CutOff):
            walk(pair, budget)
        assert pair.machines[choice.survivor].history == choice.survivor
        walk(pair)
        victim, survivor = pair.machines[choice.victim], pair.machines[choice.survivor]
        assert (victim.history, survivor.history) == (choice.survivor, choice.survivor)
        assert (victim.primary, survivor.primary, survivor.mounted) == (False, True, True)
        assert {pair.record.writer, victim.record.writer, survivor.record.writer} == {choice.survivor}
        assert set(survivor.units.values()) == {"active"}
        assert len(victim.kept) == 1
        assert walk(pair) == 0
