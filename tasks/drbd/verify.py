"""The monthly comparison of both copies (`drbdadm verify`): a timer on each replica; the Primary's does the work.

What it found is kept on the host that asked for it, in `places.VERIFIED`, and judged by `check_verify`. DRBD marks what
differs as out of sync and mends nothing; the next resync copies these blocks from the Primary, whichever side is wrong.
(drbdadm(8) and drbdsetup(8) of 8.4 and 9, verify; LINBIT's guide, "Using on-line device verification".)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from dockyard.change import Change, Plan, Unit, UnitState, WriteFile, filled, unit, unit_probe, write_file
from dockyard.files import FileState, read_file
from dockyard.findings import Cause, Finding
from dockyard.observe import Domain, Observed
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs
from dockyard.rendering import render
from dockyard.service import RELOAD, unit_file
from dockyard.topology import Host, Topology
from dockyard.typed_json import typed
from dockyard.unseen import unseen
from tasks.drbd import places
from tasks.drbd.checks import finding, in_use
from tasks.drbd.config import is_9
from tasks.drbd.replica import LIVE, Live, carries_replica, other_of, replication_of
from tasks.drbd.state import Replication

TOO_OLD_DAYS = 40
"""A month, and time enough to try again."""

CALENDAR = "Sun *-*-01..07 03:00"
"""The first Sunday of a month, at night (systemd.time(7))."""

_CLOCK = "clock"
_RUNNING = {Replication.VERIFY_S, Replication.VERIFY_T}


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The last comparison that a host asked for and that came to its end: seconds since 1970 by its clock.

    ``out_of_sync_kib`` is all that DRBD calls different afterwards; ``places`` are the first of the blocks that it
    named, in sectors of 512 bytes: ``start=2048, size=8``.
    """

    began: Annotated[int, msgspec.Meta(ge=0)]
    ended: Annotated[int, msgspec.Meta(ge=0)]
    out_of_sync_kib: Annotated[int, msgspec.Meta(ge=0)]
    places: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyState:
    """One replica: ``now`` by its clock, its files and units, and what its last comparison found (None: never)."""

    now: int
    files: Mapping[str, FileState]
    timer: UnitState
    service: UnitState
    result: Result | None

    @property
    def installed_days(self) -> float:
        """How long the timer has been there."""
        seen = self.files[unit_file(places.VERIFY_TIMER)]
        return (self.now - seen.mtime_ns / 1e9) / 86400 if seen.exists else 0.0

    @property
    def age_days(self) -> float | None:
        """Days since the last comparison; None: there was none."""
        return (self.now - self.result.ended) / 86400 if self.result else None


_FILES = (places.VERIFY, unit_file(places.VERIFY_SERVICE), unit_file(places.VERIFY_TIMER))


def _probes(_topology: Topology, _host: Host) -> Sequence[Command]:
    paths = (*_FILES, places.VERIFIED)
    units = (places.VERIFY_TIMER, places.VERIFY_SERVICE)
    # The units first: when one is seen to have ended, its result is there.
    return [Command(_CLOCK, ("date", "+%s")), *map(unit_probe, units), *map(read_file, paths)]


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> VerifyState:
    kept = FileState.of(outputs, places.VERIFIED)
    return VerifyState(
        now=int(outputs.text(_CLOCK)),
        files={path: FileState.of(outputs, path) for path in _FILES},
        timer=UnitState.of(outputs, places.VERIFY_TIMER),
        service=UnitState.of(outputs, places.VERIFY_SERVICE),
        result=read_result(kept.content) if kept.exists else None,
    )


def read_result(text: str) -> Result:
    """What the script kept; raises ParseError for anything else."""
    printed = Printed(places.VERIFIED, text)
    return typed(printed, printed.json(), Result)


VERIFY: Domain[VerifyState] = Domain("verify", _probes, _read, carries_replica)


def plan_verify(topology: Topology, observed: Observed) -> Plan:
    """Write what compares both copies each month, and have its timer run on both replicas."""
    hosts = [host.name for host in topology.hosts.values() if host.drbd]
    return filled({host: _setup(topology, observed, host) for host in hosts})


def _setup(topology: Topology, observed: Observed, host: str) -> list[Change]:
    state = observed.of(VERIFY, host)
    writes = [
        change
        for path, (text, mode) in verify_texts(topology, host, nine=is_9(topology, observed)).items()
        for change in write_file(WriteFile(path=path, content=text, seen=state.files[path], mode=mode))
    ]
    reload = [RELOAD] if writes else []
    start = Unit(name=places.VERIFY_TIMER, seen=state.timer, enabled=True, active=True)
    return [*writes, *reload, *unit(start)]


def verify_texts(topology: Topology, host: str, *, nine: bool) -> dict[str, tuple[str, int]]:
    """Text and mode of the script and its units by path."""
    name, other = replication_of(topology).resource, other_of(topology, host)
    values = {
        "name": name,
        "minor": replication_of(topology).minor,
        "peer": other if nine else "peer",
        "target": f"{name}:{other}/0" if nine else name,
        "result": places.VERIFIED,
        "record": places.WRITER,
        "script": places.VERIFY,
        "calendar": CALENDAR,
        "up": places.UP,
    }
    templates = ("drbd-verify", "dockyard-verify.service", "dockyard-verify.timer")
    modes = (0o755, 0o644, 0o644)
    return {
        path: (render(template, **values), mode) for path, template, mode in zip(_FILES, templates, modes, strict=True)
    }


def check_verify(topology: Topology, observed: Observed) -> list[Finding]:
    """The copies are compared every month, lately too, and nothing was found. That it is running is no fault."""
    if not in_use(topology, observed):
        return []
    states = observed.seen(VERIFY)
    return [
        *unseen(observed, VERIFY, Cause.DRBD),
        *_idle(states),
        *_old(topology, observed, states),
        *_found(topology, observed, states),
    ]


def _idle(states: Mapping[str, VerifyState]) -> Iterator[Finding]:
    for host, state in states.items():
        if not (state.timer.is_active and state.timer.is_enabled):
            yield finding(
                host,
                "the copies are not compared every month from here",
                f"{places.VERIFY_TIMER} is {state.timer.active}, {state.timer.enabled or 'not there'}",
                "python runbooks/phase2_drbd.py",
            )


def verifying(state: Live | None) -> bool:
    """Whether the two copies are being compared at this moment."""
    return bool(state and state.towards and state.towards.replication in _RUNNING)


def newest(states: Mapping[str, VerifyState]) -> tuple[str, VerifyState] | None:
    """The host and state with the last comparison; None: there was none."""
    done = [(state.age_days, host) for host, state in states.items() if state.age_days is not None]
    return (min(done)[1], states[min(done)[1]]) if done else None


def _old(topology: Topology, observed: Observed, states: Mapping[str, VerifyState]) -> Iterator[Finding]:
    running = any(verifying(state) for state in observed.seen(LIVE).values())
    lately = newest(states)
    waited = max((state.installed_days for state in states.values()), default=0.0)
    age = lately[1].age_days if lately else waited
    if running or not states or age is None or age <= TOO_OLD_DAYS:
        return
    host = lately[0] if lately else next(iter(states))
    name = replication_of(topology).resource
    tries = "; ".join(f"{one}: {places.VERIFY_SERVICE} is {state.service.active}" for one, state in states.items())
    yield finding(
        host,
        f"the copies of {name} were last compared {age:.0f} days ago"
        if lately
        else f"the copies of {name} were never compared, and that since {age:.0f} days",
        tries,
        f"On the Primary: systemctl start --no-block {places.VERIFY_SERVICE}; journalctl -u {places.VERIFY_SERVICE}",
    )


_MEND = """\
DRBD does not know which side is wrong. Look at both disks (dmesg, smartctl) and compare with a backup. If the Primary's
blocks are good, on the Secondary: {copy} (docs/drbd.md, When a comparison finds something)"""
_COPY = {
    False: "drbdadm disconnect {name}; drbdadm connect {name}",
    True: "drbdadm invalidate --reset-bitmap=no {name}",
}
"""What copies the marked blocks, and no others, with DRBD 8.4 and 9."""

_AGAIN = "On the Primary, to prove that it is mended: systemctl start --no-block {service}"


def _found(topology: Topology, observed: Observed, states: Mapping[str, VerifyState]) -> Iterator[Finding]:
    lately = newest(states)
    if not lately or not lately[1].result or not lately[1].result.out_of_sync_kib:
        return
    host, result = lately[0], lately[1].result
    live = observed.seen(LIVE).values()
    left = any(state.out_of_sync_kib for state in live) or not live
    if not left and any(verifying(state) for state in live):
        return
    name = replication_of(topology).resource
    yield finding(
        host,
        f"the last comparison found {result.out_of_sync_kib} KiB of {name} that differ between the replicas"
        + ("" if left else "; they were copied anew since"),
        f"{lately[1].age_days or 0:.1f} days ago; sectors: {'; '.join(result.places) or 'not named in the kernel log'}",
        _MEND.format(copy=_COPY[any(state.facts.is_9 for state in live)].format(name=name))
        if left
        else _AGAIN.format(service=places.VERIFY_SERVICE),
    )
