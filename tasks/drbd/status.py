"""Reads `drbdadm status` and `drbdsetup status` as text: short, ``--verbose``, ``--statistics``, or both.

The text is made for people, so most of it is left out when it is not remarkable. What that means:

- no ``connection:`` is Connected, no ``role:`` of a peer is Unknown, no ``quorum:`` is yes (DRBD 9 only);
- a volume of a connected peer of which nothing is said is Off and DUnknown; if the resource has only volume 0, that is
  an empty line (peer_device_status() in drbdsetup.c);
- ``--verbose`` leaves nothing out, so there a missing word is a missing line, and the state is incomplete.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from dockyard.parsing import Printed, Row
from tasks.drbd import answer, words
from tasks.drbd.judgement import contradiction
from tasks.drbd.state import Dialect, DrbdState, Outcome, Resource, Said
from tasks.drbd.words import Words

TOOL = "drbdadm status"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")

VERBOSE = {
    "resource": {"suspended"},
    "volume": {"volume", "minor"},
    "peer": {"connection", "role", "congested"},
    "peer volume": {"volume", "replication", "resync-suspended"},
}
"""What ``--verbose`` always says, in all versions."""

STATISTICS = {"volume": {"read", "written"}, "peer volume": {"received", "sent"}}

BOTH = {
    "resource": {"write-ordering"},
    "volume": {
        "size", "al-writes", "bm-writes", "upper-pending", "lower-pending", "al-suspended", "blocked",
    },
    "peer volume": {"out-of-sync", "pending", "unacked"},
}  # fmt: skip

LATER = [
    ("volume", "quorum"), ("volume", "backing_dev"), ("resource", "force-io-failures"), ("peer", "tls"),
    ("volume", "open"),
]  # fmt: skip
"""What ``--verbose`` says since drbd-utils 9.2, 9.17, 9.21, 9.28, 9.29: one of them needs all before it."""


@dataclass(slots=True)
class _Peer:
    name: str
    words: Words
    volumes: list[Words] = field(default_factory=list)

    @property
    def connected(self) -> bool:
        return self.words.text("connection", "Connected") == "Connected"


@dataclass(slots=True)
class _Resource:
    name: str
    words: Words
    volumes: list[Words] = field(default_factory=list)
    peers: list[_Peer] = field(default_factory=list)
    ended: bool = False

    def parts(self) -> Iterator[tuple[str, Words]]:
        """All words, with the kind of object that they are about."""
        yield "resource", self.words
        for volume in self.volumes:
            yield "volume", volume
        for peer in self.peers:
            yield "peer", peer.words
            for there in peer.volumes:
                yield "peer volume", there

    @property
    def verbose(self) -> bool:
        return (
            any("minor" in volume for volume in self.volumes) or "node-id" in self.words or self.says("congested", "no")
        )

    def says(self, key: str, value: str = "") -> bool:
        return any(key in part and value in ("", part.text(key)) for _, part in self.parts())

    def swallows_empty_line(self) -> bool:
        """An empty line is what is said of a peer's volume, not the end."""
        only_volume = len(self.volumes) == 1 and "volume" not in self.volumes[0]
        return only_volume and bool(self.peers) and self.peers[-1].connected and not self.peers[-1].volumes


def read_status(stdout: str, *, stderr: str = "", exit_code: int = 0, version: str = "") -> DrbdState:
    """The state that a text tells. ``stdout`` may hold colours.

    Raises:
        ParseError: a line or word that is not known, or a state that cannot be.
    """
    printed = Printed(TOOL, COLOURS.sub("", stdout), version)
    rows = printed.rows("drbdadm_status")
    drafts = _Lines(printed).read(rows)
    dialect = _dialect(rows, drafts)
    if not drafts:
        return replace(answer.nothing(printed, stderr, exit_code), complete=printed.whole, dialect=dialect)
    explained = exit_code == 0 or bool(answer.missing(stderr))
    return DrbdState(
        outcome=Outcome.RESOURCES,
        resources=tuple(_resource(draft, dialect) for draft in sorted(drafts, key=lambda draft: draft.name)),
        missing=answer.missing(stderr),
        complete=printed.whole and explained and all(draft.ended for draft in drafts) and _says_all(drafts),
        dialect=dialect,
    )


class _Lines:
    """Puts the lines into their places."""

    def __init__(self, printed: Printed) -> None:
        self._printed = printed
        self._resources: list[_Resource] = []
        self._names: set[str] = set()
        self._latest: tuple[str, Words] | None = None

    def read(self, rows: list[Row]) -> list[_Resource]:
        for row in rows:
            kind = next((kind for kind in row if row[kind] and kind != "more"), "end")
            if row["more"]:
                self._more(kind, row)
            else:
                self._add(kind, row)
        return self._resources

    def _more(self, kind: str, row: Row) -> None:
        if self._latest is None or self._latest[0] != kind:
            raise self._printed.error(row.line_number, "goes on with something that is not above it")
        self._latest[1].add(row[kind], row.line_number)

    def _add(self, kind: str, row: Row) -> None:
        self._latest = None
        if kind == "resource":
            added = Words(self._printed, row.line_number, row["resource_says"])
            if row["resource"] in self._names:
                raise added.error("is of a resource that is above it already")
            self._names.add(row["resource"])
            self._resources.append(_Resource(row["resource"], added))
            self._latest = ("resource_says", added)
        elif kind == "end":
            self._end(row)
        elif kind not in ("command", "nothing"):
            self._add_part(
                kind, Words(self._printed, row.line_number, row["peer_says" if kind == "peer" else kind]), row
            )

    def _end(self, row: Row) -> None:
        current = self._current
        if current and current.swallows_empty_line():
            current.peers[-1].volumes.append(Words(self._printed, row.line_number))
        elif current:
            current.ended = True

    def _add_part(self, kind: str, added: Words, row: Row) -> None:
        current = self._current
        if current is None or (kind == "peer_volume" and not current.peers) or (kind == "volume" and current.peers):
            raise self._printed.error(row.line_number, "is not where it belongs")
        if kind == "volume":
            current.volumes.append(added)
        elif kind == "peer_volume":
            current.peers[-1].volumes.append(added)
        else:
            current.peers.append(_Peer(row["peer"], added))
            kind = "peer_says"
        self._latest = (kind, added)

    @property
    def _current(self) -> _Resource | None:
        """The resource that is still open."""
        return self._resources[-1] if self._resources and not self._resources[-1].ended else None


def _dialect(rows: list[Row], drafts: list[_Resource]) -> Dialect:
    """DRBD 8.4 names its peer ``peer``, always says how it replicates, and has no word for what came with DRBD 9."""
    parts = [part for draft in drafts for _, part in draft.parts()]
    new = {
        "node-id",
        "client",
        "peer-client",
        "quorum",
        "open",
        "backing_dev",
        "force-io-failures",
        "tls",
        "ap-in-flight",
    }
    peers = [peer for draft in drafts for peer in draft.peers]
    if any(row["nothing"] or row["command"].startswith("drbdsetup status") for row in rows):
        return Dialect.V9
    if any(key in part for key in new for part in parts) or any(peer.name != "peer" for peer in peers):
        return Dialect.V9
    if any("peer-disk" in there and "replication" not in there for peer in peers for there in peer.volumes):
        return Dialect.V9
    old = any(row["command"] for row in rows) or any(draft.verbose for draft in drafts)
    established = any(there.text("replication", "") == "Established" for peer in peers for there in peer.volumes)
    return Dialect.V84 if old or established else Dialect.UNTOLD


def _says_all(drafts: list[_Resource]) -> bool:
    """Nothing is missing of what ``--verbose`` or ``--statistics`` say of each object."""
    verbose = any(draft.verbose for draft in drafts)
    statistics = any(draft.says("read") or draft.says("received") for draft in drafts)
    newest = max((at for at, (_, key) in enumerate(LATER) if any(draft.says(key) for draft in drafts)), default=-1)
    wanted: dict[str, set[str]] = {kind: set() for kind in VERBOSE}
    for table, used in ((VERBOSE, verbose), (STATISTICS, statistics), (BOTH, verbose and statistics)):
        for kind in table if used else ():
            wanted[kind] |= table[kind]
    for kind, key in LATER[: newest + 1] if verbose else ():
        wanted[kind].add(key)
    return all(key in part for draft in drafts for kind, part in draft.parts() for key in wanted[kind])


def _resource(draft: _Resource, dialect: Dialect) -> Resource:
    quorum = Said.YES if dialect is Dialect.V9 and not draft.verbose else Said.UNSAID
    peers = [
        words.peer(
            peer.name,
            peer.words,
            [words.peer_volume(there, connected=peer.connected) for there in peer.volumes],
            [],
        )
        for peer in draft.peers
    ]
    read = words.resource(draft.name, draft.words, [words.volume(part, quorum=quorum) for part in draft.volumes], peers)
    if why := contradiction(read):
        raise draft.words.error(why)
    return read
