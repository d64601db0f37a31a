"""Whether a host uses a network of the cluster on another device already: its home LAN, Docker, another tunnel. Pure.

A wider route, such as 10.0.0.0/8 by a gateway, does no harm: the longest prefix wins. A LAN that is wider and holds the
mesh's network does, as its neighbours in there (the router, the name server, who is logged in by ssh) would be sought
in the mesh; so does a gateway in there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, ip_address

from dockyard.errors import ParseError
from dockyard.links import Address, Family, Link, Route
from dockyard.topology import Host, Topology

MESH, PODS = "cluster.wireguard.network", "cluster.k3s.pods"
_FLANNEL = frozenset({"cni0", "flannel.1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """``what`` lies in ``network``: ``the address 10.20.0.7/24``. ``device`` is "" for blackholes.

    ``network`` is called as in a sentence, ``key`` as in the inventory.
    """

    network: str
    key: str
    device: str
    what: str

    def __str__(self) -> str:
        return f"{self.device} has {self.what}" if self.device else f"there is {self.what}"


def overlaps(topology: Topology, host: Host, links: Sequence[Link], routes: Sequence[Route]) -> tuple[Overlap, ...]:
    """What other devices have inside the networks of the cluster that ``host`` carries, or around that of the mesh.

    On a node flannel routes parts of the pods' network. Where its device is there, that is settled: it cannot be
    changed any more (docs.k3s.io, cluster-cidr).

    Raises:
        ParseError: the destination of a route is no network.
    """
    mesh, k3s = topology.cluster.wireguard, topology.cluster.k3s
    used = _used(mesh.network, links, routes, ours=mesh.interface, lans=True)
    found = [_overlap("mesh", MESH, mesh.network, one) for one in used]
    if k3s and host.is_k3s_node and not any(link.name in _FLANNEL for link in links):
        found += [_overlap("pods", PODS, k3s.pods, one) for one in _used(k3s.pods, links, routes)]
    return tuple(found)


def _overlap(called: str, key: str, network: IPv4Network, used: tuple[str, str]) -> Overlap:
    device, what = used
    return Overlap(network=f"the network of the {called}, {network}", key=key, device=device, what=what)


def _used(
    network: IPv4Network, links: Sequence[Link], routes: Sequence[Route], *, ours: str = "", lans: bool = False
) -> list[tuple[str, str]]:
    """(device, what) of each address, then route, then gateway that other devices than ``ours`` have there."""
    addresses = [(link, one) for link in links if link.name != ours for one in link.addresses]
    hops = [hop for route in routes for hop in route.hops if hop.device != ours and hop.gateway]
    return [
        *((link.name, f"the address {one}") for link, one in addresses if _covers(network, link, one, lans=lans)),
        *(found for route in routes if _inside(network, route) for found in _elsewhere(ours, route)),
        *((hop.device, f"the gateway {hop.gateway}") for hop in hops if ip_address(hop.gateway) in network),
    ]


def _covers(network: IPv4Network, link: Link, address: Address, *, lans: bool) -> bool:
    """Whether the address lies in ``network`` or, with ``lans``, its LAN reaches into it; tunnels have none."""
    if address.family is not Family.IPV4:
        return False
    own = IPv4Interface(f"{address.local}/{address.prefix_length}")
    return own.ip in network or (lans and "BROADCAST" in link.flags and network.overlaps(own.network))


def _inside(network: IPv4Network, route: Route) -> bool:
    if route.destination == "default":
        return False
    try:
        return IPv4Network(route.destination).subnet_of(network)
    except ValueError:
        why = f"has a destination that is no network: {route.destination!r}"
        raise ParseError("ip -j route", 0, "", "", why=why) from None


def _elsewhere(ours: str, route: Route) -> list[tuple[str, str]]:
    if not route.devices:
        return [("", f"the {route.type} route {route.destination}")]
    return [(device, f"the route {route.destination}") for device in sorted(route.devices - {ours})]
