"""What replication over a line costs: how far behind, how long, how much a disaster takes. Pure.

The rules that the numbers stand on:

* Protocol A: a write is acknowledged when it is on the local disk and in the TCP send buffer (drbd.conf(5), protocol).
  With ``on-congestion block`` a full buffer blocks writers, so an acknowledged write that did not leave the Primary is
  always in that buffer. Nothing else of a healthy connection can be lost.
* One TCP connection carries at most one send buffer a round trip.
* While the line is down the Primary goes on alone, and a bitmap with one bit for each 4 KiB keeps what differs
  (drbd.conf(5), meta-disk): a block that is written ten times is sent once.
* During a resync new writes are replicated at once and make no new differences, so it takes (differences / its rate).
  Until it ends the Secondary is Inconsistent and cannot take over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dockyard.topology import Wan
from tasks.drbd import sizing

KIB = 1024
BLOCK = 4 * KIB
"""What one bit of the bitmap stands for, in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is to be replicated: the device, what is usually written, the burst and the outage that one asks about.

    ``write_mbit`` in 10^6 bits a second; ``size_bytes`` None: not known.
    """

    size_bytes: int | None
    write_mbit: float
    burst_bytes: int
    outage_s: float

    @property
    def write_bytes_s(self) -> float:
        return self.write_mbit * 1e6 / 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """Seconds of a full copy: within the share of the inventory, and with the whole line."""

    share_s: float
    line_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """A burst on top of what is usually written.

    ``behind_bytes`` and ``behind_s`` are the most that waits on the Primary. ``takes_s`` is how long its writers wait
    for the line, in all (None: for ever; 0: all fits into the send buffer). The ``ahead`` values are what pull-ahead
    would do instead: writers do not wait, this much is missing on the Secondary at most, and for this long after the
    burst it cannot take over.
    """

    behind_bytes: int
    behind_s: float
    takes_s: float | None
    ahead_bytes: int
    ahead_resync_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """The line is down, the Primary goes on writing.

    ``written_bytes`` is what a disaster at the end of the outage costs. ``least`` holds when the same block was written
    again and again, ``most`` when no block was written twice. ``down_share`` is the part of all time that the line may
    be down: when it is down more, no catch-up ever ends (at ``most``).
    """

    written_bytes: int
    least_bytes: int
    most_bytes: int
    least_s: float
    most_s: float
    down_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Disaster:
    """The Primary is gone, the line was up: acknowledged writes that the Secondary never got.

    ``usual`` with an empty buffer (what is on its way for half a round trip), ``most`` with a full one.
    """

    usual_bytes: int
    most_bytes: int
    most_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """The Primary crashed and came back: everything that its activity log covers is compared again."""

    bytes: int
    s: float


def line_bytes_s(wan: Wan) -> float:
    """What one connection carries: the rate of the line, or one send buffer a round trip where that is less."""
    buffer_bytes = sizing.send_buffer_kib(wan) * KIB
    return min(sizing.rate_kib_s(wan) * KIB, buffer_bytes / (wan.rtt_ms / 1000))


def resync_bytes_s(wan: Wan) -> float:
    """What a resync gets."""
    return min(sizing.resync_kib_s(wan) * KIB, line_bytes_s(wan))


def full_sync(wan: Wan, size_bytes: int) -> Sync:
    """The initial sync; an upper bound where blocks are equal already, as csums-alg then sends only their hashes."""
    whole = replace(wan, share=1.0)
    return Sync(share_s=size_bytes / resync_bytes_s(wan), line_s=size_bytes / resync_bytes_s(whole))


def burst(wan: Wan, load: Load) -> Burst:
    """What a burst does; see `Burst`."""
    buffer_bytes = sizing.send_buffer_kib(wan) * KIB
    behind = min(load.burst_bytes, buffer_bytes)
    left_bytes_s = line_bytes_s(wan) - load.write_bytes_s
    waiting = load.burst_bytes - behind
    return Burst(
        behind_bytes=behind,
        behind_s=behind / line_bytes_s(wan),
        takes_s=(waiting / left_bytes_s if left_bytes_s > 0 else None) if waiting else 0.0,
        ahead_bytes=load.burst_bytes,
        ahead_resync_s=load.burst_bytes / resync_bytes_s(wan),
    )


def outage(wan: Wan, load: Load) -> Outage:
    """What an outage costs; file systems write whole blocks of 4 KiB, so ``most`` is no more than was written."""
    written = round(load.write_bytes_s * load.outage_s)
    most = -(-written // BLOCK) * BLOCK
    if load.size_bytes is not None:
        most = min(most, load.size_bytes)
    least = min(BLOCK, most)
    rate = resync_bytes_s(wan)
    return Outage(
        written_bytes=written,
        least_bytes=least,
        most_bytes=most,
        least_s=least / rate,
        most_s=most / rate,
        down_share=rate / (rate + load.write_bytes_s),
    )


def disaster(wan: Wan, load: Load) -> Disaster:
    """The most that a disaster costs while the replicas are connected, in bytes and in seconds before it."""
    most = sizing.send_buffer_kib(wan) * KIB
    half_trip_s = wan.rtt_ms / 2000
    return Disaster(
        usual_bytes=min(most, round(load.write_bytes_s * half_trip_s)),
        most_bytes=most,
        most_s=most / line_bytes_s(wan) + half_trip_s,
    )


def crash(wan: Wan, size_bytes: int | None) -> Crash:
    """The resync after a crash of the Primary; an upper bound, as csums-alg sends only what differs."""
    extents = next(int(one.value) for one in sizing.disk_settings(wan) if one.name == "al-extents")
    covered = extents * sizing.EXTENT_KIB * KIB
    covered = covered if size_bytes is None else min(covered, size_bytes)
    return Crash(bytes=covered, s=covered / resync_bytes_s(wan))
