"""Metrics, alerts and dashboards: an exporter on every host, Prometheus and Alertmanager on one (docs/monitoring.md).

`SETUP` is what plans need to see of every host, `OPTIONAL` what is seen of Grafana and Loki. `MONITORING` and
`PROMETHEUS` are what health asks the host that watches.
"""

from tasks.monitoring.api import PROMETHEUS
from tasks.monitoring.checks import alert_rows, check_monitoring, check_watching, told
from tasks.monitoring.facts import MONITORING, SETUP
from tasks.monitoring.optional import OPTIONAL, plan_grafana, plan_loki
from tasks.monitoring.setup import check_setup, plan_exporters, plan_server
from tasks.monitoring.strangers import check_strangers

__all__ = [
    "MONITORING",
    "OPTIONAL",
    "PROMETHEUS",
    "SETUP",
    "alert_rows",
    "check_monitoring",
    "check_setup",
    "check_strangers",
    "check_watching",
    "plan_exporters",
    "plan_grafana",
    "plan_loki",
    "plan_server",
    "told",
]
