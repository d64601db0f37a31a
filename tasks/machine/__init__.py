"""The machine under everything: `MACHINE` is what is seen, `check_machine` judges it, `plan_tools` installs what lacks.

`sockets` reads what listens (ss), `clock` what keeps the time (chronyc, timedatectl).
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

__all__ = [
    "CLOCK_LIMIT_S",
    "MACHINE",
    "TOOLS",
    "FileSystem",
    "MachineState",
    "Offset",
    "check_machine",
    "plan_tools",
]
