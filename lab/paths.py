"""Where the lab keeps its files: everything lives under one cache folder."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError


@dataclass(frozen=True, slots=True)
class LabPaths:
    """Layout of the lab's cache folder (`$XDG_CACHE_HOME/dockyard/lab`, by default under `~/.cache`)."""

    root: Path

    @classmethod
    def of_user(cls) -> LabPaths:
        """Return the layout for the user that runs this process."""
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return cls(Path(cache) / "dockyard" / "lab")

    @property
    def images(self) -> Path:
        """Root file system, kernel and initrd, one folder for each key."""
        return self.root / "images"

    @property
    def snapshots(self) -> Path:
        """Booted machines, one folder for each key."""
        return self.root / "snapshots"

    @property
    def identity(self) -> Path:
        """Host keys and machine ids."""
        return self.root / "identity"

    @property
    def run(self) -> Path:
        """Sockets, overlays, consoles and the lock of the running lab."""
        return self.root / "run"

    @property
    def key_file(self) -> Path:
        """Private ssh key of the login user."""
        return self.root / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """Host keys of the five machines, in OpenSSH's format."""
        return self.root / "known_hosts"

    @property
    def sudo_password_file(self) -> Path:
        """Password that sudo asks for where it does."""
        return self.root / "sudo_password"

    @property
    def k3s(self) -> Path:
        """The binary of K3s, or the stand-in, that phase 1 installs; its checksum lies beside it."""
        return self.root / "k3s"

    @property
    def lock(self) -> Path:
        """Held (flock) by the process that owns the machines."""
        return self.root / "lock"

    @property
    def control(self) -> Path:
        """Unix socket on which that process takes commands."""
        return self.run / "control.sock"

    def console(self, name: str) -> Path:
        """Serial console of the machine `name` since the lab was started."""
        return self.run / name / "console.log"

    def require_space(self, needed_mib: int, purpose: str) -> None:
        """Raise LabError unless so much of the disk is free."""
        free_mib = shutil.disk_usage(self.root).free // 2**20
        if free_mib < needed_mib:
            raise LabError(
                f"{self.root} has {free_mib} MiB free, {purpose} needs up to {needed_mib} MiB",
                advice="free some space, or set XDG_CACHE_HOME to a folder on a larger disk",
            )

    def make(self) -> None:
        """Create the folders, readable by their owner only."""
        for folder in (self.root, self.images, self.snapshots, self.identity, self.run):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
