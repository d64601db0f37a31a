"""Look at the whole cluster at once, and change nothing.

One exec per host reads everything: clock, disk, WireGuard, pings through the mesh with full-size packets, names, DNS,
storage, backups, what listens where, and what must not be there; the host that watches also tells what Prometheus says.
Shows a table of the hosts, a table of the mesh, and the findings, causes before their consequences.
A host that cannot be seen is a finding, never a blank. --html FILE writes the same as one page that needs nothing else
(picture of the mesh with the state of every link, findings, tables), for a phone or an archive.

Needs: ssh to every host; one that does not answer is named.
May destroy: nothing. Way back: none needed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from nornir.core import Nornir

from dockyard.cli import guarded, make_ready, parser
from dockyard.cluster import open_cluster
from dockyard.errors import UsageError
from dockyard.findings import Finding, by_cause
from dockyard.local_file import replace_file
from dockyard.observe import Domains, Observed, sweep
from dockyard.report import Report
from dockyard.status_page import status_page
from dockyard.steps import Check
from dockyard.topology import Role, Topology
from dockyard.unseen import once
from runbooks.backup import STORAGE
from runbooks.phase1_baseline import MANIFESTS
from tasks import backup, bounds, dns, drbd, hosts_file, k3s, machine, monitoring, ollama, opencloud, wireguard

DOMAINS: Domains = [
    machine.MACHINE,
    wireguard.WIREGUARD,
    hosts_file.NAMES,
    wireguard.REACH,
    drbd.DRBD,
    drbd.WRITER,
    drbd.VERIFY,
    backup.BACKUP,
    monitoring.MONITORING,
    monitoring.PROMETHEUS,
    dns.DNS,
    dns.ANSWERS,
    ollama.OLLAMA,
    bounds.BOUNDS,
    machine.LISTENING,
    k3s.K3S,
    k3s.STRANGER,
    k3s.NODES,
    k3s.OBJECTS,
    opencloud.OPENCLOUD,
]


def check_backup(topology: Topology, observed: Observed) -> list[Finding]:
    """What is wrong with the backups, once there is a storage to back up."""
    begun = drbd.in_use(topology, observed)
    return backup.check_backup(topology, observed, storage=STORAGE) if begun else []


def check_monitoring(topology: Topology, observed: Observed) -> list[Finding]:
    """What is wrong with the monitoring; a host that the mesh does not reach from there is named by the mesh."""
    server = next((host.name for host in topology.with_role(Role.MONITORING)), "")
    cut = [one for one in wireguard.directions(topology, observed) if one.faults]
    away = {one.target for one in cut if one.source == server} | {one.source for one in cut if one.target == server}
    gone = topology.hosts.keys() - observed.seen(machine.MACHINE).keys()
    return monitoring.check_monitoring(topology, observed, away=frozenset(away | gone))


def check_opencloud(topology: Topology, observed: Observed) -> list[Finding]:
    """Whether OpenCloud answers, once there is a K3s that could run it."""
    begun = any(state.binary for state in observed.seen(k3s.K3S).values())
    return opencloud.check_opencloud(topology, observed) if begun else []


check_k3s: Check = partial(k3s.check_k3s, manifests=MANIFESTS)

CHECKS: list[Check] = [
    machine.check_machine,
    wireguard.check_mesh,
    hosts_file.check_names,
    check_k3s,
    drbd.check_drbd,
    drbd.check_next_boot,
    drbd.check_verify,
    check_backup,
    check_monitoring,
    partial(dns.check_dns, holders=machine.holders),
    partial(ollama.check_ollama, holders=machine.holders),
    bounds.check_plain,
    bounds.check_apart,
    machine.check_exposure,
    check_opencloud,
]

Row = dict[str, str]
STORAGE_COLUMNS = ("replica", "role", "disk", "connection", "behind", "mounted", "compared")


def main() -> int:
    """Read the command line, sweep once or for ever, and return the exit code of the last sweep."""
    options = parser(__doc__)
    options.add_argument(
        "--watch", metavar="SECONDS", nargs="?", type=float, const=5.0, help="again every SECONDS (5), until Ctrl-C"
    )
    options.add_argument("--html", metavar="FILE", type=Path, help="write one self-contained page, too")
    arguments = options.parse_args()
    return guarded(arguments, lambda report: _health(arguments, report))


def _health(arguments: argparse.Namespace, report: Report) -> int:
    with open_cluster(arguments.inventory) as (nornir, topology):
        make_ready(nornir, topology)
        while arguments.watch is not None:
            page = report.next_page()
            code = show(nornir, topology, page, arguments.html)
            page.finish(code)
            time.sleep(arguments.watch)
        return show(nornir, topology, report, arguments.html)


def show(nornir: Nornir, topology: Topology, report: Report, html: Path | None = None) -> int:
    """Sweep once, show everything (and write it to the page ``html``), and return the exit code."""
    with report.progress("looking", list(topology.hosts)) as processors:
        observed = sweep(nornir.with_processors(processors), DOMAINS)
    report.table("hosts", [host_row(topology, observed, name) for name in topology.hosts])
    report.table("mesh (round trip; ! marks a fault)", list(mesh_rows(topology, observed)))
    nodes = list(node_rows(observed))
    if nodes:
        report.table("K3s", nodes)
    replicas = drbd.in_use(topology, observed)
    if replicas:
        report.table("storage", [storage_row(observed, name) for name in replicas])
    if replicas and topology.cluster.backup:
        report.table("backups", [backup_row(observed, name) for name in replicas])
    if alerts := monitoring.alert_rows(topology, observed):
        report.table("alerts of Prometheus", alerts)
    report.record("directions", [direction_row(one) for one in wireguard.directions(topology, observed)])
    findings = all_findings(topology, observed)
    report.judged(findings)
    if html:
        _write(html, web_page(topology, observed, report, findings))
    return exit_code(findings)


def web_page(topology: Topology, observed: Observed, report: Report, findings: Sequence[Finding]) -> str:
    """All that ``report`` has shown, as a web page."""
    writer = next((host for host, state in observed.seen(drbd.DRBD).items() if state.mounted), "")
    tables = {title: rows for title, rows in report.tables.items() if title != "directions"}
    when = datetime.now().astimezone()
    return status_page(topology, when, findings, tables, writer=writer, links=wireguard.link_levels(topology, observed))


def _write(path: Path, text: str) -> None:
    try:
        replace_file(path, text)
    except OSError as error:
        raise UsageError(f"--html {path}: {error}", advice="Give a file in a folder that can be written.") from error


def all_findings(topology: Topology, observed: Observed) -> list[Finding]:
    """What all checks say, each thing once."""
    return by_cause(once(finding for check in CHECKS for finding in check(topology, observed)))


def exit_code(findings: Sequence[Finding]) -> int:
    """3 when something could not be seen, else 1 for a finding, else 0."""
    if any(finding.unseen for finding in findings):
        return 3
    return 1 if findings else 0


def host_row(topology: Topology, observed: Observed, name: str) -> Row:
    """One host at a glance; ``-`` where nothing could be seen."""
    state = observed.seen(machine.MACHINE).get(name)
    row = {"host": name, "site": topology.host(name).site, "seen": "yes" if state else "[red]no[/red]"}
    judged = [one for one in wireguard.directions(topology, observed) if one.source == name]
    ages = [one.handshake_age_s for one in judged if one.handshake_age_s is not None]
    return row | {
        "clock": f"{state.clock.proven_s:.2f} s off" if state else "-",
        "free": f"{min(system.share for system in state.file_systems):.0%}" if state else "-",
        "up": f"{state.uptime_s / 3600:.1f} h" if state else "-",
        "kernel": state.kernel if state else "-",
        "peers": f"{sum(not one.faults for one in judged)} of {len(topology.hosts) - 1}" if judged else "-",
        "handshake": f"{max(ages)} s" if ages else "-",
        "MTU": _proven(judged),
        "names": _names(topology, observed, name),
        **({"DNS": _dns(topology, observed, name)} if topology.cluster.dns else {}),
    }


def node_rows(observed: Observed) -> Iterator[Row]:
    """The nodes of K3s as the API has them, with the pods of ours on each."""
    running = [pod for live in observed.seen(k3s.OBJECTS).values() for pod in k3s.pods(live)]
    for api in observed.seen(k3s.NODES).values():
        for name, node in api.nodes.nodes.items():
            ready = "yes" if node.ready is k3s.Truth.TRUE else f"[red]{node.ready}[/red]"
            yield {
                "node": name,
                "ready": ready + (", cordoned" if node.unschedulable else ""),
                "version": node.version,
                "address": node.internal_ip,
                "volumes": "here" if k3s.STORAGE_LABEL in node.labels else "",
                "pods": ", ".join(pod.name for pod in running if pod.node == name),
            }


def storage_row(observed: Observed, name: str) -> Row:
    """One replica at a glance; ``-`` where nothing could be seen."""
    state = observed.seen(drbd.DRBD).get(name)
    if state is None:
        return dict.fromkeys(STORAGE_COLUMNS, "-") | {"replica": name}
    return {
        "replica": name,
        "role": str(state.role),
        "disk": str(state.disk),
        "connection": str(state.peer.link) if state.peer else "StandAlone" if state.running else "-",
        "behind": f"{state.out_of_sync_kib} KiB",
        "mounted": "yes" if state.mounted else "no",
        "compared": _compared(observed, name),
    }


def _compared(observed: Observed, name: str) -> str:
    """When this replica last compared all blocks with the other one's."""
    state = observed.seen(drbd.VERIFY).get(name)
    days = state.age_days if state else None
    return "-" if days is None else f"{days:.0f} days ago"


def backup_row(observed: Observed, name: str) -> Row:
    """What one replica saved last, by itself; ``-`` where it never did, or nothing could be seen."""
    state = observed.seen(backup.BACKUP).get(name)
    good = state.good if state else None
    if state is None or good is None:
        return {"replica": name, "newest": "-", "snapshot": "-", "files": "-", "saved": "-"}
    return {
        "replica": name,
        "newest": f"{(state.now - good.began) / 3600:.1f} h ago",
        "snapshot": good.snapshot[:8],
        "files": f"{good.files}, {good.bytes / 2**20:.1f} MiB",
        "saved": good.how,
    }


def _proven(judged: Sequence[wireguard.Direction]) -> str:
    if not judged:
        return "-"
    return "proven" if all(one.mtu_proven for one in judged) else "[red]not proven[/red]"


def _names(topology: Topology, observed: Observed, name: str) -> str:
    if name not in observed.seen(hosts_file.NAMES):
        return "-"
    wrong = [finding for finding in hosts_file.check_names(topology, observed) if finding.host == name]
    return "[red]wrong[/red]" if wrong else "right"


def _dns(topology: Topology, observed: Observed, name: str) -> str:
    answers = observed.seen(dns.ANSWERS).get(name)
    if answers is None:
        return "-"
    return "right" if dns.hears_right(topology, answers) else "[red]wrong[/red]"


def mesh_rows(topology: Topology, observed: Observed) -> Iterator[Row]:
    """From each host (row) to each host (column)."""
    judged = {(one.source, one.target): one for one in wireguard.directions(topology, observed)}
    for source in topology.hosts:
        yield {"from": source} | {target: _cell(judged.get((source, target))) for target in topology.hosts}


def _cell(one: wireguard.Direction | None) -> str:
    if one is None:
        return ""
    shown = f"{one.rtt_ms:.1f} ms" if one.rtt_ms is not None else "silent"
    return f"[red]{shown} ![/red]" if one.faults else f"[green]{shown}[/green]"


def direction_row(one: wireguard.Direction) -> Row:
    """One direction in full, for JSON."""
    return {
        "source": one.source,
        "target": one.target,
        "rtt_ms": "" if one.rtt_ms is None else f"{one.rtt_ms:g}",
        "handshake_age_s": "" if one.handshake_age_s is None else str(one.handshake_age_s),
        "mtu_proven": "yes" if one.mtu_proven else "no",
        "endpoint": one.endpoint,
        "faults": "; ".join(one.faults),
    }


if __name__ == "__main__":
    sys.exit(main())
