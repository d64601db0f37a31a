"""What standard error and the exit code of drbdadm and drbdsetup say when there is nothing to show.

Texts: drbdadm_main.c and drbdsetup.c of drbd-utils, and measured with 9.22.
"""

from __future__ import annotations

import re

from dockyard.parsing import Printed
from tasks.drbd.state import DrbdState, Outcome

NO_SUCH = re.compile(
    r"^(?P<down>\S+): No such resource$|^'(?P<undefined>\S+)' not defined in your config", re.MULTILINE
)

REASONS = [
    (Outcome.NO_RESOURCES_DEFINED, re.compile(r"^no resources defined!$", re.MULTILINE)),
    (Outcome.NO_SUCH_RESOURCE, NO_SUCH),
    (Outcome.NO_SUCH_RESOURCE, re.compile(r"\(158\) Unknown resource|^\S+: Unknown resource$", re.MULTILINE)),
    (
        Outcome.MODULE_NOT_LOADED,
        re.compile(
            r"Could not connect to 'drbd' generic netlink family|/proc/drbd: No such file or directory"
            r"|Module drbd not found|Can't open /proc/drbd|is the DRBD module loaded|DRBD module not loaded",
            re.IGNORECASE,
        ),
    ),
    (Outcome.CONFIGURATION_REFUSED, re.compile(r"^[^\s:]+:\d+: ", re.MULTILINE)),
]
"""Only looked at when the command failed: with exit code 0 standard error holds nothing but warnings."""


def missing(stderr: str) -> tuple[str, ...]:
    """The resources that are asked for and not there."""
    return tuple(sorted({found["down"] or found["undefined"] for found in NO_SUCH.finditer(stderr)}))


def nothing(printed: Printed, stderr: str, exit_code: int) -> DrbdState:
    """The state for an answer that shows no resource.

    Raises:
        ParseError: it failed for a reason that we do not know.
    """
    if exit_code == 0:
        return DrbdState(outcome=Outcome.NOTHING_CONFIGURED, missing=missing(stderr))
    for outcome, pattern in REASONS:
        if pattern.search(stderr):
            return DrbdState(outcome=outcome, missing=missing(stderr))
    raise printed.error(0, f"is empty, the exit code {exit_code}, and standard error {stderr.strip()[:500]!r}")
