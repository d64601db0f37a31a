"""The numbers that a plan starts from, each with its source: option, measurement, inventory or assumption."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from dockyard.errors import UsageError
from dockyard.topology import Wan
from tasks.drbd.line import LineState

ASSUMED_WRITE_MBIT = 1.0
ASSUMED = Wan(mbit=1, rtt_ms=1)
"""Its optional fields stand in for what nobody says."""


@dataclass(slots=True)
class Seen:
    """What was measured, where that was possible: round trips in ms and rates in 10^6 bits a second, by direction."""

    rtts: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    size_bytes: int | None = None
    write_mbit: float | None = None

    def line(self) -> dict[str, float]:
        """``rtt_ms`` of the worse direction and ``mbit`` of the slower one; only what was measured is in it."""
        found = {"rtt_ms": max(self.rtts.values(), default=0.0), "mbit": min(self.rates.values(), default=0.0)}
        return {name: value for name, value in found.items() if value > 0}


@dataclass(frozen=True, slots=True)
class Known:
    """A number and where it is from."""

    value: float
    source: str


def gather(primary: str, secondary: str, states: Mapping[str, LineState]) -> Seen:
    """What the replicas saw: round trips by direction, the smaller disk, and what is written on the Primary."""
    ways = {primary: f"{primary} -> {secondary}", secondary: f"{secondary} -> {primary}"}
    sizes = [state.size_bytes for state in states.values() if state.size_bytes]
    return Seen(
        rtts={ways[host]: state.rtt_ms for host, state in states.items() if state.rtt_ms},
        size_bytes=min(sizes, default=None),
        write_mbit=states[primary].write_mbit if primary in states else None,
    )


def settle(options: Mapping[str, float | None], seen: Seen, inventory: Wan | None) -> dict[str, Known]:
    """Each of ``mbit``, ``rtt_ms``, ``share``, ``size``, ``write_mbit`` from its best source; ``size`` may be missing.

    ``options`` holds these names as they were given on the command line, None where they were not.

    Raises:
        UsageError: nobody says how fast or how long the line is.
    """
    told = asdict(inventory) if inventory else {}
    measured = {**seen.line(), "size": seen.size_bytes, "write_mbit": seen.write_mbit}
    assumed = {"share": ASSUMED.share, "write_mbit": ASSUMED_WRITE_MBIT}
    found = {
        name: _first(
            (given, _option(name)),
            (measured.get(name), _MEASURED.get(name, "measured")),
            (told.get(name), "inventory"),
            (assumed.get(name), f"assumed; give {_option(name)}"),
        )
        for name, given in options.items()
    }
    lacking = [_option(name) for name in ("mbit", "rtt_ms") if found[name] is None]
    if lacking:
        raise UsageError(
            "nobody says how fast and how long the line is",
            advice=f"Give {' '.join(lacking)}, or let the hosts be asked (--measure for the rate).",
        )
    return {name: known for name, known in found.items() if known is not None}


_MEASURED = {"size": "the smaller disk of both", "write_mbit": "the Primary's disk, mean since boot"}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _first(*choices: tuple[float | None, str]) -> Known | None:
    return next((Known(value, source) for value, source in choices if value is not None), None)
