"""Reads /proc/drbd: all that DRBD 8.0 to 8.4 know, by minor number; DRBD 9 shows its version there and little else.

It has no names, so it is no `DrbdState`. It is always there with DRBD 8, needs no tool, and counts what differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from dockyard.parsing import Printed, Row
from dockyard.standing import Level, Standing
from tasks.drbd.judgement import DISKS, UNSEEN
from tasks.drbd.state import Disk, Pause, Role, WriteOrdering

TOOL = "/proc/drbd"


class Connection8(StrEnum):
    """Connection and replication of DRBD 8 are one state."""

    STAND_ALONE = "StandAlone"
    DISCONNECTING = "Disconnecting"
    UNCONNECTED = "Unconnected"
    TIMEOUT = "Timeout"
    BROKEN_PIPE = "BrokenPipe"
    NETWORK_FAILURE = "NetworkFailure"
    PROTOCOL_ERROR = "ProtocolError"
    WF_CONNECTION = "WFConnection"
    WF_REPORT_PARAMS = "WFReportParams"
    TEAR_DOWN = "TearDown"
    CONNECTED = "Connected"
    STARTING_SYNC_S = "StartingSyncS"
    STARTING_SYNC_T = "StartingSyncT"
    WF_BITMAP_S = "WFBitMapS"
    WF_BITMAP_T = "WFBitMapT"
    WF_SYNC_UUID = "WFSyncUUID"
    SYNC_SOURCE = "SyncSource"
    SYNC_TARGET = "SyncTarget"
    PAUSED_SYNC_S = "PausedSyncS"
    PAUSED_SYNC_T = "PausedSyncT"
    VERIFY_S = "VerifyS"
    VERIFY_T = "VerifyT"
    AHEAD = "Ahead"
    BEHIND = "Behind"


BROKEN = {Connection8.STAND_ALONE, Connection8.DISCONNECTING, Connection8.PROTOCOL_ERROR}
UNSEEING = set(list(Connection8)[: list(Connection8).index(Connection8.CONNECTED)])
"""Nothing is known of the peer."""

SYNCING = {Connection8.SYNC_SOURCE, Connection8.SYNC_TARGET}
MOVING = SYNCING | {Connection8.VERIFY_S, Connection8.VERIFY_T}
"""Those that show how far they are."""

ORDERINGS = {"n": "none", "d": "drain", "f": "flush", "b": "barrier"}
PAUSES = {"a": Pause.DEPENDENCY, "p": Pause.PEER, "u": Pause.USER}


class Activity(StrEnum):
    SYNC = "sync'ed"
    VERIFY = "verified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress8:
    """A resynchronisation or verification. ``percent`` is what was printed: for small devices it is wrong.

    ``eta_s`` is None while it would never end. All numbers of the second line are 0 where only ``stalled`` was said;
    ``wanted_kib_s`` is 0 where none was.
    """

    activity: Activity
    percent: float
    left_kib: int
    total_kib: int
    eta_s: int | None = None
    speed_kib_s: int = 0
    average_kib_s: int = 0
    wanted_kib_s: int = 0
    stalled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters8:
    """Since the device came up. ``epochs`` and ``out_of_sync_kib`` are None before DRBD 8.3, which has neither."""

    sent_kib: int
    received_kib: int
    written_kib: int
    read_kib: int
    al_writes: int
    bm_writes: int
    local_pending: int
    peer_pending: int
    unacked: int
    application_pending: int
    epochs: int | None
    write_ordering: WriteOrdering
    out_of_sync_kib: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device8:
    """One minor. ``protocol`` is A, B, C, or ``""`` without a peer; ``congestion`` the kernel's letter for why."""

    minor: int
    connection: Connection8
    role: Role
    peer_role: Role
    disk: Disk
    peer_disk: Disk
    protocol: str
    suspended: bool
    paused: frozenset[Pause]
    congestion: str
    al_suspended: bool
    counters: Counters8
    progress: Progress8 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcDrbd:
    """What /proc/drbd shows. ``version`` is ``""`` while the module is not loaded, or when the first line is missing.

    ``unconfigured`` are minors that exist and are not in use (DRBD 8.0 shows all that there could be).
    """

    loaded: bool
    version: str = ""
    devices: tuple[Device8, ...] = ()
    unconfigured: tuple[int, ...] = ()
    complete: bool = True


def read_proc(stdout: str, *, stderr: str = "", exit_code: int = 0) -> ProcDrbd:
    """The state that /proc/drbd tells; without the file the module is not loaded.

    Raises:
        ParseError: a line or word that is not known, or a device that cannot be.
    """
    printed = Printed(TOOL, stdout)
    rows = printed.rows("proc_drbd")
    if not rows:
        if exit_code and "No such file or directory" in stderr:
            return ProcDrbd(loaded=False)
        raise printed.error(0, f"is empty, the exit code {exit_code}, and standard error {stderr.strip()[:500]!r}")
    versions = [row["version"] for row in rows if row["version"]]
    if len(versions) > 1:
        raise printed.error(0, "names its version twice")
    devices = [_device(printed, block) for block in _blocks(printed, rows)]
    unconfigured = [int(row["minor"]) for row in rows if row["unconfigured"]]
    minors = [device.minor for device in devices] + unconfigured
    if len(set(minors)) < len(minors):
        raise printed.error(0, "has a minor twice")
    moving = all(device.progress for device in devices if device.connection in SYNCING)
    return ProcDrbd(
        loaded=True,
        version="".join(versions),
        devices=tuple(devices),
        unconfigured=tuple(unconfigured),
        complete=printed.whole and bool(rows[0]["version"]) and exit_code == 0 and moving,
    )


def _blocks(printed: Printed, rows: list[Row]) -> Iterator[list[Row]]:
    """The lines of each device."""
    block: list[Row] = []
    for row in rows:
        if row["connection"] or row["unconfigured"]:
            yield from [block] if block else []
            block = [] if row["unconfigured"] else [row]
        elif block:
            block.append(row)
        elif not (row["version"] or row["build"] or row["transports"] or row["detail"]):
            raise printed.error(row.line_number, "is below no device")
    yield from [block] if block else []


def _device(printed: Printed, block: list[Row]) -> Device8:
    first, *below = block
    connection = printed.member(Connection8, first["connection"], first.line_number)
    if not below or not below[0]["counters"]:
        raise printed.error(first.line_number, "has no counters below it")
    flags = (first["flags"] or "r").ljust(6, "-")
    device = Device8(
        minor=_number(printed, first, "minor"),
        connection=connection,
        role=printed.member(Role, first["role"], first.line_number),
        peer_role=printed.member(Role, first["peer_role"], first.line_number),
        disk=printed.member(Disk, first["disk"], first.line_number),
        peer_disk=printed.member(Disk, first["peer_disk"], first.line_number),
        protocol=first["protocol"],
        suspended=flags[0] == "s",
        paused=frozenset(PAUSES[flag] for flag in flags[1:4] if flag in PAUSES),
        congestion=flags[4].strip("-"),
        al_suspended=flags[5] == "s",
        counters=_counters(printed, below[0]),
        progress=_moves(printed, connection, [row for row in below[1:] if not row["detail"]]),
    )
    if device.connection in UNSEEING and (device.peer_role is not Role.UNKNOWN or device.peer_disk not in UNSEEN):
        raise printed.error(first.line_number, "knows more of the peer than it can without a connection")
    return device


def _moves(printed: Printed, connection: Connection8, rows: list[Row]) -> Progress8 | None:
    """The progress in the lines below the counters: none, or a bar and what is known of the speed."""
    if not rows:
        return None
    bar, *speed = rows
    if not bar["kind"] or len(speed) != 1 or not (speed[0]["finish"] or speed[0]["stalled"]):
        raise printed.error(bar.line_number, "does not belong there, or has not one line of its speed below it")
    if connection not in MOVING:
        raise printed.error(bar.line_number, f"shows a progress while the connection is {connection}")
    return _progress(printed, bar, speed[0])


def _number(printed: Printed, row: Row, key: str) -> int:
    """A number, in thousands set apart by commas; 0 when it is missing."""
    digits = (row[key] or "0").replace(",", "")
    if len(digits) > 20 or not digits.lstrip("-").isascii():
        raise printed.error(row.line_number, "holds a number that is too long")
    return int(digits)


def _counters(printed: Printed, row: Row) -> Counters8:
    words = dict(word.split(":") for word in row["counters"].split())
    if any(len(value) > 20 or not value.isascii() for value in words.values()):
        raise printed.error(row.line_number, "holds a number that is too long")
    return Counters8(
        sent_kib=int(words["ns"]),
        received_kib=int(words["nr"]),
        written_kib=int(words["dw"]),
        read_kib=int(words["dr"]),
        al_writes=int(words["al"]),
        bm_writes=int(words["bm"]),
        local_pending=int(words["lo"]),
        peer_pending=int(words["pe"]),
        unacked=int(words["ua"]),
        application_pending=int(words["ap"]),
        epochs=int(words["ep"]) if "ep" in words else None,
        write_ordering=WriteOrdering(ORDERINGS[words["wo"]]) if "wo" in words else WriteOrdering.UNSAID,
        out_of_sync_kib=int(words["oos"]) if "oos" in words else None,
    )


def _progress(printed: Printed, bar: Row, speed: Row) -> Progress8:
    unit = 1024 if bar["unit"] == "M" else 1
    return Progress8(
        activity=Activity(bar["kind"]),
        percent=float(bar["percent"]),
        left_kib=_number(printed, bar, "left") * unit,
        total_kib=_number(printed, bar, "total") * unit,
        eta_s=_seconds(printed, speed),
        speed_kib_s=_number(printed, speed, "speed"),
        average_kib_s=_number(printed, speed, "average"),
        wanted_kib_s=_number(printed, speed, "want"),
        stalled=bool(speed["stalled"]),
    )


def _seconds(printed: Printed, row: Row) -> int | None:
    hours, _, rest = row["finish"].partition(":")
    if not rest:
        return None
    if len(hours) > 20:
        raise printed.error(row.line_number, "holds a number that is too long")
    minutes, seconds = rest.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds)


def standing(state: ProcDrbd) -> Standing:
    """``minor 0 disk``, ``peer disk``, ``connection``, ``io``, and ``same data`` where differing blocks are counted."""
    levels = {"drbd module": Level.HEALTHY if state.loaded else Level.FAILED}
    for device in state.devices:
        levels |= {f"minor {device.minor} {name}": level for name, level in _levels(device).items()}
    return levels if state.complete else dict.fromkeys(levels, Level.UNKNOWN)


def _levels(device: Device8) -> dict[str, Level]:
    differing = device.counters.out_of_sync_kib
    levels = {
        "disk": DISKS.get(device.disk, Level.FAILED),
        "peer disk": DISKS.get(device.peer_disk, Level.FAILED),
        "connection": _connection(device.connection),
        "io": Level.FAILED if device.suspended else Level.HEALTHY,
    }
    if differing is not None:
        levels["same data"] = Level.DEGRADED if differing else Level.HEALTHY
    return levels


def _connection(connection: Connection8) -> Level:
    if connection in BROKEN:
        return Level.FAILED
    return Level.HEALTHY if connection is Connection8.CONNECTED else Level.DEGRADED
