"""The arbitration table: single failures, pairs that mean more than their parts, where you sit, what boots first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from tasks.drbd.arbitration import (
    Case,
    Kind,
    Verdict,
    advice,
    after_failover,
    case_of,
    failover,
    may_be_mistaken,
    verdict_of,
)
from tasks.drbd.failures import (
    Fault,
    Refusal,
    Setup,
    World,
    alike,
    broken,
    healthy,
    mended,
    off,
    reached,
    refusals,
    single_faults,
)


@dataclass(frozen=True, slots=True)
class Doubles:
    """Pairs of failures, by what they mean.

    ``worse`` are those that their parts do not explain, grouped by verdict. ``folded`` say no more than the lines of
    their parts: name of the one that decides, and what may come with it. ``count`` pairs were run, each in both orders.
    """

    worse: Mapping[Verdict, Sequence[Case]]
    folded: Mapping[str, Sequence[str]]
    count: int


def singles(setup: Setup) -> list[Case]:
    """A case for every failure alone."""
    return [case_of(setup, (fault,)) for fault in single_faults(setup)]


def doubles(setup: Setup, parts: Sequence[Case]) -> Doubles:
    """Let every two failures happen, in both orders."""
    worse: dict[Verdict, list[Case]] = {}
    folded: dict[str, list[str]] = {}
    alone = {alike(setup, part.world) for part in parts}
    pairs = list(combinations(parts, 2))
    for one, two in pairs:
        for case, first, second in _orders(setup, one, two):
            part = _explaining(case, first, second)
            if part:
                folded.setdefault(part.name, []).append((second if part is first else first).name)
            elif alike(setup, case.world) not in alone:
                worse.setdefault(case.verdict, []).append(case)
    return Doubles(worse, {part: list(dict.fromkeys(others)) for part, others in folded.items()}, len(pairs))


def _orders(setup: Setup, one: Case, two: Case) -> list[tuple[Case, Case, Case]]:
    """The pair in both orders where they mean different things, else once; with its first and its second part."""
    orders = [(case_of(setup, (*a.faults, *b.faults)), a, b) for a, b in ((one, two), (two, one))]
    return orders[:1] if orders[0][0].verdict == orders[1][0].verdict else orders


def _explaining(case: Case, one: Case, two: Case) -> Case | None:
    """The part whose line says what happens to the storage, when both lines together say everything."""
    parts = (one, two)
    waits = {what for part in parts for what in part.verdict.waits.split("; ")}
    if not (case.facts <= one.facts | two.facts and waits.issuperset(case.verdict.waits.split("; "))):
        return None
    return next((part for part in parts if replace(part.verdict, waits=case.verdict.waits) == case.verdict), None)


@dataclass(frozen=True, slots=True)
class Seat:
    """What is different for somebody who sits at ``sites``."""

    case: str
    sites: tuple[str, ...]
    change: str


def seats(setup: Setup, cases: Sequence[Case]) -> list[Seat]:
    """What changes in each case when the machine with the runbooks stands at one of the sites, and shares its fate.

    What is said of a failure alone is not said again of pairs with it.
    """
    found: list[Seat] = []
    for case in cases:
        said: dict[str, list[str]] = {}
        for site in setup.sites:
            change = _change(setup, case.world, site)
            if change and not any((fault.name, change) in _known(found, site) for fault in case.faults):
                said.setdefault(change, []).append(site)
        found += [Seat(case.name, tuple(sites), change) for change, sites in said.items()]
    return found


def _known(seats_so_far: Sequence[Seat], site: str) -> set[tuple[str, str]]:
    return {(seat.case, seat.change) for seat in seats_so_far if site in seat.sites}


def _change(setup: Setup, world: World, site: str) -> str:
    base, here = advice(setup, world), advice(setup, world, site)
    peer = setup.peer(world.record)
    if site in may_be_mistaken(setup, world):
        return (
            f"{world.record} looks dead and writes on. Leave it. Only when you know that it is off: "
            f"{failover(setup, peer)}; if it was on: {after_failover(setup, world)}"
        )
    if base.kind is Kind.POWER_OFF and here.kind is Kind.FAILOVER:
        return (
            f"{world.record} is not seen and cannot write: {here.text}; when it is back: {after_failover(setup, world)}"
        )
    if base.kind in {Kind.FAILOVER, Kind.POWER_OFF} and here.kind is not base.kind:
        return _elsewhere(setup, world, base.to, site)
    if setup.arbitrator not in reached(setup, world, site) | world.off:
        return f"{setup.arbitrator} cannot be reached: no change and no failover from there"
    return ""


def _elsewhere(setup: Setup, world: World, to: str, site: str) -> str:
    words = {Refusal.NO_ARBITRATOR: setup.arbitrator, Refusal.NO_TARGET: to}
    far = [name for reason, name in words.items() if reason in refusals(setup, world, to, site)]
    return f"no failover from there: {' and '.join(far)} cannot be reached. Go where they can"


def power_back(setup: Setup) -> Iterator[tuple[str, Verdict]]:
    """After all power was lost at one moment: what each set of hosts that has it again does."""
    keys = (setup.writer, setup.other, setup.arbitrator)
    faults = {host: off(setup, host) for host in keys}
    dark = broken(setup, healthy(setup), Fault("all power lost", "power is back", frozenset(keys)))
    for count in (1, 2, 3):
        for lit in combinations(keys, count):
            left = [faults[host] for host in keys if host not in lit]
            yield " and ".join(lit), verdict_of(setup, mended(setup, dark, left), left)
