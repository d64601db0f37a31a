"""The types of what phase 1 offers on top of the mesh: DNS, Ollama, and the ports that are public on purpose."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
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
