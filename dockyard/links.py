"""Network interfaces, their addresses and routes: what ``ip -j link``, ``ip -j address`` and ``ip -j route`` print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from msgspec import Struct, field

from dockyard.parsing import Printed
from dockyard.standing import Level, Standing
from dockyard.typed_json import every, typed


class OperState(StrEnum):
    """RFC 2863, as the kernel has it. Interfaces without a carrier of their own, as WireGuard's, stay ``UNKNOWN``."""

    UNKNOWN = "UNKNOWN"
    NOT_PRESENT = "NOTPRESENT"
    DOWN = "DOWN"
    LOWER_LAYER_DOWN = "LOWERLAYERDOWN"
    TESTING = "TESTING"
    DORMANT = "DORMANT"
    UP = "UP"


class Family(StrEnum):
    """Address families that ip(8) prints for addresses."""

    IPV4 = "inet"
    IPV6 = "inet6"


class RouteType(StrEnum):
    """What happens to a packet; ip(8) leaves ``unicast`` out unless asked for details."""

    UNICAST = "unicast"
    LOCAL = "local"
    BROADCAST = "broadcast"
    MULTICAST = "multicast"
    ANYCAST = "anycast"
    THROW = "throw"
    UNREACHABLE = "unreachable"
    PROHIBIT = "prohibit"
    BLACKHOLE = "blackhole"
    NAT = "nat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One address of an interface; ``peer`` is "" but on point-to-point links that name the other end."""

    family: Family
    local: str
    prefix_length: int
    scope: str
    peer: str = ""
    tentative: bool = False
    duplicate: bool = False

    def __str__(self) -> str:
        return f"{self.local}/{self.prefix_length}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One interface, MTU in bytes. ``addresses`` is empty for `ip link`, which does not tell them."""

    index: int
    name: str
    flags: frozenset[str]
    mtu: int
    oper_state: OperState
    link_type: str
    hardware_address: str
    master: str
    addresses: tuple[Address, ...] = ()

    @property
    def up(self) -> bool:
        """Whether it was switched on; not whether anything is at the other end."""
        return "UP" in self.flags

    @property
    def carrier(self) -> bool:
        return "LOWER_UP" in self.flags


@dataclass(frozen=True, slots=True, kw_only=True)
class NextHop:
    """Where packets go: ``gateway`` "" when the destination is on the link, ``device`` "" for blackholes."""

    device: str
    gateway: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route. ``destination`` is ``default`` or a prefix, a single address without its length."""

    type: RouteType
    destination: str
    hops: tuple[NextHop, ...]
    metric: int
    source: str

    @property
    def devices(self) -> frozenset[str]:
        return frozenset(hop.device for hop in self.hops if hop.device)


class _Address(Struct):
    family: str
    local: str
    prefixlen: int
    scope: str = ""
    address: str = ""
    tentative: bool = False
    dadfailed: bool = False


class _Link(Struct):
    ifindex: int
    ifname: str
    flags: list[str]
    mtu: int
    operstate: str
    link_type: str = ""
    address: str = ""
    master: str = ""


class _Addressed(_Link, kw_only=True):
    addr_info: list[dict[str, Any]]


class _Hop(Struct):
    dev: str = ""
    gateway: str = ""
    via: dict[str, str] = field(default_factory=dict)


class _Route(_Hop, kw_only=True):
    dst: str
    type: str = "unicast"
    metric: int = 0
    prefsrc: str = ""
    nexthops: list[_Hop] = field(default_factory=list)


def read_links(text: str) -> tuple[Link, ...]:
    """What `ip -j link show` printed.

    Raises:
        ParseError: no JSON, a key that is missing or of another kind, an unknown state, an interface twice.
    """
    printed = Printed("ip -j link", text)
    return _once(printed, tuple(_link(printed, typed(printed, entry, _Link)) for entry in _entries(printed)))


def read_addresses(text: str) -> tuple[Link, ...]:
    """What `ip -j address show` printed: interfaces with their addresses; raises as `read_links`.

    `ip -j -4 address show` prints an empty object for each interface that has none; those are left out.
    """
    printed = Printed("ip -j address", text)
    return _once(printed, tuple(_addressed(printed, typed(printed, entry, _Addressed)) for entry in _entries(printed)))


def read_routes(text: str) -> tuple[Route, ...]:
    """What `ip -j route show` printed, in its order; raises as `read_links`."""
    printed = Printed("ip -j route", text)
    return tuple(_route(printed, typed(printed, entry, _Route)) for entry in _entries(printed))


def _entries(printed: Printed) -> list[Any]:
    """Nothing at all is an empty list: that is how some versions print one."""
    return [entry for entry in every(printed, printed.json() if printed.text else []) if entry != {}]


def _once(printed: Printed, links: tuple[Link, ...]) -> tuple[Link, ...]:
    if len({link.name for link in links}) < len(links) or len({link.index for link in links}) < len(links):
        raise printed.error(0, "has an interface twice")
    return links


def _link(printed: Printed, seen: _Link, addresses: tuple[Address, ...] = ()) -> Link:
    return Link(
        index=seen.ifindex,
        name=seen.ifname,
        flags=frozenset(seen.flags),
        mtu=seen.mtu,
        oper_state=printed.member(OperState, seen.operstate, 0),
        link_type=seen.link_type,
        hardware_address=seen.address,
        master=seen.master,
        addresses=addresses,
    )


def _addressed(printed: Printed, seen: _Addressed) -> Link:
    """Addresses that were not asked for (another family) are empty objects."""
    return _link(printed, seen, tuple(_address(printed, entry) for entry in seen.addr_info if entry))


def _address(printed: Printed, entry: dict[str, Any]) -> Address:
    seen = typed(printed, entry, _Address)
    return Address(
        family=printed.member(Family, seen.family, 0),
        local=seen.local,
        prefix_length=seen.prefixlen,
        scope=seen.scope,
        peer=seen.address,
        tentative=seen.tentative,
        duplicate=seen.dadfailed,
    )


def _route(printed: Printed, seen: _Route) -> Route:
    hops: Sequence[_Hop] = seen.nexthops or ([seen] if seen.dev or seen.gateway or seen.via else [])
    return Route(
        type=printed.member(RouteType, seen.type, 0),
        destination=seen.dst,
        hops=tuple(NextHop(device=hop.dev, gateway=hop.gateway or hop.via.get("host", "")) for hop in hops),
        metric=seen.metric,
        source=seen.prefsrc,
    )


def links_standing(links: Sequence[Link]) -> Standing:
    """Levels of ``link NAME`` and ``address NAME ADDRESS/LENGTH``."""
    levels = {f"link {link.name}": _link_level(link) for link in links}
    for link in links:
        for address in link.addresses:
            level = Level.FAILED if address.duplicate else Level.DEGRADED if address.tentative else Level.HEALTHY
            levels[f"address {link.name} {address}"] = min(level, levels[f"link {link.name}"])
    return levels


def _link_level(link: Link) -> Level:
    if not link.up or not link.carrier:
        return Level.FAILED
    return Level.HEALTHY if link.oper_state in (OperState.UP, OperState.UNKNOWN) else Level.DEGRADED


def routes_standing(routes: Sequence[Route]) -> Standing:
    """Levels of ``route DESTINATION``."""
    return {
        f"route {route.destination}": Level.HEALTHY if route.type is RouteType.UNICAST else Level.DEGRADED
        for route in routes
    }
