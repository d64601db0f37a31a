"""Where things lie on the hosts, what the units are called, and on which ports they listen in the mesh.

Nothing of ours is a configuration file of a Debian package: an upgrade asks no questions, and what a package starts on
its installation already finds our drop-in and never listens anywhere else.
"""

from __future__ import annotations

FOLDER = "/etc/dockyard/monitoring"
CONFIG = f"{FOLDER}/prometheus.yml"
RULES = f"{FOLDER}/rules.yml"
ALERTMANAGER_CONFIG = f"{FOLDER}/alertmanager.yml"

WEBHOOK_URL = f"{FOLDER}/webhook-url"
WATCHDOG_URL = f"{FOLDER}/watchdog-url"
SMTP_PASSWORD = f"{FOLDER}/smtp-password"
"""Secrets that the owner puts there: ``root:prometheus``, mode 0640."""

GRAFANA_FOLDER = f"{FOLDER}/grafana"
DATASOURCE = f"{GRAFANA_FOLDER}/datasources/dockyard.yml"
DASHBOARDS = f"{GRAFANA_FOLDER}/dashboards/dockyard.yml"
GRAFANA_PASSWORD = f"{FOLDER}/grafana-password"
"""Of the user admin; made on the host, and read by Grafana at its very first start only."""

GRAFANA_KEY = "/etc/apt/keyrings/grafana.asc"
GRAFANA_SOURCE = "/etc/apt/sources.list.d/grafana.sources"
LOKI_CONFIG = f"{FOLDER}/loki.yml"

SCRIPT = "/usr/local/lib/dockyard/metrics"
TEXTFILES = "/var/lib/prometheus/node-exporter"
DATABASE = "/var/lib/prometheus/metrics2"
SILENCES = "/var/lib/prometheus/alertmanager"

EXPORTER = "prometheus-node-exporter.service"
METRICS = "dockyard-metrics.service"
TIMER = "dockyard-metrics.timer"
PROMETHEUS = "prometheus.service"
ALERTMANAGER = "prometheus-alertmanager.service"
GRAFANA = "grafana-server.service"
NODE_JOB = "node"
GRAFANA_JOB = "grafana"
"""It is installed after Prometheus, which asks it already."""
LOKI = "loki.service"

PORTS = {EXPORTER: 9100, PROMETHEUS: 9090, ALERTMANAGER: 9093, GRAFANA: 3000, LOKI: 3100}


def dashboard(name: str) -> str:
    """Where the dashboard ``templates/grafana/<name>.json`` is put."""
    return f"{GRAFANA_FOLDER}/json/{name}.json"


def drop_in(name: str) -> str:
    """What we lay over a package's unit.

    Behind the ``override.conf`` of ``systemctl edit``: the last one that sets something wins (systemd.unit(5)).
    """
    return f"/etc/systemd/system/{name}.d/zz-dockyard.conf"
