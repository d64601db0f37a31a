"""That the storage was handed over: kept as evidence, so that everybody later sees when it was last tried."""

from __future__ import annotations

from collections.abc import Callable

from dockyard.change import Plan
from dockyard.evidence import EVIDENCE, Evidence, Fact, plan_record, whoever
from dockyard.observe import Observed
from dockyard.topology import Topology
from tasks.drbd.replica import LIVE
from tasks.drbd.writer import writer_of

SWITCHOVER = "switchover"
DISASTER = "failover"


def plan_switched(
    topology: Topology, observed: Observed, *, to: str, kind: str, kernel: Callable[[Observed, str], str]
) -> Plan:
    """Keep at the arbitrator that ``to`` was given the storage, once for each generation of the right to write.

    The first generation is phase 2's, no switch. ``kind`` is `SWITCHOVER` or `DISASTER`; ``kernel`` says which one a
    host runs.

    Raises:
        NotObserved: the arbitrator or ``to`` could not be asked.
    """
    record, kept = writer_of(topology, observed), observed.of(EVIDENCE, topology.cluster.arbitrator)
    known = {kept[one].facts.get("generation") for one in (SWITCHOVER, DISASTER) if one in kept}
    if record.generation in {1, *known}:
        return {}
    versions = {"drbd": observed.of(LIVE, to).facts.version, "kernel": kernel(observed, to)}
    facts: dict[str, Fact] = {"to": to, "generation": record.generation}
    made = Evidence(kind=kind, run=record.since, by=whoever(), passed=True, versions=versions, facts=facts)
    return plan_record(topology, observed, made)
