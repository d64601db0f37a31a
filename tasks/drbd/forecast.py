"""The costs of `tasks.drbd.wan` as sentences for a person, and as rows for machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from dockyard.topology import Wan
from tasks.drbd import wan
from tasks.drbd.quantities import size, span
from tasks.drbd.wan import Load

Row = tuple[str, str]


def sentences(line: Wan, load: Load, secondary: str) -> Iterator[Row]:
    """What one asks about, and the answer; a question that begins with a space belongs to the one before."""
    yield from _first_copy(line, load, secondary)
    yield from _burst(line, load, secondary)
    yield from _outage(line, load, secondary)
    yield from _losses(line, load)


def _first_copy(line: Wan, load: Load, secondary: str) -> Iterator[Row]:
    if load.size_bytes is None:
        yield "initial sync", "not known without the size of the device: give --size"
        return
    sync = wan.full_sync(line, load.size_bytes)
    yield (
        f"initial sync of {size(load.size_bytes)}",
        (
            f"{span(sync.share_s)} at {line.share:.0%} of the line, {span(sync.line_s)} with all of it, less where "
            f"blocks are equal; {secondary} cannot take over before. An online verify takes as long as "
            "the first, and sends little"
        ),
    )


def _burst(line: Wan, load: Load, secondary: str) -> Iterator[Row]:
    found = wan.burst(line, load)
    takes = "for ever, the line is full already" if found.takes_s is None else f"{span(found.takes_s)} in all"
    yield (
        f"a burst of {size(load.burst_bytes)}",
        (
            f"{secondary} is at most {size(found.behind_bytes)} ({span(found.behind_s)}) behind, as only the send "
            f"buffer can wait (on-congestion block). The writers pay for it: they wait for the line, {takes}"
        ),
    )
    yield (
        " with pull-ahead instead",
        (
            f"writers would not wait, up to {size(found.ahead_bytes)} would be missing on {secondary}, and it could "
            f"not take over until {span(found.ahead_resync_s)} after the burst; LINBIT advises that with its Proxy only"
        ),
    )


def _outage(line: Wan, load: Load, secondary: str) -> Iterator[Row]:
    found = wan.outage(line, load)
    yield (
        f"after an outage of {span(load.outage_s)}",
        (
            f"{size(found.least_bytes)} to {size(found.most_bytes)} are sent again (a 4 KiB block counts once, "
            f"however often it was written): {span(found.least_s)} to {span(found.most_s)}, and "
            f"{secondary} cannot take over before"
        ),
    )
    yield (" a disaster at its end", f"costs all that was written meanwhile, {size(found.written_bytes)}")
    yield (" too much outage", f"down more than {found.down_share:.0%} of the time, {secondary} may never catch up")


def _losses(line: Wan, load: Load) -> Iterator[Row]:
    lost, crashed = wan.disaster(line, load), wan.crash(line, load.size_bytes)
    yield (
        "a disaster while connected",
        (
            f"costs at most {size(lost.most_bytes)}, the last {span(lost.most_s)} (a full send buffer); without a "
            f"burst about {size(lost.usual_bytes)}"
        ),
    )
    yield (
        "after a crash of the Primary",
        f"up to {size(crashed.bytes)} are compared again (activity log), in at most {span(crashed.s)}",
    )


def numbers(line: Wan, load: Load) -> Iterator[tuple[str, float | None]]:
    """The same for machines: names such as ``outage_most_bytes``; None is never, or for ever."""
    yield from _named("burst", asdict(wan.burst(line, load)))
    yield from _named("outage", asdict(wan.outage(line, load)))
    yield from _named("disaster", asdict(wan.disaster(line, load)))
    yield from _named("crash", asdict(wan.crash(line, load.size_bytes)))
    if load.size_bytes is not None:
        yield from _named("initial_sync", asdict(wan.full_sync(line, load.size_bytes)))


def _named(part: str, values: dict[str, float | None]) -> Iterator[tuple[str, float | None]]:
    for name, value in values.items():
        yield f"{part}_{name}", value
