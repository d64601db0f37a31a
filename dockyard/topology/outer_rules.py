"""What must be true of what leads to a host from outside the mesh, in the manner of `dockyard.topology.rules`."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from dockyard.errors import Problem
from dockyard.topology import names
from dockyard.topology.draft import Draft, Rule
from dockyard.topology.model import Cluster, Endpoint, Host, Mesh, Transport


def outer_ways(host: Host, mesh: Mesh) -> Iterator[tuple[str, str]]:
    """(key, name or address) of every way to ``host`` that does not go through the mesh."""
    yield "hostname", host.hostname
    if host.wireguard.lan:
        yield "wireguard.lan", host.wireguard.lan
    if host.wireguard.endpoint:
        yield "wireguard.endpoint", Endpoint.parse(host.wireguard.endpoint, mesh.port).host


def other_addresses(draft: Draft) -> Iterator[Problem]:
    """What leads to a host from outside lies outside the mesh: a tunnel cannot be reached through itself.

    On a node the pods' network is a route into flannel's tunnel, and what is sent to the services' is rewritten.
    """
    if not draft.cluster:
        return
    inner = list(_inner_networks(draft.cluster))
    for name, host in draft.hosts.items():
        for key, text in outer_ways(host, draft.cluster.wireguard):
            address = names.address_of(text)
            for called, network in inner:
                if isinstance(address, IPv4Address) and address in network:
                    yield Problem(f"hosts.{name}.{key}", f"{text} lies in {called} {network}")


def _inner_networks(cluster: Cluster) -> Iterator[tuple[str, IPv4Network]]:
    yield "the mesh network", cluster.wireguard.network
    if cluster.k3s:
        yield "the network of the pods,", cluster.k3s.pods
        yield "the network of the services,", cluster.k3s.services


def other_names(draft: Draft) -> Iterator[Problem]:
    """What leads to a host from outside is no name that stands for a mesh address, as soon as /etc/hosts is written.

    With ``transport: system`` the ``hostname`` is free: ssh(1) looks it up in ``~/.ssh/config`` first, where a host's
    own name is a usual alias, and only the machine of the owner ever reads it.
    """
    if not draft.cluster:
        return
    domain, short = draft.cluster.domain.lower(), {*draft.names, *draft.cluster.services}
    inner = {domain, *short, *(f"{name}.{domain}" for name in short)}
    for name, host in draft.hosts.items():
        for key, text in outer_ways(host, draft.cluster.wireguard):
            alias = key == "hostname" and host.ssh.transport is Transport.SYSTEM
            if text.lower() in inner and not alias:
                yield Problem(
                    f"hosts.{name}.{key}",
                    f"{text} is a name inside the mesh: write an address, or a name that leads there from outside",
                )


def public_endpoints(draft: Draft) -> Iterator[Problem]:
    """Beside a public endpoint at another site a private one is a mistake: nobody on the internet can send to it.

    Where all endpoints are private, the sites may have a network of their own.
    """
    public = [host for host in draft.hosts.values() if names.is_public(_endpoint(host))]
    for name, host in draft.hosts.items():
        stranger = next((other.name for other in public if other.site != host.site), None)
        if stranger and names.is_private(_endpoint(host)):
            yield Problem(
                f"hosts.{name}.wireguard.endpoint",
                f"{_endpoint(host)} is private, {stranger} at another site cannot reach it: "
                "leave it out (behind NAT), or name the router's public name",
            )


def _endpoint(host: Host) -> str:
    return Endpoint.parse(host.wireguard.endpoint, 1).host if host.wireguard.endpoint else ""


OUTER_RULES: tuple[Rule, ...] = (other_addresses, other_names, public_endpoints)
