"""TCP connections that are quick, and that notice when the other side has gone."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class QuickSocket(socket.socket):
    """A TCP socket that neither waits to fill packets nor to bundle acknowledgements.

    Nagle's algorithm against delayed ACKs costs about 45 ms an exec even on a LAN (measured, docs/transport.md);
    Linux forgets TCP_QUICKACK, so it is set after each read (tcp(7)). The kernel gives up on a silent peer on its own.
    """

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        data = super().recv(bufsize, flags)
        self._set("TCP_QUICKACK", 1)
        return data

    def tune(self) -> None:
        self._set("TCP_NODELAY", 1)
        self._set("TCP_QUICKACK", 1)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._set("TCP_KEEPIDLE", 10)
        self._set("TCP_KEEPINTVL", 5)
        self._set("TCP_KEEPCNT", 3)
        self._set("TCP_USER_TIMEOUT", 25_000)

    def _set(self, option: str, value: int) -> None:
        number = getattr(socket, option, None)  # macOS lacks some of them
        if number is not None:
            with suppress(OSError):  # the peer has closed; the next read says so
                self.setsockopt(socket.IPPROTO_TCP, number, value)


def connect_tcp(hostname: str, port: int, deadline: float) -> QuickSocket:
    """A tuned TCP connection, opened before ``deadline`` (``time.monotonic()``).

    Each address has its share of the time that is left, so that a dead one (IPv6 that leads nowhere) leaves some.

    Raises:
        OSError: of the last address that was tried; socket.gaierror for a name that does not resolve.
    """
    error: OSError = TimeoutError("timed out")
    found = socket.getaddrinfo(hostname, port, type=socket.SOCK_STREAM)
    for left, (family, kind, protocol, _, address) in zip(range(len(found), 0, -1), found, strict=True):
        link = QuickSocket(family, kind, protocol)
        try:
            link.settimeout(max(0.001, (deadline - time.monotonic()) / left))
            link.connect(address)
            link.tune()
            return link
        except OSError as failed:
            link.close()
            error = failed
    raise error


@contextmanager
def shut_at(deadline: float, link: QuickSocket) -> Iterator[QuickSocket]:
    """Shut the socket at the deadline unless the block is done by then: paramiko's own limits each start anew."""

    def shut() -> None:
        with suppress(OSError):  # closed by the peer meanwhile
            link.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), shut)
    timer.daemon = True
    timer.start()
    try:
        yield link
    finally:
        timer.cancel()
