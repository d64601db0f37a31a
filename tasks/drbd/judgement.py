"""What follows from a state: whether it can be, how well things stand, and what every output can say of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dockyard.standing import Level, Standing
from tasks.drbd.state import (
    Blocked,
    Disk,
    DrbdState,
    Link,
    Outcome,
    Peer,
    PeerVolume,
    Replication,
    Resource,
    Role,
    Said,
    Suspension,
    Volume,
    WriteOrdering,
)

UNSEEN = {Disk.INCONSISTENT, Disk.OUTDATED, Disk.UNKNOWN}
"""All that is believed of a disk without replication (sanitize_state() in drbd_state.c)."""

DISKS = {
    Disk.UP_TO_DATE: Level.HEALTHY,
    Disk.CONSISTENT: Level.DEGRADED,
    Disk.ATTACHING: Level.DEGRADED,
    Disk.NEGOTIATING: Level.DEGRADED,
    Disk.UNKNOWN: Level.UNKNOWN,
}
"""All others hold no good data: FAILED."""

SAID = {Said.YES: Level.HEALTHY, Said.NO: Level.FAILED, Said.UNKNOWN: Level.UNKNOWN, Said.UNSAID: Level.UNKNOWN}

BROKEN_LINKS = {Link.STAND_ALONE, Link.DISCONNECTING, Link.PROTOCOL_ERROR}
"""Links that do not come back by themselves; all others but ``Connected`` are on their way."""

NOTHING_UP = {Outcome.NOTHING_CONFIGURED, Outcome.NO_RESOURCES_DEFINED, Outcome.NO_SUCH_RESOURCE}


def contradiction(resource: Resource) -> str:
    """Why there can be no such resource; ``""`` when it is well formed."""
    return next(_contradictions(resource), "")


def _contradictions(resource: Resource) -> Iterator[str]:
    numbers = [volume.number for volume in resource.volumes]
    if len(set(numbers)) < len(numbers):
        yield "has a volume twice"
    if len({(peer.name, peer.node_id, peer.paths) for peer in resource.peers}) < len(resource.peers):
        yield "has a peer twice"
    for peer in resource.peers:
        yield from _contradictions_of(peer, numbers)


def _contradictions_of(peer: Peer, numbers: list[int]) -> Iterator[str]:
    seen = [volume.number for volume in peer.volumes]
    if len(set(seen)) < len(seen):
        yield f"has a volume of {peer.label} twice"
    if set(seen) - set(numbers):
        yield f"has a volume of {peer.label} and not its own"
    if peer.connected and set(seen) != set(numbers):
        yield f"says not of every volume how it is on {peer.label}, which is connected"
    if not peer.connected and peer.role is not Role.UNKNOWN:
        yield f"knows the role of {peer.label}, which is not connected"
    if any(_impossible(peer, volume) for volume in peer.volumes):
        yield f"knows more of the disk of {peer.label} than it can without replication"


def _impossible(peer: Peer, volume: PeerVolume) -> bool:
    off = volume.replication is Replication.OFF
    return not (peer.connected or off) or (off and volume.disk not in UNSEEN)


def standing(state: DrbdState) -> Standing:
    """How well everything stands that the answer speaks of.

    Of the resource ``r0 io`` (does it take I/O at all), ``r0 connection`` (only if there is no peer, which is how
    DRBD 8.4 shows StandAlone); of this host's volume ``r0/0 disk`` or ``client``, ``quorum`` and ``requests``; of a
    peer ``r0 dock-mirror connection`` and ``traffic``; of a volume there ``r0/0 dock-mirror disk`` or ``client``,
    ``replication`` and ``same data`` (no block is known to differ; the text without ``--statistics`` does not count
    them). Faults that are only spoken of when they are there are things of their own: ``failing io``, ``resync``.

    Each level comes from one word, so that no two lines that changed places make one thing better.
    """
    levels = {"drbd": Level.HEALTHY if state.outcome is Outcome.RESOURCES else Level.FAILED}
    levels |= {f"{name} up": Level.FAILED for name in state.missing}
    for resource in state.resources:
        levels |= dict(_levels(resource))
    return levels if state.complete else dict.fromkeys(levels, Level.UNKNOWN)


def _levels(resource: Resource) -> Iterator[tuple[str, Level]]:
    yield f"{resource.name} io", Level.FAILED if resource.suspended else Level.HEALTHY
    if resource.forced_io_failures:
        yield f"{resource.name} failing io", Level.FAILED
    if not resource.peers:
        yield f"{resource.name} connection", Level.FAILED
    for volume in resource.volumes:
        name = f"{resource.name}/{volume.number}"
        yield _disk(name, volume)
        yield f"{name} quorum", SAID[volume.quorum]
        waits = volume.blocked - {Blocked.NO}
        yield f"{name} requests", Level.DEGRADED if waits else _said(Blocked.NO in volume.blocked)
    for peer in resource.peers:
        name = f"{resource.name} {peer.label}"
        yield f"{name} connection", _link(peer.link)
        yield f"{name} traffic", Level.DEGRADED if peer.congested is Said.YES else _said(peer.congested is Said.NO)
        for there in peer.volumes:
            yield from _levels_there(f"{resource.name}/{there.number} {peer.label}", there)


def _levels_there(name: str, volume: PeerVolume) -> Iterator[tuple[str, Level]]:
    yield _disk(name, volume)
    established = volume.replication is Replication.ESTABLISHED
    yield f"{name} replication", Level.HEALTHY if established else Level.DEGRADED
    if volume.paused:
        yield f"{name} resync", Level.DEGRADED
    if volume.counters:
        yield f"{name} same data", Level.DEGRADED if volume.counters.out_of_sync_kib else Level.HEALTHY


def _disk(name: str, volume: Volume | PeerVolume) -> tuple[str, Level]:
    if volume.disk is Disk.DISKLESS and volume.client is Said.YES:
        return f"{name} client", Level.HEALTHY
    return f"{name} disk", DISKS.get(volume.disk, Level.FAILED)


def _said(said: bool) -> Level:
    return Level.HEALTHY if said else Level.UNKNOWN


def _link(link: Link) -> Level:
    if link in BROKEN_LINKS:
        return Level.FAILED
    return Level.HEALTHY if link is Link.CONNECTED else Level.DEGRADED


def comparable(state: DrbdState) -> DrbdState:
    """The state as far as each of the outputs can say it, and without all that moves from one command to the next.

    Left out: numbers, counters, progress, congestion; volumes of peers that are not connected; a StandAlone peer
    without a name, which is one of DRBD 8.4; which resources that are down were asked for. Not said and no are the same
    for clients, not said and yes for quorum.
    """
    outcome = Outcome.NOTHING_CONFIGURED if state.outcome in NOTHING_UP else state.outcome
    return replace(
        state, outcome=outcome, missing=(), resources=tuple(_plain(resource) for resource in state.resources)
    )


def _plain(resource: Resource) -> Resource:
    return Resource(
        name=resource.name,
        role=resource.role,
        suspended=frozenset({Suspension.UNNAMED}) if resource.suspended else frozenset(),
        forced_io_failures=resource.forced_io_failures,
        write_ordering=WriteOrdering.UNSAID,
        volumes=tuple(_plain_volume(volume) for volume in resource.volumes),
        peers=tuple(_plain_peer(peer) for peer in resource.peers if peer.name or peer.link is not Link.STAND_ALONE),
    )


def _plain_volume(volume: Volume) -> Volume:
    return Volume(
        number=volume.number,
        disk=volume.disk,
        client=_yes(volume.client),
        quorum=Said.NO if volume.quorum is Said.NO else Said.YES,
    )


def _plain_peer(peer: Peer) -> Peer:
    seen = peer.volumes if peer.connected else ()
    return Peer(name=peer.name, link=peer.link, role=peer.role, volumes=tuple(_plain_there(volume) for volume in seen))


def _plain_there(volume: PeerVolume) -> PeerVolume:
    return PeerVolume(
        number=volume.number,
        replication=volume.replication,
        disk=volume.disk,
        client=_yes(volume.client),
        paused=volume.paused,
    )


def _yes(said: Said) -> Said:
    return Said.YES if said is Said.YES else Said.NO
