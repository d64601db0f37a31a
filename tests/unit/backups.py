"""Backups of the lab's storage as data: an inventory that wants them, replicas that make them, ways to break both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dockyard.change import UnitState
from dockyard.files import FileState
from dockyard.observe import Observed
from dockyard.topology import Backup, Rest, Sftp, Topology
from tasks.backup import BACKUP, places
from tasks.backup.facts import UNITS, BackupState, SecretSeen
from tasks.backup.result import LastRun
from tasks.backup.script import texts
from tests.unit.replicas import MIRROR, PAIR, PROD
from tests.unit.replicas import topology as with_replicas

NOW = 1_795_421_500
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOsv6Ye9HCsXbmOaC4v6ZJbSDmM3xbK0a3r7pT0Zr0aB"
SFTP = Sftp(host="nas.lan", user="backup", path="/backups/homelab", port=2222, host_key=KEY)
STORAGE = places.Storage(unit="dockyard-storage.service", record="/var/lib/dockyard/writer")
REPOSITORY = "f83a4c51" * 8


def topology(*, units: Sequence[str] = (), rest: Rest | None = None, **parts: Any) -> Topology:
    """The lab with backups: by SFTP, or to a REST server; ``units`` use the storage, other parts are of `Backup`.

    ``during`` is what `Backup` calls ``units``.
    """
    lab = with_replicas(units=units)
    parts = {"rest": rest} | parts if rest else {"sftp": SFTP} | parts
    if during := parts.pop("during", None):
        parts["units"] = during
    return replace(lab, cluster=replace(lab.cluster, backup=Backup(**parts)))


def unit(name: str, active: str = "inactive", enabled: str = "") -> UnitState:
    return UnitState(name=name, loaded=bool(enabled), active=active, enabled=enabled)


def pristine(cluster: Topology) -> BackupState:
    """A replica where nothing was done for backups."""
    assert cluster.cluster.backup
    paths = places.files(cluster.cluster.backup)
    return BackupState(
        now=NOW, files={path: FileState(path=path) for path in paths}, units={name: unit(name) for name in UNITS}
    )


def last(**parts: Any) -> LastRun:
    """A run of last night that went well; its parts by name."""
    good = LastRun(
        began=NOW - 40_000,
        ended=NOW - 39_900,
        stage="done",
        code="0",
        how="stopped",
        saved=True,
        snapshot="ab12cd34" * 8,
    )
    return replace(good, **parts)


def healthy(cluster: Topology, writer: str = PROD) -> dict[str, BackupState]:
    """Both replicas as they are after all plans, with a backup of last night on the writer."""
    return {host: _set_up(cluster, host, writer) for host in PAIR}


def _set_up(cluster: Topology, host: str, writer: str) -> BackupState:
    files = {
        path: FileState(path=path, kind="regular file", mode=mode, owner="root", group="root", content=text)
        for path, (text, mode) in texts(cluster, cluster.host(host), storage=STORAGE).items()
    }
    timers = {name: unit(name, "active", "enabled") for name in (places.RUN_TIMER, places.CHECK_TIMER)}
    run = last() if host == writer else None
    return replace(
        pristine(cluster),
        mounted=host == writer,
        password=SecretSeen(fingerprint="0123456789abcdef", private=True),
        public_key=f"{KEY} backup of dockyard-lab from {host}",
        repository=REPOSITORY,
        run=run,
        good=run,
        files=files,
        units={**pristine(cluster).units, **timers},
    )


def observed(states: Mapping[str, object], **domains: Mapping[str, object]) -> Observed:
    """As a sweep would return it: the states of `BACKUP`, and of other domains by name (``_`` for a blank)."""
    found: dict[str, dict[str, object]] = {host: {BACKUP.name: state} for host, state in states.items()}
    for name, seen in domains.items():
        for host, state in seen.items():
            found.setdefault(host, {})[name.replace("_", " ")] = state
    return Observed(found)


__all__ = [
    "KEY",
    "MIRROR",
    "NOW",
    "PAIR",
    "PROD",
    "REPOSITORY",
    "SFTP",
    "STORAGE",
    "healthy",
    "last",
    "observed",
    "pristine",
    "topology",
    "unit",
]
