"""How long ago something was, also when the machine slept in between."""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux stops CLOCK_MONOTONIC while it sleeps (clock_gettime(2)), macOS does not."""


def elapsed_s() -> float:
    """Seconds since some fixed moment; only differences mean anything."""
    return time.clock_gettime(_CLOCK)
