"""How well things stand, as far as an output proves it: an order that no damaged output may climb.

Every reader has a function that turns its state into a `Standing`: one `Level` for each thing that the output
speaks of. What an output does not mention stands at `Level.UNKNOWN`, below everything else, so a missing line never
looks better.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum


class Level(IntEnum):
    """From worst to best."""

    UNKNOWN = 0
    """Not mentioned, or the output is not whole."""
    FAILED = 1
    """Seen to be broken, or to hold no good data."""
    DEGRADED = 2
    """On its way, waiting, or good with a reservation."""
    HEALTHY = 3


Standing = Mapping[str, Level]
"""Levels by the name of the thing: ``r0/0 disk``, ``r0 dock-mirror connection``, ``node dock-load`` ..."""


def is_better(one: Standing, other: Standing) -> bool:
    """True when ``one`` claims anything better than ``other``, among the things that ``other`` speaks of.

    Levels are compared in order, worst with worst, so that two things that changed places are no improvement.
    Things that only ``one`` speaks of do not count: nobody expects them.
    """
    mine = sorted(one.get(name, Level.UNKNOWN) for name in other)
    return any(level > truth for level, truth in zip(mine, sorted(other.values()), strict=True))
