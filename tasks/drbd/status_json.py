"""Reads `drbdsetup status --json`, which only the kernel module of DRBD 9 answers: drbd-utils 9.0 to 9.34.

Keys and what came when: resource_status_json() and its neighbours in user/v9/drbdsetup.c. Yes and no are words in
drbd-utils 9.0 to 9.3 and true and false since. An empty list is nothing configured.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any, TypeVar

from dockyard.errors import ParseError
from dockyard.parsing import Printed
from tasks.drbd import answer
from tasks.drbd.judgement import contradiction
from tasks.drbd.state import (
    Dialect,
    Disk,
    DrbdState,
    Link,
    Outcome,
    Path,
    Pause,
    Peer,
    PeerCounters,
    PeerVolume,
    Progress,
    Replication,
    Resource,
    Role,
    Said,
    Suspension,
    Volume,
    VolumeCounters,
    WriteOrdering,
)

E = TypeVar("E", bound=Enum)
T = TypeVar("T")

TOOL = "drbdsetup status --json"
NOT_A_NUMBER = re.compile(r'(?<=": )-?(?:nan|inf)\b')
"""What printf() makes of a division by the size of a volume that has none yet."""

NEVER_S = 987654321
"""What is printed for a resynchronisation that does not move."""

RATE_MARKS = [
    "rs-total", "rs-dt-start-ms", "rs-paused-ms", "rs-dt0-ms", "rs-db0-sectors", "rs-dt1-ms", "rs-db1-sectors",
    "rs-failed", "rs-same-csum", "ov-start-sector", "ov-stop-sector", "ov-position", "ov-left", "ov-skipped", "want",
    "percent-in-sync",
]  # fmt: skip
"""Numbers that are checked and not kept: they follow from others, or are how the kernel computes its rates."""

SUSPENDED = [Suspension.USER, Suspension.NO_DATA, Suspension.FENCING, Suspension.QUORUM]


class _Entry:
    """One JSON object: each key is asked for once, none may be left over."""

    def __init__(self, printed: Printed, value: Any, place: str) -> None:
        if not isinstance(value, dict):
            raise printed.error(0, f"has no object at {place}")
        self.place = place
        self._printed = printed
        self._left: dict[str, Any] = dict(value)

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def take(self, key: str, *kinds: type[T]) -> T:
        """The value of a key, which has one of these types."""
        value = self._left.pop(key, None)
        if type(value) not in kinds:
            raise self.error(f"{key} is {value!r} and no {' or '.join(kind.__name__ for kind in kinds)}")
        return value  # type: ignore[no-any-return]  # its type was compared

    def count(self, key: str) -> int:
        """A number that is not negative."""
        number = self.take(key, int)
        if number < 0:
            raise self.error(f"{key} is {number}")
        return number

    def number(self, key: str) -> float | None:
        """A number with a fraction; None for a missing one and for one that the tool could not compute."""
        if key not in self or self._left[key] is None:
            self._left.pop(key, None)
            return None
        return float(self.take(key, int, float))

    def flag(self, key: str) -> bool:
        return self.take(key, bool)

    def member(self, key: str, kind: type[E]) -> E:
        return self._known(key, kind, self.take(key, str))

    def members(self, key: str, kind: type[E]) -> frozenset[E]:
        """The members that are set apart by commas; ``no`` is none."""
        words = self.take(key, str)
        return frozenset(self._known(key, kind, word) for word in words.split(",") if words != "no")

    def said(self, key: str, *, since: bool = False) -> Said:
        """Yes or no; ``since`` is True for a key that came later, and may be missing."""
        if since and key not in self:
            return Said.UNSAID
        value = self.take(key, bool, str)
        if isinstance(value, str):
            return self._known(key, Said, value)
        return Said.YES if value else Said.NO

    def entries(self, key: str) -> list[_Entry]:
        """The objects of a list."""
        return [
            _Entry(self._printed, value, f"{self.place}.{key}[{at}]") for at, value in enumerate(self.take(key, list))
        ]

    def entry(self, key: str) -> _Entry:
        return _Entry(self._printed, self.take(key, dict), f"{self.place}.{key}")

    def done(self) -> None:
        """Raises ParseError for a key that nobody asked for."""
        if self._left:
            raise self.error(f"unknown: {', '.join(sorted(self._left))}")

    def error(self, why: str) -> ParseError:
        return self._printed.error(0, f"is not understood at {self.place}: {why}")

    def _known(self, key: str, kind: type[E], word: str) -> E:
        if word not in {member.value for member in kind} - {"unsaid", "unnamed"}:
            raise self.error(f"{key} is {word!r}, which is no {kind.__name__}")
        return kind(word)


def read_status_json(stdout: str, *, stderr: str = "", exit_code: int = 0, version: str = "") -> DrbdState:
    """The state that a JSON document tells.

    Raises:
        ParseError: no JSON, a missing or unknown key, or a state that cannot be.
    """
    printed = Printed(TOOL, NOT_A_NUMBER.sub("null", stdout), version)
    if exit_code and stdout.strip("[] \n") == "":
        return answer.nothing(printed, stderr, exit_code)
    document = printed.json()
    if exit_code or not isinstance(document, list):
        raise printed.error(0, f"is no list of resources, or one with exit code {exit_code}")
    resources = [_resource(_Entry(printed, value, f"[{at}]")) for at, value in enumerate(document)]
    if len({resource.name for resource in resources}) < len(resources):
        raise printed.error(0, "has a resource twice")
    return DrbdState(
        outcome=Outcome.RESOURCES if resources else Outcome.NOTHING_CONFIGURED,
        resources=tuple(sorted(resources, key=lambda resource: resource.name)),
        dialect=Dialect.V9,
    )


def _resource(entry: _Entry) -> Resource:
    volumes = [_volume(part) for part in entry.entries("devices")]
    peers = [_peer(part) for part in entry.entries("connections")]
    read = Resource(
        name=entry.take("name", str),
        node_id=entry.take("node-id", int),
        role=entry.member("role", Role),
        suspended=frozenset(_suspended(entry)),
        forced_io_failures="force-io-failures" in entry and entry.flag("force-io-failures"),
        write_ordering=entry.member("write-ordering", WriteOrdering),
        volumes=tuple(sorted(volumes, key=lambda volume: volume.number)),
        peers=tuple(sorted(peers, key=lambda peer: (peer.name, peer.node_id or 0))),
    )
    entry.done()
    if why := contradiction(read):
        raise entry.error(f"{read.name} {why}")
    return read


def _suspended(entry: _Entry) -> Iterable[Suspension]:
    """The reasons; drbd-utils 9.21 brought them together with ``force-io-failures``."""
    suspended = entry.flag("suspended")
    if not any(f"suspended-{reason}" in entry for reason in SUSPENDED) and "force-io-failures" not in entry:
        return [Suspension.UNNAMED] if suspended else []
    reasons = [reason for reason in SUSPENDED if entry.flag(f"suspended-{reason}")]
    if bool(reasons) != suspended or "force-io-failures" not in entry:
        raise entry.error("suspended, its reasons and force-io-failures do not fit together")
    return reasons


def _volume(entry: _Entry) -> Volume:
    volume = Volume(
        number=entry.count("volume"),
        minor=entry.count("minor"),
        disk=entry.member("disk-state", Disk),
        client=entry.said("client"),
        quorum=entry.said("quorum", since=True),
        open=entry.said("open", since=True),
        counters=_volume_counters(entry) if "size" in entry else None,
    )
    entry.done()
    return volume


def _volume_counters(entry: _Entry) -> VolumeCounters:
    return VolumeCounters(
        size_kib=entry.count("size"),
        read_kib=entry.count("read"),
        written_kib=entry.count("written"),
        al_writes=entry.count("al-writes"),
        bm_writes=entry.count("bm-writes"),
        upper_pending=entry.count("upper-pending"),
        lower_pending=entry.count("lower-pending"),
    )


def _peer(entry: _Entry) -> Peer:
    peer = Peer(
        name=entry.take("name", str),
        node_id=entry.count("peer-node-id"),
        link=entry.member("connection-state", Link),
        role=entry.member("peer-role", Role),
        congested=entry.said("congested"),
        tls=entry.said("tls", since=True),
        ap_in_flight=entry.count("ap-in-flight") if "ap-in-flight" in entry else None,
        rs_in_flight=entry.count("rs-in-flight") if "rs-in-flight" in entry else None,
        volumes=tuple(sorted((_there(part) for part in entry.entries("peer_devices")), key=lambda there: there.number)),
        paths=tuple(sorted(_paths(entry), key=lambda path: (path.local, path.remote))),
    )
    entry.done()
    return peer


def _paths(entry: _Entry) -> Iterator[Path]:
    for part in entry.entries("paths") if "paths" in entry else []:
        ends = [_address(part.entry(key)) for key in ("this_host", "remote_host")]
        yield Path(local=ends[0], remote=ends[1], established=part.flag("established"))
        part.done()


def _address(entry: _Entry) -> str:
    """An address as events2 prints it."""
    family = entry.take("family", str)
    host = entry.take("address", str) if "address" in entry else ""
    port = entry.count("port") if "port" in entry else 0
    entry.done()
    return f"{family}:[{host}]:{port}" if ":" in host else f"{family}:{host}:{port}"


def _there(entry: _Entry) -> PeerVolume:
    for key in ("has-sync-details", "has-online-verify-details"):
        entry.said(key, since=True)
    for key in RATE_MARKS:
        entry.number(key)
    volume = PeerVolume(
        number=entry.count("volume"),
        replication=entry.member("replication-state", Replication),
        disk=entry.member("peer-disk-state", Disk),
        client=entry.said("peer-client"),
        paused=entry.members("resync-suspended", Pause),
        progress=_progress(entry),
        counters=PeerCounters(
            received_kib=entry.count("received"),
            sent_kib=entry.count("sent"),
            out_of_sync_kib=entry.count("out-of-sync"),
            pending=entry.count("pending"),
            unacked=entry.count("unacked"),
        ),
    )
    entry.done()
    return volume


def _progress(entry: _Entry) -> Progress | None:
    rates = [entry.number(f"{rate} [MiB/s]") for rate in ("db1/dt1", "db0/dt0", "db/dt")]
    eta, old = entry.number("estimated-seconds-to-finish"), entry.number("resync-done")
    percent = entry.number("percent-resync-done")
    percent = old if percent is None else percent
    if percent is None:
        return None
    return Progress(percent=percent, rate_mib_s=rates[0], eta_s=None if eta == NEVER_S else eta)
