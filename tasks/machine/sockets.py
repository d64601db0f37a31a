"""What listens on a machine: `ss -H -ltnup`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from dockyard.parsing import Printed, Row
from dockyard.standing import Level, Standing
from dockyard.topology import Protocol

_USER = re.compile(r'\("(?P<name>[^"]*)",(?:pid=)?(?P<pid>\d{1,10}),(?:fd=)?(?P<fd>\d{1,10})\)')


class SocketState(StrEnum):
    """States of sockets that wait for somebody to speak first."""

    LISTEN = "LISTEN"
    UNCONNECTED = "UNCONN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One holder of a socket; ``name`` is the first 15 bytes of the thread's name."""

    name: str
    pid: int
    fd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """One listening socket.

    ``address`` is ``*`` for both families at once, ``0.0.0.0`` or ``::`` for one; ``interface`` is "" when it is not
    bound to one. ``waiting`` connections (or bytes, UDP) of at most ``backlog``. No ``processes``: it belongs to the
    kernel, or we are not root.
    """

    protocol: Protocol
    state: SocketState
    address: str
    interface: str
    port: int
    waiting: int
    backlog: int
    processes: tuple[Process, ...]

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.protocol} {host}{'%' if self.interface else ''}{self.interface}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """All of them, in the order of ss. Not ``complete``: the output was cut off."""

    sockets: tuple[Socket, ...]
    complete: bool = True


def read_sockets(text: str) -> Listening:
    """What `ss -H -ltnup` printed.

    Raises:
        ParseError: an unknown line, protocol or state.
    """
    printed = Printed("ss -H -ltnup", text)
    sockets = tuple(_socket(printed, row) for row in printed.rows("ss_listening"))
    return Listening(sockets=sockets, complete=printed.whole)


def _socket(printed: Printed, row: Row) -> Socket:
    socket = Socket(
        protocol=printed.member(Protocol, row["netid"], row.line_number),
        state=printed.member(SocketState, row["state"], row.line_number),
        address=row["address"].strip("[]"),
        interface=row["interface"],
        port=int(row["port"]),
        waiting=int(row["recv_q"]),
        backlog=int(row["send_q"]),
        processes=_processes(printed, row),
    )
    if socket.port > 65535 or (socket.protocol is Protocol.TCP) != (socket.state is SocketState.LISTEN):
        raise printed.error(row.line_number, "is no listening socket")
    return socket


def _processes(printed: Printed, row: Row) -> tuple[Process, ...]:
    users = row["users"]
    found = list(_USER.finditer(users))
    if ",".join(match[0] for match in found) != users:
        raise printed.error(row.line_number, "has users that are not understood")
    return tuple(Process(name=match["name"], pid=int(match["pid"]), fd=int(match["fd"])) for match in found)


def sockets_standing(state: Listening) -> Standing:
    """Levels of ``tcp 0.0.0.0:22``; a full queue is `Level.DEGRADED`: connections are being dropped."""
    levels: dict[str, Level] = {}
    for socket in state.sockets:
        full = socket.protocol is Protocol.TCP and socket.waiting > socket.backlog
        level = Level.DEGRADED if full else Level.HEALTHY
        levels[str(socket)] = min(level, levels.get(str(socket), level))
    return levels if state.complete else dict.fromkeys(levels, Level.UNKNOWN)
