"""Monitoring of the lab as data: hosts where it was set up, and an inventory that wants more of it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dockyard.change import UnitState
from dockyard.files import FileState
from dockyard.observe import Observed
from dockyard.service import ServiceState
from dockyard.topology import Monitoring, Topology
from tasks import monitoring
from tasks.monitoring import api, checks, facts, optional, places, texts
from tasks.monitoring.facts import MonitoringState, UnitSeen
from tests.unit import backups

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "monitoring"
DASH, PROD, MIRROR, LOAD, EDGE = "dock-dash", "dock-prod", "dock-mirror", "dock-load", "dock-edge"
NOW = 1_795_421_500
MIB = 470
"""What is left of 512 MiB when the kernel has taken its part."""

PROMTOOL = shutil.which("promtool") or str(ROOT / ".tools" / "promtool")
"""./setup.sh takes it out of Debian's package when it is not in PATH."""

BACKUP_STATE = "/var/lib/dockyard/backup"
URL = "https://opencloud.dock.internal/status.php"


def topology(**parts: Any) -> Topology:
    """The lab with storage, backups and monitoring; parts are of `Monitoring`."""
    lab = backups.topology()
    return replace(lab, cluster=replace(lab.cluster, monitoring=Monitoring(**parts)))


def unit(name: str, active: str = "active", enabled: str = "enabled", since: int = NOW) -> UnitSeen:
    loaded = bool(enabled)
    return UnitSeen(state=UnitState(name=name, loaded=loaded, active=active, enabled=enabled), since=since)


def service(name: str, *, mark: str = "", loaded: bool = True, reload_needed: bool = False) -> ServiceState:
    """A service that runs with the files of that mark, or one that is not there."""
    active, enabled = ("active", "enabled") if loaded else ("inactive", "")
    state = unit(name, active, enabled).state
    return ServiceState(unit=state, result="success", restarts=0, mark=mark, reload_needed=reload_needed)


def pristine(cluster: Topology, host: str) -> MonitoringState:
    """A host where nothing is installed."""
    there = cluster.host(host)
    return MonitoringState(
        machine_mib=MIB,
        now=NOW + 3600,
        missing=frozenset(facts.tools_of(cluster, there)),
        units={name: unit(name, "inactive", "", 0) for name in facts.units_of(cluster, there)},
        files={path: FileState(path=path) for path in facts.files_of(cluster, there)},
    )


def written(cluster: Topology, host: str) -> dict[str, texts.Text]:
    """Every file of ours on a host."""
    there = cluster.host(host)
    files = texts.exporter_texts(cluster, there, backup_state=BACKUP_STATE, opencloud=URL)
    if facts.is_server(cluster, there):
        files |= texts.server_units(cluster, there, MIB) | texts.server_config(cluster, there, MIB)
    return files


def healthy(cluster: Topology) -> dict[str, MonitoringState]:
    """Every host as it is after all plans."""
    return {host: _set_up(cluster, host) for host in cluster.hosts}


def _set_up(cluster: Topology, host: str) -> MonitoringState:
    files = written(cluster, host)
    seen = {
        path: FileState(
            path=path,
            kind="regular file",
            mode=mode,
            owner="root",
            group="root",
            content=text,
            mtime_ns=(NOW - 60) * 10**9,
        )
        for path, (text, mode) in files.items()
    }
    bare = pristine(cluster, host)
    units = {name: unit(name) for name in bare.units} | {places.METRICS: unit(places.METRICS, "inactive", "static")}
    digests = {path: hashlib.sha256(text.encode()).hexdigest() for path, (text, _) in files.items()}
    secrets = dict.fromkeys(texts.secrets_of(cluster.cluster.monitoring), "640:root:prometheus:40")
    return replace(
        bare,
        missing=frozenset(),
        units=units,
        files=seen,
        digests=digests,
        secrets=secrets,
        size=10 * 2**30,
        free=5 * 2**30,
    )


def answering(cluster: Topology) -> api.PrometheusState:
    """Prometheus with all targets up and all rules loaded."""
    dash = cluster.host(DASH)
    targets = [
        api.Target(job="node", host=host, address=texts.address(cluster, host, places.EXPORTER), up=True)
        for host in cluster.hosts
    ]
    return api.PrometheusState(
        answers=True,
        reached=frozenset(api.addresses(cluster, dash)),
        targets=tuple(targets),
        rules=dict.fromkeys(checks.names_of_rules(cluster), ""),
    )


def observed(
    states: Mapping[str, object], said: object | None = None, *, domain: str = monitoring.SETUP.name
) -> Observed:
    """As a sweep would return it: states of `SETUP` or another domain, and what Prometheus said."""
    found: dict[str, dict[str, object]] = {host: {domain: state} for host, state in states.items()}
    if said is not None:
        found.setdefault(DASH, {})[monitoring.PROMETHEUS.name] = said
    return Observed(found)


def boards() -> dict[str, Any]:
    """Grafana's dashboards by the path on which they are put."""
    cluster = topology(grafana=True)
    written = optional.grafana_texts(cluster, cluster.host(DASH))
    return {path: json.loads(text) for path, text in written.items() if path.endswith(".json")}


def queries() -> list[str]:
    """Every query of every dashboard."""
    return [target["expr"] for board in boards().values() for panel in board["panels"] for target in panel["targets"]]
