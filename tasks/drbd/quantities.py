"""Amounts as people read and type them: bytes in steps of 1024, spans of time in their largest useful unit."""

from __future__ import annotations

import re

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
LEAST, MOST = 4 * 1024, 1024**5
"""What `parse_size` takes, in bytes; DRBD's largest device is 1 PiB."""

_SPANS = ((2 * 86400, 86400, "days"), (2 * 3600, 3600, "h"), (120, 60, "min"))


def size(count: float) -> str:
    """``3.0 GiB``; whole bytes below 1 KiB."""
    for step, unit in enumerate(UNITS):
        shown = count / 1024**step
        if shown < 1024 or unit == UNITS[-1]:
            return f"{shown:.0f} {unit}" if step == 0 else f"{shown:.1f} {unit}"
    raise AssertionError("the last unit takes everything")


def span(seconds: float) -> str:
    """``0.34 s``, ``85 s``, ``31.2 min``, ``30.0 h``, ``4.2 days``."""
    for least, unit_s, unit in _SPANS:
        if seconds >= least:
            return f"{seconds / unit_s:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def parse_size(text: str) -> int:
    """Bytes of ``500G``, ``1.5T``, ``64MiB`` or ``10`` (GiB), all in steps of 1024; raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([KMGTP])(?:i?B)?)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise ValueError(f"{text!r} is no size such as 500G or 1.5T")
    step: int = "KMGTP".index((found[2] or "G").upper()) + 1
    count = round(float(found[1]) * float(1024**step))
    if not LEAST <= count <= MOST:
        raise ValueError(f"{text!r} is not between {size(LEAST)} and {size(MOST)}")
    return count
