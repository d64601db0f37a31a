"""The lab in Python, after the NixOS test driver: `with Lab() as lab: lab["dock-prod"].crash()`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab import ssh
from lab.control import Control, Owner, start_owner
from lab.errors import CommandFailed, LabError, MachineTimeout
from lab.k3s import is_real, provide
from lab.machines import MACHINES, MachineSpec, spec_of
from lab.paths import LabPaths
from lab.ssh import Completed

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine of a running lab. Commands are shell command lines, run as the login user, or as root with `sudo`."""

    spec: MachineSpec
    control: Control

    @property
    def name(self) -> str:
        """Host name."""
        return self.spec.name

    @property
    def running(self) -> bool:
        """Say whether the machine has power."""
        status = self.control.request("status", _silent)
        return bool(status["machines"][self.name]["state"] == "running")

    def crash(self) -> None:
        """Cut the power; raises LabError when the machine is off."""
        self.control.request("crash", _silent, host=self.name)

    def start(self) -> None:
        """Boot from the disks as they are; returns when ssh works and no unit is being started any more."""
        self.control.request("start", _silent, host=self.name)

    def reset(self) -> None:
        """Put this machine alone back to the pristine snapshot."""
        self.control.request("reset", _silent, hosts=[self.name])

    def run(self, command: str, *, sudo: bool = False, timeout_s: float = 60.0) -> Completed:
        """Run a command and return how it ended, whatever that is."""
        return ssh.run(self.spec, self.control.paths, command, sudo=sudo, timeout_s=timeout_s)

    def succeed(self, command: str, *, sudo: bool = False, timeout_s: float = 60.0) -> str:
        """Run a command that must succeed and return its stdout; raises CommandFailed."""
        done = self.run(command, sudo=sudo, timeout_s=timeout_s)
        if done.exit_code != 0:
            raise CommandFailed(
                f"{self.name}: {command!r} ended with {done.exit_code}: {done.stderr.strip() or done.stdout.strip()}"
            )
        return done.stdout

    def fail(self, command: str, *, sudo: bool = False, timeout_s: float = 60.0) -> str:
        """Run a command that must fail and return its stdout and stderr.

        Raises CommandFailed when it succeeds or never ran (255, ssh's own failure).
        """
        done = self.run(command, sudo=sudo, timeout_s=timeout_s)
        if done.exit_code in (0, 255):
            raise CommandFailed(
                f"{self.name}: {command!r} ended with {done.exit_code}, it should have failed: {done.stderr.strip()}"
            )
        return done.stdout + done.stderr

    def wait_until_succeeds(self, command: str, *, timeout_s: float = 60.0, sudo: bool = False) -> str:
        """Repeat a command until it succeeds and return its stdout; raises MachineTimeout with its last words."""
        deadline = time.monotonic() + timeout_s
        last = "it never ended"
        while (left := deadline - time.monotonic()) > 0:
            try:
                done = self.run(command, sudo=sudo, timeout_s=max(1.0, left))
            except MachineTimeout:
                break
            if done.exit_code == 0:
                return done.stdout
            last = f"exit code {done.exit_code}: {(done.stderr or done.stdout).strip()}"
            time.sleep(0.2)
        raise MachineTimeout(f"{self.name}: {command!r} did not succeed within {timeout_s:.0f} s; {last}")

    def console(self) -> str:
        """What the machine wrote on its serial console since the lab was started."""
        path = self.control.paths.console(self.name)
        return path.read_text(errors="replace") if path.exists() else ""

    def journal(self, *, timeout_s: float = 60.0) -> str:
        """The machine's journal, all boots."""
        return self.succeed("journalctl --no-pager --output=short-precise", sudo=True, timeout_s=timeout_s)


class Lab:
    """The running lab.

    As a context manager it attaches to one that runs (and leaves it running), or starts one and stops it at the end.
    """

    def __init__(self, *, paths: LabPaths | None = None, say: Say = print) -> None:
        """Prepare; nothing is started before `with`. `say` is given progress, a line at a time."""
        self.paths = paths or LabPaths.of_user()
        self._control = Control(self.paths)
        self._say = say
        self._owner: Owner | None = None

    def __enter__(self) -> Self:
        """Attach or start; raises LabError."""
        if not self._control.running:
            self._owner = start_owner(self.paths)
            try:
                self._control.request("up", self._say)
            except BaseException:
                self.__exit__(None, None, None)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the lab if this object started it."""
        if self._owner:
            self._owner.stop()
            self._owner = None

    def __getitem__(self, name: str) -> Machine:
        """Return one machine by its host name; raises LabError for an unknown one."""
        return Machine(spec_of(name), self._control)

    @property
    def machines(self) -> Mapping[str, Machine]:
        """All machines by name."""
        return {spec.name: Machine(spec, self._control) for spec in MACHINES}

    def up(self, modules: Path | None = None, k3s: Path | None = None) -> None:
        """Start the lab if none runs, boot machines that are off, and leave it running when this process ends.

        Kernel modules in the folder `modules` take the place of Debian's, the binary `k3s` that of the stand-in: it is
        what the next phase 1 installs.
        """
        self.paths.make()
        if k3s or not self._control.running:
            provide(self.paths.k3s, k3s)
        given = {"modules": str(modules.resolve())} if modules else {}
        owner = None if self._control.running else start_owner(self.paths)
        try:
            self._control.request("up", self._say, **given)
        except BaseException:
            if owner:
                owner.stop()
            raise
        if owner:
            owner.release()

    def down(self, *, timeout_s: float = 20.0) -> None:
        """Stop all machines and the wire; returns when they are gone. Nothing to stop is fine."""
        if not self._control.running:
            self._say("the lab is not running")
            return
        self._control.request("down", self._say)
        deadline = time.monotonic() + timeout_s
        while self._control.running:
            if time.monotonic() > deadline:
                raise MachineTimeout("the lab does not stop", advice=f"see {self.paths.root / 'supervisor.log'}")
            time.sleep(0.02)

    def status(self) -> dict[str, Any]:
        """Machines (state, process id, port, address), cuts, checkpoints and WAN table, as JSON data."""
        status: dict[str, Any] = self._control.request("status", self._say)
        return status

    @property
    def k3s(self) -> str:
        """What the next phase 1 installs as K3s: the stand-in, or a real binary that was given."""
        return "a real binary" if is_real(self.paths.k3s) else "the stand-in"

    def reset(self, *names: str) -> None:
        """Put all machines (or the named ones) back to the pristine snapshot; all also heals the wire."""
        self._control.request("reset", self._say, hosts=list(names))

    def save(self, name: str) -> None:
        """Keep all five machines as they are now, for `back`; lost with a reset, and with the lab. Raises LabError."""
        self._control.request("save", self._say, name=name)

    def back(self, name: str) -> None:
        """Put all machines back to what `save` kept, and heal the wire. Raises LabError when nothing has that name."""
        self._control.request("back", self._say, name=name)

    def clocks(self, *, correct: bool = False) -> dict[str, float]:
        """Offset of each running machine's clock (machine minus host, seconds), after setting it when `correct`."""
        offsets: dict[str, float] = self._control.request("clocks", self._say, correct=correct)
        return offsets

    def cut(self, first: str, second: str) -> None:
        """Drop all cluster traffic between two machines or sites, both ways."""
        self._control.request("cut", self._say, first=first, second=second)

    def heal(self, first: str | None = None, second: str | None = None) -> None:
        """Undo cuts between two machines or sites, or all cuts."""
        self._control.request("heal", self._say, first=first, second=second)

    def wan(self, first: str = "", second: str = "", **changes: float) -> list[dict[str, Any]]:
        """Return the WAN table, after changing fields of `lab.wire.Shape` for one pair (rtt_s=0.08, loss=0.005 ...)."""
        pair = [first, second] if first or second else None
        table: list[dict[str, Any]] = self._control.request(
            "wan", self._say, pair=pair, changes=changes or ({} if pair else None)
        )
        return table

    def wan_default(self, first: str, second: str) -> list[dict[str, Any]]:
        """Put a pair of sites back to its default and return the WAN table."""
        table: list[dict[str, Any]] = self._control.request("wan", self._say, pair=[first, second])
        return table

    def keep_evidence(self, folder: Path) -> None:
        """Copy consoles, QEMU's messages and journals to `folder`; a file there says what cannot be had."""
        folder.mkdir(parents=True, exist_ok=True)
        for machine in self.machines.values():
            for name in ("console.log", "qemu.log"):
                source = self.paths.run / machine.name / name
                if source.exists():
                    shutil.copy(source, folder / f"{machine.name}.{name}")
            try:
                (folder / f"{machine.name}.journal").write_text(machine.journal(timeout_s=30), errors="surrogateescape")
            except LabError as error:
                (folder / f"{machine.name}.journal").write_text(f"not available: {error}\n")


def _silent(_: str) -> None:
    return None
