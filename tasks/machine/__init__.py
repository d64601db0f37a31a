"""The machine under everything: `MACHINE` is what is seen, `check_machine` judges it, `plan_tools` installs what lacks.

`sockets` reads what listens (ss), `exposure` judges where; `clock` reads what keeps the time (chronyc, timedatectl).
"""

from tasks.machine.base import (
    CLOCK_LIMIT_S,
    MACHINE,
    TOOLS,
    FileSystem,
    MachineState,
    Offset,
    check_machine,
    plan_tools,
)
from tasks.machine.exposure import LISTENING, check_exposure, holders

__all__ = [
    "CLOCK_LIMIT_S",
    "LISTENING",
    "MACHINE",
    "TOOLS",
    "FileSystem",
    "MachineState",
    "Offset",
    "check_exposure",
    "check_machine",
    "holders",
    "plan_tools",
]
