"""From Nornir's inventory to a `Topology`, or to all the mistakes in it.

Nornir looks for a key of ``data`` first at the host, then in its groups, then in the defaults, and takes the first
whole value: a host's own ``ssh:`` replaces the one of the defaults, the two are not mixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from nornir.core import inventory as nornir

from dockyard.errors import InventoryError, Problem
from dockyard.topology import names
from dockyard.topology.draft import Draft
from dockyard.topology.model import Cluster, Host, Sudo, Topology
from dockyard.topology.rules import broken_rules
from dockyard.topology.services import Architecture, K3s
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
    meant = MappingProxyType({name: _as_root(host) for name, host in readable.items()})
    return (Topology(cluster, meant) if cluster else None), reader.problems


def _cluster(reader: Reader, defaults: nornir.Defaults) -> Cluster | None:
    data = {key: value for key, value in defaults.data.items() if not isinstance(value, Topology)}
    reader.unknown("defaults", data, DEFAULTS_DATA)
    if "cluster" not in data:
        reader.report("defaults.cluster", "is missing")
        return None
    cluster = reader.section(Cluster, Found("defaults.cluster", data["cluster"]))
    if cluster is None or cluster.k3s is None:
        return cluster
    return replace(cluster, k3s=_with_checksum(reader, cluster.k3s))


def _with_checksum(reader: Reader, k3s: K3s) -> K3s:
    """``k3s`` with the checksum that stands beside its binary, for every architecture: such a file fits one."""
    file, path = k3s.checksum_file, "defaults.cluster.k3s.sha256"
    if file is None or k3s.sha256 or not k3s.binary or not k3s.binary.is_file():
        return k3s
    try:
        words = file.read_text(encoding="ascii", errors="replace").split()
        checksum = words[0][:80] if words else ""
        names.sha256(checksum)
    except FileNotFoundError:
        reader.report(path, f"is missing, and there is no {file} either")
    except OSError as error:
        reader.report(path, f"{file} cannot be read: {error.strerror}")
    except ValueError as error:
        reader.report(path, f"{file}: {error}")
    else:
        return replace(k3s, sha256=MappingProxyType(dict.fromkeys(Architecture, checksum)))
    return k3s


def _host(reader: Reader, host: nornir.Host) -> Host | None:
    path = f"hosts.{host.name}"
    reader.unknown(path, host.data, HOST_DATA)
    found = {key: Found(place, value) for key, (place, value) in _values(host).items()}
    missing = {key: hint for key, hint in _HINTS.items() if key not in found}
    for key, hint in missing.items():
        reader.report(f"{path}.{key}", f"is missing{hint}")
    sites = [group for group in host.groups if "site" in group.data]
    if "site" not in host.data and len({str(group.data["site"]) for group in sites}) > 1:
        named = ", ".join(f"{group.name} ({group.data['site']})" for group in sites)
        reader.report(f"{path}.groups", f"stands at one site alone, and its groups name several: {named}")
    return reader.fields(Host, found | {"name": Found(path, host.name)}, path, reported=missing)


def _as_root(host: Host) -> Host:
    """The user root needs no sudo, whatever the defaults say for everybody else."""
    return replace(host, ssh=replace(host.ssh, sudo=Sudo.ROOT)) if host.username == "root" else host


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
