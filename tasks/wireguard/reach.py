"""Whether packets really get through: every host pings every other one through the mesh, all at once, in at most 7 s.

This domain sends traffic, so it is one of its own. A ping of full MTU with the don't-fragment bit proves the MTU in
that direction, a small one tells a path that is too narrow from one that is dead. Each goes on every half second until
one answer is there or `DEADLINE_S` is over, so a packet lost on a WAN is no fault. Counters are read before and after.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dockyard.observe import Domain
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Topology

DEADLINE_S = 7
"""More than WireGuard's 5.3 s until it repeats a handshake (REKEY_TIMEOUT and its jitter, white paper, 6.1): two hosts
that begin one in the same moment each discard the other's answer (seen: 148 bytes received, 240 sent), and a sweep of a
mesh that was idle for three minutes makes all hosts begin at once."""

SMALL = 56
HEADERS = 28
"""IPv4 header (20) and ICMP header (8), in bytes: what ping(8) adds to its payload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """What ping(8) found: packets, least round trip in ms (None without an answer), and its last complaint."""

    sent: int
    received: int
    rtt_ms: float | None
    said: str

    @property
    def answered(self) -> bool:
        return self.received > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReachState:
    """``small`` and ``full`` by host; ``before``, ``after`` (received, sent bytes), ``handshakes`` by public key."""

    now: int
    small: Mapping[str, Ping]
    full: Mapping[str, Ping]
    before: Mapping[str, tuple[int, int]]
    after: Mapping[str, tuple[int, int]]
    handshakes: Mapping[str, int]

    def age_s(self, public_key: str) -> int | None:
        """Seconds since the last handshake after the pings; None for never. A clock that was set back gives 0."""
        at = self.handshakes.get(public_key, 0)
        return max(0, self.now - at) if at else None

    def moved(self, public_key: str) -> tuple[int, int]:
        """Bytes received and sent while pinging; (0, 0) for an unknown peer."""
        first, last = self.before.get(public_key, (0, 0)), self.after.get(public_key, (0, 0))
        return last[0] - first[0], last[1] - first[1]


_PROBE = r"""i={interface}
labelled() {{ wg show "$i" "$2" 2>/dev/null | while read -r line; do printf '%s\t%s\n' "$1" "$line"; done; }}
try() {{
  said=$(ping -n -M do -s "$2" -c 1 -i 0.5 -w {deadline} "$3" 2>&1)
  printf 'ping|%s|%s|%s\n%s\nend\n' "$1" "$2" "$?" "$said"
}}
labelled before transfer
{pings}
wait
labelled after transfer
labelled handshake latest-handshakes
printf 'now\t%s\n' "$(date +%s)"
"""


def probes(topology: Topology, host: Host) -> Sequence[Command]:
    """One command; it needs about 7 s at the most."""
    mesh = topology.cluster.wireguard
    pings = [
        f"try {peer.name} {size} {peer.wireguard.address} &"
        for peer in topology.peers_of(host.name)
        for size in (SMALL, mesh.mtu - HEADERS)
    ]
    script = _PROBE.format(interface=shlex.quote(mesh.interface), deadline=DEADLINE_S, pings="\n".join(pings))
    return [Command("wireguard reach", ("sh", "-c", script), timeout_s=30)]


def read(_topology: Topology, _host: Host, outputs: Outputs) -> ReachState:
    """Raises CommandFailed or ParseError."""
    return read_reach(outputs.text("wireguard reach"))


REACH = Domain("wireguard reach", probes, read)


def read_reach(text: str) -> ReachState:
    """What the probe printed, in any order of its pings."""
    rows = Printed("wireguard reach", text).rows("wireguard_reach")
    return ReachState(
        now=next(int(row["rx"]) for row in rows if row["kind"] == "now"),
        small={row["key"]: _ping(row) for row in rows if row["size"] == str(SMALL)},
        full={row["key"]: _ping(row) for row in rows if row["size"] not in {"", str(SMALL)}},
        before=_transfer(rows, "before"),
        after=_transfer(rows, "after"),
        handshakes={row["key"]: int(row["rx"]) for row in rows if row["kind"] == "handshake"},
    )


def _transfer(rows: Sequence[Mapping[str, str]], kind: str) -> dict[str, tuple[int, int]]:
    return {row["key"]: (int(row["rx"]), int(row["tx"])) for row in rows if row["kind"] == kind}


def _ping(row: Mapping[str, str]) -> Ping:
    return Ping(
        sent=int(row["sent"] or 0),
        received=int(row["received"] or 0),
        rtt_ms=float(row["rtt_ms"]) if row["rtt_ms"] else None,
        said=row["said"],
    )
