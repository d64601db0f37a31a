"""How a run ended, as the script wrote it down, and what that means in a word."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct

from dockyard.parsing import Printed, Row
from dockyard.typed_json import typed

DONE = "done"
_NUMBERS = ("files", "equal", "differing", "changed", "missing", "extra", "bytes")


class Reason(StrEnum):
    """Why a run did not end well."""

    PASSWORD = "the password is wrong for this repository"
    LOCKED = "another process holds a lock on the repository"
    NO_REPOSITORY = "there is no repository at that place"
    FULL = "the NAS is full"
    GONE = "the NAS cannot be reached"
    HOST_KEY = "the NAS shows another host key than the pinned one"
    CERTIFICATE = "the certificate of the NAS is not trusted here"
    LOGIN = "the NAS does not let us in"
    INTERRUPTED = "it was stopped"
    UNREADABLE = "some files could not be read"
    DIFFERS = "files differ from what was backed up"
    DAMAGED = "what is stored is damaged"
    OTHER = "it failed"


ADVICE = {
    Reason.PASSWORD: (
        "Was the repository made with another password? Put the right one into /etc/dockyard/backup/password on both "
        "replicas; nothing was written"
    ),
    Reason.LOCKED: (
        "Does another backup, check or prune run? A lock that nobody renews is taken away after half an hour"
    ),
    Reason.NO_REPOSITORY: (
        "Is the NAS's volume mounted, and the path in the inventory right? Nothing is made anew by itself"
    ),
    Reason.FULL: "Make room on the NAS, or keep less (cluster.backup.keep); the backups that are there are untouched",
    Reason.GONE: "Is the NAS up, and its port open from here? The next run tries again",
    Reason.HOST_KEY: "Was the NAS reinstalled, or does somebody sit in between? See cluster.backup.sftp.host_key",
    Reason.CERTIFICATE: (
        "Put the certificate of who signed it into /etc/dockyard/backup/ca.pem on both replicas; it must be valid now, "
        "for the name in cluster.backup.rest.url"
    ),
    Reason.LOGIN: (
        "SFTP: is this replica's public key in the NAS user's authorized_keys? python runbooks/backup.py shows it. "
        "REST server: is the password in /etc/dockyard/backup/rest-password the one of cluster.backup.rest.user?"
    ),
    Reason.INTERRUPTED: "A switchover or a shutdown stops a backup; the next run goes on",
    Reason.UNREADABLE: "Look at the lines above; the rest was saved",
    Reason.DIFFERS: "Look at the lines above before you rely on this backup; try another snapshot",
    Reason.DAMAGED: "Look at the NAS's disks; restic's manual has a page on repair (Troubleshooting)",
    Reason.OTHER: "journalctl -u dockyard-backup -u dockyard-backup-check",
}

_CODES = {
    "3": Reason.UNREADABLE,
    "10": Reason.NO_REPOSITORY,
    "11": Reason.LOCKED,
    "12": Reason.PASSWORD,
    "66": Reason.DIFFERS,
    "67": Reason.FULL,
    "130": Reason.INTERRUPTED,
}
"""Exit codes of restic 0.17 and later (its manual, "Exit codes") and of our script (66, 67)."""

_WORDS = (
    (Reason.HOST_KEY, r"host key verification failed|remote host identification has changed"),
    (Reason.CERTIFICATE, r"x509: "),
    (Reason.LOGIN, r"permission denied \(|401 unauthorized|403 forbidden"),
    (Reason.FULL, r"no space left|quota exceeded|507 insufficient"),
    (
        Reason.GONE,
        (
            r"connection (refused|timed out|reset|closed|lost)|no route to host|could not resolve|no such host|"
            r"unable to start the sftp session|ssh command exited|"
            r"network is unreachable|i/o timeout|broken pipe|not responding"
        ),
    ),
    (Reason.DAMAGED, r"repository contains errors|data is damaged|hash mismatch|ciphertext verification failed"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """One run of the script. Times in seconds since 1970, by the clock of the host on which it ran.

    ``stage`` is where it ended: ``done``, or what it could not do. ``how`` says how the files were kept still (stopped,
    snapshot, live), which part was checked, or which snapshot was restored. ``asked`` is the name of the run of ours
    that asked for it. ``code`` is an exit code or the name of a signal. ``saved`` says that a snapshot was made.
    ``counts`` are those of a drill, by `_NUMBERS`. ``said``: the end of standard error.
    """

    began: int
    ended: int
    stage: str
    code: str
    how: str = ""
    asked: str = ""
    saved: bool = False
    snapshot: str = ""
    files: int = 0
    bytes: int = 0
    counts: tuple[tuple[str, int], ...] = ()
    said: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.stage == DONE

    @property
    def reason(self) -> Reason:
        """Why it did not end well. A cause that ssh or the NAS names counts more than restic's exit code 1."""
        if self.code in _CODES:
            return _CODES[self.code]
        if not self.code.isdecimal():
            return Reason.INTERRUPTED
        words = " ".join(self.said).lower()
        return next((reason for reason, pattern in _WORDS if re.search(pattern, words)), Reason.OTHER)

    @property
    def evidence(self) -> str:
        """Where it stopped and what was said, in one line."""
        said = " / ".join(readable(line) for line in self.said[-3:]) or "nothing was said"
        return f"while doing: {self.stage or 'nothing yet'}; exit code {self.code}; {said}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far restic is: share done from 0 to 1, bytes in all."""

    share: float
    total_bytes: int

    def __str__(self) -> str:
        return f"{self.share:.0%} of {self.total_bytes / 2**20:.0f} MiB"


class _Status(Struct):
    percent_done: float = 0.0
    total_bytes: int = 0


class _Summary(Struct):
    snapshot_id: str = ""
    total_files_processed: int = 0
    total_bytes_processed: int = 0


def read_progress(line: str) -> Progress:
    """The last line of `restic backup --json` or `restore --json`; one that is still being written is no news."""
    try:
        found = json.loads(line)
    except ValueError:
        return Progress(0.0, 0)
    seen = typed(Printed("restic --json", line), found, _Status)
    return Progress(seen.percent_done, seen.total_bytes)


def read_run(printed: Printed, kind: str, rows: Sequence[Row]) -> LastRun | None:
    """The run that the script wrote down under ``kind``; None when it never ran. Raises ParseError."""
    mine = [row for row in rows if row["kind"] == kind]
    if not mine:
        return None
    values = {row["name"]: row["value"] for row in mine}
    for name in ("began", "ended"):
        if not values.get(name, "").isdecimal():
            raise printed.error(mine[0].line_number, f"is a run without the time when it {name}")
    summary = _summary(printed, values.get("summary", "{}"))
    counts = tuple((name, int(values[name])) for name in _NUMBERS if values.get(name, "").isdecimal())
    return LastRun(
        began=int(values["began"]),
        ended=int(values["ended"]),
        stage=values.get("stage", ""),
        code=values.get("code", ""),
        how=values.get("how", ""),
        asked=values.get("asked", ""),
        saved=values.get("saved") == "yes",
        snapshot=summary.snapshot_id,
        files=summary.total_files_processed,
        bytes=summary.total_bytes_processed,
        counts=counts,
        said=tuple(row["value"] for row in mine if row["name"] == "said" and row["value"]),
    )


def _summary(printed: Printed, text: str) -> _Summary:
    return typed(printed, Printed("restic --json", text).json(), _Summary)


def readable(line: str) -> str:
    """What restic said, out of its JSON where it is wrapped into that."""
    try:
        found = json.loads(line)
    except ValueError:
        return line
    if not isinstance(found, dict):
        return line
    inner = found.get("error")
    message = found.get("message") or (inner.get("message") if isinstance(inner, dict) else None)
    return " ".join(str(part) for part in (message or line, found.get("item")) if part)
