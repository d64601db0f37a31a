"""The types of a cluster, and what one can ask of them. Frozen: what was read does not change during a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from itertools import permutations
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from dockyard.errors import UsageError
from dockyard.topology import names
from dockyard.topology.services import AS_USUAL, Dns, Exposed, K3s, Monitoring, Ollama, OpenCloud, Port

KNOWN_HOSTS = Path("~/.ssh/known_hosts").expanduser()


class Role(StrEnum):
    """What a host is there for; a host may have several."""

    MONITORING = "monitoring"
    K3S_SERVER = "k3s-server"
    K3S_WORKER = "k3s-worker"
    DRBD_PRIMARY = "drbd-primary"
    DRBD_SECONDARY = "drbd-secondary"
    ARBITRATOR = "arbitrator"
    OPENCLOUD = "opencloud"
    OLLAMA = "ollama"
    LIBVIRT = "libvirt"


class Transport(StrEnum):
    """Who speaks SSH: the library in this process, or the system's own ``ssh`` with everything in ``~/.ssh/config``."""

    NETMIKO = "netmiko"
    SYSTEM = "system"


class Sudo(StrEnum):
    """How a login becomes root: it is root already, sudo asks nothing, or sudo wants a password."""

    ROOT = "root"
    NOPASSWD = "nopasswd"
    PASSWORD = "password"


@dataclass(frozen=True, slots=True)
class Laptop:
    """A peer of every host that is no host: nobody logs in there, calls it or expects it to be up."""

    address: IPv4Address
    public_key: Annotated[str, names.public_key]


@dataclass(frozen=True, slots=True)
class Mesh:
    """The WireGuard mesh as a whole.

    ``mtu`` in bytes: 1280 is the least that IPv6 allows (RFC 8200, section 5), 1420 is what wg-quick takes for a path
    of 1500. ``keepalive_s`` in seconds, 0 is off; wg(8) allows 1 to 65535 and recommends 25 behind NAT. ``laptops`` by
    name, phones too.
    """

    network: IPv4Network
    interface: Annotated[str, names.interface] = "wg0"
    port: Port = 51820
    mtu: Annotated[int, Meta(ge=1280)] = 1420
    keepalive_s: Annotated[int, Meta(ge=0, le=65535)] = 25
    preshared_keys: bool = True
    laptops: Mapping[Annotated[str, names.dns_label], Laptop] | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """One host in the mesh: its mesh address, and where its WireGuard answers from outside and in its own LAN."""

    address: IPv4Address
    endpoint: Annotated[str, names.endpoint] | None = None
    lan: Annotated[str, names.name_or_address] | None = None


class FileSystem(StrEnum):
    """What lies on the replicated device."""

    EXT4 = "ext4"
    XFS = "xfs"


@dataclass(frozen=True, slots=True)
class Wan:
    """The line between the two replicas, as ``runbooks/wan_plan.py`` measures it.

    ``mbit`` is the rate of its slower direction in 10^6 bits a second, ``rtt_ms`` the round trip in milliseconds,
    ``share`` the part of the rate that a resync may take while applications write. ``crash_resync_min`` is how many
    minutes the resync after a crash of the Primary may take; less costs more metadata writes (al-extents).
    """

    mbit: Annotated[float, Meta(gt=0, le=100_000)]
    rtt_ms: Annotated[float, Meta(gt=0, le=5000)]
    share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    crash_resync_min: Annotated[float, Meta(gt=0, le=1440)] = 30.0


@dataclass(frozen=True, slots=True)
class Replication:
    """The one DRBD resource: ``/dev/drbd<minor>``, mounted at ``mount`` on the Primary and nowhere else.

    ``units`` use the storage: they are stopped in this order before a demotion, and started in the other order.
    """

    resource: Annotated[str, names.resource]
    mount: Annotated[str, names.mount_point]
    wan: Wan
    filesystem: FileSystem = FileSystem.EXT4
    port: Port = 7788
    minor: Annotated[int, Meta(ge=0, le=255)] = 0
    units: tuple[Annotated[str, names.unit], ...] = ()

    @property
    def device(self) -> str:
        return f"/dev/drbd{self.minor}"


@dataclass(frozen=True, slots=True)
class Backing:
    """What a replica lies on. ``metadata`` names a device for external metadata; None: at the end of ``disk``."""

    disk: Annotated[str, names.path]
    metadata: Annotated[str, names.path] | None = None

    @property
    def devices(self) -> list[str]:
        """The disk, then the device of its external metadata, if there is one."""
        return [self.disk, *([self.metadata] if self.metadata else [])]


@dataclass(frozen=True, slots=True)
class Sftp:
    """A folder on a NAS that is reached by SFTP. ``host_key`` is the NAS's public key, without it nothing connects."""

    host: Annotated[str, names.name_or_address]
    user: Annotated[str, names.login]
    path: Annotated[str, names.path]
    port: Port = 22
    host_key: Annotated[str, names.host_key] | None = None


@dataclass(frozen=True, slots=True)
class Rest:
    """A REST server of restic. With a ``user``, its password lies on the replicas and not here (docs/backup.md)."""

    url: Annotated[str, names.rest_url]
    user: Annotated[str, names.login] | None = None


@dataclass(frozen=True, slots=True)
class Keep:
    """How many backups stay: one of each of the last so many days, weeks and months that have one."""

    daily: Annotated[int, Meta(ge=0, le=10_000)] = 7
    weekly: Annotated[int, Meta(ge=0, le=10_000)] = 5
    monthly: Annotated[int, Meta(ge=0, le=10_000)] = 12


class DuringBackup(StrEnum):
    """What the units that use the storage do while it is backed up (with LVM: while a snapshot is made)."""

    STOP = "stop"
    RUN = "run"


@dataclass(frozen=True, slots=True)
class Backup:
    """Where the replicated storage is backed up to, with restic, and when.

    Every day at ``time`` (zone of the host). ``check_share`` is the part of the stored data that is read back a week.
    ``snapshot_gib`` is the size of the LVM snapshot where the writer's disk is a logical volume; None: a tenth of it.
    ``max_age_h`` is the age in hours from which health complains about the newest backup.
    """

    sftp: Sftp | None = None
    rest: Rest | None = None
    keep: Keep = Keep()
    time: Annotated[str, names.time_of_day] = "02:30"
    check_share: Annotated[float, Meta(gt=0, le=1)] = 0.1
    units: DuringBackup = DuringBackup.STOP
    snapshot_gib: Annotated[float, Meta(gt=0, le=100_000)] | None = None
    max_age_h: Annotated[float, Meta(gt=0, le=10_000)] = 36.0


@dataclass(frozen=True, slots=True)
class Ssh:
    """How to log in. Without ``key_file`` the agent and the default keys are tried."""

    transport: Transport = Transport.NETMIKO
    connect_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 10.0
    key_file: Path | None = None
    known_hosts: Path = KNOWN_HOSTS
    sudo: Sudo = Sudo.NOPASSWD
    sudo_password_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """One machine: where ssh reaches it (``hostname``, ``port``), who logs in, where it stands and what it is for."""

    name: Annotated[str, names.dns_label]
    hostname: Annotated[str, names.name_or_address]
    username: str
    site: Annotated[str, names.dns_label]
    roles: frozenset[Role]
    wireguard: Peer
    ssh: Ssh = Ssh()
    port: Port = 22
    drbd: Backing | None = None
    exposed: tuple[Exposed, ...] = ()

    @property
    def is_k3s_node(self) -> bool:
        """Whether its roles make it a node of K3s, as control plane or worker."""
        return not self.roles.isdisjoint({Role.K3S_SERVER, Role.K3S_WORKER})


@dataclass(frozen=True, slots=True)
class Cluster:
    """What all hosts share. ``services`` maps the name of a service to the host that carries it.

    ``exposed`` are ports of all hosts.
    """

    name: Annotated[str, names.dns_label]
    domain: Annotated[str, names.dns_name]
    arbitrator: str
    services: Mapping[Annotated[str, names.dns_label], str]
    wireguard: Mesh
    drbd: Replication | None = None
    backup: Backup | None = None
    monitoring: Monitoring = AS_USUAL
    dns: Dns | None = None
    ollama: Ollama | None = None
    exposed: tuple[Exposed, ...] = ()
    k3s: K3s | None = None
    opencloud: OpenCloud | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where UDP packets for a peer go: ``host`` is a name or an address without brackets."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, default_port: int) -> Endpoint:
        """Read ``host``, ``host:port`` or ``[v6]:port``; raises ValueError."""
        return cls(*names.split_endpoint(text, default_port))

    @property
    def is_name(self) -> bool:
        """Whether it has to be resolved, and may change its address later."""
        return names.address_of(self.host) is None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Topology:
    """The cluster and its hosts, in the order of the inventory."""

    cluster: Cluster
    hosts: Mapping[str, Host]

    def host(self, name: str) -> Host:
        """Return the host called ``name``; raises UsageError with the names that exist."""
        try:
            return self.hosts[name]
        except KeyError:
            raise UsageError(f"there is no host {name!r}", advice=f"The hosts are: {', '.join(self.hosts)}") from None

    def with_role(self, *roles: Role) -> tuple[Host, ...]:
        """All hosts that have one of ``roles``."""
        return tuple(host for host in self.hosts.values() if host.roles.intersection(roles))

    def peers_of(self, name: str) -> tuple[Host, ...]:
        """All hosts but ``name``."""
        own = self.host(name)
        return tuple(host for host in self.hosts.values() if host is not own)

    @property
    def laptops(self) -> Mapping[str, Laptop]:
        """The peers that are no hosts, by name."""
        return self.cluster.wireguard.laptops or {}

    def directions(self) -> tuple[tuple[str, str], ...]:
        """Every (source, target) of the full mesh: n x (n - 1) of them."""
        return tuple(permutations(self.hosts, 2))

    def endpoint(self, source: str, target: str) -> Endpoint | None:
        """Where ``source`` sends packets for ``target``: the LAN inside a site, else the public endpoint.

        None means that ``source`` cannot begin: it waits until ``target`` has sent something (target behind NAT).
        """
        here, there = self.host(source), self.host(target)
        port = self.cluster.wireguard.port
        if here.site == there.site and there.wireguard.lan:
            return Endpoint(names.canonical(there.wireguard.lan), port)
        return Endpoint.parse(there.wireguard.endpoint, port) if there.wireguard.endpoint else None

    def keepalive_s(self, source: str, target: str) -> int:
        """Seconds between the packets with which ``source`` keeps its way open (wg(8), PersistentKeepalive).

        0 where ``target`` can begin itself: inside a site, and where ``source`` has its public endpoint itself. One
        whose address in the LAN is another stands behind a router; if that forwards nothing, or no longer, its own
        packets keep the way open.
        """
        called = self.endpoint(target, source)
        lan = self.host(source).wireguard.lan
        behind_router = lan and called and called.host != names.canonical(lan)
        return self.cluster.wireguard.keepalive_s if behind_router or called is None else 0

    def addresses(self) -> tuple[tuple[str, IPv4Address], ...]:
        """(short name, mesh address) of every host, then of every service, in the order of the inventory."""
        pairs = [*((name, name) for name in self.hosts), *self.cluster.services.items()]
        return tuple((name, self.host(carrier).wireguard.address) for name, carrier in pairs)

    @property
    def dns_host(self) -> Host | None:
        """Who answers for the names by DNS; None while nobody does."""
        dns = self.cluster.dns
        return self.host(dns.host or self.cluster.arbitrator) if dns else None

    def fqdn(self, name: str) -> str:
        """Full name of a host or a service inside the cluster."""
        return f"{name}.{self.cluster.domain}"
