"""Who was given the right to write: a record on the arbitrator, with a copy on each replica.

The generation number only grows. The arbitrator's record is the one that counts; a copy tells a replica at boot, when
nobody can be asked, whether it may become Primary again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dockyard.change import Change, Plan, Run
from dockyard.errors import NotObserved, ParseError
from dockyard.observe import Domain, Observed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Role, Topology
from tasks.drbd import places

PROBE = "writer record"
_FORM = re.compile(r"writer=(?P<writer>[a-z0-9-]{1,63})\ngeneration=(?P<generation>[0-9]{1,9})\nsince=(?P<since>\S+)\n")

_WRITE = """\
set -eu; path=$1 generation=$3
seen=$(sed -n 's/^generation=//p' "$path" 2>/dev/null) || seen=
who=$(sed -n 's/^writer=//p' "$path" 2>/dev/null) || who=
[ "${seen:-0}" -lt "$generation" ] || [ "$who $seen" = "$2 $generation" ] ||
  { echo "the record names $who at generation $seen already" >&2; exit 75; }
install -d -m 0755 -- "$(dirname -- "$path")"
printf 'writer=%s\\ngeneration=%s\\nsince=%s\\n' "$2" "$generation" "$4" >"$path.new"
sync -- "$path.new"; mv -f -- "$path.new" "$path"; sync -- "$(dirname -- "$path")\""""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """``writer`` may write since ``since`` (UTC, ISO 8601), until a higher ``generation`` says otherwise."""

    writer: str
    generation: int
    since: str


NOBODY = Record(writer="", generation=0, since="")
"""No record yet: nobody was given the right to write."""


def probes(_topology: Topology, _host: Host) -> Sequence[Command]:
    """One command."""
    script = f"[ ! -e {places.WRITER} ] || cat {places.WRITER}"
    return [Command(PROBE, ("sh", "-c", script))]


def read(_topology: Topology, _host: Host, outputs: Outputs) -> Record:
    """The record of one host, `NOBODY` when it has none; raises CommandFailed or ParseError."""
    return read_record(outputs.text(PROBE))


def read_record(text: str) -> Record:
    """The record in ``text``; raises ParseError for anything but one whole record or nothing at all."""
    if not text:
        return NOBODY
    found = _FORM.fullmatch(text)
    if not found:
        raise ParseError(PROBE, 1, text.partition("\n")[0], text)
    return Record(writer=found["writer"], generation=int(found["generation"]), since=found["since"])


def _keeps_record(topology: Topology, host: Host) -> bool:
    return topology.cluster.drbd is not None and host.name in keepers(topology)


WRITER = Domain("writer", probes, read, _keeps_record)


def writer_of(topology: Topology, observed: Observed) -> Record:
    """The arbitrator's record; raises NotObserved when the arbitrator could not be asked."""
    return observed.of(WRITER, topology.cluster.arbitrator)


def designated(topology: Topology, observed: Observed) -> str:
    """Who is to write: the host that the record names, or while nobody is named the one with the role drbd-primary."""
    return writer_of(topology, observed).writer or topology.with_role(Role.DRBD_PRIMARY)[0].name


def keepers(topology: Topology) -> list[str]:
    """The hosts that hold the record: the arbitrator first, then the replicas."""
    replicas = topology.with_role(Role.DRBD_PRIMARY, Role.DRBD_SECONDARY)
    return [topology.cluster.arbitrator, *(host.name for host in replicas)]


def plan_record(topology: Topology, observed: Observed, *, since: str) -> Plan:
    """Name the first writer (the host with the role drbd-primary) where nobody is named: at the arbitrator, first.

    Raises:
        NotObserved: the arbitrator could not be asked, or a replica knows of a later generation than the arbitrator.
    """
    record = _checked(topology, observed)
    if record != NOBODY:
        return {}
    first = Record(writer=designated(topology, observed), generation=1, since=since)
    return {topology.cluster.arbitrator: [write_record(first)]}


def plan_copies(topology: Topology, observed: Observed) -> Plan:
    """Bring the replicas' copies in line with the arbitrator's record; see `plan_record` for what is raised."""
    record = _checked(topology, observed)
    copies = {host: observed.of(WRITER, host) for host in keepers(topology)}
    return {host: [write_record(record)] for host, copy in copies.items() if copy != record}


def _checked(topology: Topology, observed: Observed) -> Record:
    record = writer_of(topology, observed)
    fault = contradiction(topology, record, {host: observed.of(WRITER, host) for host in keepers(topology)})
    if fault:
        raise NotObserved(topology.cluster.arbitrator, fault, advice=find_out(topology))
    return record


def contradiction(topology: Topology, record: Record, copies: Mapping[str, Record]) -> str:
    """Why the arbitrator's record cannot be the one that counts; ``""`` when it can.

    A replica that knows of a later generation, or of another writer in the same one, was told so by somebody.
    """
    if record.writer and record.writer not in keepers(topology)[1:]:
        return f"its record names {record.writer}, which carries no replica"
    for host in keepers(topology)[1:]:
        copy = copies.get(host, NOBODY)
        same = copy.generation == record.generation and copy.writer != record.writer
        if copy.generation > record.generation or same:
            return f"its record ({shown(record)}) is older than the copy of {host} ({shown(copy)}), or contradicts it"
    return ""


def find_out(topology: Topology) -> str:
    """What to do about a `contradiction`."""
    return (
        f"Was {topology.cluster.arbitrator} restored or replaced? Find out who writes (drbdadm role) before anything "
        f"else, then write that into {places.WRITER} there."
    )


def write_record(record: Record) -> Change:
    """Write the record of a host; a later generation or another writer in the same one is left alone (exit code 75)."""
    argv = ("sh", "-c", _WRITE, "record", places.WRITER, record.writer, str(record.generation), record.since)
    return Run(title=f"name {record.writer} as the writer (generation {record.generation})", argv=argv)


def shown(record: Record) -> str:
    """The record for a person."""
    return f"{record.writer} since {record.since}, generation {record.generation}" if record.writer else "nobody"
