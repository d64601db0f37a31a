"""What a drill is asked to do, and what each replica looks like while it goes on or after it was cut off.

Everything that a drill leaves on a host is in `STATE` (gone with a reboot), in the scratch folder inside the storage,
in one transient unit and in one table of nftables: `Scene` sees all of it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from dockyard.change import UnitState, unit_probe
from dockyard.errors import StepFailed
from dockyard.observe import Domain, Observed
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Replication, Topology, Wan
from dockyard.typed_json import typed
from tasks.drbd import sizing
from tasks.drbd.replica import LIVE, carries_replica, replication_of

STATE = "/run/dockyard-drill"
UNIT = "dockyard-drill.service"
TABLE = "dockyard_drill"
SCRATCH = ".dockyard-drill"
LEAD_S = 15
"""Seconds of load before the cut, and at least as many after it."""

FILE_STEP = 64 * 1024
"""Files are whole multiples of it, so that direct reads fit every block size."""

TOOLS = {"nft": "nftables", "ss": "iproute2", "filefrag": "e2fsprogs"}
"""Commands that a drill needs, and the Debian packages that hold them."""

_PROBE = "drill"
_SCRIPT = r"""say() {{ printf '%s|%s\n' "$1" "$2"; }}
say kernel "$(uname -r)"
for tool in {tools}; do command -v "$tool" >/dev/null || say lacks "$tool"; done
for file in run began cut written failed verify; do
  [ ! -s {state}/$file ] || say $file "$(head -n 1 {state}/$file)"
done
[ ! -s {state}/sums ] || say files "$(wc -l <{state}/sums)"
[ ! -d {scratch} ] || say scratch "$(ls -A {scratch} | wc -l)"
! mountpoint -q {mount} || say room "$(stat -f -c '%a %b %S' {mount})"
command -v nft >/dev/null || exit 0
tables=$(nft list tables ip) || exit
case $tables in *'table ip {table}'*) say set "$(nft -j list set ip {table} cut)" ;; esac
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One drill: write ``size_bytes`` at ``rate_bytes_s``, and cut the line for ``cut_s`` seconds meanwhile.

    ``run`` names it, as in `dockyard.evidence`; ``verify`` says whether all blocks are compared afterwards.
    """

    run: str
    size_bytes: int
    rate_bytes_s: int
    cut_s: int
    verify: bool = True

    @property
    def file_bytes(self) -> int:
        """One file is written each second."""
        return max(FILE_STEP, self.rate_bytes_s // FILE_STEP * FILE_STEP)

    @property
    def files(self) -> int:
        return max(1, self.size_bytes // self.file_bytes)

    def longest_s(self, wan: Wan) -> int:
        """After so many seconds the load ends by itself: three times what writing and catching up should take."""
        catch_up_s = self.size_bytes / (sizing.resync_kib_s(wan) * sizing.KIB)
        return round(3 * (self.files + self.cut_s + catch_up_s)) + 600


def usual_rate(wan: Wan) -> int:
    """A quarter of the line, in bytes a second: load enough to fall behind, and room to catch up beside it."""
    return max(FILE_STEP, round(wan.mbit * 1e6 / 8 / 4))


def usual_size(rate_bytes_s: int, cut_s: int) -> int:
    """What is written at that rate from `LEAD_S` seconds before the cut until as long after it."""
    return rate_bytes_s * (cut_s + 2 * LEAD_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Bytes of the storage's file system: what root may still write without its reserve, and all."""

    free_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is left or under way of a drill on one replica.

    ``run`` is the drill that was begun here, ``cut`` the one that cut the line here; ``""`` for none. ``began_s`` and
    ``written_s`` are when the load began and ended, in seconds since boot; ``failed`` says why it ended early.
    ``verify`` is when the comparison was started, in seconds since 1970. ``scratch`` counts the files of the scratch
    folder, None without it. ``cut_left_s`` is how long the kernel will hold the line back, None when it lets everything
    through; ``table`` whether its table is there. ``room`` is None where nothing is mounted.
    """

    kernel: str
    lacks: tuple[str, ...]
    run: str
    began_s: float | None
    written_s: float | None
    failed: str
    files: int
    scratch: int | None
    cut: str
    cut_left_s: int | None
    table: bool
    room: Room | None
    verify: int | None
    unit: UnitState

    @property
    def clean(self) -> bool:
        """Nothing of any drill is left here."""
        return not (self.run or self.cut or self.table or self.unit.is_active) and self.scratch is None


def scratch(replication: Replication) -> str:
    """The folder of a drill inside the storage; a drill writes nowhere else."""
    return f"{replication.mount}/{SCRATCH}"


def _probes(topology: Topology, _host: Host) -> Sequence[Command]:
    replication = replication_of(topology)
    script = _SCRIPT.format(
        tools=" ".join(TOOLS),
        state=STATE,
        scratch=shlex.quote(scratch(replication)),
        mount=shlex.quote(replication.mount),
        table=TABLE,
    )
    return [Command(_PROBE, ("sh", "-c", script)), unit_probe(UNIT)]


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> Scene:
    return read_scene(outputs.text(_PROBE), UnitState.of(outputs, UNIT))


def read_scene(text: str, unit: UnitState) -> Scene:
    """What our own script printed; raises ParseError."""
    printed = Printed(_PROBE, text)
    rows = printed.rows("drbd_drill")
    said = {row["kind"]: row["value"] for row in rows}
    return Scene(
        kernel=said.get("kernel", ""),
        lacks=tuple(row["value"] for row in rows if row["kind"] == "lacks"),
        run=said.get("run", ""),
        began_s=_seconds(said.get("began")),
        written_s=_seconds(said.get("written")),
        failed=said.get("failed", ""),
        files=int(said.get("files", "0")),
        scratch=int(said["scratch"]) if "scratch" in said else None,
        cut=said.get("cut", ""),
        cut_left_s=_left_s(said["set"]) if "set" in said else None,
        table="set" in said,
        room=_room(said["room"]) if "room" in said else None,
        verify=int(said["verify"]) if "verify" in said else None,
        unit=unit,
    )


def _seconds(text: str | None) -> float | None:
    return None if text is None else float(text)


def _room(text: str) -> Room:
    free, size, block = map(int, text.split())
    return Room(free_bytes=free * block, size_bytes=size * block)


class _Held(msgspec.Struct, frozen=True):
    expires: int


class _Element(msgspec.Struct, frozen=True):
    elem: _Held


class _Set(msgspec.Struct, frozen=True):
    elem: Sequence[_Element] = ()


class _Object(msgspec.Struct, frozen=True):
    set: _Set | None = None


class _Document(msgspec.Struct, frozen=True):
    nftables: Sequence[_Object]


def _left_s(text: str) -> int | None:
    """How long the element of the set is still there, out of ``nft -j list set`` (libnftables-json(5)); None: gone."""
    printed = Printed("nft -j list set", text)
    document: Any = printed.json()
    sets = [one.set for one in typed(printed, document, _Document).nftables if one.set]
    if not sets:
        raise printed.error(0, "holds no set")
    return max((one.elem.expires for one in sets[0].elem), default=None)


SCENE: Domain[Scene] = Domain("drill", _probes, _read, carries_replica)


def primary(observed: Observed) -> str:
    """The replica that is Primary; raises StepFailed unless there is exactly one."""
    found = [host for host, state in observed.seen(LIVE).items() if state.primary]
    if len(found) != 1:
        raise StepFailed("a drill needs exactly one Primary", advice="python runbooks/health.py")
    return found[0]


def secondary(topology: Topology, observed: Observed) -> str:
    """The other replica."""
    writer = primary(observed)
    return next(host.name for host in topology.hosts.values() if host.drbd and host.name != writer)
