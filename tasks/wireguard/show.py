"""Reader of `wg show`, the form for people: ages for moments, rounded byte counts, and only what is set.

Colours (``WG_COLOR_MODE=always``) are allowed. Source of wording and order: wireguard-tools, src/show.c.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dockyard.parsing import Printed, Row
from dockyard.text_blocks import blocks, in_order
from tasks.wireguard.running import NONE, Interface, PeerSeen, Running, add, add_peer, bytes_of, without_keys

_COLOUR = re.compile(r"\x1b\[\d{0,2}m")
_PUBLIC = ("peer: ", "  public key: ")
_UNITS_S = {"year": 365 * 86400, "day": 86400, "hour": 3600, "minute": 60, "second": 1}
_OF_INTERFACE = ("interface", "public_key", "private_key", "listen_port", "fwmark")


def read_show(text: str, now: int, *, stderr: str = "") -> Running:
    """What `wg show`, `wg show all` or `wg show INTERFACE` printed when the host's clock was ``now``.

    Byte counts are the nearest to what is shown; a handshake in the future (a clock that was set back) is ``now + 1``,
    as `wg show` does not say how far. `tasks.wireguard.running.as_shown` brings a dump to the same.

    Raises:
        ParseError: an unknown line, something twice, out of order or missing, a key that is not hidden.
    """
    lines = _COLOUR.sub("", text).split("\n")
    plain = "\n".join(line if line.startswith(_PUBLIC) else without_keys(line) for line in lines)
    printed = Printed("wg show", plain)
    found: dict[str, Interface] = {}
    for rows in blocks(printed.rows("wg_show"), "interface", "peer"):
        first = rows[0].line_number
        if rows[0]["interface"]:
            add(printed, first, found, _interface(printed, rows))
        elif rows[0]["peer"] and found:
            add_peer(printed, first, found, next(reversed(found)), _peer(printed, rows, now))
        else:
            raise printed.error(first, "belongs to no interface")
    _check_blank_lines(printed)
    ends_well = printed.whole and printed.lines[-1:] != [""]
    return Running(interfaces=found, complete=ends_well and not stderr)


def _interface(printed: Printed, rows: Sequence[Row]) -> Interface:
    values = in_order(printed, rows)
    if not values.keys() <= set(_OF_INTERFACE):
        raise printed.error(rows[-1].line_number, "belongs to no peer")
    if ("private_key" in values) != ("public_key" in values):
        raise printed.error(rows[0].line_number, "has one half of a pair of keys")
    return Interface(
        name=values["interface"],
        public_key=values.get("public_key", ""),
        listen_port=int(values.get("listen_port", "0")),
        fwmark=int(values.get("fwmark", "0x0"), 16),
        peers={},
    )


def _peer(printed: Printed, rows: Sequence[Row], now: int) -> PeerSeen:
    values = in_order(printed, rows, required=("allowed_ips",))
    if not values.keys().isdisjoint(_OF_INTERFACE):
        raise printed.error(rows[0].line_number, "has something that only interfaces have")
    return PeerSeen(
        public_key=values["peer"],
        endpoint=values.get("endpoint", ""),
        allowed_ips=() if values["allowed_ips"] == NONE else tuple(values["allowed_ips"].split(", ")),
        latest_handshake=_handshake(printed, rows, values.get("latest_handshake", ""), now),
        rx_bytes=bytes_of(*values.get("received", "0 B").split(" ")),
        tx_bytes=bytes_of(*values.get("sent", "0 B").split(" ")),
        keepalive_s=_seconds(printed, rows, values["keepalive"]) if "keepalive" in values else 0,
        preshared="preshared_key" in values,
    )


def _handshake(printed: Printed, rows: Sequence[Row], said: str, now: int) -> int:
    if not said:
        return 0
    if said.startswith("(System clock"):
        return now + 1
    return now if said == "Now" else now - _seconds(printed, rows, said.removesuffix(" ago"))


def _seconds(printed: Printed, rows: Sequence[Row], words: str) -> int:
    """The length of ``1 hour, 2 minutes, 1 second``: each unit once, from the longest to the shortest."""
    total, units = 0, list(_UNITS_S)
    for part in words.split(", "):
        number, unit = part.split(" ")
        name = unit if number == "1" else unit.removesuffix("s")
        if name not in units or (number != "1") != unit.endswith("s") or int(number) == 0:
            raise printed.error(rows[0].line_number, f"has a peer with a time that is not understood: {words!r}")
        units = units[units.index(name) + 1 :]
        total += int(number) * _UNITS_S[name]
    return total


def _check_blank_lines(printed: Printed) -> None:
    """One blank line stands before each interface and peer but the first, and nowhere else."""
    lines = printed.lines
    for number, line in enumerate(lines[1:], 2):
        heads = line.startswith(("interface: ", "peer: "))
        follows = lines[number - 2] == ""
        if line and heads != follows:
            raise printed.error(number, "has a blank line before it" if follows else "has no blank line before it")
