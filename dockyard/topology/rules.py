"""What must be true of the cluster as a whole. Each rule yields the mistakes of one kind; all rules always run."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from itertools import combinations
from pathlib import Path

from dockyard.errors import Problem
from dockyard.topology.draft import Draft, Rule
from dockyard.topology.k3s_rules import K3S_RULES
from dockyard.topology.laptop_rules import LAPTOP_RULES, taken_addresses
from dockyard.topology.model import Endpoint, Host, Role, Sudo, Topology
from dockyard.topology.names import address_of, canonical
from dockyard.topology.outer_rules import OUTER_RULES, outer_ways
from dockyard.topology.service_rules import SERVICE_RULES
from dockyard.topology.services import K3s

_MESH = "defaults.cluster.wireguard"
_ETHERNET_MTU = 1500
# Outer IP header + 8 of UDP + 32 of WireGuard (type, receiver, counter, tag): https://www.wireguard.com/protocol/.
# wg-quick(8) always takes 80.
_OVERHEAD = {4: 60, 6: 80}
_CGNAT = IPv4Network("100.64.0.0/10")
_FOUND_FIRST = re.compile(r"/dev/(sd|hd|nvme|mmcblk)")
"""Names that the kernel gives in the order in which it finds disks."""


def broken_rules(draft: Draft) -> Iterator[Problem]:
    """Every mistake that a rule finds."""
    for rule in RULES:
        yield from rule(draft)


def no_hosts(draft: Draft) -> Iterator[Problem]:
    """A cluster has hosts."""
    if not draft.names:
        yield Problem("hosts", "there is no host")


def mesh_network(draft: Draft) -> Iterator[Problem]:
    """The mesh has private addresses of its own, enough of them, and none that K3s hands out."""
    if not draft.cluster:
        return
    network, path = draft.cluster.wireguard.network, f"{_MESH}.network"
    if not (network.is_private or network.subnet_of(_CGNAT)) or network.is_loopback or network.is_link_local:
        yield Problem(path, f"{network} is not a private network (RFC 1918 or RFC 6598)")
    if network.num_addresses - 2 < len(draft.names):
        yield Problem(path, f"{network} has no room for {len(draft.names)} hosts")
    k3s = draft.cluster.k3s or K3s()  # its defaults stay kept free, so that it can be added later
    for purpose, other in (("pods", k3s.pods), ("services", k3s.services)):
        if network.overlaps(other):
            yield Problem(path, f"{network} overlaps {other}, which K3s uses for {purpose}")


def mesh_addresses(draft: Draft) -> Iterator[Problem]:
    """Every mesh address, of hosts and of laptops, is one that a host of the mesh network may have."""
    if not draft.cluster:
        return
    network = draft.cluster.wireguard.network
    for path, address in taken_addresses(draft):
        fault = _fault_of(address, network)
        if fault:
            yield Problem(path, f"{address} {fault}")


def _fault_of(address: IPv4Address, network: IPv4Network) -> str:
    if address not in network:
        return f"is not in the mesh network {network} ({_MESH}.network)"
    if network.prefixlen < 31 and address == network.network_address:
        return f"is the network address of {network}"
    if network.prefixlen < 31 and address == network.broadcast_address:
        return f"is the broadcast address of {network}"
    return ""


def duplicates(draft: Draft) -> Iterator[Problem]:
    """No two hosts share an address of any kind."""
    port = draft.cluster.wireguard.port if draft.cluster else 0
    hosts = draft.hosts.values()
    yield from _same(hosts, "wireguard.address", lambda host: host.wireguard.address)
    yield from _same(hosts, "hostname", lambda host: (host.hostname.lower(), host.port))
    yield from _same(hosts, "wireguard.endpoint", lambda host: _public(host, port))
    yield from _same(hosts, "wireguard.lan", _local)


def _public(host: Host, port: int) -> Hashable:
    text = host.wireguard.endpoint
    return text and Endpoint.parse(text.lower(), port)


def _local(host: Host) -> Hashable:
    return host.wireguard.lan and (host.site, canonical(host.wireguard.lan.lower()))


def _same(hosts: Iterable[Host], key: str, value_of: Callable[[Host], Hashable]) -> Iterator[Problem]:
    owners: dict[Hashable, list[str]] = defaultdict(list)
    for host in hosts:
        owners[value_of(host)].append(host.name)
    for value, (first, *others) in owners.items():
        for name in others if value is not None else ():
            yield Problem(f"hosts.{name}.{key}", f"hosts.{first} has the same")


def reachability(draft: Draft) -> Iterator[Problem]:
    """Of every two hosts at least one can send the first packet, and the other's NAT is kept open."""
    if not draft.cluster:
        return
    topology = Topology(draft.cluster, draft.hosts)
    closed = [host for host in draft.hosts.values() if not host.wireguard.endpoint]
    for one, other in combinations(closed, 2):
        if not topology.endpoint(one.name, other.name) and not topology.endpoint(other.name, one.name):
            yield _no_way(one, other)
    for host in closed if not draft.cluster.wireguard.keepalive_s else ():
        yield Problem(
            f"{_MESH}.keepalive_s", f"0 is off, but {host.name} must keep its NAT open: it has no public endpoint"
        )


def _no_way(one: Host, other: Host) -> Problem:
    path = f"hosts.{one.name}.wireguard"
    if one.site == other.site:
        return Problem(f"{path}.lan", f"neither this host nor {other.name} has a LAN address or a public endpoint")
    return Problem(
        f"{path}.endpoint", f"neither this host nor {other.name} has a public endpoint, and their sites differ"
    )


def mtu(draft: Draft) -> Iterator[Problem]:
    """A full packet of the mesh fits into 1500 bytes together with WireGuard's overhead."""
    if not draft.cluster:
        return
    mesh = draft.cluster.wireguard
    outer = [address_of(text) for host in draft.hosts.values() for _, text in outer_ways(host, mesh)]
    version = 6 if any(isinstance(address, IPv6Address) for address in outer) else 4
    most = _ETHERNET_MTU - _OVERHEAD[version]
    if mesh.mtu > most:
        yield Problem(
            f"{_MESH}.mtu",
            f"{mesh.mtu} is more than {most}: WireGuard over IPv{version} adds {_OVERHEAD[version]} bytes",
        )


def arbitrator(draft: Draft) -> Iterator[Problem]:
    """The named arbitrator exists, has that role, and nobody else has."""
    if not draft.cluster:
        return
    name, path = draft.cluster.arbitrator, "defaults.cluster.arbitrator"
    if name not in draft.names:
        yield Problem(path, f"there is no host {name}")
    elif name in draft.hosts and Role.ARBITRATOR not in draft.hosts[name].roles:
        yield Problem(path, f"{name} does not have the role arbitrator (hosts.{name}.roles)")
    for other in draft.having(Role.ARBITRATOR):
        if other.name != name:
            yield Problem(draft.place(other.name, "roles"), f"is arbitrator, but {path} names {name}")


def k3s_server(draft: Draft) -> Iterator[Problem]:
    """There is one control plane, by design."""
    servers = draft.having(Role.K3S_SERVER)
    if not servers and draft.complete and draft.names:
        yield Problem("hosts", "no host has the role k3s-server")
    for host in servers[1:]:
        yield Problem(draft.place(host.name, "roles"), f"is k3s-server, but {servers[0].name} is it already")


def drbd_pair(draft: Draft) -> Iterator[Problem]:
    """DRBD has no hosts, or one primary and one secondary on two sites, neither of which is the arbitrator."""
    pair = {role: draft.having(role) for role in (Role.DRBD_PRIMARY, Role.DRBD_SECONDARY)}
    for role, other in (tuple(pair), tuple(reversed(pair))):
        for host in pair[role][1:]:
            yield Problem(draft.place(host.name, "roles"), f"is {role}, but {pair[role][0].name} is it already")
        if pair[other] and not pair[role] and draft.complete:
            yield Problem("hosts", f"no host has the role {role}, though {pair[other][0].name} is {other}")
    for primary, secondary in zip(pair[Role.DRBD_PRIMARY], pair[Role.DRBD_SECONDARY], strict=False):
        yield from _apart(draft, primary, secondary)
    for host in (host for hosts in pair.values() for host in hosts if Role.ARBITRATOR in host.roles):
        yield Problem(draft.place(host.name, "roles"), "the arbitrator must not carry a replica that it judges")


def _apart(draft: Draft, primary: Host, secondary: Host) -> Iterator[Problem]:
    if primary is secondary:
        yield Problem(
            draft.place(primary.name, "roles"), "a host cannot replicate to itself: drbd-primary and drbd-secondary"
        )
    elif primary.site == secondary.site:
        yield Problem(
            draft.place(secondary.name, "site"),
            f"{secondary.site} is also the site of {primary.name}: a DRBD pair on one site does not survive its loss",
        )


def replication(draft: Draft) -> Iterator[Problem]:
    """What DRBD needs to know is said, for exactly the two hosts that replicate, and their devices are not mixed up."""
    wanted = draft.cluster.drbd if draft.cluster else None
    pair = [host for role in (Role.DRBD_PRIMARY, Role.DRBD_SECONDARY) for host in draft.having(role)]
    if wanted and not pair and draft.complete:
        yield Problem("defaults.cluster.drbd", "no host has the roles drbd-primary and drbd-secondary")
    for host in pair if wanted else ():
        if not host.drbd:
            yield Problem(f"hosts.{host.name}.drbd", "is missing: which disk carries its replica?")
    for host in draft.hosts.values():
        if host.drbd and host not in pair:
            yield Problem(draft.place(host.name, "drbd"), "is only used with the roles drbd-primary and drbd-secondary")
        if host.drbd and host.drbd.disk == host.drbd.metadata:
            yield Problem(draft.place(host.name, "drbd", "metadata"), "is the disk itself: leave it out (internal)")
        yield from _unstable(draft, host)


def _unstable(draft: Draft, host: Host) -> Iterator[Problem]:
    """With metadata elsewhere DRBD knows the disk by its name alone: no name may mean another disk after a boot."""
    if host.drbd and host.drbd.metadata and host.drbd.metadata != host.drbd.disk:
        for key, device in (("disk", host.drbd.disk), ("metadata", host.drbd.metadata)):
            if _FOUND_FIRST.match(device):
                why = f"{device} may be another disk after a boot, and with external metadata DRBD would not notice"
                yield Problem(draft.place(host.name, "drbd", key), f"{why}: take its name in /dev/disk/by-id")


def backups(draft: Draft) -> Iterator[Problem]:
    """There is one place to back up to, something to back up, and something is kept."""
    backup, path = draft.cluster.backup if draft.cluster else None, "defaults.cluster.backup"
    if backup is None or draft.cluster is None:
        return
    if (backup.sftp is None) == (backup.rest is None):
        yield Problem(path, "name one of sftp and rest: where do the backups go?")
    if draft.cluster.drbd is None:
        yield Problem(path, "what is backed up is the storage of defaults.cluster.drbd, which is missing")
    if not (backup.keep.daily or backup.keep.weekly or backup.keep.monthly):
        yield Problem(f"{path}.keep", "nothing would be kept: give at least one number above 0")


def monitoring(draft: Draft) -> Iterator[Problem]:
    """One host watches the others: two would each tell of half of it, and every alert twice."""
    for other in draft.having(Role.MONITORING)[1:]:
        yield Problem(draft.place(other.name, "roles"), "only one host can have the role monitoring")


def services(draft: Draft) -> Iterator[Problem]:
    """Services live on hosts that exist, and have names of their own."""
    for name, host in draft.cluster.services.items() if draft.cluster else ():
        path = f"defaults.cluster.services.{name}"
        if host not in draft.names:
            yield Problem(path, f"there is no host {host}")
        if name in draft.names:
            yield Problem(path, "a host has this name already")


def full_names(draft: Draft) -> Iterator[Problem]:
    """A host's name with the domain is still a DNS name."""
    for name in draft.names if draft.cluster else ():
        if draft.cluster and len(f"{name}.{draft.cluster.domain}") > 253:
            yield Problem("defaults.cluster.domain", f"is too long: with {name} more than 253 characters")


def logins(draft: Draft) -> Iterator[Problem]:
    """What is needed to log in is there, and secrets are for their owner alone."""
    for name, host in draft.hosts.items():
        for key, path in (("key_file", host.ssh.key_file), ("sudo_password_file", host.ssh.sudo_password_file)):
            fault = _fault_of_secret(path) if path else ""
            if fault:
                yield Problem(draft.place(name, "ssh", key), fault)
        if host.ssh.sudo is Sudo.ROOT and host.username != "root":
            yield Problem(
                draft.place(name, "ssh", "sudo"),
                f"root means to log in as root, but {name} is entered as {host.username}",
            )
        if host.ssh.sudo is not Sudo.PASSWORD and host.ssh.sudo_password_file:
            yield Problem(draft.place(name, "ssh", "sudo_password_file"), "is only used with `sudo: password`")


def _fault_of_secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return f"{path} can be read by others (mode {mode:04o}): chmod 600 {path}" if mode & 0o077 else ""


RULES: tuple[Rule, ...] = (
    no_hosts,
    mesh_network,
    mesh_addresses,
    *OUTER_RULES,
    duplicates,
    *LAPTOP_RULES,
    reachability,
    mtu,
    arbitrator,
    k3s_server,
    drbd_pair,
    replication,
    backups,
    monitoring,
    services,
    *SERVICE_RULES,
    full_names,
    logins,
    *K3S_RULES,
)
