"""The process side of the wire: one stream socket from each QEMU, frames moved between them when they are due."""

from __future__ import annotations

import heapq
import os
import random
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from lab.machines import MachineSpec
from lab.wire import Port, Wire

SOCKET_NAME = "wire.sock"
T = TypeVar("T")
_LENGTH = struct.Struct("!I")
_LARGEST_FRAME = 70_000
_SEND_LIMIT = 4 * 1024 * 1024


class Plug:
    """One machine's connection: reassembles frames, and keeps what the guest is too slow to take, up to a limit."""

    def __init__(self, name: str, connection: socket.socket) -> None:
        """Take over the connected socket."""
        connection.setblocking(False)
        self.name = name
        self.connection = connection
        self._received = bytearray()
        self._pending = bytearray()

    def receive(self) -> list[bytes] | None:
        """Return the whole frames that have come, or None when the machine is gone."""
        try:
            data = self.connection.recv(262_144)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        self._received += data
        return self._take_frames()

    def send(self, frame: bytes) -> None:
        """Queue a frame; one that finds the queue full is dropped, as a switch does."""
        if len(self._pending) < _SEND_LIMIT:
            self._pending += _LENGTH.pack(len(frame)) + frame

    def flush(self) -> bool:
        """Write what the socket takes; True when something is left."""
        if self._pending:
            try:
                del self._pending[: self.connection.send(self._pending)]
            except BlockingIOError:
                return True
            except OSError:
                self._pending.clear()
        return bool(self._pending)

    def _take_frames(self) -> list[bytes] | None:
        frames, start, buffer = [], 0, self._received
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > _LARGEST_FRAME:
                return None
            end = start + _LENGTH.size + length
            if end > len(buffer):
                break
            frames.append(bytes(buffer[start + _LENGTH.size : end]))
            start = end
        del buffer[:start]
        return frames


class Switch(threading.Thread):
    """Runs a `Wire` in its own thread. Other threads change it through `change` only."""

    def __init__(self, machines: Sequence[MachineSpec], folder: Path) -> None:
        """Listen on `folder`/NAME/wire.sock for each machine; `folder` must be the current directory."""
        super().__init__(name="wire", daemon=True)
        ports = {
            spec.name: Port(spec.name, spec.site, bytes.fromhex(spec.cluster_mac.replace(":", ""))) for spec in machines
        }
        self.wire = Wire(ports, random.random)
        self._selector = selectors.DefaultSelector()
        self._plugs: dict[str, Plug] = {}
        self._due: list[tuple[float, int, str, str, bytes]] = []
        self._count = 0
        self._turn = threading.Lock()
        self._stopped = False
        self._wake = socket.socketpair()
        self._selector.register(self._wake[0], selectors.EVENT_READ, None)
        for spec in machines:
            self._listen(spec.name, folder)

    def change(self, action: Callable[[Wire], T]) -> T:
        """Run `action` between two frames and return its result."""
        with self._turn:
            return action(self.wire)

    @property
    def plugged(self) -> frozenset[str]:
        """Machines that are connected now."""
        with self._turn:
            return frozenset(self._plugs)

    def stop(self, *, timeout_s: float = 5.0) -> None:
        """End the thread and close every socket."""
        self._stopped = True
        self._wake[1].close()
        self.join(timeout_s)
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

    def run(self) -> None:
        """Move frames until `stop`."""
        while not self._stopped:
            ready = self._selector.select(self._time_to_next())
            with self._turn:
                for key, events in ready:
                    self._serve(key.fileobj, key.data, events)
                self._deliver()

    def _listen(self, name: str, folder: Path) -> None:
        path = folder / name / SOCKET_NAME
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(os.path.relpath(path))
        listener.listen(1)
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, name)

    def _serve(self, source: object, data: str | Plug | None, events: int) -> None:
        if isinstance(data, Plug):
            if events & selectors.EVENT_READ:
                self._read(data)
        elif data and isinstance(source, socket.socket):
            self._accept(source, data)

    def _accept(self, listener: socket.socket, name: str) -> None:
        old = self._plugs.pop(name, None)
        if old:
            self._unplug(old)
        plug = Plug(name, listener.accept()[0])
        self._plugs[name] = plug
        self._selector.register(plug.connection, selectors.EVENT_READ, plug)

    def _unplug(self, plug: Plug) -> None:
        self._selector.unregister(plug.connection)
        plug.connection.close()
        if self._plugs.get(plug.name) is plug:
            del self._plugs[plug.name]

    def _read(self, plug: Plug) -> None:
        frames = plug.receive()
        if frames is None:
            self._unplug(plug)
            return
        now = time.monotonic()
        for frame in frames:
            for due, target in self.wire.forward(plug.name, frame, now):
                self._count += 1
                heapq.heappush(self._due, (due, self._count, plug.name, target, frame))

    def _time_to_next(self) -> float | None:
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None

    def _deliver(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, _, source, target, frame = heapq.heappop(self._due)
            plug = self._plugs.get(target)
            if plug and not self.wire.is_cut(source, target):
                plug.send(frame)
        for plug in self._plugs.values():
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if plug.flush() else 0)
            if self._selector.get_key(plug.connection).events != wanted:
                self._selector.modify(plug.connection, wanted, plug)
