"""Whether what was written is the same on both sides, proven in two ways that know nothing of each other.

* `drbdadm verify` compares the checksums of all blocks, and counts what differs (`tasks.drbd.verify`).
* The files of the drill: their sums from the moment when they were written, against sums of the same files read past
  the page cache on the Primary, and of the same blocks read from the Secondary's own disk, under DRBD. A Secondary
  cannot mount, but its disk can be read; the Primary's file system says where a file lies, and the data of a replica
  begins with the first sector of its disk.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dockyard.change import Plan, Run, WriteFile, write_file
from dockyard.errors import StepFailed
from dockyard.files import FileState, read_file
from dockyard.findings import Cause, Finding
from dockyard.observe import Domain, Observed
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Topology
from dockyard.unseen import unseen
from tasks.drbd import places
from tasks.drbd.checks import finding
from tasks.drbd.drill.scene import SCENE, STATE, Drill, primary, scratch, secondary
from tasks.drbd.replica import LIVE, carries_replica, replication_of
from tasks.drbd.verify import VERIFY, verifying

MAP = f"{STATE}/map"
"""On the Secondary: one line a file, its name and ``offset:bytes`` of each of its parts on the device."""

READ_BYTES_S = 4 * 1024**2
"""The slowest reading that is waited for."""

_SUMS, _LIE, _READ_BACK = "drill sums", "drill extents", "drill read back"
_ASK_SUMS = f"[ ! -s {STATE}/sums ] || cat {STATE}/sums"
_ASK_EXTENTS = """\
[ -s {state}/sums ] || exit 0
cd {scratch} || exit
cut -d ' ' -f 1 {state}/sums | xargs filefrag -v"""
_READ_FILES = """\
[ -s {state}/sums ] || exit 0
cd {scratch} || exit
while read -r name _; do
  sum=$(dd if="$name" bs=1M iflag=direct status=none | sha256sum) || sum=unreadable
  echo "$name ${{sum%% *}}"
done <{state}/sums"""
_READ_BLOCKS = """\
[ -s {map} ] || exit 0
part() {{ dd if={disk} bs=1M iflag=direct,skip_bytes,count_bytes skip="${{1%:*}}" count="${{1#*:}}" status=none; }}
while read -r name parts; do
  sum=$(for one in $parts; do part "$one" || exit; done | sha256sum) || sum=unreadable
  echo "$name ${{sum%% *}}"
done <{map}"""
_START_VERIFY = """\
date +%s >{state}/verify && systemctl start --no-block {unit} || exit
n=0; until [ "$(systemctl is-active {unit})" = activating ] || [ $((n += 1)) -gt 25 ]; do sleep 0.2; done"""
"""What is over at once is waited for in vain, for five seconds."""

_ALLOWED = {"last", "eof", "merged", ""}
"""Flags of extents that say nothing against reading a file from the disk (filefrag(8))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a file: where it lies on the device, and how long it is, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The files of a drill on the Primary: SHA-256 as written, and the parts in order; empty elsewhere."""

    sums: Mapping[str, str]
    parts: Mapping[str, tuple[Part, ...]]


def _known_probes(topology: Topology, _host: Host) -> Sequence[Command]:
    folder = shlex.quote(scratch(replication_of(topology)))
    script = _ASK_EXTENTS.format(state=STATE, scratch=folder)
    return [
        Command(_SUMS, ("sh", "-c", _ASK_SUMS)),
        Command(_LIE, ("sh", "-c", script), timeout_s=120),
    ]


def _known_read(_topology: Topology, _host: Host, outputs: Outputs) -> Known:
    return Known(sums=read_sums(outputs.text(_SUMS)), parts=read_extents(outputs.text(_LIE)))


KNOWN: Domain[Known] = Domain("drill files", _known_probes, _known_read, carries_replica)


def _map_read(_topology: Topology, _host: Host, outputs: Outputs) -> FileState:
    return FileState.of(outputs, MAP)


PLACES: Domain[FileState] = Domain("drill map", lambda _topology, _host: [read_file(MAP)], _map_read, carries_replica)
"""The file `MAP`."""


def read_sums(text: str) -> dict[str, str]:
    """SHA-256 by name, ``""`` for what could not be read; raises ParseError."""
    return {row["name"]: row["sum"] for row in Printed(_SUMS, text).rows("drbd_blocks")}


def read_extents(text: str) -> dict[str, tuple[Part, ...]]:
    """Where each file lies, out of ``filefrag -v``.

    Raises:
        ParseError: something unknown; a file with a hole, or one that the disk does not hold as it is read.
    """
    printed = Printed("filefrag", text)
    found: dict[str, list[Part]] = {}
    name, block, sizes = "", 0, dict[str, int]()
    for row in printed.rows("drbd_blocks"):
        if row["name"]:
            name, block = row["name"], int(row["block"])
            found[name], sizes[name] = [], int(row["size"])
            continue
        odd = set(row["flags"].split(",")) - _ALLOWED
        before = sum(part.length for part in found.get(name, ()))
        if not name or odd or int(row["first"]) * block != before:
            raise printed.error(row.line_number, f"is no part that can be read from the disk ({', '.join(odd)})")
        found[name].append(Part(offset=int(row["offset"]) * block, length=int(row["length"]) * block))
    for one, parts in found.items():
        if sum(part.length for part in parts) != sizes[one]:
            raise printed.error(0, f"does not say where all of {one} lies")
    return {one: tuple(parts) for one, parts in found.items()}


def plan_map(topology: Topology, observed: Observed) -> Plan:
    """Tell the Secondary where on its disk the files lie."""
    known = observed.of(KNOWN, primary(observed))
    if not known.sums:
        return {}
    host = secondary(topology, observed)
    lines = [
        " ".join([name, *(f"{part.offset}:{part.length}" for part in parts)]) for name, parts in known.parts.items()
    ]
    content = "".join(f"{line}\n" for line in lines)
    change = WriteFile(path=MAP, content=content, seen=observed.of(PLACES, host), mode=0o600)
    changes = write_file(change)
    return {host: changes} if changes else {}


READ_BACK = "drill files read back"


def sums(drill: Drill) -> Domain[dict[str, str]]:
    """The sums of the files as they are read back: through the file system where it is mounted, else from the disk."""

    def probes(topology: Topology, host: Host) -> Sequence[Command]:
        assert host.drbd, "concerns replicas alone"
        folder = shlex.quote(scratch(replication_of(topology)))
        files = _READ_FILES.format(state=STATE, scratch=folder)
        blocks = _READ_BLOCKS.format(map=MAP, disk=shlex.quote(host.drbd.disk))
        script = f"({files}) && ({blocks})"
        limit_s = 60 + drill.size_bytes / READ_BYTES_S
        return [Command(_READ_BACK, ("bash", "-o", "pipefail", "-c", script), timeout_s=limit_s)]

    def read(_topology: Topology, _host: Host, outputs: Outputs) -> dict[str, str]:
        return read_sums(outputs.text(_READ_BACK))

    return Domain(READ_BACK, probes, read, carries_replica)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """How many files there are, and the names of those that are not on one side what was written."""

    files: int
    wrong_here: tuple[str, ...]
    wrong_there: tuple[str, ...]


def compared(topology: Topology, observed: Observed, read_back: Domain[dict[str, str]]) -> Compared:
    """The sums as written against those that were read back: here is the Primary, there the Secondary."""
    writer = primary(observed)
    known = observed.of(KNOWN, writer).sums
    here, there = (observed.of(read_back, host) for host in (writer, secondary(topology, observed)))

    def wrong(back: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(name for name, digest in known.items() if back.get(name) != digest)

    return Compared(files=len(known), wrong_here=wrong(here), wrong_there=wrong(there))


def check_read_back(_topology: Topology, observed: Observed, *, read_back: Domain[dict[str, str]]) -> list[Finding]:
    """Both sides could be read; whether they hold the same is in the result."""
    return unseen(observed, read_back, Cause.DRBD)


def plan_verify_now(_topology: Topology, observed: Observed, *, drill: Drill) -> Plan:
    """Start the comparison of all blocks, by the unit that does it every month."""
    host = primary(observed)
    if not drill.verify or observed.of(SCENE, host).verify is not None:
        return {}
    script = _START_VERIFY.format(state=STATE, unit=places.VERIFY_SERVICE)
    return {host: [Run(title="compare all blocks of both replicas (drbdadm verify)", argv=("sh", "-c", script))]}


def check_compared(_topology: Topology, observed: Observed, *, drill: Drill) -> list[Finding]:
    """The comparison has come to its end.

    Raises:
        StepFailed: it was interrupted.
    """
    host = primary(observed)
    begun, state = observed.of(SCENE, host).verify, observed.of(VERIFY, host)
    if not drill.verify or begun is None or (state.result and state.result.began >= begun):
        return []
    if (not state.service.is_active and state.service.active != "activating") or state.service.sub == "auto-restart":
        raise StepFailed(
            f"{host}: the comparison was interrupted, or never began ({state.service.active}, {state.service.sub})",
            advice=f"journalctl -u {places.VERIFY_SERVICE}; then run this again",
        )
    return [finding(host, "all blocks are being compared", observed.of(LIVE, host).sentence, "It goes on by itself")]


def check_idle(_topology: Topology, observed: Observed, *, drill: Drill) -> list[Finding]:
    """The unit that compares is there, and nobody compares at the moment."""
    found: list[Finding] = []
    for host, state in observed.seen(VERIFY).items():
        if drill.verify and not state.service.loaded:
            found.append(
                finding(host, f"{places.VERIFY_SERVICE} is not there", "not loaded", "python runbooks/phase2_drbd.py")
            )
        elif verifying(observed.seen(LIVE).get(host)):
            advice = "Wait for it: drbdadm status"
            found.append(finding(host, "the copies are being compared now", observed.of(LIVE, host).sentence, advice))
    return found
