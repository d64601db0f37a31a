"""Who runs this, and when: as journals, the lease, records and evidence show it."""

from __future__ import annotations

import getpass
import socket
from datetime import UTC, datetime


def whoever() -> str:
    """Who runs this, and where."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def this_run() -> str:
    """The present moment by this machine's clock, as the name of a run."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
