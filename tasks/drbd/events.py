"""Reads `drbdsetup events2 --now`, with or without ``--statistics``: one line an object, ``exists -`` at the end.

It is the machine-readable form where the kernel has DRBD 8.4, for which `drbdsetup status` has no JSON. Changes, which
the command prints without ``--now``, are refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from dockyard.parsing import Printed, Row
from tasks.drbd import answer, words
from tasks.drbd.judgement import contradiction
from tasks.drbd.state import Dialect, DrbdState, Outcome, Peer, PeerVolume, Resource, Said
from tasks.drbd.words import Words

TOOL = "drbdsetup events2"

NEW = ("may_promote:", "quorum:", "client:", "backing_dev:", "force-io-failures:", "ap-in-flight:")
"""What only DRBD 9 says."""


def read_events(stdout: str, *, stderr: str = "", exit_code: int = 0, version: str = "") -> DrbdState:
    """The state that the lines tell; without the last line it is incomplete.

    Raises:
        ParseError: a line or word that is not known, an object without the one that it belongs to, or a state that
            cannot be.
    """
    printed = Printed(TOOL, stdout, version)
    rows = printed.rows("drbdsetup_events2")
    if exit_code and not rows:
        return answer.nothing(printed, stderr, exit_code)
    objects = _Objects(printed, [row for row in rows if not row["last"]])
    resources = tuple(objects.resources())
    return DrbdState(
        outcome=Outcome.RESOURCES if resources else Outcome.NOTHING_CONFIGURED,
        resources=resources,
        missing=answer.missing(stderr),
        complete=printed.whole
        and exit_code == 0
        and [bool(row["last"]) for row in rows].count(True) == 1
        and bool(rows[-1]["last"]),
        dialect=_dialect(rows),
    )


def _dialect(rows: list[Row]) -> Dialect:
    if not any(row["object"] for row in rows):
        return Dialect.UNTOLD
    return Dialect.V9 if any(word in row["says"] for row in rows for word in NEW) else Dialect.V84


class _Objects:
    """The objects by kind and by what they belong to."""

    def __init__(self, printed: Printed, rows: list[Row]) -> None:
        self._printed = printed
        self._names: dict[str, Words] = {}
        self._volumes: list[tuple[str, Words]] = []
        self._peers: dict[tuple[str, str], Words] = {}
        self._there: list[tuple[tuple[str, str], Words]] = []
        self._paths: list[tuple[tuple[str, str], Words]] = []
        for row in rows:
            self._put(row, Words(printed, row.line_number, row["says"]))

    def _put(self, row: Row, said: Words) -> None:
        name, peer = row["name"], (row["name"], said.text("conn-name", ""))
        if row["object"] == "resource":
            self._new(said, name in self._names)
            self._names[name] = said
        elif row["object"] == "device":
            self._volumes.append((name, said))
        elif row["object"] == "connection":
            self._new(said, peer in self._peers)
            self._peers[peer] = said
        else:
            (self._there if row["object"] == "peer-device" else self._paths).append((peer, said))

    @staticmethod
    def _new(said: Words, known: bool) -> None:
        if known:
            raise said.error("is there for the second time")

    def resources(self) -> Iterator[Resource]:
        """In order of their names."""
        self._all_belong()
        for name, said in sorted(self._names.items()):
            volumes = [words.volume(part, quorum=Said.UNSAID) for owner, part in self._volumes if owner == name]
            peers = [self._peer(key, part) for key, part in self._peers.items() if key[0] == name]
            read = words.resource(name, said, volumes, peers)
            if why := contradiction(read):
                raise said.error(why)
            yield read

    def _all_belong(self) -> None:
        for owner, part in [*self._volumes, *((key[0], said) for key, said in self._peers.items())]:
            if owner not in self._names:
                raise part.error("is of a resource that is not there")
        for key, part in [*self._there, *self._paths]:
            if key not in self._peers:
                raise part.error("is of a connection that is not there")

    def _peer(self, key: tuple[str, str], said: Words) -> Peer:
        connected = said.text("connection") == "Connected"
        there = [self._peer_volume(part, connected) for owner, part in self._there if owner == key]
        paths = [
            words.path(part) for owner, part in self._paths if owner == key and part.number("peer-node-id", 0) >= 0
        ]
        return words.peer(key[1], said, there, paths)

    @staticmethod
    def _peer_volume(said: Words, connected: bool) -> PeerVolume:
        said.number("peer-node-id", 0)
        return words.peer_volume(said, connected=connected)
