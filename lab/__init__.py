"""Five QEMU machines that stand in for the real hosts, and the ways to break them. `python -m lab --help`."""

from lab.driver import Lab, Machine
from lab.errors import CommandFailed, LabError, MachineTimeout
from lab.ssh import Completed

__all__ = ["CommandFailed", "Completed", "Lab", "LabError", "Machine", "MachineTimeout"]
