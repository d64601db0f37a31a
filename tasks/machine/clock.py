"""What keeps a machine's time right: `chronyc tracking` and `timedatectl show`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from dockyard.parsing import Printed
from dockyard.standing import Level, Standing
from dockyard.text_blocks import in_order

OFFSET_LIMIT_S = 1.0
_SILENT = "506 Cannot talk to daemon"
_OWN_CLOCK = {"7F7F0101", "127.127.1.1"}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LINES = (
    "reference_id",
    "stratum",
    "ref_time",
    "offset_s",
    "last_offset_s",
    "rms_offset_s",
    "frequency_ppm",
    "residual_ppm",
    "skew_ppm",
    "root_delay_s",
    "root_dispersion_s",
    "interval_s",
    "leap",
)


class Leap(StrEnum):
    """Leap status; all but the last mean that chrony follows something."""

    NORMAL = "Normal"
    INSERT = "Insert second"
    DELETE = "Delete second"
    NOT_SYNCHRONISED = "Not synchronised"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracking:
    """What chronyd follows, and how well. Offsets and frequency are above 0 when the machine's clock is ahead (fast).

    ``reference`` is the name, address or reference clock of the source, "" for none or for the machine's own clock.
    """

    reference_id: str
    reference: str
    stratum: int
    ref_time: datetime
    offset_s: float
    last_offset_s: float
    rms_offset_s: float
    frequency_ppm: float
    residual_ppm: float
    skew_ppm: float
    root_delay_s: float
    root_dispersion_s: float
    update_interval_s: float
    leap: Leap

    @property
    def synchronised(self) -> bool:
        """Whether it follows another clock than the machine's own."""
        return self.leap is not Leap.NOT_SYNCHRONISED and self.reference_id not in _OWN_CLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Chrony:
    """The answer of chronyd; ``tracking`` is None when it does not run (or does not talk to us)."""

    tracking: Tracking | None
    complete: bool = True


def read_tracking(text: str) -> Chrony:
    """What `chronyc tracking` printed.

    Raises:
        ParseError: an unknown line, a line missing, twice or not at its place.
    """
    if text.strip() == _SILENT:
        return Chrony(tracking=None)
    printed = Printed("chronyc tracking", text)
    rows = printed.rows("chronyc_tracking")
    values = in_order(printed, rows, _LINES)
    lines = {name: row.line_number for row in rows for name in row if row[name]}
    tracking = Tracking(
        reference_id=values["reference_id"],
        reference=values["reference"][1:-1],
        stratum=int(values["stratum"]),
        ref_time=_time(printed, values["ref_time"], lines["ref_time"]),
        offset_s=_signed(values["offset_s"], values["side"]),
        frequency_ppm=_signed(values["frequency_ppm"], values["frequency_side"]),
        last_offset_s=float(values["last_offset_s"]),
        rms_offset_s=float(values["rms_offset_s"]),
        residual_ppm=float(values["residual_ppm"]),
        skew_ppm=float(values["skew_ppm"]),
        root_delay_s=float(values["root_delay_s"]),
        root_dispersion_s=float(values["root_dispersion_s"]),
        update_interval_s=float(values["interval_s"]),
        leap=printed.member(Leap, values["leap"], lines["leap"]),
    )
    return Chrony(tracking=tracking, complete=printed.whole)


def _signed(number: str, side: str) -> float:
    return float(number) if side == "fast" else -float(number)


def _time(printed: Printed, text: str, line_number: int) -> datetime:
    """``Wed Nov 25 04:30:15 2026``, always in English and UTC."""
    _, month, day, clock, year = text.split()
    try:
        hour, minute, second = map(int, clock.split(":"))
        return datetime(int(year), _MONTHS.index(month) + 1, int(day), hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError as error:
        raise printed.error(line_number, "holds no time") from error


def tracking_standing(state: Chrony) -> Standing:
    """Level of ``clock``: unsynchronised is `Level.FAILED`, off by `OFFSET_LIMIT_S` or more `Level.DEGRADED`."""
    if not state.complete:
        return {"clock": Level.UNKNOWN}
    if state.tracking is None or not state.tracking.synchronised:
        return {"clock": Level.FAILED}
    return {"clock": Level.HEALTHY if abs(state.tracking.offset_s) < OFFSET_LIMIT_S else Level.DEGRADED}


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSettings:
    """What systemd knows. ``ntp``: a time service is switched on; ``synchronized``: the kernel says that the clock is.

    ``time`` and ``rtc_time`` as printed (``Wed 2026-11-25 03:26:51 UTC``); ``rtc_time`` is "" without a hardware clock.
    """

    timezone: str
    rtc_in_local_time: bool
    can_ntp: bool
    ntp: bool
    synchronized: bool
    time: str
    rtc_time: str
    complete: bool = True


def read_timedatectl(text: str) -> TimeSettings:
    """What `timedatectl show` printed; raises ParseError as `read_tracking`."""
    printed = Printed("timedatectl show", text)
    values = in_order(
        printed, printed.rows("timedatectl_show"), ("local_rtc", "can_ntp", "ntp", "synchronized", "time")
    )
    return TimeSettings(
        timezone=values.get("timezone", ""),
        rtc_in_local_time=values["local_rtc"] == "yes",
        can_ntp=values["can_ntp"] == "yes",
        ntp=values["ntp"] == "yes",
        synchronized=values["synchronized"] == "yes",
        time=values["time"],
        rtc_time=values.get("rtc_time", "").removeprefix("n/a"),
        complete=printed.whole,
    )


def timedatectl_standing(state: TimeSettings) -> Standing:
    """Level of ``clock``: kept right by nobody is `Level.FAILED`; switched on but not there yet `Level.DEGRADED`."""
    level = Level.HEALTHY if state.synchronized else Level.DEGRADED if state.ntp else Level.FAILED
    return {"clock": level if state.complete else Level.UNKNOWN}
