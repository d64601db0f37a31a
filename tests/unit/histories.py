"""Two replicas that were written without each other, as data; parts of that can be replaced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dockyard.errors import CommandFailed
from dockyard.observe import Observed
from tasks.drbd.generations import Generations
from tasks.drbd.parted import CHANGES, PARTED, Changes, Parted, Young
from tasks.drbd.state import Disk, Link, Role
from tests.unit.replicas import (
    MIRROR,
    OTHER,
    PAIR,
    PROD,
    UNITS,
    healthy,
    observed,
    records,
    resource,
    topology,
    users,
    with_facts,
)

GIB = 2**30
CLUSTER = topology(units=UNITS)
BASE = Generations(current=0xF6E9F4E7CB17FBC8, base=0, history=(2, 6))
OURS = {
    PROD: Generations(current=0xC3C43B759EF3992C, base=BASE.current, history=BASE.history),
    MIRROR: Generations(current=0x360F09FBD22FAB40, base=BASE.current, history=BASE.history),
}
FILES = Changes(
    now=1_700_001_000,
    lost_at=1_700_000_000,
    mounted_at=1_699_000_000,
    written_at=1_700_000_500,
    used_bytes=3 * GIB,
    count=2,
    changed_bytes=5_000_000,
    newest=(Young(changed_at=1_700_000_400, size_bytes=4_990_000, path="photos/ä|b.jpg"),),
)


def apart(
    *,
    ids: dict[str, Generations | None] | None = None,
    disks: dict[str, Disk] | None = None,
    link: Link = Link.STAND_ALONE,
    writer: str = PROD,
    primaries: tuple[str, ...] = PAIR,
    room_bytes: int = GIB,
    room_on: str = "/dev/vda",
    kept: dict[str, int] | None = None,
    files: object = FILES,
    unread: str = "",
    nine: bool = False,
) -> Observed:
    """Both replicas are Primary and were written without the other; parts replaced, ``unread`` whose files are lost."""
    states: dict[str, Any] = healthy(CLUSTER, nine=nine)
    for host in PAIR:
        role = Role.PRIMARY if host in primaries else Role.SECONDARY
        disk = (disks or {}).get(host, Disk.UP_TO_DATE)
        peer = OTHER[host] if nine else None if link is Link.STAND_ALONE else "peer"
        mounted = "/dev/drbd0" if host in primaries else ""
        seen = with_facts(states[host], on_mount=mounted, immutable=not mounted)
        states[host] = replace(seen, resource=resource(role, disk, link=link, peer=peer))
    found = {
        host: Parted(
            generations={**OURS, **(ids or {})}[host],
            missing_kib=None if nine else {PROD: 272, MIRROR: 304}[host],
            disk_bytes=10 * GIB,
            room_bytes=room_bytes,
            room_on=room_on,
            kept=kept or {},
        )
        for host in PAIR
    }
    base = observed(states, records(writer), users(active=PROD))
    lost = CommandFailed(unread, ["sh"], 32, "mount: bad superblock")
    looks = {host: lost if host == unread else files for host in PAIR}
    return base.merged(Observed({host: {PARTED.name: one, CHANGES.name: looks[host]} for host, one in found.items()}))
