"""What the wire does to a frame: pure decisions on delay, loss, rate and cuts. `lab.switch` moves the bytes.

Times are seconds on any monotonic clock, sizes bytes of an Ethernet frame, rates bits a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations

BROADCAST_BIT = 0x01


@dataclass(frozen=True, slots=True)
class Shape:
    """What a pair of sites does to traffic, alike in both directions.

    rtt_s: added round-trip time, half of it each way.  jitter_s: each frame is up to this much later, evenly spread;
    order is kept, as on one WAN path.  loss: share of frames that is dropped in each direction, 0..1.
    rate_bit_s: bottleneck, 0 for none.  queue_s: frames that would wait longer than this at the bottleneck are dropped.
    """

    rtt_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    rate_bit_s: float = 0.0
    queue_s: float = 0.1

    def __post_init__(self) -> None:
        """Raise ValueError for what no link can do."""
        if min(self.rtt_s, self.jitter_s, self.rate_bit_s) < 0 or self.queue_s <= 0 or not 0 <= self.loss <= 1:
            raise ValueError(f"not a possible link: {self}")


UNSHAPED = Shape()
# A home line with 50 Mbit/s and 30 ms to everything, and a well connected data centre.
DEFAULT_WAN: Mapping[frozenset[str], Shape] = {
    frozenset({"home", "dc"}): Shape(rtt_s=0.030, rate_bit_s=50e6),
    frozenset({"home", "vps"}): Shape(rtt_s=0.030, rate_bit_s=50e6),
    frozenset({"dc", "vps"}): Shape(rtt_s=0.010, rate_bit_s=200e6),
}


@dataclass(slots=True)
class Link:
    """One direction between two sites: the state that a `Shape` needs. All machines of a site share it."""

    free_at: float = 0.0
    last_due: float = 0.0
    dropped_by_loss: int = 0
    dropped_by_queue: int = 0

    def offer(self, shape: Shape, now: float, size: int, chance: Callable[[], float]) -> float | None:
        """Return when the frame comes out, or None when it is dropped; `chance` gives numbers in [0, 1)."""
        if shape.loss and chance() < shape.loss:
            self.dropped_by_loss += 1
            return None
        sent = max(now, self.free_at)
        if shape.rate_bit_s:
            if sent - now > shape.queue_s:
                self.dropped_by_queue += 1
                return None
            sent += size * 8 / shape.rate_bit_s
            self.free_at = sent
        jitter = shape.jitter_s * chance() if shape.jitter_s else 0.0
        self.last_due = max(self.last_due, sent + shape.rtt_s / 2 + jitter)
        return self.last_due


@dataclass(frozen=True, slots=True)
class Port:
    """Where a machine is plugged in."""

    name: str
    site: str
    mac: bytes


@dataclass(slots=True)
class Wire:
    """The cluster segment: who is on it, which pairs are cut, what each pair of sites does to frames."""

    ports: Mapping[str, Port]
    chance: Callable[[], float]
    shapes: dict[frozenset[str], Shape] = field(default_factory=lambda: dict(DEFAULT_WAN))
    cuts: set[frozenset[str]] = field(default_factory=set)
    links: dict[tuple[str, str], Link] = field(default_factory=dict)
    _learned: dict[bytes, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Know every machine's own address from the start; others are learned."""
        self._learned = {port.mac: port.name for port in self.ports.values()}

    def forward(self, source: str, frame: bytes, now: float) -> list[tuple[float, str]]:
        """Return (due, target) for every machine that gets this frame from `source`."""
        if len(frame) < 14:
            return []
        target, origin = frame[0:6], frame[6:12]
        if not origin[0] & BROADCAST_BIT:
            self._learned[origin] = source
        known = None if target[0] & BROADCAST_BIT else self._learned.get(target)
        targets = [known] if known else [name for name in self.ports if name != source]
        offered = [(self._due(source, name, len(frame), now), name) for name in targets if name != source]
        return [(due, name) for due, name in offered if due is not None]

    def is_cut(self, first: str, second: str) -> bool:
        """Say whether traffic between two machines is dropped."""
        return frozenset({first, second}) in self.cuts

    def cut(self, first: Iterable[str], second: Iterable[str]) -> None:
        """Drop all traffic between the two groups of machines, both ways."""
        self.cuts |= _pairs(first, second)

    def heal(self, first: Iterable[str] | None = None, second: Iterable[str] | None = None) -> None:
        """Undo cuts between the two groups, or all of them."""
        self.cuts -= self.cuts.copy() if first is None or second is None else _pairs(first, second)

    def shape_of(self, first: str, second: str) -> Shape:
        """Return what is done between two sites (nothing inside one)."""
        return UNSHAPED if first == second else self.shapes.get(frozenset({first, second}), UNSHAPED)

    def restore(self) -> None:
        """Heal every cut and go back to the default WAN."""
        self.heal()
        self.shapes = dict(DEFAULT_WAN)
        self.links.clear()

    def _due(self, source: str, target: str, size: int, now: float) -> float | None:
        if self.is_cut(source, target):
            return None
        sites = (self.ports[source].site, self.ports[target].site)
        shape = self.shape_of(*sites)
        return now if shape is UNSHAPED else self.links.setdefault(sites, Link()).offer(shape, now, size, self.chance)


def site_pairs(sites: Iterable[str]) -> list[tuple[str, str]]:
    """All pairs of different sites, in the given order."""
    return list(combinations(sites, 2))


def _pairs(first: Iterable[str], second: Iterable[str]) -> set[frozenset[str]]:
    others = list(second)
    return {frozenset({one, other}) for one in first for other in others if one != other}
