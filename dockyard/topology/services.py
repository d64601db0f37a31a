"""The types of what phase 1 offers on top of the mesh: DNS, K3s, OpenCloud, Ollama, monitoring, public ports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from dockyard.topology import names

Port = Annotated[int, Meta(ge=1, le=65535)]


@dataclass(frozen=True, slots=True)
class Dns:
    """Which host answers for the names by DNS; None: the arbitrator (docs/services.md says why).

    Other names go to ``upstream``; without one they are refused.
    """

    host: str | None = None
    upstream: tuple[IPv4Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Ollama:
    """What the host with the role ollama may spend on it, and which hosts may talk to it.

    ``cpus`` may be a part of one, ``memory_gib`` is in 2^30 bytes. ``origins`` are web pages that may use it from a
    browser (``https://chat.dock.internal``); its own host is always one.
    """

    allow: tuple[str, ...]
    cpus: Annotated[float, Meta(ge=0.1, le=1024)]
    memory_gib: Annotated[float, Meta(ge=0.1, le=100_000)]
    port: Port = 11434
    origins: tuple[Annotated[str, names.origin], ...] = ()


class Protocol(StrEnum):
    """What a port belongs to."""

    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True)
class Exposed:
    """A port that listens on a public address on purpose, and for what purpose."""

    port: Port
    proto: Protocol
    why: Annotated[str, names.reason]


class Architecture(StrEnum):
    """What K3s calls the machines that it publishes binaries for."""

    AMD64 = "amd64"
    ARM64 = "arm64"


@dataclass(frozen=True, slots=True)
class VolumeRoot:
    """The folder on the hosts that holds the volumes of the pods, one folder each.

    ``mounted`` says that a file system of its own has to be mounted there: while it is not, nothing may be written.
    """

    path: Annotated[str, names.mount_point] = "/srv/k3s"
    mounted: bool = False


PODS, SERVICES = IPv4Network("10.42.0.0/16"), IPv4Network("10.43.0.0/16")
"""docs.k3s.io/cli/server: defaults of --cluster-cidr and --service-cidr."""


@dataclass(frozen=True, slots=True)
class K3s:
    """The Kubernetes distribution on the hosts with the roles k3s-server and k3s-worker.

    ``version`` is pinned, and ``sha256`` names the binary of each architecture as K3s publishes it in
    ``sha256sum-amd64.txt``. ``binary`` is a file on this machine that is sent instead of downloaded; its checksum may
    also stand beside it, in ``<binary>.sha256`` as sha256sum(1) prints it: it is read with the inventory, once.
    """

    version: Annotated[str, names.k3s_version] | None = None
    sha256: Mapping[Architecture, Annotated[str, names.sha256]] | None = None
    binary: Path | None = None
    pods: IPv4Network = PODS
    services: IPv4Network = SERVICES
    volumes: VolumeRoot = VolumeRoot()

    @property
    def checksum_file(self) -> Path | None:
        """Where the checksum of ``binary`` may stand instead."""
        return self.binary and self.binary.with_name(f"{self.binary.name}.sha256")

    def digest(self, architecture: Architecture) -> str | None:
        """The SHA-256 of the binary for ``architecture``."""
        return (self.sha256 or {}).get(architecture)


@dataclass(frozen=True, slots=True)
class OpenCloud:
    """The one application. ``image`` has a tag or a digest, ``cpus`` is not below what the pod asks for.

    ``memory_mib`` is the most that it may take; its own documentation asks for at least 512.
    """

    image: Annotated[str, names.image]
    memory_mib: Annotated[int, Meta(ge=512, le=1_000_000)] = 2048
    cpus: Annotated[float, Meta(ge=0.2, le=256)] = 2.0

    @property
    def memory(self) -> str:
        """``memory_mib`` as Kubernetes writes it."""
        return names.quantity(self.memory_mib)

    @property
    def cpu(self) -> str:
        """``cpus`` as Kubernetes writes it: whole processors, or thousandths."""
        thousandths = round(self.cpus * 1000)
        return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)


@dataclass(frozen=True, slots=True)
class Email:
    """Alerts by mail. ``smarthost`` is ``name:port`` of a server that speaks STARTTLS.

    With a ``user``, its password lies on the monitoring host and not here (docs/monitoring.md).
    """

    to: Annotated[str, names.mail_address]
    sender: Annotated[str, names.mail_address]
    smarthost: Annotated[str, names.smarthost]
    user: Annotated[str, names.mail_login] | None = None


@dataclass(frozen=True, slots=True)
class Monitoring:
    """How the host with the role ``monitoring`` watches all hosts.

    ``memory_mib`` is the most that Prometheus may take; None: a part of the machine's memory. ``webhook`` and
    ``watchdog`` send to a URL that lies on the monitoring host: alerts as they come, and a sign of life every minute.
    """

    scrape_interval_s: Annotated[int, Meta(ge=10, le=120)] = 30
    retention_gib: Annotated[float, Meta(ge=0.25, le=1000)] = 2.0
    memory_mib: Annotated[int, Meta(ge=96, le=65536)] | None = None
    email: Email | None = None
    webhook: bool = False
    watchdog: bool = False
    grafana: bool = False
    loki: bool = False


AS_USUAL = Monitoring()
"""What is watched, and how, where the inventory says nothing about it."""
