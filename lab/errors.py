"""What can go wrong in the lab.

LabError            anything; its text says what happened, `advice` what to do next
├── MachineTimeout  a state was not reached before its deadline
└── CommandFailed   `succeed` saw a failure, or `fail` a success
"""

from __future__ import annotations


class LabError(Exception):
    """The lab cannot do what was asked; `advice` says what to do next."""

    def __init__(self, problem: str, *, advice: str = "") -> None:
        """Keep the problem (one sentence) and the advice (what to type)."""
        super().__init__(problem if not advice else f"{problem}\n  -> {advice}")
        self.problem = problem
        self.advice = advice


class MachineTimeout(LabError):
    """A machine did not reach a state before the deadline."""


class CommandFailed(LabError):
    """A command on a machine ended otherwise than the test said."""
