"""From Nornir's inventory to a `Topology`, or to all the mistakes in it.

Nornir looks for a key of ``data`` first at the host, then in its groups, then in the defaults, and takes the first
whole value: a host's own ``ssh:`` replaces the one of the defaults, the two are not mixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nornir.core import inventory as nornir

from dockyard.errors import InventoryError, Problem
from dockyard.topology.draft import Draft
from dockyard.topology.model import Cluster, Host, Topology
from dockyard.topology.rules import broken_rules
from dockyard.topology.shape import Found, Reader

HOST_DATA = ("site", "roles", "wireguard", "ssh", "drbd", "exposed")
GROUP_DATA = ("site", "roles", "ssh")
DEFAULTS_DATA = ("cluster", "ssh")
_CONNECTION = ("hostname", "port", "username")
_HINTS = {"site": "; put the host into a group that has a site (groups.yaml)"}


def read_topology(inventory: nornir.Inventory) -> Topology:
    """Turn ``inventory`` into the typed cluster.

    Raises:
        InventoryError: with every mistake that there is.
    """
    topology, problems = examine(inventory)
    if topology is None or problems:
        raise InventoryError(
            problems, advice="Mend the inventory and look again with: python runbooks/validate.py --inventory FOLDER"
        )
    return topology


def examine(inventory: nornir.Inventory) -> tuple[Topology | None, list[Problem]]:
    """The typed cluster as far as it can be read, and everything that is wrong with it."""
    reader = Reader()
    cluster = _cluster(reader, inventory.defaults)
    for name, group in inventory.groups.items():
        reader.unknown(f"groups.{name}", group.data, GROUP_DATA)
    hosts = {name: _host(reader, host) for name, host in inventory.hosts.items()}
    readable = MappingProxyType({name: host for name, host in hosts.items() if host})
    draft = Draft(cluster, readable, tuple(hosts), _places(inventory))
    for problem in broken_rules(draft):
        reader.report(problem.path, problem.message)
    return (Topology(cluster, readable) if cluster else None), reader.problems


def _cluster(reader: Reader, defaults: nornir.Defaults) -> Cluster | None:
    data = {key: value for key, value in defaults.data.items() if not isinstance(value, Topology)}
    reader.unknown("defaults", data, DEFAULTS_DATA)
    if "cluster" not in data:
        reader.report("defaults.cluster", "is missing")
        return None
    return reader.section(Cluster, Found("defaults.cluster", data["cluster"]))


def _host(reader: Reader, host: nornir.Host) -> Host | None:
    path = f"hosts.{host.name}"
    reader.unknown(path, host.data, HOST_DATA)
    found = {key: Found(place, value) for key, (place, value) in _values(host).items()}
    missing = {key: hint for key, hint in _HINTS.items() if key not in found}
    for key, hint in missing.items():
        reader.report(f"{path}.{key}", f"is missing{hint}")
    return reader.fields(Host, found | {"name": Found(path, host.name)}, path, reported=missing)


def _values(host: nornir.Host) -> dict[str, tuple[str, object]]:
    """Every value that Nornir finds for ``host``, with the path of the place where it stands."""
    values: dict[str, tuple[str, object]] = {}
    for place, element in _sources(host):
        own: Mapping[str, object] = {key: object.__getattribute__(element, key) for key in _CONNECTION}
        set_here = {key: value for key, value in own.items() if value is not None}
        data = {key: element.data[key] for key in HOST_DATA if key in element.data}
        for key, value in (set_here | data).items():
            values.setdefault(key, (f"{place}.{key}", value))
    return values


def _sources(host: nornir.Host) -> list[tuple[str, nornir.Host | nornir.Group | nornir.Defaults]]:
    groups = [(f"groups.{group.name}", group) for group in host.extended_groups()]
    return [(f"hosts.{host.name}", host), *groups, ("defaults", host.defaults)]


def _places(inventory: nornir.Inventory) -> Mapping[tuple[str, str], str]:
    return {(name, key): place for name, host in inventory.hosts.items() for key, (place, _) in _values(host).items()}
