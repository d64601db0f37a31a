"""What a drill found: as a table for a person, as evidence for everybody who comes later, and as a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dockyard.caller import whoever
from dockyard.change import Plan
from dockyard.evidence import EVIDENCE, Evidence, Fact, plan_record
from dockyard.findings import Finding
from dockyard.observe import Domain, Observed
from dockyard.topology import Topology, Wan
from tasks.drbd.checks import finding
from tasks.drbd.drill import lag
from tasks.drbd.drill.lag import SAMPLES
from tasks.drbd.drill.proof import Compared, compared
from tasks.drbd.drill.scene import SCENE, Drill, Scene, primary
from tasks.drbd.replica import LIVE, replication_of
from tasks.drbd.switched import Versions
from tasks.drbd.verify import VERIFY

KIND = "replication-drill"
Rows = list[dict[str, str]]


def behind_rows(_topology: Topology, observed: Observed) -> Rows:
    """How far behind the Secondary was over time."""
    return list(lag.rows(lag.moments(observed.of(SAMPLES, primary(observed)))))


def facts(topology: Topology, observed: Observed, drill: Drill, read_back: Domain[dict[str, str]]) -> dict[str, Fact]:
    """All that was measured, units in the names; a rate is in 10^6 bits a second."""
    host = primary(observed)
    samples = observed.of(SAMPLES, host)
    wan = replication_of(topology).wan
    return {
        "primary": host,
        **_load(observed.of(SCENE, host), drill),
        **_behind(samples),
        **_catch_up(samples, wan),
        **_blocks(observed, host, drill),
        **_files(compared(topology, observed, read_back)),
    }


def _load(scene: Scene, drill: Drill) -> Mapping[str, Fact]:
    written_bytes = scene.files * drill.file_bytes
    lasted_s = (scene.written_s or 0.0) - (scene.began_s or 0.0)
    mbit = round(written_bytes * 8 / 1e6 / lasted_s, 2) if lasted_s > 0 else 0.0
    return {"cut_s": drill.cut_s, "written_bytes": written_bytes, "written_mbit": mbit}


def _behind(samples: Sequence[lag.Sample]) -> Mapping[str, Fact]:
    found = lag.moments(samples)
    parts = {"behind_connected": lag.lag(lag.while_connected(found)), "behind": lag.lag(found)}
    return {
        f"{name}_{what}": value
        for name, one in parts.items()
        if one
        for what, value in (
            ("most_bytes", one.most_bytes),
            ("most_s", one.most_s),
            ("mean_bytes", one.mean_bytes),
            ("mean_s", one.mean_s),
        )
    }


def _catch_up(samples: Sequence[lag.Sample], wan: Wan) -> Mapping[str, Fact]:
    line: dict[str, Fact] = {"line_mbit": wan.mbit, "resync_share_mbit": round(wan.mbit * wan.share, 2)}
    found = lag.catch_up(samples)
    if found is None:
        return line
    return {
        **line,
        "catch_up_bytes": found.bytes,
        "catch_up_s": round(found.seconds, 1),
        "catch_up_mbit": round(found.mbit, 2),
    }


def _blocks(observed: Observed, host: str, drill: Drill) -> Mapping[str, Fact]:
    result = observed.of(VERIFY, host).result if drill.verify else None
    if result is None:
        return {"verified": False}
    return {"verified": True, "verify_s": result.ended - result.began, "differing_kib": result.out_of_sync_kib}


def _files(files: Compared) -> Mapping[str, Fact]:
    return {
        "files": files.files,
        "files_wrong_on_primary": len(files.wrong_here),
        "files_wrong_on_secondary": len(files.wrong_there),
    }


def evidence(
    topology: Topology,
    observed: Observed,
    *,
    drill: Drill,
    read_back: Domain[dict[str, str]],
    versions: Versions,
) -> Evidence | None:
    """The record of the drill; None while it has not been carried out (a dry run)."""
    if not observed.of(SAMPLES, primary(observed)):
        return None
    found = facts(topology, observed, drill, read_back)
    host = primary(observed)
    runs = {
        "drbd": observed.of(LIVE, host).facts.version,
        "kernel": observed.of(SCENE, host).kernel,
        **versions(topology, observed, host),
    }
    return Evidence(kind=KIND, run=drill.run, by=whoever(), passed=not faults(found, drill), versions=runs, facts=found)


def faults(found: Mapping[str, Fact], drill: Drill) -> list[str]:
    """Why the drill was not passed; empty when it was."""
    wanted = {
        "files_wrong_on_primary": "files that are not on the Primary what was written",
        "files_wrong_on_secondary": "files whose blocks are not on the Secondary what was written",
        "differing_kib": "KiB that differ between the replicas (drbdadm verify)",
    }
    said = [f"{found[name]} {what}" for name, what in wanted.items() if found.get(name)]
    unproven = ["the blocks were not compared"] if drill.verify and not found["verified"] else []
    return [*said, *unproven]


def plan_evidence(
    topology: Topology,
    observed: Observed,
    *,
    drill: Drill,
    read_back: Domain[dict[str, str]],
    versions: Versions,
) -> Plan:
    """Keep the result at the arbitrator, passed or not; ``versions`` are those of the Primary besides DRBD's."""
    made = evidence(topology, observed, drill=drill, read_back=read_back, versions=versions)
    return plan_record(topology, observed, made) if made else {}


def result_rows(topology: Topology, observed: Observed) -> Rows:
    """What the last drill found, as it is kept at the arbitrator."""
    kept = observed.of(EVIDENCE, topology.cluster.arbitrator).get(KIND)
    return [{"what": name, "value": str(value)} for name, value in sorted(kept.facts.items())] if kept else []


def check_passed(topology: Topology, observed: Observed, *, drill: Drill) -> list[Finding]:
    """This drill is the last one that is kept at the arbitrator, and it was passed."""
    arbitrator = topology.cluster.arbitrator
    kept = observed.of(EVIDENCE, arbitrator).get(KIND)
    if kept is None or kept.run != drill.run:
        return [
            finding(arbitrator, "this drill was not recorded", f"kept: {kept.run if kept else 'none'}", "Run again")
        ]
    if kept.passed:
        return []
    said = "; ".join(faults(kept.facts, drill))
    return [finding(arbitrator, "the drill was not passed", said, "docs/drbd.md, When a comparison finds something")]
