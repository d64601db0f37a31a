"""The cluster as far as it could be read: what rules look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from dockyard.errors import Problem
from dockyard.topology.model import Cluster, Host, Role


@dataclass(frozen=True, slots=True)
class Draft:
    """What could be read: ``cluster`` is None when it is unreadable, ``hosts`` lacks those that are, ``names`` has all.

    ``places`` says where the value of a host's key stands (its group, say): rules report mistakes there.
    """

    cluster: Cluster | None
    hosts: Mapping[str, Host]
    names: tuple[str, ...]
    places: Mapping[tuple[str, str], str]

    @property
    def complete(self) -> bool:
        """Whether every host could be read, so that something missing is really missing."""
        return len(self.hosts) == len(self.names)

    def place(self, host: str, key: str, rest: str = "") -> str:
        """Path of the place where ``key`` of ``host`` stands, with ``rest`` below it."""
        return self.places.get((host, key), f"hosts.{host}.{key}") + (f".{rest}" if rest else "")

    def having(self, role: Role) -> list[Host]:
        """The hosts with a role, as far as they could be read."""
        return [host for host in self.hosts.values() if role in host.roles]


Rule = Callable[[Draft], Iterator[Problem]]
