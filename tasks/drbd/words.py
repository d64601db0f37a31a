"""The ``key:value`` words that DRBD's commands print about one object, and what is made of them.

`drbdadm status` and `drbdsetup events2` use the same words for the same things.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TypeVar

from dockyard.errors import ParseError
from dockyard.parsing import Printed
from tasks.drbd.state import (
    Blocked,
    Disk,
    Link,
    Path,
    Pause,
    Peer,
    PeerCounters,
    PeerVolume,
    Progress,
    Promotion,
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

OUR_OWN = {"unsaid", "unnamed"}
"""Values of our enumerations that no tool says."""

RATE_MARKS = [
    "rs-total", "rs-dt-start-ms", "rs-paused-ms", "rs-dt0-ms", "rs-db0-sectors", "rs-dt1-ms", "rs-db1-sectors",
    "rs-failed", "rs-same-csum", "ov-start-sector", "ov-stop-sector", "ov-position", "ov-left", "ov-skipped", "want",
    "dbdt", "dbdt0",
]  # fmt: skip
"""What ``--verbose`` given twice adds: how the kernel computes its rates. Checked to be numbers, and not kept."""


class Words:
    """What was said about one object, on one line or several."""

    def __init__(self, printed: Printed, line_number: int, words: str = "") -> None:
        self.line_number = line_number
        self._printed = printed
        self._said: dict[str, tuple[str, int]] = {}
        self._used: set[str] = set()
        self.add(words, line_number)

    def add(self, words: str, line_number: int) -> None:
        """More of them; raises ParseError for one that was said before."""
        for word in words.split():
            key, _, value = word.partition(":")
            if key in self._said:
                raise self._printed.error(line_number, f"says {key}: for the second time")
            self._said[key] = (value, line_number)

    def __contains__(self, key: str) -> bool:
        return key in self._said

    def text(self, key: str, default: str | None = None) -> str:
        """The value of a word; raises ParseError when it is missing and there is no default."""
        self._used.add(key)
        if key in self._said:
            return self._said[key][0]
        if default is None:
            raise self._printed.error(self.line_number, f"says no {key}:")
        return default

    def member(self, key: str, kind: type[E], default: E | None = None) -> E:
        """A value that is a member of an enumeration."""
        if default is not None and key not in self:
            return default
        return self._known(key, kind, self.text(key))

    def members(self, key: str, kind: type[E]) -> frozenset[E]:
        """Values that are set apart by commas; ``no`` and a missing word are none of them."""
        words = self.text(key, "no")
        return frozenset(self._known(key, kind, word) for word in words.split(",") if words != "no")

    def said(self, key: str) -> Said:
        """Yes or no."""
        return self.member(key, Said, Said.UNSAID)

    def number(self, key: str, default: int | None = None) -> int:
        """A count."""
        return self.signed(key, default, r"\d{1,20}")

    def signed(self, key: str, default: int | None = None, form: str = r"-?\d{1,20}") -> int:
        """A number, which may be negative."""
        if default is not None and key not in self:
            return default
        value = self.text(key)
        if not re.fullmatch(form, value, flags=re.ASCII):
            raise self._error(key, "which is no number")
        return int(value)

    def decimal(self, key: str) -> float | None:
        """A number with a fraction; None when it is missing or ``nan``. A percent sign may follow."""
        value = self.text(key, "nan")
        if re.fullmatch(r"-?(nan|inf)%?", value):
            return None
        if not re.fullmatch(r"-?\d{1,20}(\.\d{1,9})?%?", value, flags=re.ASCII):
            raise self._error(key, "which is no number")
        return float(value.removesuffix("%"))

    def all_used(self) -> None:
        """Raises ParseError for a word that nobody asked for."""
        for key in self._said.keys() - self._used:
            raise self._error(key, "which is not known here")

    def error(self, why: str) -> ParseError:
        """The error about the first line of the object."""
        return self._printed.error(self.line_number, why)

    def _known(self, key: str, kind: type[E], word: str) -> E:
        if word in OUR_OWN:
            raise self._error(key, f"which is no {kind.__name__}")
        return self._printed.member(kind, word, self._said[key][1])

    def _error(self, key: str, why: str) -> ParseError:
        value, line_number = self._said[key]
        return self._printed.error(line_number, f"says {key}:{value}, {why}")


def resource(name: str, words: Words, volumes: list[Volume], peers: list[Peer]) -> Resource:
    """A resource of its own words and of what belongs to it; volumes and peers are put in order.

    ``weak`` was said by prereleases of DRBD 9 only, which then gave up the idea.
    """
    words.said("weak")
    said = Resource(
        name=name,
        node_id=words.number("node-id") if "node-id" in words else None,
        role=words.member("role", Role),
        suspended=words.members("suspended", Suspension),
        forced_io_failures=words.said("force-io-failures") is Said.YES,
        write_ordering=words.member("write-ordering", WriteOrdering, WriteOrdering.UNSAID),
        volumes=tuple(sorted(volumes, key=lambda volume: volume.number)),
        peers=tuple(sorted(peers, key=lambda peer: (peer.name, peer.node_id or 0))),
        promotion=_promotion(words),
    )
    words.all_used()
    return said


def _promotion(words: Words) -> Promotion | None:
    if "may_promote" not in words:
        return None
    return Promotion(possible=words.said("may_promote") is Said.YES, score=words.number("promotion_score"))


def volume(words: Words, *, quorum: Said) -> Volume:
    """One's own volume; ``quorum`` is what it means when no word speaks of it."""
    device = words.text("backing_dev", "none")
    said = Volume(
        number=words.number("volume", 0),
        minor=words.number("minor") if "minor" in words else None,
        disk=words.member("disk", Disk),
        client=words.said("client"),
        quorum=words.member("quorum", Said, quorum),
        open=words.said("open"),
        backing_device=None if device == "none" else device,
        blocked=frozenset({Blocked.NO}) if words.text("blocked", "") == "no" else words.members("blocked", Blocked),
        counters=_volume_counters(words),
    )
    words.all_used()
    return said


def _volume_counters(words: Words) -> VolumeCounters | None:
    if "read" not in words:
        return None
    return VolumeCounters(
        size_kib=words.number("size", 0),
        read_kib=words.number("read"),
        written_kib=words.number("written"),
        al_writes=words.number("al-writes", 0),
        bm_writes=words.number("bm-writes", 0),
        upper_pending=words.number("upper-pending", 0),
        lower_pending=words.number("lower-pending", 0),
        al_suspended=words.said("al-suspended"),
    )


def peer(name: str, words: Words, volumes: list[PeerVolume], paths: list[Path]) -> Peer:
    """A peer. The short text says ``connection:`` of those that are not connected and ``role:`` of those that are.

    Prereleases of DRBD 9 had one path, ``local:`` and ``peer:``, among the words of the connection.
    """
    link = words.member("connection", Link, Link.CONNECTED)
    node_id = "peer-node-id" if "peer-node-id" in words else "node-id"
    if "local" in words:
        paths = [Path(local=words.text("local"), remote=words.text("peer"), established=link is Link.CONNECTED)]
    said = Peer(
        name=name,
        node_id=words.number(node_id) if node_id in words else None,
        link=link,
        role=words.member("role", Role, None if link is Link.CONNECTED else Role.UNKNOWN),
        tls=words.said("tls"),
        congested=words.said("congested"),
        ap_in_flight=words.number("ap-in-flight") if "ap-in-flight" in words else None,
        rs_in_flight=words.number("rs-in-flight") if "rs-in-flight" in words else None,
        volumes=tuple(sorted(volumes, key=lambda volume: volume.number)),
        paths=tuple(sorted(paths, key=lambda path: (path.local, path.remote))),
    )
    words.all_used()
    return said


def peer_volume(words: Words, *, connected: bool) -> PeerVolume:
    """One volume towards a peer. Short texts leave out ``Off``, ``Established`` and an unknown disk.

    Prereleases of DRBD 9 said ``disk:`` for ``peer-disk:``.
    """
    key = "disk" if "disk" in words else "peer-disk"
    disk = words.member(key, Disk, None if "replication" in words else Disk.UNKNOWN)
    unsaid = Replication.ESTABLISHED if connected and disk is not Disk.UNKNOWN else Replication.OFF
    said = PeerVolume(
        number=words.number("volume", 0),
        replication=words.member("replication", Replication, unsaid),
        disk=disk,
        client=words.said("peer-client"),
        paused=words.members("resync-suspended", Pause),
        progress=_progress(words),
        counters=_peer_counters(words),
    )
    words.all_used()
    return said


def _progress(words: Words) -> Progress | None:
    for key in RATE_MARKS:
        words.decimal(key)
    percent, rate, eta = words.decimal("done"), words.decimal("dbdt1"), words.decimal("eta")
    return None if percent is None else Progress(percent=percent, rate_mib_s=rate, eta_s=eta)


def _peer_counters(words: Words) -> PeerCounters | None:
    if "received" not in words:
        return None
    return PeerCounters(
        received_kib=words.number("received"),
        sent_kib=words.number("sent"),
        out_of_sync_kib=words.number("out-of-sync", 0),
        pending=words.number("pending", 0),
        unacked=words.number("unacked", 0),
    )


def path(words: Words) -> Path:
    """One way to a peer."""
    said = Path(
        local=words.text("local"),
        remote=words.text("peer"),
        established=words.said("established") is Said.YES,
    )
    words.all_used()
    return said
