"""What a check has to say: one fault, its evidence, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Cause(IntEnum):
    """Where a fault lies, in the order in which one explains the next: without mesh no DRBD, without DRBD no data."""

    REACH = 1
    MACHINE = 2
    MESH = 3
    MTU = 4
    NAMES = 5
    K3S = 6
    DRBD = 7
    PACEMAKER = 8
    APPLICATION = 9
    BACKUP = 10
    MONITORING = 11
    EXPOSURE = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A fault on ``host`` (or between it and ``subject``).

    ``fault`` is one sentence, ``evidence`` the numbers or lines that prove it, ``advice`` what to type or look at next.
    ``unseen`` marks a finding that says "this could not be looked at" rather than "this is broken"; ``lasting`` one
    that does not pass by waiting.
    """

    cause: Cause
    host: str
    fault: str
    evidence: str
    advice: str
    subject: str = ""
    unseen: bool = False
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.host}: {self.fault} ({self.evidence})"


def by_cause(findings: Iterable[Finding]) -> list[Finding]:
    """The findings, causes before their consequences, then by host; else in the order in which they were found."""
    return sorted(findings, key=lambda finding: (finding.cause, finding.host, finding.subject))
