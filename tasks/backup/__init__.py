"""Backups of the replicated storage with restic, from whichever replica has it mounted. See docs/backup.md.

`BACKUP` is what a replica knows by itself, `REPOSITORY`, `SNAPSHOTS` and `NAS_KEYS` ask the NAS. `setup` is the way to
a repository and timers on both replicas, `run` one backup now, `drill` the proof that it can be restored.
"""

from tasks.backup.by_hand import restore_by_hand
from tasks.backup.checks import check_backup
from tasks.backup.facts import BACKUP
from tasks.backup.nas import (
    NAS_KEYS,
    REPOSITORY,
    SNAPSHOTS,
    check_host_key,
    check_login,
    check_repository,
)
from tasks.backup.run import check_ended, check_idle, check_mounted, check_saved, plan_now, summary
from tasks.backup.setup import (
    PASSWORD,
    REST_PASSWORD,
    check_rest_password,
    plan_files,
    plan_keys,
    plan_note,
    plan_password,
    plan_repository,
    plan_share_password,
    plan_timers,
)
from tasks.backup.tools import TOOLS, check_tools, plan_tools

__all__ = [
    "BACKUP",
    "NAS_KEYS",
    "PASSWORD",
    "REPOSITORY",
    "REST_PASSWORD",
    "SNAPSHOTS",
    "TOOLS",
    "check_backup",
    "check_ended",
    "check_host_key",
    "check_idle",
    "check_login",
    "check_mounted",
    "check_repository",
    "check_rest_password",
    "check_saved",
    "check_tools",
    "plan_files",
    "plan_keys",
    "plan_note",
    "plan_now",
    "plan_password",
    "plan_repository",
    "plan_share_password",
    "plan_timers",
    "plan_tools",
    "restore_by_hand",
    "summary",
]
