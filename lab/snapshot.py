"""Snapshots of the booted, untouched machines.

A snapshot of one machine is three things: its memory (a file that QEMU mapped while the machine booted), the state of
its devices (a migration stream without memory), and its disks. A restore maps the memory file copy-on-write and reads
only the pages that the guest touches: five machines come back in seconds, without 3 GiB being read first.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.image import Image
from lab.machines import MACHINES, MachineSpec
from lab.qemu import Accel, Disks, Launch, Memory, qemu_arguments

WITH_MODULES = "-modules"
PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All machines at one moment, in one folder."""

    folder: Path

    @property
    def complete(self) -> bool:
        """A snapshot gets its final name only when all machines are in it."""
        return self.folder.is_dir()

    def state(self, spec: MachineSpec) -> Path:
        """Device state of a machine."""
        return self.folder / spec.name / "state"

    def memory(self, spec: MachineSpec) -> Path:
        """Memory of a machine, as large as the machine's memory, sparse."""
        return self.folder / spec.name / "memory"

    def disks(self, spec: MachineSpec) -> Disks:
        """Disks of a machine at the moment of the snapshot."""
        return disks_in(self.folder / spec.name, spec)


def disks_in(folder: Path, spec: MachineSpec) -> Disks:
    """Name the disks of a machine that live in `folder`."""
    return Disks(folder / "root.qcow2", folder / "data.qcow2" if spec.data_disk_mib else None)


def snapshot_key(
    image: Image, accel: Accel, version: str, processor: str, seeds: Sequence[bytes], modules: str = ""
) -> str:
    """Return a hash over everything that a restored machine must have in common with the captured one."""
    digest = hashlib.sha256(f"{image.key}\0{accel}\0{version}\0{processor}".encode())
    nowhere = Path("/")
    for spec in MACHINES:
        launch = Launch(spec, Image(image.key, nowhere), accel, nowhere, disks_in(nowhere, spec), nowhere, Memory.PLAIN)
        digest.update("\0".join(qemu_arguments(launch)).encode() + str(spec.data_disk_mib).encode())
    for seed in seeds:
        digest.update(hashlib.sha256(seed).digest())
    digest.update(modules.encode())
    return digest.hexdigest()[:16] + (WITH_MODULES if modules else "")


def make_fresh_disks(disks: Disks, spec: MachineSpec, image: Image) -> None:
    """Create the disks of a machine that was never booted: an overlay on the image, and an empty data disk."""
    _create(disks.root, backing=image.disk, backing_format="raw")
    if disks.data:
        _qemu_img("create", "-q", "-f", "qcow2", str(disks.data), f"{spec.data_disk_mib}M")


def make_overlays(disks: Disks, base: Disks) -> None:
    """Create disks that start out as `base` and leave it untouched."""
    _create(disks.root, backing=base.root, backing_format="qcow2")
    if disks.data and base.data:
        _create(disks.data, backing=base.data, backing_format="qcow2")


def remove_other_snapshots(keep: Snapshot) -> None:
    """Delete snapshots that no longer fit (a changed image or machine), and half-made ones.

    One with and one without own modules may lie side by side.
    """
    kind = keep.folder.name.endswith(WITH_MODULES)
    for folder in keep.folder.parent.iterdir():
        if folder != keep.folder and folder.name.removesuffix(PARTIAL).endswith(WITH_MODULES) == kind:
            shutil.rmtree(folder, ignore_errors=True)


def _create(path: Path, *, backing: Path, backing_format: str) -> None:
    path.unlink(missing_ok=True)
    _qemu_img("create", "-q", "-f", "qcow2", "-b", str(backing), "-F", backing_format, str(path))


def _qemu_img(*arguments: str) -> None:
    done = subprocess.run(["qemu-img", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(
            f"qemu-img {arguments[0]} failed: {done.stderr.strip()}", advice="is the disk of the cache folder full?"
        )
