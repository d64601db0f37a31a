"""The one owner of the running lab: machines and wire live in its process and end with it."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from lab import k3s
from lab.accel import choose_accel, processor, qemu_version
from lab.errors import LabError, MachineTimeout
from lab.guest import Guest
from lab.image import Image, ensure_image
from lab.machines import MACHINES, MachineSpec, spec_of
from lab.modules import INCOMING, INSTALL, Modules, read_modules, release_of_kernel
from lab.paths import LabPaths
from lab.qemu import Accel, Launch, Memory
from lab.seed import ensure_identity, seed_of
from lab.snapshot import (
    PARTIAL,
    Snapshot,
    disks_in,
    make_fresh_disks,
    make_overlays,
    remove_other_snapshots,
    snapshot_key,
)
from lab.ssh import run
from lab.switch import Switch

Say = Callable[[str], None]
BOOT_TIMEOUT_S = 300.0
RESTORE_TIMEOUT_S = 90.0
CLOCK_TIMEOUT_S = 30.0
DRIFT_CHECK_S = 60.0
DRIFT_S = (0.1, 0.5)
NEEDED_FREE_MIB = 6000
_AT_ONCE = max(2, min(5, os.cpu_count() or 2))


class Supervisor:
    """Starts, restores and crashes the five machines. Verbs may come from several threads; one runs at a time."""

    def __init__(self, paths: LabPaths) -> None:
        """Prepare the run folder (which becomes the current directory) and start the wire."""
        self._paths = paths
        self._turn = threading.RLock()
        self._guests: dict[str, Guest] = {}
        self._checkpoints: set[str] = set()
        self._closing = False
        self._restored = False
        self._modules = Modules({})
        self._modules_folder = ""
        shutil.rmtree(paths.run, ignore_errors=True)
        for spec in MACHINES:
            (paths.run / spec.name).mkdir(parents=True)
        os.chdir(paths.run)
        self.switch = Switch(MACHINES, paths.run)
        self.switch.start()
        threading.Thread(target=self._correct_drift, name="clocks", daemon=True).start()

    def up(self, say: Say, modules: str = "") -> None:
        """Restore all machines to the snapshot, which is made first when there is none.

        Once that was done, boot those that are off, from their disks. The kernel modules in the folder `modules` are
        installed before the snapshot is taken. Raises LabError when the lab runs with others.
        """
        with self._turn:
            if self._restored and modules not in {"", self._modules_folder}:
                with_what = f"with {self._modules_folder}" if self._modules_folder else "with Debian's modules"
                raise LabError(f"the lab runs {with_what}", advice="python -m lab down first")
            down = [spec for spec in MACHINES if not self._is_alive(spec.name)]
            if self._restored:
                self._each(down, self._boot)
                return
            self._prepare(say, modules)
            if not self._snapshot.complete:
                self._capture_all(say)
            _require_ports(down)
            self._each(down, lambda spec: self._restore(spec, say))
            self._restored = True

    def reset(self, say: Say, hosts: Iterable[str]) -> None:
        """Put machines back to the pristine snapshot; all of them also heals the wire and restores the default WAN."""
        with self._turn:
            specs = [spec_of(name) for name in hosts] or list(MACHINES)
            self._checkpoints.clear()
            self._each(specs, lambda spec: self._restore(spec, say))
            if len(specs) == len(MACHINES):
                self.switch.change(lambda wire: wire.restore())
            say("pristine: " + ", ".join(spec.name for spec in specs))

    def save(self, say: Say, name: str) -> None:
        """Keep all five machines as they are at this moment, until the lab is stopped or reset; raises LabError."""
        with self._turn:
            off = [spec.name for spec in MACHINES if not self._is_alive(spec.name)]
            if off:
                raise LabError(f"{', '.join(off)} is off", advice="python -m lab up starts it; then save again")
            guests = [self._guests[spec.name] for spec in MACHINES]
            for guest in guests:
                guest.pause()
            try:
                self._each(MACHINES, lambda spec: self._guests[spec.name].save(name))
            finally:
                for guest in guests:
                    guest.go_on()
            self._each(MACHINES, self._set_clock)
            self._checkpoints.add(name)
            say(f"saved as {name}: " + ", ".join(spec.name for spec in MACHINES))

    @property
    def checkpoints(self) -> list[str]:
        """What `back` can go to."""
        return sorted(self._checkpoints)

    def back(self, say: Say, name: str) -> None:
        """Put all machines back to what `save` kept, on a healed wire with the default WAN; raises LabError."""
        with self._turn:
            if name not in self._checkpoints:
                known = ", ".join(self.checkpoints) or "nothing"
                raise LabError(f"nothing was saved as {name} since the last reset", advice=f"saved: {known}")
            answering(lambda timeout_s: self._load_all(name, timeout_s), say)
            say(f"back at {name}: " + ", ".join(spec.name for spec in MACHINES))

    def crash(self, host: str) -> None:
        """Cut the power of a machine: what it had not flushed is lost."""
        with self._turn:
            if not self._is_alive(spec_of(host).name):
                raise LabError(f"{host} is already off", advice=f"python -m lab start {host}")
            self._guests.pop(host).kill()

    def start(self, host: str) -> None:
        """Switch a machine on that is off: an ordinary boot from its disks as they are; returns when ssh works."""
        with self._turn:
            spec = spec_of(host)
            if self._is_alive(host):
                raise LabError(f"{host} is already running", advice=f"python -m lab crash {host}")
            self._boot(spec)

    def clocks(self, *, correct: bool) -> dict[str, float]:
        """Offset of each running machine's clock in seconds (machine minus host), after setting it when `correct`."""
        with self._turn:
            running = [self._guests[spec.name] for spec in MACHINES if self._is_alive(spec.name)]
            if correct:
                self._each([guest.launch.spec for guest in running], self._set_clock)
            return {guest.launch.spec.name: guest.clock_offset(timeout_s=CLOCK_TIMEOUT_S) for guest in running}

    def _correct_drift(self) -> None:
        """Set clocks that drifted, for ever; one that is further off was moved by a test and is left alone."""
        while True:
            time.sleep(DRIFT_CHECK_S)
            for guest in list(self._guests.values()):
                if self._turn.acquire(blocking=False):
                    with suppress(LabError, OSError):
                        if guest.alive and DRIFT_S[0] < abs(guest.clock_offset(timeout_s=1.0)) < DRIFT_S[1]:
                            guest.set_clock(timeout_s=1.0)
                    self._turn.release()

    def _set_clock(self, spec: MachineSpec) -> None:
        self._guests[spec.name].set_clock(timeout_s=CLOCK_TIMEOUT_S)

    def process_ids(self) -> dict[str, int | None]:
        """Process id of each machine's QEMU, None where it is off."""
        return {
            spec.name: self._guests[spec.name].process_id if self._is_alive(spec.name) else None for spec in MACHINES
        }

    def shutdown(self, *, timeout_s: float = 10.0) -> None:
        """Kill all machines (their disks are thrown away with the run folder) and end whatever verb is at work."""
        self._closing = True
        self._kill_all()
        self._turn.acquire(timeout=timeout_s)
        self._kill_all()

    def _kill_all(self) -> None:
        for guest in list(self._guests.values()):
            guest.kill()

    @property
    def modules_folder(self) -> str:
        """Where the modules of these machines came from, ``""`` for Debian's own."""
        return self._modules_folder

    def _prepare(self, say: Say, modules: str) -> None:
        version = qemu_version()
        ensure_identity(self._paths)
        k3s.ensure(self._paths.k3s)
        self._image: Image = ensure_image(self._paths, say)
        if modules:
            self._modules = read_modules(Path(modules), release_of_kernel(self._image.kernel.read_bytes()))
            self._modules_folder = modules
        self._accel: Accel = choose_accel(self._image, version, self._paths, say)
        seeds = [seed_of(spec, self._paths) for spec in MACHINES]
        for spec, seed in zip(MACHINES, seeds, strict=True):
            (self._paths.identity / spec.name / "seed.tar").write_bytes(seed)
        key = snapshot_key(self._image, self._accel, version, processor(), seeds, self._modules.key)
        self._snapshot = Snapshot(self._paths.snapshots / key)

    def _capture_all(self, say: Say) -> None:
        self._paths.require_space(NEEDED_FREE_MIB, "the snapshot")
        _require_ports(MACHINES)
        partial = Snapshot(self._snapshot.folder.with_suffix(PARTIAL))
        shutil.rmtree(partial.folder, ignore_errors=True)
        say(f"booting five machines ({self._accel}) to take a snapshot of them (once; up to four minutes) ...")
        self._each(MACHINES, lambda spec: self._capture(spec, partial, say), at_once=_AT_ONCE)
        partial.folder.rename(self._snapshot.folder)
        remove_other_snapshots(self._snapshot)

    def _capture(self, spec: MachineSpec, target: Snapshot, say: Say) -> None:
        began = time.monotonic()
        (target.folder / spec.name).mkdir(parents=True)
        make_fresh_disks(target.disks(spec), spec, self._image)
        guest = self._launch(spec, Memory.CAPTURE, target)
        self._wait_for_boot(guest)
        if self._modules.files:
            self._install_modules(spec)
        booted = time.monotonic() - began
        guest.capture(target.state(spec))
        self._guests.pop(spec.name, None)
        say(f"{spec.name} booted in {booted:.0f} s")

    def _install_modules(self, spec: MachineSpec) -> None:
        unpack = f"mkdir {INCOMING} && tar -x -C {INCOMING} -f -"
        sent = run(spec, self._paths, unpack, given=self._modules.archive)
        done = run(spec, self._paths, INSTALL, sudo=True, timeout_s=BOOT_TIMEOUT_S) if sent.exit_code == 0 else sent
        if done.exit_code != 0:
            raise LabError(f"{spec.name}: the modules could not be installed: {(done.stderr or done.stdout).strip()}")

    def _restore(self, spec: MachineSpec, say: Say) -> None:
        answering(lambda timeout_s: self._restore_once(spec, timeout_s), say)

    def _restore_once(self, spec: MachineSpec, timeout_s: float) -> None:
        old = self._guests.pop(spec.name, None)
        if old:
            old.kill()
        make_overlays(disks_in(self._paths.run / spec.name, spec), self._snapshot.disks(spec))
        guest = self._launch(spec, Memory.RESTORE, self._snapshot)
        guest.resume(self._snapshot.state(spec))
        guest.set_clock(timeout_s=timeout_s)
        self._wait_for(guest, "true", time.monotonic() + timeout_s)

    def _load_all(self, name: str, timeout_s: float) -> None:
        self._kill_all()
        self.switch.change(lambda wire: wire.restore())
        self._each(MACHINES, lambda spec: self._load(spec, name))
        for guest in self._guests.values():
            guest.go_on()  # at once, or those that wake first give up the connections to the others
        self._each(MACHINES, lambda spec: self._welcome(spec, timeout_s))

    def _load(self, spec: MachineSpec, name: str) -> None:
        self._launch(spec, Memory.PLAIN, checkpoint=name)

    def _welcome(self, spec: MachineSpec, timeout_s: float) -> None:
        guest = self._guests[spec.name]
        guest.set_clock(timeout_s=timeout_s)
        self._wait_for(guest, "true", time.monotonic() + timeout_s)

    def _boot(self, spec: MachineSpec) -> None:
        _require_ports([spec])
        self._wait_for_boot(self._launch(spec, Memory.PLAIN))

    def _launch(
        self, spec: MachineSpec, memory: Memory, snapshot: Snapshot | None = None, checkpoint: str = ""
    ) -> Guest:
        if self._closing:
            raise LabError("the lab is being stopped")
        folder = self._paths.run / spec.name
        disks = snapshot.disks(spec) if snapshot and memory is Memory.CAPTURE else disks_in(folder, spec)
        seed = self._paths.identity / spec.name / "seed.tar"
        memory_file = snapshot.memory(spec) if snapshot else None
        guest = Guest(Launch(spec, self._image, self._accel, folder, disks, seed, memory, memory_file, checkpoint))
        self._guests[spec.name] = guest
        return guest

    def _wait_for_boot(self, guest: Guest) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        self._wait_for(guest, "systemctl is-system-running --wait", deadline)
        guest.set_clock(timeout_s=BOOT_TIMEOUT_S)

    def _wait_for(self, guest: Guest, command: str, deadline: float) -> None:
        spec = guest.launch.spec
        last = "no answer"
        while time.monotonic() < deadline:
            if not guest.alive:
                raise LabError(
                    f"{spec.name}: QEMU ended while the machine was starting", advice=f"python -m lab logs {spec.name}"
                )
            try:
                done = run(spec, self._paths, command, timeout_s=max(1.0, deadline - time.monotonic()))
            except MachineTimeout:
                continue
            if done.exit_code == 0:
                return
            last = (done.stdout + done.stderr).strip()
            time.sleep(0.3)
        raise MachineTimeout(
            f"{spec.name}: not ready in time ({command}: {last})", advice=f"python -m lab logs {spec.name}"
        )

    def _is_alive(self, name: str) -> bool:
        return name in self._guests and self._guests[name].alive

    def _each(
        self, specs: Iterable[MachineSpec], action: Callable[[MachineSpec], None], *, at_once: int = len(MACHINES)
    ) -> None:
        with ThreadPoolExecutor(max_workers=at_once) as pool:
            for outcome in [pool.submit(action, spec) for spec in specs]:
                outcome.result()


def answering(load: Callable[[float], None], say: Say) -> None:
    """Run `load` with the seconds it may take, and once more, with twice the time, when a machine does not answer.

    Seen twice under load, once from a snapshot and once from a checkpoint: QEMU runs, its machine never answers, and
    what was loaded is whole, as it answers the next time. Raises MachineTimeout.
    """
    try:
        load(RESTORE_TIMEOUT_S / 2)
    except MachineTimeout as silent:
        say(f"{silent}; loading once more")
        load(RESTORE_TIMEOUT_S)


def _require_ports(specs: Iterable[MachineSpec]) -> None:
    for spec in specs:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", spec.ssh_port))
            except OSError as error:
                raise LabError(
                    f"port {spec.ssh_port} on 127.0.0.1, which {spec.name} needs for ssh, is in use",
                    advice=f"see who has it with `ss -ltnp sport = :{spec.ssh_port}` and end that program",
                ) from error
