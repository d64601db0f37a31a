"""The replication drill: write known data, cut the line, let it catch up, and prove that both sides hold the same.

The order of the plans and checks is that of runbooks/replication_drill.py. `scene` is what is seen of a drill on a
host, `load` writes and cuts, `lag` says how far behind the other side was, `proof` compares, `result` is the outcome.
"""

from tasks.drbd.drill.lag import SAMPLES
from tasks.drbd.drill.load import (
    check_begin,
    check_caught_up,
    check_line,
    check_loaded,
    check_noticed,
    plan_clear,
    plan_cut,
    plan_load,
    plan_stop,
    plan_tools,
)
from tasks.drbd.drill.proof import (
    KNOWN,
    PLACES,
    check_compared,
    check_idle,
    check_read_back,
    plan_map,
    plan_verify_now,
    sums,
)
from tasks.drbd.drill.result import behind_rows, check_passed, plan_evidence, result_rows
from tasks.drbd.drill.scene import LEAD_S, SCENE, Drill, usual_rate, usual_size

__all__ = [
    "KNOWN",
    "LEAD_S",
    "PLACES",
    "SAMPLES",
    "SCENE",
    "Drill",
    "behind_rows",
    "check_begin",
    "check_caught_up",
    "check_compared",
    "check_idle",
    "check_line",
    "check_loaded",
    "check_noticed",
    "check_passed",
    "check_read_back",
    "plan_clear",
    "plan_cut",
    "plan_evidence",
    "plan_load",
    "plan_map",
    "plan_stop",
    "plan_tools",
    "plan_verify_now",
    "result_rows",
    "sums",
    "usual_rate",
    "usual_size",
]
