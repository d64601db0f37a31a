"""Directions that fail without a cause on a host: one finding per host or pair of sites that is cut off, not twenty."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from dockyard.findings import Cause, Finding
from dockyard.topology import Topology
from tasks.wireguard.directions import Direction


def unexplained(topology: Topology, judged: Sequence[Direction], failing: Sequence[Direction]) -> list[Finding]:
    """Findings for ``failing``, out of all directions that were ``judged``.

    A host all of whose directions are dead is one finding; so are two sites between which every direction is dead.
    """
    found: list[Finding] = []
    left = list(failing)
    for fault, host, between in _regions(topology, judged):
        dead = [direction for direction in left if direction in between and not direction.answered]
        if len(dead) == len(between) and len({direction.source for direction in dead}) > 2:
            found.append(_cut(host, fault, dead))
            left = [direction for direction in left if direction not in dead]
    return [*found, *map(_single, left)]


def _regions(topology: Topology, judged: Sequence[Direction]) -> list[tuple[str, str, list[Direction]]]:
    """(fault, host, directions) of what can be cut off as a whole: each host, then each pair of sites."""
    site = {host.name: host.site for host in topology.hosts.values()}
    alone = [
        (
            "nobody gets through to this host, nor it to anybody",
            host,
            [d for d in judged if host in {d.source, d.target}],
        )
        for host in topology.hosts
    ]
    between = [
        (one, other, [d for d in judged if {site[d.source], site[d.target]} == {one, other}])
        for one, other in combinations(dict.fromkeys(site.values()), 2)
    ]
    return [
        *alone,
        *(
            (f"nothing gets through between the sites {one} and {other}", d[0].source, d)
            for one, other, d in between
            if d
        ),
    ]


def _cut(host: str, fault: str, dead: Sequence[Direction]) -> Finding:
    return Finding(
        cause=Cause.MESH,
        host=host,
        fault=fault,
        evidence=f"{len(dead)} directions are dead; {dead[0]}: {dead[0].evidence}",
        advice=dead[0].advice,
    )


def _single(direction: Direction) -> Finding:
    narrow = direction.answered and not direction.mtu_proven
    return Finding(
        cause=Cause.MTU if narrow else Cause.MESH,
        host=direction.source,
        subject=direction.target,
        fault=f"to {direction.target}: {direction.faults[0]}",
        evidence=direction.evidence,
        advice=direction.advice,
    )
