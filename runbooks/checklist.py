"""The checklist of the three phases: a box is ticked by what is seen now, and by evidence of what was tried.

Looks at all hosts as health.py does, and at the evidence that drills and switches left on the arbitrator. Evidence ends
after some months, and when another kernel, DRBD, K3s or restic runs than the one that it was made with. The risks
that this cluster takes on purpose are shown with their present numbers.

Needs: ssh to every host. Contacts all hosts, changes nothing; --output writes one file (.md or .html).
May destroy: nothing. Way back: none needed.
Exit codes of its own: 1 a box is open, 3 something could not be seen.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath

from dockyard import markdown
from dockyard.checklist import Box, Judged, Mark, Proof, judge
from dockyard.cli import guarded, make_ready, parser
from dockyard.cluster import open_cluster
from dockyard.errors import UsageError
from dockyard.evidence import EVIDENCE
from dockyard.findings import Cause, Finding
from dockyard.local_file import replace_file
from dockyard.observe import Domains, Observed, sweep
from dockyard.picture import picture
from dockyard.report import Report
from dockyard.steps import Check
from dockyard.topology import Role, Topology
from dockyard.unseen import unseen
from dockyard.web_page import web_page
from runbooks import health
from runbooks.backup import STORAGE
from tasks import backup, bounds, drbd, hosts_file, k3s, machine, monitoring, ollama, opencloud, wireguard
from tasks.drbd.document import digest
from tasks.k3s import release

DRILL_DAYS, SWITCH_DAYS = 92, 183
"""How long evidence counts: a drill for a quarter, a switch for half a year."""

DOMAINS: Domains = [*health.DOMAINS, EVIDENCE, backup.TOOLS]
Row = dict[str, str]
UNSEEN = "not seen"
PHASES = {1: "a plain cluster", 2: "two copies of the data", 3: "failover by itself"}
SIGNS = {Mark.TICKED: "[green]\\[x][/green]", Mark.OPEN: "[red]\\[ ][/red]", Mark.UNSEEN: "[yellow]\\[?][/yellow]"}
PLAIN = {Mark.TICKED: "☑", Mark.OPEN: "☐", Mark.UNSEEN: "?"}


def main() -> int:
    """Read the command line, look, show the list, and return the exit code."""
    options = parser(__doc__)
    options.add_argument(
        "--phase", type=int, choices=list(PHASES), action="append", help="only this phase (repeatable)"
    )
    options.add_argument("--output", metavar="FILE", type=Path, help="write the list there, too: .md or .html")
    options.add_argument(
        "--documents", metavar="DIR", type=Path, default=Path("cluster-documents"), help="where document.py wrote"
    )
    arguments = options.parse_args()
    return guarded(arguments, lambda report: _checklist(arguments, report))


def _checklist(arguments: argparse.Namespace, report: Report) -> int:
    if arguments.output and arguments.output.suffix not in {".md", ".html"}:
        raise UsageError(f"--output {arguments.output}: the name ends neither in .md nor in .html")
    written = _documents(arguments.documents)
    with open_cluster(arguments.inventory) as (nornir, topology):
        make_ready(nornir, topology)
        with report.progress("looking", list(topology.hosts)) as processors:
            observed = sweep(nornir.with_processors(processors), DOMAINS)
    boxes = [box for box in boxes_of(topology, written) if box.phase in (arguments.phase or PHASES)]
    judged = judge(boxes, topology, observed, datetime.now(UTC))
    taken = risks(topology, observed)
    _show(report, judged, taken)
    if arguments.output:
        _write(arguments.output, topology, judged, taken)
    marks = {one.mark for one in judged}
    return 3 if Mark.UNSEEN in marks else 1 if Mark.OPEN in marks else 0


def boxes_of(topology: Topology, written: str) -> list[Box]:
    """The owner's list. ``written`` is the text of the documents that lie beside it."""
    documents = partial(check_documents, written=written)
    return [
        *(Box(phase=1, title=f"{host} is ready", checks=[_ready(topology, host)]) for host in topology.hosts),
        Box(phase=1, title="The WireGuard mesh", checks=[wireguard.check_mesh]),
        Box(phase=1, title="K3s: the control plane", checks=[_has_k3s, _on(Role.K3S_SERVER, health.check_k3s)]),
        Box(phase=1, title="K3s: the workers", checks=[_has_k3s, _on(Role.K3S_WORKER, health.check_k3s)]),
        Box(
            phase=1,
            title="OpenCloud is deployed",
            checks=[_has_opencloud, _on(Role.OPENCLOUD, health.check_k3s), opencloud.check_opencloud],
        ),
        Box(phase=1, title="Monitoring is stable", checks=[_has_monitoring, monitoring.check_monitoring]),
        Box(phase=1, title="Documentation", checks=[documents]),
        Box(phase=2, title="DRBD is set up", checks=[_has_storage, check_begun, drbd.check_drbd, drbd.check_next_boot]),
        Box(phase=2, title="Replication is tested", checks=[_has_storage, check_seen], proofs=[REPLICATED]),
        Box(phase=2, title="Failover by hand is tested", checks=[_has_storage, check_seen], proofs=[SWITCHED]),
        Box(phase=2, title="Backups on the NAS", checks=[_has_backups, check_backup], proofs=[RESTORED]),
        Box(phase=2, title="Documentation", checks=[documents]),
        *(Box(phase=3, title=title, checks=[_no_phase_3]) for title in PHASE_3),
    ]


READY: tuple[Check, ...] = (machine.check_machine, hosts_file.check_names, bounds.check_apart, machine.check_exposure)
check_backup: Check = partial(backup.check_backup, storage=STORAGE)
PHASE_3 = (
    "Pacemaker and Corosync",
    "SBD and STONITH",
    "Failover by itself is tested",
    "The final configuration",
    "Documentation",
)


def _running(topology: Topology, observed: Observed) -> Mapping[str, set[str]]:
    """What runs now, by the names that evidence uses."""
    replicas = observed.seen(drbd.DRBD)
    installed = {state.binary for state in observed.seen(k3s.K3S).values() if state.binary}
    with_k3s = {"k3s": _k3s_versions(observed) | {release.named(topology, binary) for binary in installed}}
    return {
        "kernel": {state.kernel for host, state in observed.seen(machine.MACHINE).items() if host in replicas},
        "drbd": {state.facts.version for state in replicas.values()},
        "repository": {state.repository[:8] for state in observed.seen(backup.BACKUP).values() if state.repository},
        "restic": {tools.release for tools in observed.seen(backup.TOOLS).values() if tools.release},
        **(with_k3s if topology.cluster.k3s else {}),
    }


def _k3s_versions(observed: Observed) -> set[str]:
    return {node.version for api in observed.seen(k3s.NODES).values() for node in api.nodes.nodes.values()}


REPLICATED = Proof(
    kind="replication-drill", days=DRILL_DAYS, versions=_running, advice="python runbooks/replication_drill.py"
)
SWITCHED = Proof(
    kind=drbd.SWITCHOVER,
    days=SWITCH_DAYS,
    versions=_running,
    advice="python runbooks/failover.py --to HOST (the replica that is not the writer), and back the same way",
)
RESTORED = Proof(kind="restore-drill", days=DRILL_DAYS, versions=_running, advice="python runbooks/restore_drill.py")


def _ready(topology: Topology, host: str) -> Check:
    """What keeps one host from being ready; one that must never be a node of K3s has nothing of it."""
    return _of(host, *READY) if topology.host(host).is_k3s_node else _of(host, *READY, health.check_k3s)


def _of(host: str, *checks: Check) -> Check:
    """What the checks say of one host, or of one and another one."""
    return lambda topology, observed: [
        one for check in checks for one in check(topology, observed) if host in {one.host, one.subject}
    ]


def _on(role: Role, check: Check) -> Check:
    """What the check says of hosts with this role, and of the control plane, which speaks for the cluster."""

    def chosen(topology: Topology, observed: Observed) -> Sequence[Finding]:
        wanted = {host.name for host in topology.with_role(role, Role.K3S_SERVER)}
        return [one for one in check(topology, observed) if one.host in wanted]

    return chosen


def _wants(there: Callable[[Topology], object], what: str, where: str, cause: Cause) -> Check:
    """A finding where the inventory does not speak of it at all."""

    def check(topology: Topology, _observed: Observed) -> Sequence[Finding]:
        if there(topology):
            return []
        advice = f"Describe it ({where}), and run the phase's runbook."
        arbitrator = topology.cluster.arbitrator
        fault, evidence = f"{what} is not in the inventory", f"{where} is missing"
        return [Finding(cause=cause, host=arbitrator, fault=fault, evidence=evidence, advice=advice)]

    return check


_has_k3s = _wants(lambda topology: topology.cluster.k3s, "K3s", "cluster.k3s", Cause.K3S)
_has_opencloud = _wants(
    lambda topology: topology.cluster.opencloud, "OpenCloud", "cluster.opencloud", Cause.APPLICATION
)
_has_storage = _wants(lambda topology: topology.cluster.drbd, "replication", "cluster.drbd", Cause.DRBD)
_has_backups = _wants(lambda topology: topology.cluster.backup, "a backup", "cluster.backup", Cause.BACKUP)
_has_monitoring = _wants(
    lambda topology: topology.with_role(Role.MONITORING), "a host that watches", "the role monitoring", Cause.MONITORING
)
_no_phase_3 = _wants(lambda _: False, "phase 3", "Pacemaker", Cause.PACEMAKER)


def check_begun(topology: Topology, observed: Observed) -> list[Finding]:
    """The replication that the inventory describes was set up; health says nothing about one that never was."""
    if not topology.cluster.drbd or drbd.in_use(topology, observed):
        return []
    never = Finding(
        cause=Cause.DRBD,
        host=topology.cluster.arbitrator,
        fault="the replication was never set up",
        evidence="no replica has the resource",
        advice="python runbooks/phase2_drbd.py",
    )
    return unseen(observed, drbd.DRBD, Cause.DRBD) or [never]


def check_seen(_topology: Topology, observed: Observed) -> list[Finding]:
    """The replicas could be looked at: evidence holds for what runs on them."""
    return unseen(observed, drbd.DRBD, Cause.DRBD)


def check_documents(topology: Topology, _observed: Observed, *, written: str) -> list[Finding]:
    """The documents for the day without a laptop are there, and are those of this inventory."""
    number = digest(topology)
    if number in written:
        return []
    fault = "the documents are of another inventory, or of an older Dockyard" if written else "there are no documents"
    advice = "python runbooks/document.py writes them; print them"
    return [
        Finding(
            cause=Cause.APPLICATION,
            host=topology.cluster.arbitrator,
            fault=fault,
            evidence=f"the inventory's number is {number}",
            advice=advice,
        )
    ]


def risks(topology: Topology, observed: Observed) -> list[Row]:
    """One row a risk: what it is, its numbers now, what it would cost."""
    return [
        {
            "risk": "one control plane",
            "now": _control_plane(topology, observed),
            "means": "K3s starts and moves nothing",
        },
        {"risk": "DRBD over a WAN", "now": _replication(topology, observed), "means": "the last writes are lost"},
        {"risk": "Ollama's load", "now": _ollama(topology, observed), "means": "its host is slow, no other one"},
        {"risk": "a nano VPS watches", "now": _watcher(topology, observed), "means": "nobody is told"},
        {"risk": "a network of tunnels", "now": _mesh(topology, observed), "means": "hosts do not see each other"},
        {"risk": "volumes have one home", "now": _home(topology, observed), "means": "their pods stand still"},
    ]


def _control_plane(topology: Topology, observed: Observed) -> str:
    server = topology.with_role(Role.K3S_SERVER)[0].name
    state = observed.seen(machine.MACHINE).get(server)
    if state is None:
        return f"{server}: {UNSEEN}"
    versions = " and ".join(_k3s_versions(observed)) or UNSEEN
    return f"{server} up for {state.uptime_s / 86400:.1f} days, K3s {versions}{_kept(topology, observed)}"


def _kept(topology: Topology, observed: Observed) -> str:
    """How old the newest snapshot is that the disk of the control plane does not hold alone."""
    workers = {host.name for host in topology.with_role(Role.K3S_WORKER)}
    host, name = k3s.newest_kept(topology, observed)
    if name:
        return f", newest snapshot {name[-20:-10]} on {host}"
    blind = not topology.cluster.k3s or not workers <= set(observed.seen(k3s.K3S))
    return "" if blind else ", no snapshot on another host (k3s_snapshot.py)"


def _replication(topology: Topology, observed: Observed) -> str:
    if not topology.cluster.drbd:
        return "nothing is replicated"
    replicas = observed.seen(drbd.DRBD)
    behind = max((state.out_of_sync_kib for state in replicas.values()), default=None)
    pair = {host.name for host in topology.with_role(*drbd.REPLICAS)}
    ways = [one for one in wireguard.directions(topology, observed) if {one.source, one.target} == pair]
    trips = [one.rtt_ms for one in ways if one.rtt_ms is not None]
    said = [f"round trip {max(trips):.0f} ms"] if trips else ["no answer"]
    return ", ".join([*said, UNSEEN if behind is None else f"{behind} KiB behind"])


def _ollama(topology: Topology, observed: Observed) -> str:
    hosts = [host.name for host in topology.with_role(Role.OLLAMA)]
    said = [f"{host}: {_taken(state)}" for host, state in observed.seen(ollama.OLLAMA).items() if host in hosts]
    if not topology.cluster.ollama:
        return "no limits in the inventory (cluster.ollama)"
    return "; ".join(said) or UNSEEN


def _taken(state: ollama.OllamaState) -> str:
    load, held = state.load, state.limits
    cpus = "all CPUs" if held.cpus is None else f"{held.cpus:g} CPUs"
    memory = "all memory" if held.memory is None else f"{held.memory / 2**30:.3g} GiB"
    used = "just started" if load.cpus is None else f"{load.cpus:.2f} of {cpus} since it started"
    takes = "nobody counts its memory" if load.memory is None else f"{load.memory / 2**30:.2f} GiB of {memory}"
    own = f"{used}, {takes}" if state.service.unit.is_active else "it does not run"
    return f"{own}; the machine's load is {load.host:g} on {load.host_cpus} CPUs"


def _watcher(topology: Topology, observed: Observed) -> str:
    state = next(iter(observed.seen(monitoring.MONITORING).values()), None)
    if state is None:
        return UNSEEN if topology.with_role(Role.MONITORING) else "nobody watches"
    used = sum(unit.memory for unit in state.units.values()) / 2**20
    return f"{used:.0f} of {state.machine_mib} MiB taken by its services, {state.free / 2**30:.1f} GiB of disk free"


def _mesh(topology: Topology, observed: Observed) -> str:
    seen = wireguard.directions(topology, observed)
    broken = sum(bool(one.faults) for one in seen)
    return f"{len(seen)} of {len(list(topology.directions()))} directions seen, {broken} with a fault"


def _home(topology: Topology, observed: Observed) -> str:
    said = [*_homes(topology, observed), *_outside(topology)]
    blind = observed.unseen(drbd.DRBD) or observed.unseen(k3s.K3S)
    return ", ".join(said) or (UNSEEN if blind else "no volumes")


def _outside(topology: Topology) -> Iterator[str]:
    """Volumes that a failover and a backup leave behind."""
    cluster = topology.cluster
    path = cluster.k3s.volumes.path if cluster.k3s and cluster.opencloud else ""
    if path and cluster.drbd and not PurePosixPath(path).is_relative_to(cluster.drbd.mount):
        yield f"{path} is on one host alone, and in no backup (docs/k3s.md, Into the replicated storage)"


def _homes(topology: Topology, observed: Observed) -> Iterator[str]:
    for host, node in observed.seen(k3s.K3S).items():
        yield from (f"{name} on {host}" for name in sorted(node.volumes.values()))
    yield from (f"mounted on {host}" for host, state in observed.seen(drbd.DRBD).items() if state.mounted)
    ages = [
        (state.now - state.good.began) / 3600
        for state in observed.seen(backup.BACKUP).values()
        if state.good is not None
    ]
    if topology.cluster.backup:
        yield f"newest backup {min(ages):.0f} h old" if ages else "no backup"


def _documents(folder: Path) -> str:
    """The English page of document.py, ``""`` where there is none."""
    try:
        return (folder / "index.en.html").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--documents {folder}: {error}") from error


def _show(report: Report, judged: Sequence[Judged], taken: Sequence[Row]) -> None:
    report.record("checklist", [_plain(one) for one in judged])
    for phase, about in PHASES.items():
        own = [one for one in judged if one.box.phase == phase]
        ticked = sum(one.mark is Mark.TICKED for one in own)
        if own:
            report.console.print(f"[bold]Phase {phase}: {about}[/bold] ({ticked} of {len(own)})")
        for one in own:
            report.console.print(f"{SIGNS[one.mark]} {one.box.title}")
            for line in (*one.proven, *one.reasons):
                report.note(f"  {line}")
    report.table("risks", taken)


def _plain(one: Judged) -> dict[str, str]:
    return {
        "phase": str(one.box.phase),
        "box": one.box.title,
        "mark": str(one.mark),
        "proven": "; ".join(one.proven),
        "reasons": "; ".join(one.reasons),
    }


def _write(path: Path, topology: Topology, judged: Sequence[Judged], taken: Sequence[Row]) -> None:
    text = as_markdown(topology.cluster.name, datetime.now().astimezone(), judged, taken)
    if path.suffix == ".html":
        text = web_page(f"{topology.cluster.name}: checklist", text, language="en", picture=picture(topology))
    try:
        replace_file(path, text)
    except OSError as error:
        raise UsageError(f"--output {path}: {error}", advice="Give a file in a folder that can be written.") from error


def as_markdown(name: str, when: datetime, judged: Sequence[Judged], taken: Sequence[Row]) -> str:
    """The list and the risks as Markdown."""
    lines = [f"# {markdown.text(name)}: checklist", "", f"Seen at {when:%Y-%m-%d %H:%M:%S %Z}."]
    for phase, about in PHASES.items():
        own = [one for one in judged if one.box.phase == phase]
        lines += ["", f"## Phase {phase}: {about}", ""] if own else []
        for one in own:
            lines.append(f"- {PLAIN[one.mark]} {markdown.text(one.box.title)}")
            lines += [f"  - {markdown.text(line)}" for line in (*one.proven, *one.reasons)]
    return "\n".join([*lines, "", "## Risks", "", markdown.table(taken), ""])


if __name__ == "__main__":
    sys.exit(main())
