"""Two histories of one resource, side by side, for the person who has to choose; pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TypeVar

from dockyard.findings import Cause, Finding
from dockyard.observe import Observed
from dockyard.topology import Topology
from dockyard.unseen import unseen
from tasks.drbd.checks import finding, seen_replicas, service
from tasks.drbd.generations import Relation
from tasks.drbd.parted import CHANGES, PARTED, Changes, Parted, Young, changes_of
from tasks.drbd.quantities import size
from tasks.drbd.replica import LIVE, Live
from tasks.drbd.split import lacking_kib, stand
from tasks.drbd.switch import USERS
from tasks.drbd.writer import NOBODY, WRITER, shown

Row = dict[str, str]

T = TypeVar("T")


def rows(topology: Topology, observed: Observed) -> list[Row]:
    """A row for each thing to compare, a column for each replica; ``-`` where nothing is known."""
    hosts = list(replicas(topology))
    cells: dict[str, Callable[[str], str]] = {
        "DRBD": lambda host: _of(observed.seen(LIVE).get(host), lambda state: state.sentence),
        "storage": lambda host: _of(observed.seen(LIVE).get(host), _storage),
        "units that run": lambda host: _units(observed, host),
        "may write, it was told": lambda host: shown(observed.seen(WRITER).get(host, NOBODY)),
        "generation": lambda host: _of(observed.seen(PARTED).get(host), _generation),
        "written since generation": lambda host: _of(observed.seen(PARTED).get(host), _base),
        "the other one lacks": lambda host: _lacking(observed, host),
        "contact lost": lambda host: _of(changes_of(observed, host), lambda seen: _time(seen.lost_at)),
        "file system mounted": lambda host: _of(changes_of(observed, host), lambda seen: _time(seen.mounted_at)),
        "superblock written": lambda host: _of(changes_of(observed, host), lambda seen: _time(seen.written_at)),
        "newest file": lambda host: _of(changes_of(observed, host), _newest),
        "changed since": lambda host: _of(changes_of(observed, host), _changed),
        "all files": lambda host: _of(changes_of(observed, host), lambda seen: size(seen.used_bytes)),
        "its clock now": lambda host: _of(changes_of(observed, host), lambda seen: _time(seen.now)),
    }
    return [{"": label, **{host: cell(host) for host in hosts}} for label, cell in cells.items()]


def replicas(topology: Topology) -> Iterator[str]:
    """The hosts that carry the data."""
    return (host.name for host in topology.hosts.values() if host.drbd)


def newest_files(topology: Topology, observed: Observed) -> list[Row]:
    """The newest files of both sides, a line for each."""
    return [
        {"host": host, "changed": _time(young.changed_at), "size": size(young.size_bytes), "file": plain(young.path)}
        for host in replicas(topology)
        for young in _files(observed, host)
    ]


def _files(observed: Observed, host: str) -> tuple[Young, ...]:
    changes = changes_of(observed, host)
    return changes.newest if changes else ()


def check_parted(topology: Topology, observed: Observed) -> list[Finding]:
    """Split brain, or what could not be seen of it. Two sides that are only apart are no finding here."""
    domains = (LIVE, PARTED, CHANGES, WRITER)
    blind = [one for domain in domains for one in unseen(observed, domain, Cause.DRBD)]
    how = stand(topology, observed, PARTED)
    if how not in {Relation.SPLIT, Relation.UNRELATED}:
        return blind
    one, two = seen_replicas(topology, observed)
    sizes = "; ".join(f"{host}: {size(lacking_kib(observed, PARTED, host) * 1024)} of its own" for host in (one, two))
    advice = (
        f"To go on with {one}, after a copy of what only {two} has: python runbooks/split_brain.py --victim {two}. "
        f"The other way round: --victim {one}"
    )
    if how is Relation.UNRELATED:
        advice = "DRBD never connects these: they are two different sets of data (docs/drbd.md)"
    return [*blind, finding(one, f"split brain: {how.said(one, two)}", f"{two} and {one}; {sizes}", advice)]


def verdict(topology: Topology, observed: Observed) -> str:
    """How the two copies stand to each other, in a sentence; ``""`` when that was not seen."""
    states = seen_replicas(topology, observed)
    if any(state.connected for state in states.values()):
        return "The replicas are connected: there is one history."
    how = stand(topology, observed, PARTED)
    return f"In short: {how.said(*states)}." if how else ""


def _of(seen: T | None, shown_as: Callable[[T], str]) -> str:
    return "-" if seen is None else shown_as(seen)


def _storage(state: Live) -> str:
    return f"{'mounted' if state.mounted else 'not mounted'}, {state.storage.name} {service(state)}"


def _units(observed: Observed, host: str) -> str:
    users = observed.seen(USERS).get(host)
    running = [name for name, state in users.units.items() if state.is_active] if users else []
    return ", ".join(running) or "-"


def _generation(seen: Parted) -> str:
    return seen.generations.name if seen.generations else "-"


def _base(seen: Parted) -> str:
    return f"{seen.generations.base:016X}" if seen.generations and seen.generations.base else "-"


def _lacking(observed: Observed, host: str) -> str:
    known = host in observed.seen(PARTED) and host in observed.seen(LIVE)
    return size(lacking_kib(observed, PARTED, host) * 1024) if known else "-"


def _newest(seen: Changes) -> str:
    return f"{_time(seen.newest[0].changed_at)} {plain(seen.newest[0].path)}" if seen.newest else "-"


def plain(path: str) -> str:
    """A name for a cell of a table (`Report.table`), in which brackets are markup."""
    return re.sub(r"(\\*)(\[[a-z#/@])", r"\1\1\\\2", path)


def _changed(seen: Changes) -> str:
    return f"{seen.count} files, {size(seen.changed_bytes)}"


def _time(seconds: int | None) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if seconds else "-"
