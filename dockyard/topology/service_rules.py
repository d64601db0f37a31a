"""What must be true of DNS, Ollama and the exposed ports, and of who shares a host with whom."""

from __future__ import annotations

from collections.abc import Iterator

from dockyard.errors import Problem
from dockyard.topology.draft import Draft, Rule
from dockyard.topology.model import Role

_HUNGRY = {Role.OLLAMA, Role.LIBVIRT}
_KEPT_CLEAR = {Role.K3S_SERVER, Role.K3S_WORKER, Role.DRBD_PRIMARY, Role.DRBD_SECONDARY, Role.ARBITRATOR}


def corner(draft: Draft) -> Iterator[Problem]:
    """Ollama and libvirt take CPU and memory in bursts: they stay away from workers, replicas and the quorum."""
    for host in draft.hosts.values():
        for guest in sorted(host.roles & _HUNGRY):
            if kept := sorted(host.roles & _KEPT_CLEAR):
                yield Problem(draft.place(host.name, "roles"), f"{guest} must not share a host with {', '.join(kept)}")


def named_hosts(draft: Draft) -> Iterator[Problem]:
    """DNS and Ollama are given to, and allowed for, hosts that exist."""
    dns, ollama = (draft.cluster.dns, draft.cluster.ollama) if draft.cluster else (None, None)
    if dns and dns.host and dns.host not in draft.names:
        yield Problem("defaults.cluster.dns.host", f"there is no host {dns.host}")
    for at, name in enumerate(ollama.allow if ollama else ()):
        if name not in draft.names:
            yield Problem(f"defaults.cluster.ollama.allow[{at}]", f"there is no host {name}")
    if ollama and draft.complete and not draft.having(Role.OLLAMA):
        yield Problem("defaults.cluster.ollama", "no host has the role ollama")


def exposed_twice(draft: Draft) -> Iterator[Problem]:
    """A port has one reason, for a host or for all."""
    everywhere = draft.cluster.exposed if draft.cluster else ()
    shared = {(one.port, one.proto) for one in everywhere}
    if len(shared) < len(everywhere):
        yield Problem("defaults.cluster.exposed", "names a port twice")
    for name, host in draft.hosts.items():
        own = [(one.port, one.proto) for one in host.exposed]
        if len(set(own)) < len(own) or shared & set(own):
            yield Problem(draft.place(name, "exposed"), "names a port twice (defaults.cluster.exposed counts too)")


SERVICE_RULES: tuple[Rule, ...] = (corner, named_hosts, exposed_twice)
