"""What the parts of the stand-in say to each other: one line of JSON each way, on a connection of its own."""

from __future__ import annotations

import json
import socket
import socketserver
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]
Handler = Callable[[Message], Message]
TIMEOUT_S = 10.0


class Refused(Exception):
    """The other side answered, and the answer is no; the text says why."""


class Silent(Exception):
    """Nobody answered."""


def call(address: tuple[str, int], message: Message) -> Message:
    """Ask, and return the answer; raises Refused or Silent."""
    try:
        with socket.create_connection(address, timeout=TIMEOUT_S) as connection:
            connection.sendall(json.dumps(message).encode() + b"\n")
            text = connection.makefile("rb").readline()
    except OSError as error:
        raise Silent(f"dial tcp {address[0]}:{address[1]}: {error.strerror or error}") from error
    if not text:
        raise Silent(f"{address[0]}:{address[1]} closed the connection")
    answer: Message = json.loads(text)
    if "error" in answer:
        raise Refused(answer["error"])
    return answer


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def listen(address: tuple[str, int], handle: Handler) -> socketserver.BaseServer:
    """Listen, without answering yet: `serve_forever` does. A handler refuses by raising Refused."""

    class Connection(socketserver.StreamRequestHandler):
        timeout = TIMEOUT_S

        def handle(self) -> None:
            text = self.rfile.readline()
            if text:
                self.wfile.write(json.dumps(_answered(handle, text)).encode() + b"\n")

    return _Server(address, Connection)


def _answered(handle: Handler, text: bytes) -> Message:
    try:
        return handle(json.loads(text))
    except Refused as refused:
        return {"error": str(refused)}
    except (ValueError, KeyError, TypeError) as error:
        return {"error": f"Error from server (BadRequest): {type(error).__name__}: {error}"}
