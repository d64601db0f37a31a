"""The snapshots of a restic repository: `restic snapshots --json`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from dockyard.parsing import Printed
from dockyard.standing import Level, Standing
from dockyard.typed_json import every, typed

_MISSING = re.compile(
    r"repository does not exist|unable to open config file: .*(no such file or directory|does not exist|404)",
    flags=re.IGNORECASE,
)
_LOCKED = re.compile(r"repository is already locked")
_NO_KEY = "wrong password or no key found"
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


class Repository(StrEnum):
    """Whether the repository could be read. Restic 0.17 and later say it by exit code, earlier ones in words only."""

    READABLE = "readable"
    MISSING = "repository does not exist"
    LOCKED = "locked"
    WRONG_PASSWORD = "wrong password"
    UNREACHABLE = "unreachable"
    """Anything else; `Snapshots.message` says what. It does not mean that there is no repository."""


_EXIT_CODES = {10: Repository.MISSING, 11: Repository.LOCKED, 12: Repository.WRONG_PASSWORD}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One snapshot. ``time`` is when it was begun, with its time zone, cut to microseconds."""

    id: str
    short_id: str
    time: datetime
    host: str
    user: str
    paths: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshots:
    """All snapshots in restic's order; ``message`` is what restic said when the repository could not be read."""

    repository: Repository
    snapshots: tuple[Snapshot, ...] = ()
    message: str = ""

    @property
    def newest(self) -> Snapshot | None:
        """The one that was begun last; None when there is none."""
        return max(self.snapshots, key=lambda one: one.time, default=None)


class _Snapshot(Struct):
    id: str
    time: str
    tree: str
    short_id: str = ""
    hostname: str = ""
    username: str = ""
    paths: list[str] | None = None
    tags: list[str] | None = None


def read_snapshots(text: str, *, stderr: str = "", exit_code: int = 0) -> Snapshots:
    """What `restic snapshots --json` answered.

    Raises:
        ParseError: exit code 0 but no list of snapshots; a snapshot without id, time or tree, or one twice.
    """
    if exit_code:
        message = _message(stderr or text)
        return Snapshots(repository=_repository(exit_code, message), message=message)
    printed = Printed("restic snapshots --json", text)
    found = printed.json()
    entries = every(printed, [] if found is None else found)  # before 0.10 an empty list was printed as null
    snapshots = tuple(_snapshot(printed, typed(printed, one, _Snapshot)) for one in entries)
    if len({snapshot.id for snapshot in snapshots}) < len(snapshots):
        raise printed.error(0, "has a snapshot twice")
    return Snapshots(repository=Repository.READABLE, snapshots=snapshots)


def _message(said: str) -> str:
    """The text of an error, which newer versions wrap into JSON; the last line is the one that ended restic."""
    for line in reversed(said.splitlines()):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and isinstance(found.get("message"), str):
            return str(found["message"])
    return said.strip()


def _repository(exit_code: int, message: str) -> Repository:
    if exit_code in _EXIT_CODES:
        return _EXIT_CODES[exit_code]
    if _NO_KEY in message:
        return Repository.WRONG_PASSWORD
    if _LOCKED.search(message):
        return Repository.LOCKED
    return Repository.MISSING if _MISSING.search(message) else Repository.UNREACHABLE


def _snapshot(printed: Printed, seen: _Snapshot) -> Snapshot:
    if not re.fullmatch(r"[0-9a-f]{64}", seen.id) or not seen.id.startswith(seen.short_id):
        raise printed.error(0, f"has a snapshot whose id is {seen.id!r}, for short {seen.short_id!r}")
    return Snapshot(
        id=seen.id,
        short_id=seen.short_id or seen.id[:8],
        time=_time(printed, seen.time),
        host=seen.hostname,
        user=seen.username,
        paths=tuple(seen.paths or ()),
        tags=tuple(seen.tags or ()),
    )


def _time(printed: Printed, text: str) -> datetime:
    """RFC 3339 with up to nine digits of a second; Python keeps six."""
    try:
        if match := _TIME.fullmatch(text):
            return datetime.fromisoformat(f"{match[1]}{(match[2] or '.')[:7]:0<7}{match[3].replace('Z', '+00:00')}")
    except ValueError:
        pass  # a 30th of February
    raise printed.error(0, f"has a snapshot whose time is {text!r}")


_LEVELS = {Repository.READABLE: Level.HEALTHY, Repository.LOCKED: Level.DEGRADED, Repository.UNREACHABLE: Level.UNKNOWN}


def standing(state: Snapshots) -> Standing:
    """Levels of ``repository`` and ``snapshot SHORT-ID``; how old the newest may be is for its caller to say."""
    return {"repository": _LEVELS.get(state.repository, Level.FAILED)} | {
        f"snapshot {snapshot.short_id}": Level.HEALTHY for snapshot in state.snapshots
    }
