"""The machine under everything: `MACHINE` is what is seen, `check_machine` judges it, `plan_tools` installs what lacks.

`sockets` reads what listens (ss), `exposure` judges where; `clock` reads what keeps the time (chronyc, timedatectl).
"""

from tasks.machine.base import (
    MACHINE,
    FileSystem,
    MachineState,
    Offset,
    check_machine,
    plan_tools,
)
from tasks.machine.exposure import LISTENING, check_exposure, holders

__all__ = [
    "LISTENING",
    "MACHINE",
    "FileSystem",
    "MachineState",
    "Offset",
    "check_exposure",
    "check_machine",
    "holders",
    "plan_tools",
]
