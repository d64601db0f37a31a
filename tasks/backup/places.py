"""Where things lie on a replica, and what the units are called."""

from __future__ import annotations

from dataclasses import dataclass

from dockyard.service import unit_file
from dockyard.topology import Backup

FOLDER = "/etc/dockyard/backup"
PASSWORD = f"{FOLDER}/password"
"""The password of the repository, made once on a host, the same on both replicas. Without it no backup can be read."""

REST_PASSWORD = f"{FOLDER}/rest-password"
"""The login at a REST server, put there by its owner."""

CERTIFICATE = f"{FOLDER}/ca.pem"
"""The certificate of a REST server that no public authority signed, put there by its owner."""

KEY = f"{FOLDER}/id_ed25519"
KNOWN_HOSTS = f"{FOLDER}/known_hosts"
SCRIPT = "/usr/local/lib/dockyard/backup"
STATE = "/var/lib/dockyard/backup"
"""How the last runs went, the manifest, and which repository is ours."""

REPOSITORY = f"{STATE}/repository"
"""The id of the repository that was made, so that an empty folder is never taken for a first start."""

WORK = "/run/dockyard-backup"
SNAPSHOT = "dockyard-backup"
"""The name of the LVM snapshot."""

RUN = "dockyard-backup.service"
RUN_TIMER = "dockyard-backup.timer"
CHECK = "dockyard-backup-check.service"
CHECK_TIMER = "dockyard-backup-check.timer"
DRILL = "dockyard-restore-drill.service"
"""A transient unit: it exists while a drill runs."""


@dataclass(frozen=True, slots=True)
class Storage:
    """What backups stand on: the ``unit`` that mounts and unmounts, and the host's ``record`` of who may write."""

    unit: str
    record: str


def files(backup: Backup) -> list[str]:
    """All files of ours but the secrets."""
    units = [unit_file(name) for name in (RUN, RUN_TIMER, CHECK, CHECK_TIMER)]
    return [SCRIPT, *units, *([KNOWN_HOSTS] if backup.sftp else [])]
