"""One exec on one host, as the two kinds of connection offer it to `dockyard.remote`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from dockyard.framing import Request


class Stopped(StrEnum):
    """Why reading stopped."""

    DONE = "done"
    CLOSED = "closed"
    """The host closed the channel before the last frame."""
    LOST = "lost"
    """The host does not answer any more."""
    LATE = "late"
    """The time limit is over while the host still answers."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What came back from one exec."""

    stdout: bytes
    stderr: bytes
    stopped: Stopped


class Connection(Protocol):
    """What `dockyard.remote` needs of a connection."""

    def is_usable(self) -> bool:
        """False when it is known to be dead."""

    def exchange(self, request: Request, end: bytes, limit_s: float) -> Exchange:
        """Run one exec until ``end`` was seen on both streams, the host closed it, or ``limit_s`` is over."""
