"""DRBD: two copies of the data and one writer. See docs/drbd.md.

`DRBD` is what is seen of the resource on a host, `WRITER` the record of who may write, `USERS` who uses the storage.
Phase 2 is the plans of `config`, `writer` and `storage` in the order of runbooks/phase2_drbd.py; a planned switchover
is `switch`; `check_drbd` is what health asks.
"""

from tasks.drbd.checks import check_connected, check_drbd, check_next_boot, in_use
from tasks.drbd.config import SECRET, plan_config, plan_secret, plan_share_secret
from tasks.drbd.disaster import (
    check_gone,
    plan_new_writer_alone,
    plan_promote_alone,
    plan_start_alone,
    plan_told_alone,
    preflight,
)
from tasks.drbd.flush import DIRTY, plan_flush
from tasks.drbd.parted import CHANGES, PARTED
from tasks.drbd.parting import PARTING
from tasks.drbd.places import STORAGE
from tasks.drbd.replica import DRBD, LIVE, REPLICAS, ROLES, beside, other_of, replica_called, replication_of
from tasks.drbd.returned import check_one_history, plan_reconnect, plan_retire, what_came_back
from tasks.drbd.storage import (
    plan_file_system,
    plan_first_sync,
    plan_metadata,
    plan_mount_point,
    plan_promotion,
    plan_proof,
    plan_storage,
    plan_units,
    plan_up,
)
from tasks.drbd.switch import (
    USERS,
    check_all_sent,
    check_handed_over,
    check_let_go,
    check_promoted,
    check_ready,
    check_token,
    plan_hold,
    plan_let_go,
    plan_new_writer,
    plan_promote,
    plan_start,
)
from tasks.drbd.switched import DISASTER, SWITCHOVER, plan_switched
from tasks.drbd.tools import TOOLS, plan_tools
from tasks.drbd.verify import VERIFY, check_verify, plan_verify
from tasks.drbd.witness import WITNESS
from tasks.drbd.writer import WRITER, plan_copies, plan_record

__all__ = [
    "CHANGES",
    "DIRTY",
    "DISASTER",
    "DRBD",
    "LIVE",
    "PARTED",
    "PARTING",
    "REPLICAS",
    "ROLES",
    "SECRET",
    "STORAGE",
    "SWITCHOVER",
    "TOOLS",
    "USERS",
    "VERIFY",
    "WITNESS",
    "WRITER",
    "beside",
    "check_all_sent",
    "check_connected",
    "check_drbd",
    "check_gone",
    "check_handed_over",
    "check_let_go",
    "check_next_boot",
    "check_one_history",
    "check_promoted",
    "check_ready",
    "check_token",
    "check_verify",
    "in_use",
    "other_of",
    "plan_config",
    "plan_copies",
    "plan_file_system",
    "plan_first_sync",
    "plan_flush",
    "plan_hold",
    "plan_let_go",
    "plan_metadata",
    "plan_mount_point",
    "plan_new_writer",
    "plan_new_writer_alone",
    "plan_promote",
    "plan_promote_alone",
    "plan_promotion",
    "plan_proof",
    "plan_reconnect",
    "plan_record",
    "plan_retire",
    "plan_secret",
    "plan_share_secret",
    "plan_start",
    "plan_start_alone",
    "plan_storage",
    "plan_switched",
    "plan_told_alone",
    "plan_tools",
    "plan_units",
    "plan_up",
    "plan_verify",
    "preflight",
    "replica_called",
    "replication_of",
    "what_came_back",
]
