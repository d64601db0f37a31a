"""What a run saw, planned and did, by whom and when: one JSON object a line, kept on the controller.

Journals are written to ``$XDG_STATE_HOME/dockyard/journal`` (default ``~/.local/state``), one file a run, mode 0600.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from dockyard.caller import whoever


def folder() -> Path:
    """Where journals are kept."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "dockyard" / "journal"


class Journal:
    """An open journal; every `write` is on disk before it returns, so a killed run tells how far it came."""

    def __init__(self, runbook: str, where: Path | None = None) -> None:
        where = where or folder()
        where.mkdir(parents=True, exist_ok=True, mode=0o700)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self.path = where / f"{stamp}-{runbook}-{os.getpid()}.jsonl"
        self._file = os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w", encoding="utf-8")
        self.write("start", who=whoever(), command=sys.argv)

    def write(self, event: str, **facts: object) -> None:
        """Append one event; values are anything that ``json`` knows, everything else by its ``str()``."""
        line = json.dumps({"at": datetime.now(UTC).isoformat(), "event": event, **facts}, default=str)
        self._file.write(line + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.write("error", kind=type(error).__name__, message=str(error))
        self._file.close()
