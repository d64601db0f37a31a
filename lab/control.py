"""How commands reach the process that owns the lab: one JSON object a line over a unix socket.

Request `{"verb": ..., "arguments": {...}}`; answers `{"say": text}` any number of times, then `{"result": ...}` or
`{"error": text, "advice": text}`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError, MachineTimeout
from lab.paths import LabPaths
from lab.qmp import connect_unix

KEEP = b"keep\n"
START_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Control:
    """The client's side: `request` runs one verb in the process that owns the lab."""

    paths: LabPaths

    def request(self, verb: str, say: Callable[[str], None], **arguments: object) -> Any:
        """Run `verb` there and return its result; raises LabError as it was raised there, or when no lab is running."""
        try:
            connection = connect_unix(self.paths.control, deadline=0.0)
        except (LabError, OSError) as error:
            raise LabError("the lab is not running", advice="python -m lab up") from error
        with connection, connection.makefile("rb") as lines:
            connection.sendall(json.dumps({"verb": verb, "arguments": arguments}).encode() + b"\n")
            for line in lines:
                answer = json.loads(line)
                if "say" in answer:
                    say(answer["say"])
                elif "error" in answer:
                    raise LabError(answer["error"], advice=answer["advice"])
                else:
                    return answer["result"]
        raise LabError("the lab was stopped meanwhile", advice="python -m lab up")

    @property
    def running(self) -> bool:
        """Say whether a process owns the lab and listens."""
        return self.owner is not None

    @property
    def owner(self) -> int | None:
        """Process that owns the lab, None when there is none that listens."""
        try:
            owner: int = self.request("status", lambda _: None)["process_id"]
        except (LabError, OSError):
            return None
        return owner


@dataclass(slots=True)
class Owner:
    """A process that owns the lab, started by this one. It ends when this process ends, until `release`."""

    process: subprocess.Popen[bytes]

    def release(self) -> None:
        """Let the owner go on when this process ends."""
        if self.process.stdin:
            self.process.stdin.write(KEEP)
            self.process.stdin.close()

    def stop(self, *, timeout_s: float = 20.0) -> None:
        """End the owner and with it all machines; returns when it is gone."""
        with self.process:  # closes our end of its standard input, too
            self.process.terminate()
            try:
                self.process.wait(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()


def start_owner(paths: LabPaths) -> Owner:
    """Start the process that owns the lab and wait until it listens; raises LabError when another holds the lock."""
    paths.make()
    log = paths.root / "supervisor.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "lab.serve"],
            cwd="/",
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    owner = Owner(process)
    deadline = time.monotonic() + START_TIMEOUT_S
    control = Control(paths)
    while control.owner != process.pid:
        if process.poll() is not None:
            raise LabError(_last_words(log), advice="python -m lab status shows the lab that runs")
        if time.monotonic() > deadline:
            owner.stop()
            raise MachineTimeout("the lab's own process does not answer", advice=f"see {log}")
        time.sleep(0.02)
    return owner


def _environment() -> dict[str, str]:
    here = str(Path(__file__).resolve().parent.parent)
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))}


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "the lab's own process ended without a word"
