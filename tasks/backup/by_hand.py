"""Restoring without a runbook: what is typed, as root, on whichever replica."""

from __future__ import annotations

from dockyard.topology import Topology
from tasks.backup import places
from tasks.backup.script import replication_of

FOLDER = "/root/restored"


def restore_by_hand(topology: Topology) -> tuple[str, ...]:
    """In order: which backups are there, is there room for one, the newest beside the live data, is it whole; or ()."""
    if topology.cluster.backup is None:
        return ()
    return (
        f"{places.SCRIPT} restic snapshots",
        f"{places.SCRIPT} restic stats --mode restore-size --tag dockyard latest; df -h {FOLDER.rpartition('/')[0]}",
        f"{places.SCRIPT} restic restore latest --tag dockyard --target {FOLDER}",
        f"cd {FOLDER}{replication_of(topology).mount} && sha256sum --quiet -c {FOLDER}{places.STATE}/about/manifest",
    )
