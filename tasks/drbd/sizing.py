"""DRBD's numbers, derived from the line between the replicas, each with the reason that stands beside it in the file.

Sources: drbd.conf(5) and drbd_limits.h of drbd-utils (meanings, defaults, the narrower limits of 8.4); LINBIT's guide
on variable sync rates (a fill target of about twice the bandwidth-delay product); measured on DRBD 8.4.11 and 9.2.16:
links flap with the default ping-timeout of 0.5 s under load, and a resync falls to `c-min-rate` (250 KiB/s by default)
as soon as applications write.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dockyard.topology import Wan

KIB = 1024
EXTENT_KIB = 4096
"""What one entry of the activity log covers (drbd.conf(5), al-extents)."""

EXTENTS = (67, 6433)
"""The fewest and the most entries of the activity log in DRBD 8.4 (drbd_limits.h)."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of a resource file: ``name value;`` and why."""

    name: str
    value: str
    reason: str


def rate_kib_s(wan: Wan) -> float:
    """The line's rate in KiB/s."""
    return wan.mbit * 1e6 / 8 / KIB


def resync_kib_s(wan: Wan) -> int:
    """What a resync may take of it, in KiB/s; DRBD's limit is 4 GiB/s."""
    return min(4 * KIB * KIB, max(1, math.floor(rate_kib_s(wan) * wan.share)))


def delay_product_kib(wan: Wan) -> float:
    """Data in flight on a full line (bandwidth times round trip), in KiB."""
    return rate_kib_s(wan) * wan.rtt_ms / 1000


def send_buffer_kib(wan: Wan) -> int:
    """The TCP send buffer: twice what is in flight, at least 512 KiB, at most the 10 MiB of DRBD 8.4."""
    return min(max(512, math.ceil(2 * delay_product_kib(wan))), 10 * KIB)


def net_settings(wan: Wan) -> list[Setting]:
    """What belongs into ``net { }``."""
    buffer_kib = send_buffer_kib(wan)
    lost_s = buffer_kib / rate_kib_s(wan)
    ping = min(300, max(20, math.ceil((4 * wan.rtt_ms / 1000 + 1) * 10)))
    return [
        Setting("ping-timeout", f"{ping}", f"{ping / 10:g} s: 4 round trips and 1 s; with 0.5 s links flap under load"),
        Setting(
            "sndbuf-size",
            f"{buffer_kib}k",
            f"twice what is in flight, 512k to 10M; a disaster can cost what waits here: {lost_s:.1f} s of the line",
        ),
        Setting(
            "on-congestion", "block", "writers wait for a full line; pull-ahead would let the Secondary fall behind"
        ),
    ]


def disk_settings(wan: Wan) -> list[Setting]:
    """What belongs into ``disk { }``."""
    rate = resync_kib_s(wan)
    fill = min(512 * KIB, max(100, math.ceil(2 * delay_product_kib(wan))))
    plan = min(300, max(20, math.ceil(5 * wan.rtt_ms / 100)))
    least, most = EXTENTS
    extents = min(most, max(least, int(rate * wan.crash_resync_min * 60 // EXTENT_KIB)))
    crash_s = extents * EXTENT_KIB / rate
    return [
        Setting("c-plan-ahead", f"{plan}", f"{plan / 10:g} s: at least 5 round trips"),
        Setting("c-fill-target", f"{fill}k", "twice what is in flight on a full line"),
        Setting("c-max-rate", f"{rate}k", f"{wan.share:.0%} of {wan.mbit:g} Mbit/s"),
        Setting("c-min-rate", f"{rate}k", "the same: writing applications must not slow a resync down to 250k"),
        Setting("al-extents", f"{extents}", f"a crash of the Primary costs a resync of up to {crash_s / 60:.0f} min"),
    ]
