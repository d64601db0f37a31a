"""What each replica holds while they are apart: generations, what the other one lacks, the files that are young.

`PARTED` is quick, and enough for every decision. `CHANGES` reads the file system of either side (tasks/drbd/view.py)
and is for the eyes of the person who decides.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dockyard.observe import Domain, Observed
from dockyard.parsing import Printed, Row
from dockyard.remote import Command, Outputs
from dockyard.topology import Backing, Host, Topology
from tasks.drbd import view
from tasks.drbd.generations import Generations, read_generations
from tasks.drbd.replica import carries_replica, other_of, replication_of

_PARTED = "drbd generations"
_CHANGES = "drbd changes"
_TEMPLATE = "drbd_parted"

_PEER = r"""say() { printf '%s|%s|%s\n' "$1" "$2" "$3"; }
peer=$name
case $(cat /sys/module/drbd/version 2>/dev/null) in 9.*) peer=$name:$other ;; esac
"""

_ASK_PARTED = r"""
generations=$(drbdadm get-gi "$peer" 2>/dev/null) && [ -n "$generations" ] && say generations '' "$generations"
missing=$(sed -n "/^ *$minor: cs:/,/oos:/s/.* oos:\([0-9]*\).*/\1/p" /proc/drbd 2>/dev/null)
[ -z "$missing" ] || say missing '' "$missing"
say disk '' "$(blockdev --getsize64 "$disk")"
there=$kept; until [ -d "$there" ]; do there=$(dirname -- "$there"); done
free=$(df --block-size=1 --output=avail "$there" | tail -n 1 | tr -d ' ')
say room "$(findmnt -n -r -o SOURCE --target "$there")" "$free"
for sum in "$kept/$name"-*.sha256; do
  [ ! -s "$sum" ] || [ ! -e "${sum%.sha256}" ] || say kept "$(stat -c %s -- "${sum%.sha256}")" "${sum%.sha256}"
done
"""

_ASK_CHANGES = r"""
case $(drbdadm cstate "$peer" 2>/dev/null) in
    Connected | StartingSync* | WFBitMap* | WFSync* | Sync* | PausedSync* | Verify* | Ahead | Behind)
        say together '' yes; exit ;;
esac
open_view || exit
say now '' "$(date +%s)"
say lost '' "$(lost_at)"
case $type in ext*)
    block=$(dumpe2fs -h "$source" 2>/dev/null)
    at() { printf '%s\n' "$block" | sed -n "s/^Last $1 time: *//p" | date --file=- +%s 2>/dev/null; }
    say mounted '' "$(at mount)"
    say written '' "$(at write)"
esac
say used '' "$(df --block-size=1 --output=used "$root" | tail -n 1 | tr -d ' ')"
young | sort -z -r -n >"$folder/list"
sum=$(clean <"$folder/list" | awk '{ sum += $2 } END { printf "%.0f", sum }')
say changed "$(tr -d -c '\000' <"$folder/list" | wc -c)" "$sum"
head -z -n "$newest" "$folder/list" | clean | while read -r at size path; do say newest "${at%%.*} $size" "$path"; done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parted:
    """One replica, as far as a decision needs it.

    ``generations`` is None without a disk. ``missing_kib``: blocks that the other one lacks, by DRBD 8's own count,
    None with DRBD 9 (there `Live.out_of_sync_kib` goes on to count). ``disk_bytes`` is the size of the disk under
    DRBD, ``room_bytes`` what is free where copies are kept, on the device ``room_on``. ``kept`` are the complete copies
    there, path and size.
    """

    generations: Generations | None
    missing_kib: int | None
    disk_bytes: int
    room_bytes: int
    room_on: str
    kept: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Young:
    """A file that changed: when (seconds since 1970, by its host), its size now, and its path inside the storage."""

    changed_at: int
    size_bytes: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The files of one replica while the two are apart.

    Times are seconds since 1970 by its own clock, None where nothing tells.
    ``lost_at`` is when DRBD lost its connection. ``count`` files of ``changed_bytes`` changed since (`view.MARGIN_S`
    before it; all files, if that is not known), ``newest`` names some. ``used_bytes`` is what all files take.
    """

    now: int
    lost_at: int | None
    mounted_at: int | None
    written_at: int | None
    used_bytes: int
    count: int
    changed_bytes: int
    newest: tuple[Young, ...]


@dataclass(frozen=True, slots=True)
class Together:
    """The replica is connected: nobody looked at its files, which change while they are read."""


def parted(kept: str = view.KEPT) -> Domain[Parted]:
    """The domain, where copies are kept in the folder ``kept``."""

    def probes(topology: Topology, host: Host) -> Sequence[Command]:
        replication = replication_of(topology)
        known = {
            "name": replication.resource,
            "other": other_of(topology, host.name),
            "minor": str(replication.minor),
            "disk": backing(host).disk,
            "kept": kept,
        }
        words = " ".join(f"{name}={shlex.quote(value)}" for name, value in known.items())
        return [Command(_PARTED, ("sh", "-c", f"export LC_ALL=C\n{words}\n{_PEER}{_ASK_PARTED}"))]

    return Domain("generations", probes, lambda _, __, outputs: read_parted(outputs.text(_PARTED)), carries_replica)


PARTED = parted()


def backing(host: Host) -> Backing:
    """The disk of a replica."""
    assert host.drbd, "only what carries a replica is asked"
    return host.drbd


def read_parted(text: str) -> Parted:
    """What the probe printed; raises ParseError for anything else."""
    rows = Printed(_PARTED, text).rows(_TEMPLATE)
    found = _by_kind(rows)
    lines = "".join(f"{row['value']}\n" for row in found["generations"])
    return Parted(
        generations=read_generations(lines) if lines else None,
        missing_kib=_number(found["missing"]),
        disk_bytes=_wanted(text, _PARTED, found["disk"]),
        room_bytes=_wanted(text, _PARTED, found["room"]),
        room_on=found["room"][0]["name"],
        kept={row["value"]: int(row["name"]) for row in found["kept"]},
    )


def _probe_changes(topology: Topology, host: Host) -> Sequence[Command]:
    script = looking(topology, host, _PEER + _ASK_CHANGES)
    return [Command(_CHANGES, ("sh", "-c", script), timeout_s=600)]


def looking(topology: Topology, host: Host, body: str) -> str:
    """A script that looks into the replica of ``host`` (`view.script`)."""
    other = other_of(topology, host.name)
    return view.script(replication_of(topology), body, disk=backing(host).disk, other=other)


def read_changes(text: str) -> Changes | Together:
    """What the probe printed; raises ParseError for anything else."""
    if text == "together||yes\n":
        return Together()
    found = _by_kind(Printed(_CHANGES, text).rows(_TEMPLATE))
    return Changes(
        now=_wanted(text, _CHANGES, found["now"]),
        lost_at=_number(found["lost"]) or None,
        mounted_at=_number(found["mounted"]),
        written_at=_number(found["written"]),
        used_bytes=_wanted(text, _CHANGES, found["used"]),
        count=_wanted(text, _CHANGES, found["changed"], "name"),
        changed_bytes=_wanted(text, _CHANGES, found["changed"]),
        newest=tuple(_young(row) for row in found["newest"]),
    )


def _read_changes(_topology: Topology, _host: Host, outputs: Outputs) -> Changes | Together:
    return read_changes(outputs.text(_CHANGES))


CHANGES: Domain[Changes | Together] = Domain("changed files", _probe_changes, _read_changes, carries_replica)


def changes_of(observed: Observed, host: str) -> Changes | None:
    """The files of ``host``; None when they could not be read, or were not looked at."""
    seen = observed.seen(CHANGES).get(host)
    return seen if isinstance(seen, Changes) else None


def _young(row: Row) -> Young:
    changed_at, size_bytes = row["name"].split()
    return Young(changed_at=int(changed_at), size_bytes=int(size_bytes), path=row["value"])


def _by_kind(rows: Sequence[Row]) -> Mapping[str, list[Row]]:
    kinds = ("now", "generations", "missing", "room", "kept", "disk", "lost", "mounted", "written", "used")
    return {kind: [row for row in rows if row["kind"] == kind] for kind in (*kinds, "changed", "newest")}


def _number(rows: Sequence[Row]) -> int | None:
    return next((int(row["value"]) for row in rows if row["value"].isdecimal()), None)


def _wanted(text: str, probe: str, rows: Sequence[Row], key: str = "value") -> int:
    """The number that must be there; raises ParseError when it is not."""
    if len(rows) != 1 or not rows[0][key].isdecimal():
        raise Printed(probe, text).error(0, "lacks a number that it always has")
    return int(rows[0][key])
