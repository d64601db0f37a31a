"""What health has to say about monitoring. It is asked last: whatever else is wrong is named before it.

Firing alerts are no findings but for `ITS_OWN`: health has looked at the causes of the others by itself, and an alert
stays until it is evaluated again. All are shown beside the findings (`alert_rows`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from dockyard.findings import Cause, Finding
from dockyard.observe import Observed
from dockyard.topology import Topology
from dockyard.unseen import unseen
from tasks.monitoring import budget, places
from tasks.monitoring.api import PROMETHEUS, PrometheusState
from tasks.monitoring.facts import MONITORING, MonitoringState, server_units
from tasks.monitoring.texts import address, rules, secrets_of, server_config, server_of, wanted_of
from tasks.monitoring.texts import server_units as unit_texts

ITS_OWN = {"MetricsStale", "SourceFailed", "AlertsNotDelivered", "PrometheusNearItsLimit", "ScrapeTooBig", "RulesFail"}
"""Alerts of what monitoring alone can know: what it was told is old, or what it says is not heard."""

LEAST_FREE = 0.05
"""Of the file system of the database: Prometheus needs room for the blocks that it is about to write."""

OFTEN, UNSTEADY_S = 3, 600
"""A service that ended by itself so often, and runs for less time since, is about to end again. Once is a mishap."""

SET_UP = "python runbooks/monitoring.py mends it"


def check_monitoring(topology: Topology, observed: Observed, *, away: frozenset[str] = frozenset()) -> list[Finding]:
    """Everything, as the host that watches sees it; nothing where no host has the role.

    ``away`` are hosts that others have named already, as ones that cannot be reached from there.
    """
    server = server_of(topology)
    if server is None:
        return []
    found = [*unseen(observed, MONITORING, Cause.MONITORING), *unseen(observed, PROMETHEUS, Cause.MONITORING)]
    state, said = observed.seen(MONITORING).get(server.name), observed.seen(PROMETHEUS).get(server.name)
    if state is not None and not any(state.units[unit].state.is_enabled for unit in server_units(wanted_of(topology))):
        return [_finding(server.name, "nobody watches the cluster", state.standing(places.PROMETHEUS), SET_UP)]
    if state is not None:
        found += [*_units(topology, server.name, state), *_files(topology, server.name, state)]
        found += [*_secrets(topology, server.name, state), *_room(topology, server.name, state)]
    if said is not None:
        found += [*_api(topology, server.name, said, away), *_scrapes(topology, server.name, said)]
        found += [*_rules(topology, server.name, said), *_its_own(server.name, said, away)]
    return found


def check_watching(topology: Topology, observed: Observed) -> list[Finding]:
    """Prometheus and Alertmanager work, and every host was asked at least once and answered."""
    server = server_of(topology)
    if server is None:
        return []
    said = observed.seen(PROMETHEUS).get(server.name)
    if said is None:
        return unseen(observed, PROMETHEUS, Cause.MONITORING)
    found = [*_api(topology, server.name, said, frozenset()), *_rules(topology, server.name, said)]
    down = [target for target in said.targets if not target.up and target.job != places.GRAFANA_JOB]
    return found + [
        _finding(
            server.name,
            f"Prometheus has no metrics of {one.host} yet ({one.job})",
            one.error or "not asked yet",
            f"http://{one.address}/metrics",
            subject=one.host,
        )
        for one in down
    ]


def told(topology: Topology, observed: Observed) -> list[str]:
    """Who hears of alerts, and what is still missing for that; for a person to read."""
    server, wanted = server_of(topology), wanted_of(topology)
    if server is None:
        return ["no host has the role monitoring: nobody watches"]
    ways = ["the webhook"] * wanted.webhook + ([wanted.email.to] if wanted.email else [])
    lines = [f"alerts go to {' and '.join(ways) or 'nobody: set webhook or email in cluster.monitoring'}"]
    if not wanted.watchdog:
        lines.append(f"nobody outside would notice that {server.name} itself is gone: cluster.monitoring.watchdog")
    state = observed.seen(MONITORING).get(server.name)
    missing = _secrets(topology, server.name, state) if state else ()
    return [*lines, *(f"{one.evidence}. {one.advice}" for one in missing)]


def _finding(host: str, fault: str, evidence: str, advice: str, subject: str = "") -> Finding:
    return Finding(cause=Cause.MONITORING, host=host, subject=subject, fault=fault, evidence=evidence, advice=advice)


def _units(topology: Topology, host: str, state: MonitoringState) -> Iterator[Finding]:
    for unit in server_units(wanted_of(topology)):
        seen = state.units[unit]
        runs_s = state.now - seen.since
        if not (seen.state.is_active and seen.state.is_enabled):
            advice = f"{SET_UP}; why: journalctl -u {unit} on {host}"
            yield _finding(host, f"{unit} does not run", state.standing(unit), advice)
        elif seen.restarts >= OFTEN and runs_s < UNSTEADY_S:
            evidence = f"it ended by itself {seen.restarts} times, and runs since {runs_s} s"
            advice = f"On {host}: journalctl -u {unit} -n 50"
            yield _finding(host, f"{unit} ends again and again", evidence, advice)


def _files(topology: Topology, host: str, state: MonitoringState) -> Iterator[Finding]:
    server = topology.host(host)
    wanted = unit_texts(topology, server, state.machine_mib) | server_config(topology, server, state.machine_mib)
    differing = [path for path, (text, _) in wanted.items() if state.digests.get(path) != _digest(text)]
    if differing:
        yield _finding(host, "what sets the monitoring up is not as planned", ", ".join(differing), SET_UP)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _secrets(topology: Topology, host: str, state: MonitoringState) -> Iterator[Finding]:
    for path in secrets_of(wanted_of(topology)):
        seen = state.secrets.get(path)
        if seen is None or not _readable_by_prometheus_alone(seen):
            put = f"tr -d '\\n' | install -m 640 -o root -g prometheus /dev/stdin {path}, paste it, Enter, Ctrl-D"
            said = f"{path} is {seen or 'not there'}"
            advice = f"On {host}, as root: {put}"
            yield _finding(host, "alerts cannot be sent", f"{said}; wanted: 640:root:prometheus", advice)


def _readable_by_prometheus_alone(seen: str) -> bool:
    """``seen`` is ``mode:owner:group:bytes``; root may read everything anyway."""
    mode, owner, group, size = seen.split(":")
    bits = int(mode, 8)
    readable = owner == "prometheus" or (group == "prometheus" and bits & 0o040)
    return bool(readable) and not bits & 0o007 and size != "0"


def _room(topology: Topology, host: str, state: MonitoringState) -> Iterator[Finding]:
    wanted = wanted_of(topology)
    most = budget.prometheus(wanted, state.machine_mib).most * 2**20
    memory = state.units[places.PROMETHEUS].memory
    if memory > most:
        evidence = f"{memory >> 20} MiB, planned are {most >> 20} MiB"
        yield _finding(host, "Prometheus takes more memory than it may", evidence, SET_UP)
    if state.free < state.size * LEAST_FREE:
        evidence = f"{state.free >> 20} MiB of {state.size >> 20} MiB are free"
        yield _finding(host, "the disk of Prometheus is full", evidence, f"du -xh {places.DATABASE} | sort -h | tail")
    kept = int(wanted.retention_gib * 2**30)
    if state.size and kept > state.size * 0.8:
        evidence = f"{kept >> 20} MiB on a file system of {state.size >> 20} MiB, of which {state.free >> 20} are free"
        advice = "cluster.monitoring.retention_gib: at most four fifths of it"
        yield _finding(host, "Prometheus may keep more than its disk holds", evidence, advice)


def _api(topology: Topology, host: str, said: PrometheusState, away: frozenset[str]) -> Iterator[Finding]:
    alertmanager = address(topology, host, places.ALERTMANAGER)
    if not said.answers:
        where = address(topology, host, places.PROMETHEUS)
        yield _finding(
            host, "Prometheus does not answer", f"http://{where}/", f"journalctl -u {places.PROMETHEUS} there"
        )
    if alertmanager not in said.reached:
        advice = f"journalctl -u {places.ALERTMANAGER} there"
        yield _finding(host, "Alertmanager does not answer: alerts reach nobody", f"http://{alertmanager}/", advice)
    watched = {target.address for target in said.targets}
    for name in topology.hosts:
        where = address(topology, name, places.EXPORTER)
        if name not in away and where not in said.reached:
            advice = f"{SET_UP}; why: journalctl -u {places.EXPORTER} on {name}"
            yield _finding(host, f"the exporter of {name} does not answer", f"http://{where}/", advice, subject=name)
        if said.answers and where not in watched:
            yield _finding(host, f"Prometheus does not watch {name}", f"{where} is no target", SET_UP, subject=name)


def _scrapes(topology: Topology, host: str, said: PrometheusState) -> Iterator[Finding]:
    """Who answers here and gives Prometheus no metrics, for minutes; and Grafana, which it only asks like a host."""
    for target in said.targets:
        down = any(one.name == "HostDown" and one.firing and one.host == target.host for one in said.alerts)
        if down and not target.up and target.address in said.reached and target.job == places.NODE_JOB:
            advice = f"curl -s http://{target.address}/metrics on {host}; the page /targets of Prometheus"
            yield _finding(
                host, f"Prometheus gets no metrics of {target.host}", target.error, advice, subject=target.host
            )
    grafana = address(topology, host, places.GRAFANA)
    if wanted_of(topology).grafana and grafana not in said.reached:
        yield _finding(host, "Grafana does not answer", f"http://{grafana}/", f"journalctl -u {places.GRAFANA} there")


def _its_own(host: str, said: PrometheusState, away: frozenset[str]) -> Iterator[Finding]:
    for one in said.alerts:
        if one.name in ITS_OWN and one.firing and one.host not in away:
            evidence = f"the alert {one.name} fires since {one.since[:19]}"
            yield _finding(host, one.summary, evidence, one.advice, subject=one.host)


def _rules(topology: Topology, host: str, said: PrometheusState) -> Iterator[Finding]:
    if not said.answers:
        return
    missing = sorted(set(names_of_rules(topology)) - set(said.rules))
    if missing:
        yield _finding(host, "alerts are not loaded", ", ".join(missing), SET_UP)
    for name, error in said.rules.items():
        if error:
            yield _finding(
                host, f"the alert {name} cannot be worked out", error, "promtool check rules; the page /rules"
            )


def names_of_rules(topology: Topology) -> list[str]:
    """The alerts that are to be loaded."""
    return re.findall(r"^ +- alert: (\w+)$", rules(topology, 1024), flags=re.MULTILINE)


def alert_rows(topology: Topology, observed: Observed) -> list[dict[str, str]]:
    """The alerts that fire or are about to, but for the one that always does."""
    server = server_of(topology)
    said = observed.seen(PROMETHEUS).get(server.name) if server else None
    return [
        {"alert": one.name, "state": one.state, "severity": one.severity, "since": one.since[:19], "what": one.summary}
        for one in (said.alerts if said else ())
        if one.severity != "none"
    ]
