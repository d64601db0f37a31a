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
    if len({(peer.name, peer.node_id) for peer in resource.peers}) < len(resource.peers):
        yield "has a peer twice"
    for peer in resource.peers:
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

    ``r0/0 disk``, ``quorum`` and ``requests`` are of this host's volume, ``r0 io`` whether the resource takes I/O at
    all, ``r0 dock-mirror connection`` of a peer; ``r0/0 dock-mirror disk``, ``replication`` and ``same data`` of a
    volume there. The text without ``--statistics`` does not count differing blocks: there is no ``same data`` in it.
    """
    levels = {"drbd": Level.HEALTHY if state.outcome is Outcome.RESOURCES else Level.FAILED}
    levels |= {f"{name} up": Level.FAILED for name in state.missing}
    for resource in state.resources:
        levels |= dict(_levels(resource))
    return levels if state.complete else dict.fromkeys(levels, Level.UNKNOWN)


def _levels(resource: Resource) -> Iterator[tuple[str, Level]]:
    stopped = resource.suspended or resource.forced_io_failures
    yield f"{resource.name} io", Level.FAILED if stopped else Level.HEALTHY
    if not resource.peers:
        yield f"{resource.name} connection", Level.FAILED
    for volume in resource.volumes:
        name = f"{resource.name}/{volume.number}"
        yield f"{name} disk", _disk(volume.disk, volume.client)
        yield f"{name} quorum", Level.FAILED if volume.quorum is Said.NO else _said(volume.quorum is Said.YES)
        yield f"{name} requests", _said(Blocked.NO in volume.blocked) if not _waits(volume) else Level.DEGRADED
    for peer in resource.peers:
        yield f"{resource.name} {peer.label} connection", _link(peer)
        for there in peer.volumes:
            yield from _levels_there(f"{resource.name}/{there.number} {peer.label}", there)


def _levels_there(name: str, volume: PeerVolume) -> Iterator[tuple[str, Level]]:
    yield f"{name} disk", _disk(volume.disk, volume.client)
    established = volume.replication is Replication.ESTABLISHED and not volume.paused
    yield f"{name} replication", Level.HEALTHY if established else Level.DEGRADED
    if volume.counters and volume.replication is not Replication.OFF:
        same = volume.counters.out_of_sync_kib == 0
        yield f"{name} same data", Level.HEALTHY if same else Level.DEGRADED


def _said(said: bool) -> Level:
    return Level.HEALTHY if said else Level.UNKNOWN


def _waits(volume: Volume) -> bool:
    return bool(volume.blocked - {Blocked.NO})


def _disk(disk: Disk, client: Said) -> Level:
    if disk is Disk.DISKLESS and client is Said.YES:
        return Level.HEALTHY
    return DISKS.get(disk, Level.FAILED)


def _link(peer: Peer) -> Level:
    if peer.link in BROKEN_LINKS:
        return Level.FAILED
    return Level.HEALTHY if peer.connected and peer.congested is not Said.YES else Level.DEGRADED


def comparable(state: DrbdState) -> DrbdState:
    """The state as far as each of the outputs can say it, and without all that moves from one command to the next.

    Left out: numbers, counters, progress, congestion; volumes of peers that are not connected; a StandAlone peer without
    a name, which is one of DRBD 8.4; which resources that are down were asked for. Not said and no are the same for
    clients, not said and yes for quorum.
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
