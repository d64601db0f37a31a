"""The verdict on a failure: who serves the storage, what waits, which writes can be lost, what the operator types.

Every verdict is read off a `World` of the model in tasks/drbd/failures.py, now and after each repair. No case is
written by hand, so an inventory with other sites or another arbitrator gets a right table, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from tasks.drbd import places
from tasks.drbd.failures import (
    Fault,
    Setup,
    Version,
    World,
    broken,
    connected,
    failed_over,
    healthy,
    mended,
    off,
    refusals,
    writers,
)
from tasks.drbd.others import Fact, facts

NOTHING = "nothing to do"


class Kind(Enum):
    """What the operator can do for the storage."""

    SERVES = auto()
    RESTART = auto()
    FAILOVER = auto()
    POWER_OFF = auto()
    WAIT = auto()


@dataclass(frozen=True, slots=True)
class Advice:
    """What to type (``text``), and for a failover: ``to`` whom, and the world just before the phrase."""

    kind: Kind
    text: str = ""
    to: str = ""
    before: World | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a failure means.

    ``data`` says who serves the storage, ``waits`` what stands still, ``lost`` which writes can go, ``do`` what to type
    (or that there is nothing to do), ``back`` what happens when all that failed is there again.
    """

    data: str
    waits: str
    lost: str
    do: str
    back: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Failures in the order in which they happened, and what follows."""

    faults: tuple[Fault, ...]
    world: World
    verdict: Verdict
    facts: frozenset[Fact]

    @property
    def name(self) -> str:
        return ", then ".join(fault.name for fault in self.faults)


def case_of(setup: Setup, faults: Sequence[Fault]) -> Case:
    """Let ``faults`` happen, in this order, to a healthy cluster, and judge what is left."""
    world = healthy(setup)
    for fault in faults:
        world = broken(setup, world, fault)
    return Case(faults=tuple(faults), world=world, verdict=verdict_of(setup, world, faults), facts=facts(setup, world))


def verdict_of(setup: Setup, world: World, faults: Sequence[Fault]) -> Verdict:
    """Judge ``world``, in which ``faults`` are what is broken."""
    steps = _steps(setup, world, faults)
    return Verdict(
        data=_data(setup, world),
        waits=_waits(setup, world),
        lost=_lost(setup, world, faults, steps),
        do=_do(steps),
        back=_back(setup, world, steps),
    )


def advice(setup: Setup, world: World, controller: str | None = None) -> Advice:
    """What can be done now by somebody at the site ``controller`` (None: from where everybody is reached)."""
    if writers(setup, world):
        return Advice(Kind.SERVES, f"{NOTHING}, {world.record} serves")
    if setup.version is Version.V9 and world.record in world.primary & world.quorate:
        return Advice(
            Kind.RESTART, f"on {world.record}, once no pod has it mounted: systemctl restart dockyard-storage"
        )
    for to in (world.record, setup.peer(world.record)):
        if not refusals(setup, world, to, controller):
            return Advice(Kind.FAILOVER, failover(setup, to), to, world)
    return _after_power_off(setup, world, setup.peer(world.record), controller)


def _after_power_off(setup: Setup, world: World, to: str, controller: str | None) -> Advice:
    """A writer that is on and useless: the failover refuses while anybody sees it, and goes on when it is off."""
    gone = broken(setup, world, off(setup, world.record))
    if world.record in world.off or refusals(setup, gone, to, controller):
        return Advice(Kind.WAIT)
    text = f"mend the line; or on {world.record}: systemctl poweroff; then {failover(setup, to)}"
    return Advice(Kind.POWER_OFF, text, to, gone)


def failover(setup: Setup, to: str) -> str:
    """The command of a failover to ``to``."""
    return f"python runbooks/failover.py --to {to} --disaster{setup.options}"


def _steps(setup: Setup, world: World, faults: Sequence[Fault]) -> dict[str, Advice]:
    """What can be done now (under ``""``), else when one of the failures is mended, else when all are."""
    now = advice(setup, world)
    if now.kind is not Kind.WAIT:
        return {"": now}
    named = sorted(faults, key=lambda fault: fault.mended)
    later = {fault.mended: mended(setup, world, [one for one in named if one is not fault]) for fault in named}
    steps = {when: advice(setup, then) for when, then in later.items()}
    useful = {when: step for when, step in steps.items() if step.kind is not Kind.WAIT}
    return useful or {"both are back": advice(setup, mended(setup, world))}


def _do(steps: dict[str, Advice]) -> str:
    return "; ".join(f"when {when}: {step.text}" if when else step.text for when, step in steps.items())


def _data(setup: Setup, world: World) -> str:
    writing = sorted(writers(setup, world))
    if not writing:
        return f"nobody: {_why_not(setup, world)}"
    peer = setup.peer(writing[0])
    apart = f"{peer} is off" if peer in world.off else f"{peer} gets nothing"
    return f"{writing[0]} serves; " + (f"{peer} follows" if connected(setup, world) else apart)


def _why_not(setup: Setup, world: World) -> str:
    host = world.record
    if host in world.off:
        both = setup.peer(host) in world.off
        return f"{setup.writer} and {setup.other} are off" if both else f"{host} is off"
    if host in world.stopped:
        return f"{host} has no quorum: I/O errors" if host not in world.quorate else f"{host} stopped at I/O errors"
    if setup.version is Version.V9:
        return f"{host} booted without quorum and waits"
    return f"{host} booted and waits for {setup.peer(host)}"


def _waits(setup: Setup, world: World) -> str:
    replication = setup.topology.cluster.drbd
    users = ", ".join(replication.units) if replication and replication.units else "what uses the storage"
    waits = [] if writers(setup, world) else [users]
    if setup.arbitrator in world.off:
        waits.append("changes and failovers: no lease, no record")
    return "; ".join(waits) or "nobody"


def _lost(setup: Setup, world: World, faults: Sequence[Fault], steps: dict[str, Advice]) -> str:
    if may_be_mistaken(setup, world):
        return f"no; two histories if you fail over while {world.record} runs unseen"
    if writers(setup, world):
        return "no" if connected(setup, world) else f"no, while the disk of {world.record} lives"
    if all(step.to in {"", world.record} for step in steps.values()):
        return "no"
    since = f'all since "{faults[0].name}"' if world.record in world.alone and faults else "the last seconds"
    return f"with the failover: {since}"


def may_be_mistaken(setup: Setup, world: World) -> list[str]:
    """The sites from which a failover would be let through while the writer writes (DRBD 8.4 only)."""
    if not writers(setup, world):
        return []
    to = setup.peer(world.record)
    return [site for site in setup.sites if not refusals(setup, world, to, site)]


def _back(setup: Setup, world: World, steps: dict[str, Advice]) -> str:
    """What happens when everything is mended: if nothing was typed, and after the failover that was advised."""
    said = [_untouched(setup, mended(setup, world))]
    chosen = [step.before for step in steps.values() if step.before and step.to != world.record]
    if chosen:
        said.append(f"after the failover: {after_failover(setup, chosen[0])}")
    return "; ".join(said)


def _untouched(setup: Setup, world: World) -> str:
    step = advice(setup, world)
    return f"{world.record} serves, in sync by itself" if step.kind is Kind.SERVES else step.text


def after_failover(setup: Setup, before: World) -> str:
    """What becomes of the old writer when it is back after a failover away from it."""
    old = before.record
    then = mended(setup, failed_over(setup, before, setup.peer(old)))
    if then.alone.issuperset(setup.replicas):
        return f"split brain: python runbooks/split_brain.py{setup.options}"
    demote = f"on {old}: {places.LET_GO}, then " if old in then.primary else ""
    return f"{demote}{old} follows; python runbooks/failback.py{setup.options}"
