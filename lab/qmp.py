"""QEMU's machine protocol, as far as the lab needs it: commands, and waiting for a migration to end."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab.errors import LabError, MachineTimeout


def connect_unix(path: Path, *, deadline: float) -> socket.socket:
    """Connect to a unix socket, also by a path of more than 107 bytes; waits for a listener until `deadline`.

    `deadline` is on time.monotonic(); raises MachineTimeout after it.
    """
    while True:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(f"/proc/self/fd/{folder}/{path.name}")
            return connection
        except (FileNotFoundError, ConnectionRefusedError) as error:
            connection.close()
            if time.monotonic() > deadline:
                raise MachineTimeout(f"nothing listens on {path}") from error
        finally:
            os.close(folder)
        time.sleep(0.01)


class Qmp:
    """A connection to one QEMU (docs/interop/qmp-spec.rst in QEMU's sources)."""

    def __init__(self, path: Path, *, timeout_s: float = 10.0) -> None:
        """Connect and negotiate; raises LabError when QEMU does not answer in time."""
        self._socket = connect_unix(path, deadline=time.monotonic() + timeout_s)
        self._socket.settimeout(timeout_s)
        self._lines = self._socket.makefile("rb")
        self._read()
        self.command("qmp_capabilities")

    def __enter__(self) -> Self:
        """Return the connection itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; QEMU goes on."""
        self._lines.close()
        self._socket.close()

    def command(self, name: str, **arguments: object) -> Any:
        """Run one command and return its result; raises LabError with QEMU's own words."""
        request = {"execute": name, "arguments": {key.replace("_", "-"): value for key, value in arguments.items()}}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = self._read()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise LabError(f"QEMU refused {name}: {answer['error'].get('desc')}")

    def monitor(self, line: str, *, timeout_s: float) -> None:
        """Run a line of the human monitor that prints nothing on success; raises LabError with what it printed."""
        before = self._socket.gettimeout()
        self._socket.settimeout(timeout_s)
        try:
            printed = self.command("human-monitor-command", command_line=line)
        finally:
            self._socket.settimeout(before)
        if printed.strip():
            raise LabError(f"QEMU refused {line}: {printed.strip()}")

    def wait_for_migration(self, *, timeout_s: float) -> None:
        """Wait until the migration that was started has completed, on either side."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            status = self.command("query-migrate")
            if status.get("status") == "completed":
                return
            if status.get("status") in ("failed", "cancelled"):
                raise LabError(f"QEMU could not carry the machine over: {status.get('error-desc', status['status'])}")
            time.sleep(0.02)
        raise MachineTimeout(f"the snapshot was not done after {timeout_s:.0f} s")

    def _read(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
        except TimeoutError as error:
            raise MachineTimeout("QEMU does not answer on its control socket") from error
        if not line:
            raise LabError("QEMU closed its control socket", advice="see the console and qemu.log of the machine")
        message: dict[str, Any] = json.loads(line)
        return message
