"""How far the other replica was behind, out of samples that the Primary took of itself every second.

Two rules, for the two ways to be behind:

* Connected and in sync, what it lacks is what waits in the TCP send buffer (protocol A: a write is acknowledged when it
  is on the local disk and in that buffer). A queue holds what was written last, so its age is the time since so many
  bytes fewer had been written.
* From then on until a resync has ended it is as old as the oldest byte that waited when the contact broke, and lacks
  the blocks that DRBD calls out of sync. While it is a SyncTarget it cannot take over at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dockyard.errors import ParseError
from dockyard.observe import Domain
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Topology
from tasks.drbd import status
from tasks.drbd.drill.scene import STATE
from tasks.drbd.quantities import size, span
from tasks.drbd.replica import carries_replica, other_of, replication_of
from tasks.drbd.state import Peer, PeerVolume, Replication

ROWS = 24
"""How many moments a table shows at the most, beside those at which the state changed."""

_PROBE = "drill samples"
_SAMPLE = re.compile(r"at (?P<at>\d+\.\d+) (?P<waiting>\d+)\n(?P<status>.*?)\n\n(?=at |\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The Primary at one moment: ``at_s`` since boot; ``waiting_bytes`` in its sockets, ``written_bytes`` since the
    disk was attached, ``lacking_bytes`` out of sync. ``state`` is the replication state, else that of the connection.
    """

    at_s: float
    waiting_bytes: int
    written_bytes: int
    lacking_bytes: int
    state: str

    @property
    def in_sync(self) -> bool:
        """The other replica gets each write as it is made, and lacks none of the earlier ones."""
        return self.state == Replication.ESTABLISHED and not self.lacking_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """How far behind the other replica was at one moment, by the rules above."""

    at_s: float
    state: str
    behind_bytes: int
    behind_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """The most and the mean of some moments."""

    most_bytes: int
    most_s: float
    mean_bytes: int
    mean_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchUp:
    """The resync after the cut: what DRBD compared and sent, and how long that took by our samples."""

    bytes: int
    seconds: float

    @property
    def mbit(self) -> float:
        return self.bytes * 8 / 1e6 / self.seconds if self.seconds > 0 else 0.0


def _probes(_topology: Topology, _host: Host) -> Sequence[Command]:
    script = f"[ ! -s {STATE}/samples ] || cat {STATE}/samples"
    return [Command(_PROBE, ("sh", "-c", script), timeout_s=60)]


def _read(topology: Topology, host: Host, outputs: Outputs) -> Sequence[Sample]:
    return read_samples(outputs.text(_PROBE), replication_of(topology).resource, other_of(topology, host.name))


SAMPLES: Domain[Sequence[Sample]] = Domain("drill samples", _probes, _read, carries_replica)
"""What the load of a drill wrote down on this host; empty where it does not run."""


def read_samples(text: str, resource: str, other: str) -> Sequence[Sample]:
    """The samples of ``text``; one at its end that is not whole yet is left out.

    Raises:
        ParseError: something in between is no sample, or DRBD says something unknown.
    """
    found: list[Sample] = []
    end = 0
    for match in _SAMPLE.finditer(text):
        if match.start() != end:
            break
        end = match.end()
        found.append(_sample(match, resource, other))
    if "\n\nat " in text[end:]:
        raise ParseError(_PROBE, 0, text[end : end + 200], "", why="is no sample")
    return found


def _sample(match: re.Match[str], name: str, other: str) -> Sample:
    resource = status.read_status(match["status"] + "\n\n").resource(name)
    if resource is None or not resource.volumes or resource.volumes[0].counters is None:
        raise ParseError(_PROBE, 0, match[0][:200], "", why=f"does not tell of {name}")
    peer = next((one for one in resource.peers if one.name in {other, "peer"}), None)
    towards = peer.volumes[0] if peer and peer.volumes else None
    lacking_kib = towards.counters.out_of_sync_kib if towards and towards.counters else 0
    return Sample(
        at_s=float(match["at"]),
        waiting_bytes=int(match["waiting"]),
        written_bytes=resource.volumes[0].counters.written_kib * 1024,
        lacking_bytes=lacking_kib * 1024,
        state=_state(peer, towards),
    )


def _state(peer: Peer | None, towards: PeerVolume | None) -> str:
    if peer is None:
        return "StandAlone"
    return str(towards.replication) if peer.connected and towards else str(peer.link)


def moments(samples: Sequence[Sample]) -> list[Moment]:
    """How far behind the other replica was at each sample."""
    found: list[Moment] = []
    since_s = samples[0].at_s if samples else 0.0
    for number, one in enumerate(samples):
        if one.in_sync:
            since_s = _written_at(samples[: number + 1], one.written_bytes - one.waiting_bytes)
        missing = one.waiting_bytes if one.in_sync else one.lacking_bytes
        behind_s = one.at_s - since_s if missing else 0.0
        found.append(Moment(at_s=one.at_s, state=one.state, behind_bytes=missing, behind_s=behind_s))
    return found


def _written_at(samples: Sequence[Sample], position: int) -> float:
    """When so many bytes had been written, in a straight line between two samples; at the latest now."""
    later = samples[-1]
    for earlier in samples[-2::-1]:
        if earlier.written_bytes <= position:
            step = later.written_bytes - earlier.written_bytes
            share = (position - earlier.written_bytes) / step if step else 1.0
            return earlier.at_s + min(1.0, share) * (later.at_s - earlier.at_s)
        later = earlier
    return later.at_s


def lag(found: Sequence[Moment]) -> Lag | None:
    """The most and the mean; None of no moments."""
    if not found:
        return None
    return Lag(
        most_bytes=max(one.behind_bytes for one in found),
        most_s=round(max(one.behind_s for one in found), 1),
        mean_bytes=round(sum(one.behind_bytes for one in found) / len(found)),
        mean_s=round(sum(one.behind_s for one in found) / len(found), 1),
    )


def while_connected(found: Sequence[Moment]) -> Sequence[Moment]:
    """The moments before the contact broke."""
    return found[: next((at for at, one in enumerate(found) if one.state != Replication.ESTABLISHED), len(found))]


SYNCING = {str(Replication.SYNC_SOURCE), str(Replication.PAUSED_SYNC_S)}


def catch_up(samples: Sequence[Sample]) -> CatchUp | None:
    """The resync between the first sample that shows it and the one that shows its end; None: it was too short to see.

    New writes go over beside it and are not counted.
    """
    during = [at for at, one in enumerate(samples) if one.state in SYNCING]
    if not during or during[-1] + 1 == len(samples):
        return None
    first, last, after = samples[during[0]], samples[during[-1]], samples[during[-1] + 1]
    if len(during) > 1 and first.lacking_bytes > last.lacking_bytes:
        return CatchUp(bytes=first.lacking_bytes - last.lacking_bytes, seconds=last.at_s - first.at_s)
    return CatchUp(bytes=first.lacking_bytes - after.lacking_bytes, seconds=after.at_s - first.at_s)


def rows(found: Sequence[Moment]) -> Iterator[dict[str, str]]:
    """A table of `ROWS` moments or so; each change of state is among them."""
    step = max(1, len(found) // ROWS)
    for number, one in enumerate(found):
        if number % step == 0 or one.state != found[number - 1].state or number == len(found) - 1:
            yield {
                "at": f"{one.at_s - found[0].at_s:.0f} s",
                "replication": one.state,
                "behind": size(one.behind_bytes),
                "age": span(one.behind_s),
            }
