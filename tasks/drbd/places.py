"""Where things lie on a host."""

from __future__ import annotations

from dockyard.service import unit_file
from dockyard.topology import Replication

FOLDER = "/etc/drbd.d"
GLOBAL = f"{FOLDER}/global_common.conf"
UP = "dockyard-drbd.service"
"""Brings the resource up at boot, as Secondary."""

STORAGE = "dockyard-storage.service"
"""Promotes and mounts at boot, on the host that may write, once that is safe."""

ADJUST = "/usr/local/lib/dockyard/drbd-adjust"
GUARD = "/usr/local/lib/dockyard/drbd-storage"
LET_GO = f"systemctl stop {STORAGE}; {GUARD} down"
"""What a person types to unmount and demote: stopping a unit that has failed, or never mounted, does nothing."""

CATCH = "/usr/local/lib/dockyard/drbd-catch"
"""Keeps what a writer that went down may not have sent, before DRBD connects and perhaps overwrites it."""

PROOF = "/run/dockyard-drbd-proof"
"""What was found on the disk before its metadata was made: ``zeros`` or ``data``."""

WRITER = "/var/lib/dockyard/writer"
"""Who was given the right to write, with a generation number that only grows (arbitrator; a copy on each replica)."""


def config(replication: Replication) -> str:
    """The resource file of drbdadm(8)."""
    return f"{FOLDER}/{replication.resource}.res"


def secret(replication: Replication) -> str:
    """The shared secret by which the replicas know each other, for root alone."""
    return f"{FOLDER}/{replication.resource}.secret"


DROP_IN = "dockyard-storage.conf"

TOKEN = ".dockyard-token"
"""In the storage: the generation of the record under which it was written."""


def drop_in(unit: str) -> str:
    """What ties a unit that uses the storage to its mount."""
    return f"/etc/systemd/system/{unit}.d/{DROP_IN}"


def files(replication: Replication) -> list[str]:
    """All files but the resource file that a replica has of ours."""
    ours = [GLOBAL, ADJUST, GUARD, CATCH, unit_file(UP), unit_file(STORAGE)]
    return [*ours, *map(drop_in, replication.units)]


FLUSHED = "/run/dockyard-flushed"
"""The run that flushed the storage last, before a switch."""

VERIFY = "/usr/local/lib/dockyard/drbd-verify"
VERIFY_SERVICE = "dockyard-verify.service"
VERIFY_TIMER = "dockyard-verify.timer"
VERIFIED = "/var/lib/dockyard/verify.json"
"""What the last comparison of both copies found that this host asked for."""
