"""Whether a host uses the network of the mesh on another device already: its home LAN, Docker, another tunnel. Pure.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """``what`` lies in the network of the mesh: ``the address 10.20.0.7/24``. ``device`` is "" for blackholes."""

    device: str
    what: str

    def __str__(self) -> str:
        return f"{self.device} has {self.what}" if self.device else f"there is {self.what}"


def overlaps(
    network: IPv4Network, interface: str, links: Sequence[Link], routes: Sequence[Route]
) -> tuple[Overlap, ...]:
    """What other devices than ``interface`` have inside or around ``network``: addresses, then routes, then gateways.

    Raises:
        ParseError: the destination of a route is no network.
    """
    addresses = [
        Overlap(device=link.name, what=f"the address {address}")
        for link in links
        for address in link.addresses
        if link.name != interface and address.family is Family.IPV4 and _covers(network, link, address)
    ]
    inside = [route for route in routes if _inside(network, route)]
    return (
        *addresses,
        *(overlap for route in inside for overlap in _elsewhere(interface, route)),
        *(
            Overlap(device=hop.device, what=f"the gateway {hop.gateway}")
            for route in routes
            for hop in route.hops
            if hop.device != interface and hop.gateway and ip_address(hop.gateway) in network
        ),
    )


def _covers(network: IPv4Network, link: Link, address: Address) -> bool:
    """Whether the address lies in ``network``, or its LAN reaches into it; a point-to-point link has no neighbours."""
    own = IPv4Interface(f"{address.local}/{address.prefix_length}")
    return own.ip in network or ("BROADCAST" in link.flags and network.overlaps(own.network))


def _inside(network: IPv4Network, route: Route) -> bool:
    if route.destination == "default":
        return False
    try:
        return IPv4Network(route.destination).subnet_of(network)
    except ValueError:
        why = f"has a destination that is no network: {route.destination!r}"
        raise ParseError("ip -j route", 0, "", "", why=why) from None


def _elsewhere(interface: str, route: Route) -> list[Overlap]:
    if not route.devices:
        return [Overlap(device="", what=f"the {route.type} route {route.destination}")]
    what = f"the route {route.destination}"
    return [Overlap(device=device, what=what) for device in sorted(route.devices - {interface})]
