"""The process that owns the lab (`python -m lab.serve`, started by `python -m lab up` or `with Lab()`).

It ends, and all machines with it, on SIGTERM, on SIGINT, on the verb `down`, and when its standard input closes
before the line "keep" came: so it outlives the program that started it only when that said so.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import IO, Any

from lab.control import KEEP
from lab.errors import LabError
from lab.machines import MACHINES, SITES, named_by
from lab.paths import LabPaths
from lab.supervisor import Say, Supervisor
from lab.wire import DEFAULT_WAN, Shape, site_pairs


class Service:
    """The verbs that clients can ask for. Each takes the request's arguments and returns JSON data."""

    def __init__(self, supervisor: Supervisor) -> None:
        """Serve one supervisor."""
        self._supervisor = supervisor
        self._wire = supervisor.switch
        self.since = time.time()
        self.stopping = threading.Event()

    def verbs(self, say: Say) -> dict[str, Callable[..., Any]]:
        """Verbs by name; `say` is given their progress, a line at a time."""
        return {
            "up": partial(self._supervisor.up, say),
            "down": self.stopping.set,
            "status": self._status,
            "crash": self._supervisor.crash,
            "start": self._supervisor.start,
            "reset": partial(self._supervisor.reset, say),
            "save": partial(self._supervisor.save, say),
            "back": partial(self._supervisor.back, say),
            "clocks": self._supervisor.clocks,
            "cut": self._cut,
            "heal": self._heal,
            "wan": self._wan,
        }

    def _status(self) -> dict[str, Any]:
        cuts = self._wire.change(lambda wire: sorted(sorted(pair) for pair in wire.cuts))
        machines = {
            spec.name: {
                "site": spec.site,
                "state": "off" if process_id is None else "running",
                "process_id": process_id,
                "ssh_port": spec.ssh_port,
                "cluster_address": str(spec.cluster_address.ip),
            }
            for spec, process_id in zip(MACHINES, self._supervisor.process_ids().values(), strict=True)
        }
        return {
            "process_id": os.getpid(),
            "since": self.since,
            "machines": machines,
            "modules": self._supervisor.modules_folder,
            "checkpoints": self._supervisor.checkpoints,
            "cuts": cuts,
            "wan": self._table(),
        }

    def _cut(self, first: str, second: str) -> None:
        one, other = named_by(first), named_by(second)
        self._wire.change(lambda wire: wire.cut(one, other))

    def _heal(self, first: str | None = None, second: str | None = None) -> None:
        if first is None or second is None:
            self._wire.change(lambda wire: wire.heal())
        else:
            one, other = named_by(first), named_by(second)
            self._wire.change(lambda wire: wire.heal(one, other))

    def _wan(self, pair: list[str] | None = None, changes: dict[str, float] | None = None) -> list[dict[str, Any]]:
        if pair is not None:
            key = _site_pair(pair)
            now = self._wire.change(lambda wire: wire.shape_of(*pair))
            shape = DEFAULT_WAN[key] if changes is None else _changed(now, changes)
            self._wire.change(lambda wire: wire.shapes.update({key: shape}))
        elif changes is not None:
            raise LabError("a change of the WAN needs two sites", advice="python -m lab wan home dc --rtt-ms 80")
        return self._table()

    def _table(self) -> list[dict[str, Any]]:
        shapes = self._wire.change(lambda wire: {pair: wire.shape_of(*pair) for pair in site_pairs(SITES)})
        return [{"sites": list(pair), **asdict(shape)} for pair, shape in shapes.items()]


def _site_pair(pair: list[str]) -> frozenset[str]:
    unknown = [site for site in pair if site not in SITES]
    if unknown or len(set(pair)) != 2:
        raise LabError(
            f"{' and '.join(pair)} are not two different sites of the lab", advice="two of: " + ", ".join(SITES)
        )
    return frozenset(pair)


def _changed(shape: Shape, changes: dict[str, float]) -> Shape:
    try:
        return Shape(**(asdict(shape) | changes))
    except ValueError as error:
        raise LabError(str(error)) from error


def _answer(service: Service, connection: socket.socket) -> None:
    with suppress(OSError), connection, connection.makefile("rwb") as stream:

        def send(**message: object) -> None:
            stream.write(json.dumps(message).encode() + b"\n")
            stream.flush()

        line = stream.readline()
        if not line:
            return
        request = json.loads(line)
        try:
            verb = service.verbs(lambda text: send(say=text))[request["verb"]]
            send(result=verb(**request["arguments"]))
        except LabError as error:
            send(error=error.problem, advice=error.advice)
        except Exception as error:
            send(error=f"{type(error).__name__}: {error}", advice=f"see {LabPaths.of_user().root / 'supervisor.log'}")
            raise


def _hold_lock(paths: LabPaths) -> IO[str]:
    lock = paths.lock.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        sys.exit(f"another lab is running or starting: {lock.read().strip() or 'it has not said who it is'}")
    lock.truncate(0)
    lock.write(f"process {os.getpid()}, started by process {os.getppid()} at {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
    lock.flush()
    return lock


def _watch_starter(stop: threading.Event) -> None:
    if sys.stdin.buffer.readline() != KEEP:
        stop.set()


def _accept(service: Service, listener: socket.socket) -> None:
    while True:
        threading.Thread(target=_answer, args=(service, listener.accept()[0]), daemon=True).start()


def main() -> None:
    """Own the lab until told to stop."""
    os.umask(0o077)
    paths = LabPaths.of_user()
    paths.make()
    lock = _hold_lock(paths)
    supervisor = Supervisor(paths)
    service = Service(supervisor)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stopping.set())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(paths.control.name)
    listener.listen(16)
    threading.Thread(target=_accept, args=(service, listener), daemon=True).start()
    threading.Thread(target=_watch_starter, args=(service.stopping,), daemon=True).start()
    service.stopping.wait()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)  # a build of the image; the machines are in groups of their own
    supervisor.shutdown()
    paths.control.unlink(missing_ok=True)
    lock.close()
    os._exit(0)


if __name__ == "__main__":
    main()
