"""What a failure means beside the storage: single facts, as far as the inventory names roles and services."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from dockyard.topology import Host, Role
from tasks.drbd.failures import Setup, World, talk

PLAIN = (Role.OPENCLOUD, Role.OLLAMA, Role.LIBVIRT)
"""Roles that work on their own host and are gone with it."""


@dataclass(frozen=True, slots=True, order=True)
class Fact:
    """``what`` is true of ``subject``: facts of one kind are shown together."""

    what: str
    subject: str


def facts(setup: Setup, world: World) -> frozenset[Fact]:
    """Everything that is lost beside the storage."""
    return frozenset(
        [*_gone(setup, world), *_far(setup, world), *_unwatched(setup, world), *_unscheduled(setup, world)]
    )


def shown(found: frozenset[Fact]) -> str:
    """All facts in one sentence; ``-`` for none."""
    kinds = groupby(sorted(found), key=lambda fact: fact.what)
    return "; ".join(f"{what}: {', '.join(fact.subject for fact in same)}" for what, same in kinds) or "-"


def _gone(setup: Setup, world: World) -> Iterator[Fact]:
    for name in world.off:
        for role in setup.topology.host(name).roles.intersection(PLAIN):
            yield Fact("off", role)
        if Role.K3S_WORKER in setup.topology.host(name).roles:
            yield Fact("off", f"pods of {name}")
    for service, host in setup.topology.cluster.services.items():
        if host in world.off:
            yield Fact("off", service)


def _far(setup: Setup, world: World) -> Iterator[Fact]:
    """Services that run, and cannot be reached from anywhere in some site."""
    for service, host in setup.topology.cluster.services.items():
        for site in setup.sites if host not in world.off else ():
            lit = setup.hosts_at(site) - world.off - {host}
            if lit and not any(talk(setup, world, one, host) for one in lit):
                yield Fact(f"not reached from {site}", service)


def _unwatched(setup: Setup, world: World) -> Iterator[Fact]:
    """Hosts that are on and that no monitoring sees."""
    watching = setup.topology.with_role(Role.MONITORING)
    for host in setup.topology.hosts if watching else ():
        if host not in world.off and not _sees(setup, world, watching, host):
            yield Fact("not monitored", host)


def _unscheduled(setup: Setup, world: World) -> Iterator[Fact]:
    """K3s workers that are on and get no new pods: what runs there goes on."""
    servers = setup.topology.with_role(Role.K3S_SERVER)
    for worker in setup.topology.with_role(Role.K3S_WORKER) if servers else ():
        if worker.name not in world.off and not _sees(setup, world, servers, worker.name):
            yield Fact("no new pods", worker.name)


def _sees(setup: Setup, world: World, hosts: Sequence[Host], target: str) -> bool:
    return any(talk(setup, world, host.name, target) for host in hosts if host.name != target) or any(
        host.name == target and target not in world.off for host in hosts
    )
