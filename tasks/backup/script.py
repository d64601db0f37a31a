"""The script that backs up, and the units that start it: the same on both replicas, but for the disk under DRBD."""

from __future__ import annotations

import math

from dockyard.errors import UsageError
from dockyard.host_keys import name_in_file
from dockyard.rendering import render
from dockyard.service import unit_file
from dockyard.topology import Backup, DuringBackup, FileSystem, Host, Keep, Replication, Sftp, Topology
from tasks.backup import places

CHECK_DELAY_H = 4
"""The weekly check begins so long after the time of the backup."""


def backup_of(topology: Topology) -> Backup:
    """What the inventory says of backups; raises UsageError when it says nothing."""
    if topology.cluster.backup is None:
        raise UsageError(
            "the inventory describes no backups", advice="Add cluster.backup to defaults.yaml (docs/backup.md)."
        )
    return topology.cluster.backup


def replication_of(topology: Topology) -> Replication:
    """What is backed up; the inventory's rules want it wherever there are backups."""
    assert topology.cluster.drbd
    return topology.cluster.drbd


def texts(topology: Topology, host: Host, *, storage: places.Storage) -> dict[str, tuple[str, int]]:
    """Text and mode of every file of `places.files` by path; ``storage`` is what backups stand on."""
    backup = backup_of(topology)
    written = {places.SCRIPT: (_script(topology, host, storage), 0o755), **_units(topology, storage)}
    if backup.sftp:
        written[places.KNOWN_HOSTS] = (known_hosts(backup.sftp), 0o644)
    return written


def known_hosts(sftp: Sftp) -> str:
    """The pinned key of the NAS, in the form of sshd(8); a comment while none is pinned."""
    if sftp.host_key is None:
        return "# (cluster.backup.sftp.host_key)\n"
    return f"{known_as(sftp)} {sftp.host_key}\n"


def known_as(sftp: Sftp) -> str:
    """How ssh(1) calls the NAS in known_hosts."""
    return name_in_file(sftp.host, sftp.port)


def repository(backup: Backup) -> str:
    """Where the backups lie, as restic writes it."""
    if backup.rest:
        return f"rest:{backup.rest.url}"
    assert backup.sftp, "the inventory's rules want one of the two"
    return f"sftp://{_login(backup.sftp)}:{backup.sftp.port}/{backup.sftp.path}"


def _login(sftp: Sftp) -> str:
    host = f"[{sftp.host}]" if ":" in sftp.host else sftp.host
    return f"{sftp.user}@{host}"


def parts(share: float) -> int:
    """In how many weeks all of the repository is read back once."""
    return max(1, math.ceil(1 / share - 1e-9))


def _script(topology: Topology, host: Host, storage: places.Storage) -> str:
    backup, replication = backup_of(topology), replication_of(topology)
    assert host.drbd, "only replicas have the script"
    xfs = replication.filesystem is FileSystem.XFS
    gib = backup.snapshot_gib
    return render(
        "backup",
        name=topology.cluster.name,
        mount=replication.mount,
        device=replication.device,
        resource=replication.resource,
        storage=storage.unit,
        record=storage.record,
        filesystem=replication.filesystem,
        units=f"{places.RUN} and {places.CHECK}",
        stop=replication.units if backup.units is DuringBackup.STOP else (),
        disk=host.drbd.disk,
        repository=repository(backup),
        sftp=backup.sftp,
        sftp_login=_login(backup.sftp) if backup.sftp else "",
        sftp_arguments=ssh_options(),
        rest_user=backup.rest.user if backup.rest else None,
        password=places.PASSWORD,
        rest_password=places.REST_PASSWORD,
        certificate=places.CERTIFICATE,
        state=places.STATE,
        work=places.WORK,
        snapshot=places.SNAPSHOT,
        snapshot_size=f"--size {gib:g}g" if gib else "--extents 10%ORIGIN",
        snapshot_options="ro,nouuid" if xfs else "ro",
        keep=keep(backup.keep),
        parts=parts(backup.check_share),
    )


def ssh_options() -> str:
    """How ssh(1) reaches the NAS: nobody is asked, nothing unknown is trusted, a line that is dead ends in a minute."""
    options = (
        "IdentitiesOnly=yes",
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        f"UserKnownHostsFile={places.KNOWN_HOSTS}",
        "GlobalKnownHostsFile=/dev/null",
        "ConnectTimeout=20",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=4",
    )
    return " ".join(["-F none", f"-i {places.KEY}", *(f"-o {option}" for option in options)])


def keep(wanted: Keep) -> str:
    """What `restic forget` is told to keep: all of the last day, and what is wanted. It refuses a 0."""
    numbers = {"daily": wanted.daily, "weekly": wanted.weekly, "monthly": wanted.monthly}
    return " ".join(
        ["--keep-within 1d", *(f"--keep-{period} {number}" for period, number in numbers.items() if number)]
    )


def _units(topology: Topology, storage: places.Storage) -> dict[str, tuple[str, int]]:
    backup, mount = backup_of(topology), replication_of(topology).mount
    hour, minute = map(int, backup.time.split(":"))
    later = f"Sun *-*-* {(hour + CHECK_DELAY_H) % 24:02}:{minute:02}:00"
    written: dict[str, tuple[str, int]] = {}
    for service, timer, verb, calendar, description in (
        (places.RUN, places.RUN_TIMER, "run", f"*-*-* {backup.time}:00", f"Back up {mount}"),
        (places.CHECK, places.CHECK_TIMER, "check", later, f"Read a part of the backups of {mount} back"),
    ):
        values = {
            "description": description,
            "name": topology.cluster.name,
            "storage": storage.unit,
            "script": places.SCRIPT,
            "verb": verb,
            "calendar": calendar,
        }
        written[unit_file(service)] = (render("dockyard-backup.service", **values), 0o644)
        written[unit_file(timer)] = (render("dockyard-backup.timer", **values), 0o644)
    return written
