"""That the storage was handed over: kept as evidence, so that everybody later sees when it was last tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dockyard.caller import whoever
from dockyard.change import Plan
from dockyard.evidence import EVIDENCE, Evidence, Fact, plan_record
from dockyard.observe import Observed
from dockyard.topology import Topology
from tasks.drbd.replica import LIVE
from tasks.drbd.writer import writer_of

SWITCHOVER = "switchover"
DISASTER = "failover"

Versions = Callable[[Topology, Observed, str], Mapping[str, str]]
"""What a host runs besides DRBD, by the names that evidence uses."""


def plan_switched(topology: Topology, observed: Observed, *, to: str, kind: str, versions: Versions) -> Plan:
    """Keep at the arbitrator that ``to`` was given the storage, once for each generation of the right to write.

    The first generation is phase 2's, no switch. ``kind`` is `SWITCHOVER` or `DISASTER`.

    Raises:
        NotObserved: the arbitrator or ``to`` could not be asked.
    """
    record, kept = writer_of(topology, observed), observed.of(EVIDENCE, topology.cluster.arbitrator)
    known = {kept[one].facts.get("generation") for one in (SWITCHOVER, DISASTER) if one in kept}
    if record.generation in {1, *known}:
        return {}
    runs = {"drbd": observed.of(LIVE, to).facts.version, **versions(topology, observed, to)}
    facts: dict[str, Fact] = {"to": to, "generation": record.generation}
    made = Evidence(kind=kind, run=record.since, by=whoever(), passed=True, versions=runs, facts=facts)
    return plan_record(topology, observed, made)
