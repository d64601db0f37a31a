"""Every alert that should fire fires in the real Prometheus, within its time, for the host that it is about."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from lab import Lab
from tasks.monitoring import checks, places
from tests.lab.conftest import HOSTS, Runbooks
from tests.lab.drbd import wait_until_apart
from tests.lab.prometheus import ask, wait_until_quiet
from tests.unit.monitored import topology

Alert = tuple[str, str]
"""Its name, and the host that it names, if any."""
Times = Mapping[Alert, tuple[int, int]]
"""What has to fire, and between which seconds: the `for` of its rule, then the minute of our script, a scrape, an
evaluation, and an emulated processor."""


@pytest.fixture(scope="session")
def runbooks(everything: Runbooks) -> Runbooks:
    return everything


LINES_AND_DISKS: Times = {
    ("HostDown", "dock-edge"): (120, 240),
    ("HandshakeOld", "dock-prod"): (290, 540),
    ("HandshakeOld", "dock-mirror"): (290, 540),
    ("ReplicationNotConnected", "dock-prod"): (180, 360),
    ("ReplicationNotConnected", "dock-mirror"): (180, 360),
    ("ReplicationNotUpToDate", "dock-mirror"): (900, 1180),
    ("ReplicationBehind", "dock-prod"): (900, 1120),
    ("MetricsStale", "dock-load"): (290, 500),
    ("SourceFailed", "dock-dash"): (300, 520),
    ("DiskNearlyFull", "dock-load"): (300, 440),
    ("DiskFullSoon", "dock-load"): (1800, 2040),
    ("MemoryShort", "dock-mirror"): (900, 1180),
    ("KilledForMemory", "dock-load"): (0, 130),
    ("BackupTooOld", ""): (600, 740),
    ("QuorumLost", "dock-dash"): (60, 200),
    ("K3sNodeNotReady", "dock-dash"): (180, 320),
    ("StorageWrittenOnTwoSides", ""): (180, 320),
}

STORAGE_AND_WATCH: Times = {
    ("ReplicationStopped", "dock-mirror"): (120, 320),
    ("ReplicationNotConnected", "dock-prod"): (180, 360),
    ("StorageWithoutWriter", ""): (300, 500),
    ("TieBreakerNotConnected", "dock-dash"): (180, 320),
    ("ReplicationUnknown", "dock-load"): (300, 520),
    ("K3sDoesNotAnswer", "dock-load"): (300, 520),
    ("OpenCloudDown", "dock-dash"): (300, 520),
    ("BackupFailed", "dock-dash"): (600, 740),
    ("ClockOff", "dock-load"): (300, 440),
    ("HostDown", "dock-edge"): (120, 240),
    ("ScrapeTooBig", "dock-dash"): (0, 180),
    ("RulesFail", "dock-dash"): (0, 180),
    ("AlertsNotDelivered", "dock-dash"): (840, 980),
}

NEEDS_ANOTHER_MACHINE = {
    "BackupNever": "takes a day and a half",
    "Watchdog": "always fires; test_monitoring.py shows that it is heard",
    "PrometheusNearItsLimit": "test_monitoring.py shows that a week of five hosts does not come near it",
}

PLAYED = """\
dockyard_backup_last_success_seconds 1
dockyard_corosync_quorate 0
dockyard_k3s_node_ready{node="dock-mirror"} 0
dockyard_drbd_primary{resource="played"} 2
"""
"""Series that this lab has no cause for; the way from the exporter to the alert is the real one."""

PLAYED_TOO = """\
dockyard_backup_last_ok{what="run"} 0
dockyard_backup_last_ended_seconds{what="run"} 1
dockyard_drbd_tie_breaker_connected{resource="played",peer="dock-load"} 0
"""

FILL = "fallocate -l $(( $(stat -f -c '%a * %S' /) * 95 / 100 )) /fill"

HOARD = """\
import time
def kib(what):
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(what))
held = []
while kib("MemAvailable") > kib("MemTotal") * 0.085:
    held.append(b"x" * (1 << 20))
time.sleep(7200)
"""

BROKEN = """
  - name: broken
    rules: [{alert: Broken, expr: up + on () up}]
"""
"""Prometheus takes it, and then finds several series where one has to be."""


def play(lab: Lab, series: str) -> None:
    lab["dock-dash"].succeed(f"cat >{places.TEXTFILES}/played.prom <<'END'\n{series}END", sudo=True)


def fired(lab: Lab, wanted: Times, began: float) -> dict[Alert, float]:
    """When each alert first fired, in seconds since ``began``; ends as soon as all that are wanted did."""
    seen: dict[Alert, float] = {}
    while set(wanted) - set(seen) and time.monotonic() - began < max(most for _, most in wanted.values()):
        for alert in ask(lab, "alerts")["alerts"]:
            if alert["state"] == "firing":
                key = alert["labels"]["alertname"], alert["labels"].get("host", "")
                seen.setdefault(key, time.monotonic() - began)
        time.sleep(5)
    return seen


def assert_in_time(seen: Mapping[Alert, float], wanted: Times) -> None:
    """Each was there when it should be, and nothing else but the sign of life was."""
    wrong = {
        alert: seen.get(alert) for alert, (least, most) in wanted.items() if not least <= seen.get(alert, -1) <= most
    }
    assert wrong == {}, f"fired: {seen}"
    assert {name for name, _ in seen} - {name for name, _ in wanted} <= {"Watchdog"}


def test_every_alert_is_shown_or_has_a_reason_not_to_be() -> None:
    shown = {name for name, _ in (*LINES_AND_DISKS, *STORAGE_AND_WATCH)}
    assert shown | set(NEEDS_ANOTHER_MACHINE) == set(checks.names_of_rules(topology()))
    assert not shown & set(NEEDS_ANOTHER_MACHINE)


@pytest.mark.drill
def test_alerts_about_hosts_lines_disks_and_memory_fire_in_their_time(replicated: Lab) -> None:
    dash, prod, mirror, load = (replicated[name] for name in ("dock-dash", "dock-prod", "dock-mirror", "dock-load"))
    wait_until_quiet(replicated)
    began = time.monotonic()
    replicated["dock-edge"].crash()
    replicated.cut("dock-prod", "dock-mirror")
    prod.succeed("head -c 1000000 /dev/urandom >/srv/data/behind && sync", sudo=True)
    load.succeed(f"systemctl stop dockyard-metrics.timer; {FILL}", sudo=True)
    load.run("systemd-run --wait -p MemoryMax=24M -p MemorySwapMax=0 tail /dev/zero", sudo=True)
    play(replicated, PLAYED)
    dash.succeed("mv /usr/bin/wg /usr/bin/wg.away", sudo=True)
    wait_until_apart(mirror, "dock-prod")
    mirror.succeed("drbdadm outdate data", sudo=True)
    mirror.succeed(f"cat >/run/hoard.py <<'END'\n{HOARD}END", sudo=True)
    mirror.succeed("systemd-run --unit hoard python3 /run/hoard.py", sudo=True)
    assert_in_time(fired(replicated, LINES_AND_DISKS, began), LINES_AND_DISKS)


@pytest.mark.drill
def test_alerts_about_the_storage_and_about_what_watches_fire_in_their_time(replicated: Lab) -> None:
    dash, prod, mirror, load, edge = (replicated[name] for name in HOSTS)
    wait_until_quiet(replicated)
    began = time.monotonic()
    many = f"seq 2000 | sed 's/.*/played{{number=\"&\"}} 1/' >{places.TEXTFILES}/many.prom"
    edge.succeed(many, sudo=True)
    load.succeed('date -s "@$(( $(date +%s) + 30 ))"; systemctl stop k3s', sudo=True)
    load.succeed("mkdir -p /etc/drbd.d; touch /etc/drbd.d/data.res; mv /usr/sbin/drbdsetup /root || true", sudo=True)
    prod.succeed("pkill -STOP -f standin-[s]erve", sudo=True)
    play(replicated, PLAYED_TOO)
    dash.succeed(f"systemctl stop prometheus-alertmanager; cat >>{places.RULES} <<'END'\n{BROKEN}END", sudo=True)
    dash.succeed("systemctl reload prometheus", sudo=True)
    prod.succeed("systemctl stop dockyard-storage", sudo=True, timeout_s=240)
    mirror.succeed("systemctl stop dockyard-storage && drbdadm down data", sudo=True)
    assert_in_time(fired(replicated, STORAGE_AND_WATCH, began), STORAGE_AND_WATCH)
