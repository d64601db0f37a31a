"""Reads `drbdsetup events2 --now`, with or without ``--statistics``: one line an object, ``exists -`` at the end.

It is the machine-readable form where the kernel has DRBD 8.4, for which `drbdsetup status` has no JSON. Changes, which
the command prints without ``--now``, are refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from dockyard.parsing import Printed, Row
from tasks.drbd import answer, words
from tasks.drbd.judgement import contradiction
from tasks.drbd.state import Dialect, DrbdState, Outcome, Peer, Resource, Said
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
    ends = [row.line_number for row in rows if row["last"]]
    resources = tuple(_Objects(printed, [row for row in rows if not row["last"]]).resources())
    return DrbdState(
        outcome=Outcome.RESOURCES if resources else Outcome.NOTHING_CONFIGURED,
        resources=resources,
        missing=answer.missing(stderr),
        complete=printed.whole and exit_code == 0 and ends == [len(printed.lines)],
        dialect=_dialect(rows),
    )


def _dialect(rows: list[Row]) -> Dialect:
    if not any(row["object"] for row in rows):
        return Dialect.UNTOLD
    return Dialect.V9 if any(word in row["says"] for row in rows for word in NEW) else Dialect.V84


Key = tuple[str, str]
"""The names of a resource and of a connection."""


class _Objects:
    """The objects by kind and by what they belong to."""

    def __init__(self, printed: Printed, rows: list[Row]) -> None:
        self._names: dict[str, Words] = {}
        self._peers: dict[str, dict[Key, Words]] = defaultdict(dict)
        self._volumes: dict[str, list[Words]] = defaultdict(list)
        self._there: dict[Key, list[Words]] = defaultdict(list)
        self._paths: dict[Key, list[Words]] = defaultdict(list)
        for row in rows:
            self._put(row, Words(printed, row.line_number, row["says"]))
        self._all_belong()

    def _put(self, row: Row, said: Words) -> None:
        name, key = row["name"], (row["name"], said.text("conn-name", ""))
        if (row["object"] == "resource" and name in self._names) or (
            row["object"] == "connection" and key in self._peers[name]
        ):
            raise said.error("is there for the second time")
        match row["object"]:
            case "resource":
                self._names[name] = said
            case "device":
                self._volumes[name].append(said)
            case "connection":
                self._peers[name][key] = said
            case "peer-device":
                self._there[key].append(said)
            case _:
                self._paths[key].append(said)

    def _all_belong(self) -> None:
        for name in [*self._volumes, *self._peers]:
            if name not in self._names:
                first = [*self._volumes[name], *self._peers[name].values()][0]
                raise first.error("is of a resource that is not there")
        for key in [*self._there, *self._paths]:
            if key not in self._peers.get(key[0], {}):
                first = [*self._there[key], *self._paths[key]][0]
                raise first.error("is of a connection that is not there")

    def resources(self) -> Iterator[Resource]:
        """In order of their names."""
        for name, said in sorted(self._names.items()):
            volumes = [words.volume(part, quorum=Said.UNSAID) for part in self._volumes[name]]
            peers = [self._peer(key, part) for key, part in self._peers[name].items()]
            read = words.resource(name, said, volumes, peers)
            if why := contradiction(read):
                raise said.error(why)
            yield read

    def _peer(self, key: Key, said: Words) -> Peer:
        connected = said.text("connection") == "Connected"
        for part in [*self._there[key], *self._paths[key]]:
            part.number("peer-node-id", 0)
        there = [words.peer_volume(part, connected=connected) for part in self._there[key]]
        return words.peer(key[1], said, there, [words.path(part) for part in self._paths[key]])
