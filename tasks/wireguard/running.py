"""Running interfaces, as the kernel or a user-space WireGuard knows them, and their reader for ``wg show ... dump``.

`tasks.wireguard.show` reads the same out of what `wg show` prints for people.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from dockyard.parsing import Printed, Row
from dockyard.standing import Level, Standing

NONE = "(none)"
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
FRESH_S = 180
"""A session older than this is rejected (REJECT_AFTER_TIME, WireGuard white paper, section 6.1)."""

_KEY = re.compile(r"[A-Za-z0-9+/]{43}=")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSeen:
    """One peer of a running interface. ``latest_handshake`` in seconds since the epoch, 0 for never; bytes counted."""

    public_key: str
    endpoint: str
    allowed_ips: tuple[str, ...]
    latest_handshake: int
    rx_bytes: int
    tx_bytes: int
    keepalive_s: int
    preshared: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A running WireGuard interface; ``public_key`` is ``""`` while it has no private key, 0 is no port, no mark."""

    name: str
    public_key: str
    listen_port: int
    fwmark: int
    peers: Mapping[str, PeerSeen]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The interfaces by name. Not ``complete``: the output was cut off, or an interface could not be asked."""

    interfaces: Mapping[str, Interface] = field(default_factory=dict)
    complete: bool = True


def read_dump(dump: str, *, interface: str = "", stderr: str = "") -> Running:
    """What `wg show all dump` printed, keys hidden; with ``interface`` what `wg show INTERFACE dump` printed.

    Raises:
        ParseError: an unknown line, one that still shows a secret key (the message does not), a peer before its
            interface, something twice.
    """
    printed = Printed(f"wg show {interface or 'all'} dump", "\n".join(map(_line_without_keys, dump.split("\n"))))
    found: dict[str, Interface] = {}
    for row in printed.rows("wg_show_all_dump"):
        if bool(row["interface"]) == bool(interface):
            raise printed.error(row.line_number, "has one column too many or too few")
        if row["private_key"]:
            add(printed, row.line_number, found, _interface(printed, row, row["interface"] or interface))
        else:
            add_peer(printed, row.line_number, found, row["interface"] or interface, _peer(row))
    return Running(interfaces=found, complete=printed.whole and not stderr)


def add(printed: Printed, line_number: int, found: dict[str, Interface], interface: Interface) -> None:
    """Put an interface to the others; raises ParseError when it is there already."""
    if interface.name in found:
        raise printed.error(line_number, "repeats an interface")
    found[interface.name] = interface


def add_peer(printed: Printed, line_number: int, found: dict[str, Interface], interface: str, peer: PeerSeen) -> None:
    """Put a peer to its interface; raises ParseError when it is not the last one, or has the peer already."""
    if not found or interface != next(reversed(found)):
        raise printed.error(line_number, "is a peer without its interface")
    if peer.public_key in found[interface].peers:
        raise printed.error(line_number, "repeats a peer")
    peers = {**found[interface].peers, peer.public_key: peer}
    found[interface] = replace(found[interface], peers=peers)


def _line_without_keys(line: str) -> str:
    """The line without the secret keys that `wg` prints unless they were hidden, so that no message can hold them."""
    fields = line.split("\t")
    public = {4: (1,), 5: (2,), 8: (0,), 9: (1,)}.get(len(fields), ())
    return "\t".join(text if at in public else without_keys(text) for at, text in enumerate(fields))


def without_keys(text: str) -> str:
    """The text with words in the place of keys; no template knows them."""
    return _KEY.sub("(a key that is not hidden)", text)


def _interface(printed: Printed, row: Row, name: str) -> Interface:
    if (row["private_key"] == NONE) != (row["public_key"] == NONE):
        raise printed.error(row.line_number, "has one half of a pair of keys")
    return Interface(
        name=name,
        public_key=_known(row["public_key"]),
        listen_port=int(row["listen_port"]),
        fwmark=0 if row["fwmark"] == "off" else int(row["fwmark"], 16),
        peers={},
    )


def _peer(row: Mapping[str, str]) -> PeerSeen:
    return PeerSeen(
        public_key=row["public_key"],
        endpoint=_known(row["endpoint"]),
        allowed_ips=tuple(_known(row["allowed_ips"]).split(",")) if _known(row["allowed_ips"]) else (),
        latest_handshake=int(row["latest_handshake"]),
        rx_bytes=int(row["rx_bytes"]),
        tx_bytes=int(row["tx_bytes"]),
        keepalive_s=0 if row["keepalive"] == "off" else int(row["keepalive"]),
        preshared=row["preshared_key"] != NONE,
    )


def _known(text: str) -> str:
    return "" if text == NONE else text


def as_shown(running: Running, now: int) -> Running:
    """What `wg show` can say of it at ``now`` (the host's clock): bytes with two digits after the point of their unit,
    and of a handshake in the future only that it is one.
    """
    return _each_peer(running, lambda peer: _peer_as_shown(peer, now))


def _peer_as_shown(peer: PeerSeen, now: int) -> PeerSeen:
    return replace(
        peer,
        latest_handshake=min(peer.latest_handshake, now + 1),
        rx_bytes=bytes_of(*shown_bytes(peer.rx_bytes)),
        tx_bytes=bytes_of(*shown_bytes(peer.tx_bytes)),
    )


def shown_bytes(count: int) -> tuple[str, str]:
    """Number and unit as `wg show` prints them."""
    power = max(at for at in range(len(UNITS)) if count >= 1024**at or not at)
    return (f"{count / 1024**power:.2f}" if power else str(count)), UNITS[power]


def bytes_of(number: str, unit: str) -> int:
    """The nearest count of bytes; the inverse of `shown_bytes` as far as there is one."""
    return round(float(number) * (1 << 10 * UNITS.index(unit)))


def at_rest(running: Running, now: int) -> Running:
    """`as_shown` without the counters, which move from one command to the next."""
    return _each_peer(running, lambda peer: replace(_peer_as_shown(peer, now), rx_bytes=0, tx_bytes=0))


def _each_peer(running: Running, change: Callable[[PeerSeen], PeerSeen]) -> Running:
    return replace(
        running,
        interfaces={
            name: replace(interface, peers={key: change(peer) for key, peer in interface.peers.items()})
            for name, interface in running.interfaces.items()
        },
    )


def agree(shown: Running, dumped: Running, now: int, within_s: int = 10) -> bool:
    """Whether `wg show` and the dump that was taken right after it say the same, but for what may move in between.

    Ages may differ by ``within_s`` seconds, a handshake may be new, counters may have grown; ``now`` is the host's
    clock between the two.
    """
    one, other = (_each_peer(at_rest(running, now), _without_handshake) for running in (shown, dumped))
    return one == other and all(
        abs(then - later) <= within_s or later >= now - within_s
        for then, later in zip(_handshakes(shown, now), _handshakes(dumped, now), strict=True)
    )


def _without_handshake(peer: PeerSeen) -> PeerSeen:
    return replace(peer, latest_handshake=0)


def _handshakes(running: Running, now: int) -> list[int]:
    interfaces = at_rest(running, now).interfaces
    return [peer.latest_handshake for _, one in sorted(interfaces.items()) for _, peer in sorted(one.peers.items())]


def standing(running: Running, now: int) -> Standing:
    """Levels of ``wg0`` and ``wg0 PUBLIC-KEY``.

    A peer is healthy while it may have a session. An older handshake is `Level.DEGRADED` and not more: without a
    keepalive a peer that has nothing to say makes none, so only a ping can tell.
    """
    levels: dict[str, Level] = {}
    for name, interface in running.interfaces.items():
        levels[name] = _interface_level(interface)
        levels |= {f"{name} {key}": _peer_level(peer, now) for key, peer in interface.peers.items()}
    return levels if running.complete else dict.fromkeys(levels, Level.UNKNOWN)


def _interface_level(interface: Interface) -> Level:
    if not interface.public_key:
        return Level.FAILED
    return Level.HEALTHY if interface.listen_port else Level.DEGRADED


def _peer_level(peer: PeerSeen, now: int) -> Level:
    if not peer.latest_handshake:
        return Level.FAILED
    return Level.HEALTHY if peer.allowed_ips and 0 <= now - peer.latest_handshake <= FRESH_S else Level.DEGRADED
