"""Monitoring alone, as phase 1 does it: an exporter on every host, Prometheus and Alertmanager on the one that watches.

Everything listens on the mesh address and nowhere else. Grafana and Loki only where the inventory asks for them; see
docs/monitoring.md for what goes where, the limits, and who is told.

Needs: the mesh of phase 1; Debian's package sources on every host. Refused where somebody else's Prometheus or
Alertmanager runs on the host that watches, or somebody else holds port 9100 (any host), 9090 or 9093 (that one).
May destroy: nothing. Data older than cluster.monitoring.retention_gib allows is removed by Prometheus itself.
Way back: `systemctl disable --now prometheus-node-exporter dockyard-metrics.timer` on each host, and on the one that
watches `systemctl disable --now prometheus prometheus-alertmanager`.
Cut off in the middle: run it again.
"""

from functools import partial

from dockyard.cli import main
from dockyard.steps import Converge, Gate, Show, Step, Wait
from dockyard.topology import Role
from tasks import machine, monitoring, opencloud
from tasks.backup import places as backup

ON = (Role.MONITORING,)

WATCHING: list[Step] = [
    Gate(
        "Nobody else's Prometheus is taken over, nobody else holds its ports",
        partial(monitoring.check_strangers, holders=machine.holders),
        [monitoring.SETUP, machine.LISTENING],
    ),
    Gate("The machine that watches has room for it", monitoring.check_setup, [monitoring.SETUP], on=ON, stale_s=30.0),
    Converge(
        "Run node_exporter and our metrics on every host, in the mesh",
        partial(monitoring.plan_exporters, backup_state=backup.STATE, opencloud=opencloud.status_url),
        [monitoring.SETUP],
        each=True,
        stale_s=30.0,
    ),
    Converge("Run Prometheus and Alertmanager", monitoring.plan_server, [monitoring.SETUP], on=ON, stale_s=30.0),
    Wait(
        "Prometheus has metrics of every host", monitoring.check_watching, [monitoring.PROMETHEUS], timeout_s=180, on=ON
    ),
    Show("Who is told when something breaks", monitoring.told, [monitoring.MONITORING], on=ON),
]

OPTIONAL: list[Step] = [
    Converge("Limit Loki, if it is wanted", monitoring.plan_loki, [monitoring.OPTIONAL], on=ON),
    Converge("Run Grafana, if it is wanted", monitoring.plan_grafana, [monitoring.OPTIONAL], on=ON, stale_s=30.0),
]
"""Behind all that goes without them: Grafana's repository may be out of reach, Loki may not be there."""

STEPS: list[Step] = [*WATCHING, *OPTIONAL]

if __name__ == "__main__":
    main(__doc__, STEPS)
