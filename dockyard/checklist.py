"""A checklist that proves itself: a box is ticked by what is seen now, and by evidence of what was tried. Pure.

Evidence expires: with time, and when what it was tried with (kernel, DRBD, K3s, restic) is no longer what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dockyard.evidence import EVIDENCE, Evidence
from dockyard.findings import by_cause
from dockyard.observe import Observed
from dockyard.steps import Check
from dockyard.topology import Topology
from dockyard.unseen import once

Versions = Callable[[Topology, Observed], Mapping[str, Collection[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Something that must have been tried and passed: the newest run of ``kind``, at most ``days`` old.

    ``versions`` are what runs now, on whichever host, by the names that the evidence uses; names that only one of them
    has do not count.
    ``advice`` is what to type for a new one.
    """

    kind: str
    days: float
    versions: Versions
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One line of the list. ``checks`` must find nothing, ``proofs`` must hold."""

    phase: int
    title: str
    checks: Sequence[Check] = ()
    proofs: Sequence[Proof] = ()


class Mark(StrEnum):
    """How a box stands."""

    TICKED = "ticked"
    OPEN = "open"
    UNSEEN = "not seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A box with its mark: ``reasons`` why it is not ticked (what is wrong, what to do), ``proven`` by which runs."""

    box: Box
    mark: Mark
    reasons: tuple[str, ...]
    proven: tuple[str, ...]


def judge(boxes: Iterable[Box], topology: Topology, observed: Observed, now: datetime) -> list[Judged]:
    """Every box, in order. A check that cannot see something leaves its box `Mark.UNSEEN`, never ticked."""
    return [_judge(box, topology, observed, now) for box in boxes]


def _judge(box: Box, topology: Topology, observed: Observed, now: datetime) -> Judged:
    findings = by_cause(once(finding for check in box.checks for finding in check(topology, observed)))
    kept = observed.seen(EVIDENCE).get(topology.cluster.arbitrator)
    if kept is None and box.proofs:
        lacking = [f"{topology.cluster.arbitrator} could not be asked for evidence"]
    else:
        lacking = [why for proof in box.proofs if (why := _lacks(proof, kept or {}, topology, observed, now))]
    unseen = any(finding.unseen for finding in findings) or (kept is None and bool(box.proofs))
    reasons = [*(f"{finding}. {finding.advice}" for finding in findings), *lacking]
    return Judged(
        box=box,
        mark=Mark.UNSEEN if unseen else Mark.OPEN if reasons else Mark.TICKED,
        reasons=tuple(reasons),
        proven=tuple(shown(kept[proof.kind], now) for proof in box.proofs if kept and proof.kind in kept),
    )


def _lacks(proof: Proof, kept: Mapping[str, Evidence], topology: Topology, observed: Observed, now: datetime) -> str:
    """Why the proof does not hold; ``""`` when it does."""
    found = kept.get(proof.kind)
    why = _expired(found, proof.days, proof.versions(topology, observed), now) if found else "was never tried"
    return f"{proof.kind} {why}. {proof.advice}" if why else ""


def _expired(found: Evidence, days: float, versions: Mapping[str, Collection[str]], now: datetime) -> str:
    if not found.passed:
        return f"failed on {found.run}"
    if found.age_days(now) < -1:
        return f"is of {found.run}, which is in the future: a clock was wrong"
    if found.age_days(now) > days:
        return f"was passed {found.age_days(now):.0f} days ago, which is more than {days:g}"
    others = {name: was for name, was in found.versions.items() if was not in versions.get(name, (was,))}
    if others:
        said = (
            f"{name} {was}, now {' and '.join(sorted(versions[name])) or 'not seen'}"
            for name, was in sorted(others.items())
        )
        return f"was passed with {'; '.join(said)}"
    return ""


def shown(evidence: Evidence, now: datetime) -> str:
    """A run for a person: what, when, by whom, with which versions."""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(evidence.versions.items()))
    verdict = "passed" if evidence.passed else "failed"
    age = f"{evidence.age_days(now):.0f} days ago"
    return f"{evidence.kind} {verdict} {age} ({evidence.run}) by {evidence.by}{', with ' if versions else ''}{versions}"
