"""Evidence that something was tried and how it went: one JSON object a run, kept on the arbitrator.

Every kind has a file of its own, ``/var/lib/dockyard/evidence/<kind>.jsonl``, the newest line last: whoever comes next,
from whatever machine, sees when a drill was last passed, by whom, and with which versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Annotated

import msgspec

from dockyard.change import Plan, Run
from dockyard.errors import ParseError
from dockyard.observe import Domain, Observed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Topology

FOLDER = "/var/lib/dockyard/evidence"
PROBE = "evidence"
_READ = f'for file in {FOLDER}/*.jsonl; do [ ! -e "$file" ] || tail -n 1 -- "$file"; done'
_APPEND = """\
set -eu; folder=$1 path=$1/$2.jsonl
install -d -m 0755 -- "$folder"
{ [ ! -e "$path" ] || cat -- "$path"; printf '%s\\n' "$3"; } >"$path.new"
sync -- "$path.new"; mv -f -- "$path.new" "$path"; sync -- "$folder\""""

Fact = str | int | float | bool


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One run. ``kind`` names what was tried, ``run`` is when it began (UTC, ISO 8601), ``by`` is user@machine.

    ``versions`` are those that the result holds for (``kernel``, ``drbd`` ...), ``facts`` what was measured, with the
    unit in the name (``behind_s``, ``lost_bytes``).
    """

    kind: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]{0,40}$")]
    run: Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    by: str
    passed: bool
    versions: Mapping[str, str] = MappingProxyType({})
    facts: Mapping[str, Fact] = MappingProxyType({})

    @property
    def at(self) -> datetime:
        """When the run began."""
        return datetime.fromisoformat(self.run)

    def age_days(self, now: datetime) -> float:
        """Days from the beginning of the run to ``now``, by the clocks of two controllers."""
        return (now - self.at).total_seconds() / 86400


def encode(evidence: Evidence) -> str:
    """One line of JSON, without its end."""
    return msgspec.json.encode(evidence, order="deterministic").decode()


def decode(line: str) -> Evidence:
    """The run of one line; raises ParseError for anything else, also for a line that was cut off."""
    try:
        return msgspec.json.decode(line, type=Evidence)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ParseError(PROBE, 1, line[:200], "", why=f"is not evidence: {error}") from error


def newest(lines: Iterable[str]) -> dict[str, Evidence]:
    """The runs of ``lines`` by kind, the later line where two are of one kind; see `decode` for what is raised."""
    return {one.kind: one for one in map(decode, lines)}


def _probes(_topology: Topology, _host: Host) -> Sequence[Command]:
    return [Command(PROBE, ("sh", "-c", _READ))]


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> dict[str, Evidence]:
    return newest(outputs.text(PROBE).splitlines())


def _on_arbitrator(topology: Topology, host: Host) -> bool:
    return host.name == topology.cluster.arbitrator


EVIDENCE: Domain[dict[str, Evidence]] = Domain("evidence", _probes, _read, _on_arbitrator)
"""The newest run of each kind; observed on the arbitrator alone."""


def plan_record(topology: Topology, observed: Observed, evidence: Evidence) -> Plan:
    """Append ``evidence`` at the arbitrator, unless it is the newest of its kind already.

    Raises:
        NotObserved: the arbitrator could not be asked.
    """
    arbitrator = topology.cluster.arbitrator
    if observed.of(EVIDENCE, arbitrator).get(evidence.kind) == evidence:
        return {}
    argv = ("sh", "-c", _APPEND, "evidence", FOLDER, evidence.kind, encode(evidence))
    verdict = "passed" if evidence.passed else "failed"
    return {arbitrator: [Run(title=f"record that {evidence.kind} {verdict}", argv=argv)]}
