"""A cluster whose hosts are this machine's own shell: real scripts and real framing, without ssh."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from nornir.core import Nornir
from nornir.core.inventory import Defaults, Groups, Hosts, Inventory
from nornir.core.inventory import Host as NornirHost
from nornir.plugins.runners import ThreadedRunner

from dockyard.exchange import Exchange, Stopped
from dockyard.framing import Request
from dockyard.topology import Cluster, Host, Mesh, Peer, Role, Ssh, Sudo, Topology

SITES = {"dock-prod": "home", "dock-mirror": "dc", "dock-load": "dc"}
ROLES = {"dock-prod": Role.DRBD_PRIMARY, "dock-mirror": Role.DRBD_SECONDARY, "dock-load": Role.ARBITRATOR}


def topology_of_three() -> Topology:
    hosts = {
        name: Host(
            name=name,
            hostname="127.0.0.1",
            username="ada",
            site=SITES[name],
            roles=frozenset({ROLES[name]}),
            wireguard=Peer(IPv4Address(f"10.20.0.{number}"), endpoint=f"10.99.0.{number}"),
            ssh=Ssh(sudo=Sudo.ROOT),
        )
        for number, name in enumerate(SITES, 1)
    }
    mesh = Mesh(IPv4Network("10.20.0.0/24"))
    return Topology(Cluster("test", "dock.internal", "dock-load", {"opencloud": "dock-prod"}, mesh), hosts)


@dataclass
class LocalShell:
    """A nornir connection plugin that hands the exec string to ``sh``; ``dead`` makes it a host that is gone."""

    dead: bool = False
    requests: list[Request] = field(default_factory=list)

    @property
    def connection(self) -> LocalShell:
        return self

    def is_usable(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing is open."""

    def exchange(self, request: Request, end: bytes, limit_s: float) -> Exchange:
        self.requests.append(request)
        if self.dead:
            return Exchange(b"", b"", Stopped.LOST)
        ran = subprocess.run(
            ["sh", "-c", request.command], input=request.stdin, capture_output=True, check=False, timeout=limit_s
        )
        return Exchange(ran.stdout, ran.stderr, Stopped.DONE)


@dataclass
class LocalCluster:
    nornir: Nornir
    topology: Topology
    shells: dict[str, LocalShell]

    def execs(self) -> dict[str, int]:
        return {name: len(shell.requests) for name, shell in self.shells.items()}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalCluster:
    monkeypatch.setattr("dockyard.framing.LOCK", str(tmp_path / "dockyard.lock"))
    topology = topology_of_three()
    defaults = Defaults(data={"topology": topology})
    shells = {name: LocalShell() for name in topology.hosts}
    hosts = Hosts({name: NornirHost(name, defaults=defaults) for name in topology.hosts})
    for name, shell in shells.items():
        hosts[name].connections["netmiko"] = shell  # type: ignore[assignment]  # the part of a plugin that is used
    nornir = Nornir(Inventory(hosts, Groups(), defaults), runner=ThreadedRunner(num_workers=3))
    return LocalCluster(nornir, topology, shells)
