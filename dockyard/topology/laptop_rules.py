"""What must be true of the laptops in the mesh, in the manner of `dockyard.topology.rules`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address

from dockyard.errors import Problem
from dockyard.topology.draft import Draft, Rule
from dockyard.topology.model import Laptop

_LAPTOPS = "defaults.cluster.wireguard.laptops"


def laptops_of(draft: Draft) -> Mapping[str, Laptop]:
    """The laptops, as far as they could be read."""
    return (draft.cluster.wireguard.laptops if draft.cluster else None) or {}


def taken_addresses(draft: Draft) -> Iterator[tuple[str, IPv4Address]]:
    """(path, mesh address) of every host, then of every laptop."""
    for name, host in draft.hosts.items():
        yield f"hosts.{name}.wireguard.address", host.wireguard.address
    for name, laptop in laptops_of(draft).items():
        yield f"{_LAPTOPS}.{name}.address", laptop.address


def own_names(draft: Draft) -> Iterator[Problem]:
    """A laptop is called like no host and no service."""
    for name in laptops_of(draft):
        if name in draft.names:
            yield Problem(f"{_LAPTOPS}.{name}", "a host has this name already")
        if draft.cluster and name in draft.cluster.services:
            yield Problem(f"{_LAPTOPS}.{name}", "a service has this name already")


def own_addresses(draft: Draft) -> Iterator[Problem]:
    """WireGuard sends what is for an address to one peer only."""
    owners = {host.wireguard.address: f"hosts.{name}" for name, host in draft.hosts.items()}
    for name, laptop in laptops_of(draft).items():
        first = owners.setdefault(laptop.address, f"{_LAPTOPS}.{name}")
        if first != f"{_LAPTOPS}.{name}":
            yield Problem(f"{_LAPTOPS}.{name}.address", f"{first} has the same")


def own_keys(draft: Draft) -> Iterator[Problem]:
    """WireGuard knows a peer by its key. Those of hosts are known only when the hosts are seen."""
    owners: dict[str, str] = {}
    for name, laptop in laptops_of(draft).items():
        first = owners.setdefault(laptop.public_key, f"{_LAPTOPS}.{name}")
        if first != f"{_LAPTOPS}.{name}":
            yield Problem(f"{_LAPTOPS}.{name}.public_key", f"{first} has the same")


LAPTOP_RULES: tuple[Rule, ...] = (own_names, own_addresses, own_keys)
