"""The n x (n - 1) directions of the mesh, each judged by what its source saw while pinging. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from dockyard.observe import Observed
from dockyard.standing import Level
from dockyard.topology import Endpoint, Topology
from tasks.wireguard.reach import REACH, Ping, ReachState
from tasks.wireguard.running import FRESH_S, PeerSeen
from tasks.wireguard.state import WIREGUARD, WireguardState
from tasks.wireguard.wanted import is_planned

_SILENT = Ping(sent=0, received=0, rtt_ms=None, said="it was not tried")


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """From ``source`` to ``target``: pings, age of the last handshake in seconds (None: never), bytes in and out.

    ``endpoint`` is where the packets go, ``planned`` where they should (None: the target is behind NAT). ``interface``
    is the mesh's.
    """

    source: str
    target: str
    interface: str
    small_ping: Ping
    full_ping: Ping
    handshake_age_s: int | None
    received_bytes: int
    sent_bytes: int
    endpoint: str
    planned: Endpoint | None
    endpoint_planned: bool

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}"

    @property
    def answered(self) -> bool:
        return self.small_ping.answered or self.full_ping.answered

    @property
    def mtu_proven(self) -> bool:
        """Whether a packet of full MTU that must not be fragmented was answered."""
        return self.full_ping.answered

    @property
    def fresh(self) -> bool:
        """Whether the last handshake is young enough for a session."""
        return self.handshake_age_s is not None and self.handshake_age_s < FRESH_S

    @property
    def rtt_ms(self) -> float | None:
        return self.small_ping.rtt_ms or self.full_ping.rtt_ms

    @property
    def faults(self) -> list[str]:
        """What is wrong, most telling first; empty when all is well."""
        age = self.handshake_age_s
        old = f"the last handshake is {age} s old, although we pinged"
        return [
            *(["no answer through the mesh"] if not self.answered else []),
            *(["packets of full size do not get through"] if self.answered and not self.mtu_proven else []),
            *(["there never was a handshake"] if age is None else []),
            *([old] if age is not None and not self.fresh else []),
            *(["nothing was received"] if self.received_bytes <= 0 else []),
            *(["nothing was sent"] if self.sent_bytes <= 0 else []),
            *([f"the endpoint is {self.endpoint or 'unknown'}, not as planned"] if not self.endpoint_planned else []),
        ]

    @property
    def evidence(self) -> str:
        """The numbers behind `faults`."""
        age = "never" if self.handshake_age_s is None else f"{self.handshake_age_s} s ago"
        ping = self.small_ping if not self.small_ping.answered else self.full_ping
        said = f" ({ping.said})" if ping.said and not ping.answered else ""
        return (
            f"small ping {_shown(self.small_ping)}, full {_shown(self.full_ping)}{said}; last handshake {age}; "
            f"{self.received_bytes} bytes received, {self.sent_bytes} sent; "
            f"endpoint {self.endpoint or 'none'}, planned {self.planned or 'none (behind NAT)'}"
        )

    @property
    def advice(self) -> str:
        """What to look at, by the first fault."""
        if self.answered and not self.mtu_proven:
            return "The path is narrower than planned: lower wireguard.mtu in the inventory (1280 fits everywhere)"
        if self.answered and not self.endpoint_planned:
            mine = f"wg set {self.interface} peer KEY endpoint {self.planned}"
            return (
                f"If {self.target} really sends from there, make it its endpoint in the inventory. If the inventory is "
                f"right: a tunnel that works is not sent elsewhere by a run; on {self.source}, {mine}"
            )
        if self.sent_bytes <= 0:
            return f"Nothing leaves {self.source}: look at its firewall, and at wg show there"
        where = self.planned or self.endpoint or "its NAT"
        udp = f"Does UDP get from {self.source} to {where}? Look at firewalls and port forwarding on the way"
        if self.answered or not self.fresh:
            return udp
        return (
            f"The tunnel is up (its handshake is {self.handshake_age_s} s old), and {self.target} drops pings inside "
            f"{self.interface}. On {self.target}, allow them: ufw allow in on {self.interface}, or the like in its "
            f"firewall. If it has none, the line broke just now: {udp}"
        )


def _shown(ping: Ping) -> str:
    return f"{ping.rtt_ms:g} ms" if ping.rtt_ms is not None else f"0 of {ping.sent} answered"


def directions(topology: Topology, observed: Observed) -> list[Direction]:
    """All directions whose source was seen, in the order of the inventory."""
    states, reached = observed.seen(WIREGUARD), observed.seen(REACH)
    return [
        _direction(topology, source, target, states[source], reached[source], states.get(target))
        for source, target in topology.directions()
        if source in states and source in reached
    ]


def _direction(
    topology: Topology, source: str, target: str, here: WireguardState, reach: ReachState, there: WireguardState | None
) -> Direction:
    peer = _peer(topology, target, here, there)
    key = peer.public_key if peer else ""
    age = reach.age_s(key)
    planned = topology.endpoint(source, target)
    seen = peer.endpoint if peer else ""
    received, sent = reach.moved(key)
    return Direction(
        source=source,
        target=target,
        interface=topology.cluster.wireguard.interface,
        small_ping=reach.small.get(target, _SILENT),
        full_ping=reach.full.get(target, _SILENT),
        handshake_age_s=age,
        received_bytes=received,
        sent_bytes=sent,
        endpoint=seen,
        planned=planned,
        endpoint_planned=is_planned(planned, seen, here, any_port=age is not None and age < FRESH_S),
    )


def _peer(topology: Topology, target: str, here: WireguardState, there: WireguardState | None) -> PeerSeen | None:
    """The target in the running interface: by its public key, or by its address when it was not seen."""
    peers = here.interface.peers if here.interface else {}
    if there is not None:
        return peers.get(there.public_key)
    allowed = f"{topology.host(target).wireguard.address}/32"
    return next((peer for peer in peers.values() if allowed in peer.allowed_ips), None)


def link_levels(topology: Topology, observed: Observed) -> dict[frozenset[str], Level]:
    """How two hosts reach each other: failed when a direction has a fault, unknown when one was not seen."""
    judged = {(one.source, one.target): one for one in directions(topology, observed)}
    levels: dict[frozenset[str], Level] = {}
    for one, two in combinations(topology.hosts, 2):
        seen = [judged.get((one, two)), judged.get((two, one))]
        broken = any(direction and direction.faults for direction in seen)
        levels[frozenset({one, two})] = Level.FAILED if broken else Level.HEALTHY if all(seen) else Level.UNKNOWN
    return levels
