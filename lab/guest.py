"""One running QEMU: started, restored, captured, killed; and its clock."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.errors import LabError, MachineTimeout
from lab.qemu import Launch, qemu_arguments
from lab.qmp import Qmp, connect_unix

CLOCK_TOLERANCE_S = 0.05
CLOCK_RETRY_S = 3.0
# The kernel ties "die with the parent" to the *thread* that forked (prctl(2)), so one that lives as long as the process
# starts all guests.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


class Guest:
    """A QEMU process and the lab's two connections to it (control socket and clock port)."""

    def __init__(self, launch: Launch) -> None:
        """Start QEMU; a restored guest stays paused until `resume`. Raises LabError with QEMU's own words."""
        self.launch = launch
        self._log = launch.folder / "qemu.log"
        self._questions = 0
        for name in ("qmp.sock", "clock.sock"):
            (launch.folder / name).unlink(missing_ok=True)
        self._process = _spawner.submit(_spawn, launch, self._log).result()
        try:
            self.qmp = Qmp(launch.folder / "qmp.sock", timeout_s=30)
            self._clock = connect_unix(launch.folder / "clock.sock", deadline=time.monotonic() + 10)
        except LabError as error:
            self.kill()
            raise LabError(
                f"{launch.spec.name}: QEMU did not start: {self._last_words()}", advice=f"see {self._log}"
            ) from error

    @property
    def alive(self) -> bool:
        """Say whether the process runs."""
        return self._process.poll() is None

    @property
    def process_id(self) -> int:
        """Process id of this QEMU."""
        return self._process.pid

    def kill(self) -> None:
        """End the process at once, as a power cut does; returns when it is gone."""
        self._process.kill()
        self._process.wait()

    def capture(self, state: Path, *, timeout_s: float = 60.0) -> None:
        """Stop the guest, write its devices to `state` (its memory is in the memory file already) and end QEMU."""
        self.qmp.command("stop")
        self.qmp.command("migrate-set-capabilities", capabilities=_IGNORE_SHARED)
        self.qmp.command("migrate", uri=f"file:{state}")
        self.qmp.wait_for_migration(timeout_s=timeout_s)
        self.qmp.command("quit")
        self._process.wait(timeout=30)

    def resume(self, state: Path, *, timeout_s: float = 60.0) -> None:
        """Load the devices from `state` and let the guest run on."""
        self.qmp.command("migrate-set-capabilities", capabilities=_IGNORE_SHARED)
        self.qmp.command("migrate-incoming", uri=f"file:{state}")
        self.qmp.wait_for_migration(timeout_s=timeout_s)
        self.qmp.command("migrate-set-capabilities", capabilities=_ALL_MEMORY)
        self.qmp.command("cont")

    def pause(self) -> None:
        """Stop the guest's processor."""
        self.qmp.command("stop")

    def go_on(self) -> None:
        """Let a paused guest run on."""
        self.qmp.command("cont")

    def save(self, name: str, *, timeout_s: float = 120.0) -> None:
        """Write memory, devices and disks of a paused guest into its disks, as the checkpoint `name`."""
        self.qmp.monitor(f"savevm {name}", timeout_s=timeout_s)

    def set_clock(self, *, timeout_s: float) -> float:
        """Set the guest's clock to the host's; returns the offset that remains, in seconds (guest minus host)."""
        deadline = time.monotonic() + timeout_s
        lag = 0.0
        while time.monotonic() < deadline:
            offset = self.clock_offset(timeout_s=deadline - time.monotonic())
            if abs(offset) <= CLOCK_TOLERANCE_S:
                return offset
            lag = max(0.0, lag - offset) if abs(offset) < 1 else lag
            self._ask_clock(f"step {time.time() + lag:.6f}", deadline)
        raise MachineTimeout(f"{self.launch.spec.name}: its clock could not be set within {timeout_s:.0f} s")

    def clock_offset(self, *, timeout_s: float) -> float:
        """Guest's clock minus the host's, in seconds: from the shortest of three exchanges, as in RFC 5905."""
        deadline = time.monotonic() + timeout_s
        samples = []
        for _ in range(3):
            before = time.time()
            answer = self._ask_clock("get", deadline)
            after = time.time()
            samples.append((after - before, answer - (before + after) / 2))
        return min(samples)[1]

    def _ask_clock(self, request: str, deadline: float) -> float:
        """Return the guest's time; asked again when no answer comes, as a question is lost while the port reopens."""
        while time.monotonic() < deadline:
            self._questions += 1
            self._clock.sendall(f"{self._questions} {request}\n".encode())
            answer = self._clock_answer(min(deadline, time.monotonic() + CLOCK_RETRY_S))
            if answer is not None:
                return answer
        raise MachineTimeout(f"{self.launch.spec.name}: no answer from its clock port")

    def _clock_answer(self, deadline: float) -> float | None:
        received = b""
        while (left := deadline - time.monotonic()) > 0:
            self._clock.settimeout(left)
            try:
                received += self._clock.recv(4096)
            except TimeoutError:
                return None
            for line in received.splitlines(keepends=True):
                number, _, answer = line.partition(b" ")
                if line.endswith(b"\n") and number == b"%d" % self._questions:
                    return float(answer)
        return None

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no message"


_IGNORE_SHARED = [{"capability": "x-ignore-shared", "state": True}]
_ALL_MEMORY = [{"capability": "x-ignore-shared", "state": False}]


def _spawn(launch: Launch, log: Path) -> subprocess.Popen[bytes]:
    argv = ["setpriv", "--pdeathsig", "KILL", "--", *qemu_arguments(launch)]
    with log.open("wb") as out:
        return subprocess.Popen(
            argv, cwd=launch.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
