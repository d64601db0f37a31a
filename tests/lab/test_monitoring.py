"""Monitoring as it runs: where it listens, that faults are named and mended, that alerts reach people, and that a week
of everything stays within what the small machine can give. test_alerts.py shows when they fire.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab, Machine
from lab.ssh import run as ssh_run
from tests.lab.backfill import WEEK_S, lines, series_of
from tests.lab.conftest import HOSTS, Runbooks, replace_in, wait_until_healthy
from tests.lab.prometheus import PROMETHEUS, ask, wait_until_all_are_scraped
from tests.unit.monitored import PROMTOOL, queries

MESH = dict(zip(HOSTS, (f"10.20.0.{number}" for number in range(1, 6)), strict=True))
BLOCK_S = 54 * 3600


@pytest.fixture(scope="session")
def runbooks(everything: Runbooks) -> Runbooks:
    return everything


def test_nothing_of_it_listens_outside_the_mesh(meshed: Lab) -> None:
    for host in HOSTS:
        sockets = meshed[host].succeed("ss -H -ltn | awk '{ print $4 }'").split()
        ours = [socket for socket in sockets if socket.rsplit(":", 1)[1] in {"9090", "9093", "9094", "9100"}]
        wanted = {f"{MESH[host]}:9100"} | (
            {f"{MESH[host]}:9090", f"{MESH[host]}:9093"} if host == "dock-dash" else set()
        )
        assert set(ours) == wanted


def test_every_query_of_the_dashboards_is_answered(meshed: Lab) -> None:
    wait_until_all_are_scraped(meshed)
    answers = {query: ask(meshed, "query", query=query)["result"] for query in queries()}
    assert {one["metric"]["host"] for one in answers['up{job="node"}']} == set(HOSTS)
    ages = next(found for query, found in answers.items() if "latest_handshake" in query)
    assert len({(one["metric"]["host"], one["metric"]["peer"]) for one in ages}) == 20
    assert answers["prometheus_tsdb_head_series"]


@pytest.mark.drill
def test_what_is_stopped_misconfigured_or_blocked_is_named_and_mended(meshed: Lab, runbooks: Runbooks) -> None:
    dash, prod, edge = (meshed[name] for name in ("dock-dash", "dock-prod", "dock-edge"))
    dash.succeed(
        "systemctl stop prometheus-alertmanager; sed -i 's/30s/31s/' /etc/dockyard/monitoring/prometheus.yml", sudo=True
    )
    prod.succeed("systemctl disable --now prometheus-node-exporter", sudo=True)
    drop_in = "/etc/systemd/system/prometheus-node-exporter.service.d/zz-dockyard.conf"
    edge.succeed(
        f"sed -i 's/:9100/:9101/' {drop_in} && systemctl daemon-reload && systemctl restart prometheus-node-exporter",
        sudo=True,
    )
    health = runbooks.run("health", "--json")
    assert health.faults == [
        "dock-dash: prometheus-alertmanager.service does not run",
        "dock-dash: what sets the monitoring up is not as planned",
        "dock-dash: Alertmanager does not answer: alerts reach nobody",
        "dock-dash: the exporter of dock-edge does not answer",
        "dock-dash: the exporter of dock-prod does not answer",
    ], str(health)
    mended = runbooks.succeed("monitoring", "--yes", "--json")
    assert set(mended.changes) == {"dock-dash", "dock-prod", "dock-edge"}
    assert runbooks.succeed("health", "--json").faults == []
    assert runbooks.succeed("monitoring", "--yes", "--json").changes == {}


@pytest.mark.drill
def test_a_prometheus_that_is_killed_comes_back_by_itself(meshed: Lab, runbooks: Runbooks) -> None:
    meshed["dock-dash"].succeed("systemctl kill --signal KILL prometheus", sudo=True)
    wait_until_healthy(runbooks)


@pytest.mark.drill
def test_without_the_host_that_watches_nothing_else_is_at_fault(meshed: Lab, runbooks: Runbooks) -> None:
    meshed["dock-dash"].crash()
    health = runbooks.run("health", "--json")
    assert health.faults[0] == "dock-dash: could not be looked at", str(health)
    words = ("prometheus", "exporter", "alert")
    assert not any(word in fault.lower() for word in words for fault in health.faults), str(health)


@pytest.mark.drill
def test_metrics_that_nobody_renews_any_more_are_named_and_mended(meshed: Lab, runbooks: Runbooks) -> None:
    meshed["dock-prod"].succeed("systemctl disable --now dockyard-metrics.timer", sudo=True)
    deadline = time.monotonic() + 600
    said = "dock-dash: dock-prod no longer tells of WireGuard, DRBD and backups"
    while said not in (health := runbooks.run("health", "--json")).faults:
        assert time.monotonic() < deadline, str(health)
    assert health.faults == [said], str(health)
    assert runbooks.succeed("phase1_baseline", "--yes", "--json", "--only", "Run node_exporter").changes
    wait_until_healthy(runbooks, timeout_s=300)


LISTENER = """\
import http.server
class Listener(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        said = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with open("/var/tmp/heard", "a") as heard:
            heard.write(self.path + " " + said.replace("\\n", " ") + "\\n")
        self.send_response(200); self.end_headers()
    def log_message(self, *arguments): pass
http.server.HTTPServer(("10.20.0.5", 8088), Listener).serve_forever()
"""


@pytest.fixture
def heard(meshed: Lab, inventory: Path) -> Iterator[Machine]:
    """Somebody on dock-edge listens, and dash has the URLs in its secret files."""
    edge, dash = meshed["dock-edge"], meshed["dock-dash"]
    replace_in(
        inventory / "defaults.yaml",
        "    wireguard:\n",
        "    monitoring: {webhook: true, watchdog: true}\n    wireguard:\n",
    )
    edge.succeed(f"rm -f /var/tmp/heard; cat >/var/tmp/listener.py <<'END'\n{LISTENER}END", sudo=True)
    edge.succeed("systemd-run --unit listener python3 /var/tmp/listener.py", sudo=True)
    for name in ("webhook", "watchdog"):
        put = f"install -m 640 -o root -g prometheus /dev/stdin /etc/dockyard/monitoring/{name}-url"
        dash.succeed(f"echo http://10.20.0.5:8088/{name} | {put}", sudo=True)
    yield edge
    edge.run("systemctl stop listener", sudo=True)
    dash.run("rm /etc/dockyard/monitoring/*-url", sudo=True)


@pytest.mark.drill
def test_alerts_and_the_sign_of_life_reach_who_listens(
    meshed: Lab, heard: Machine, runbooks: Runbooks, inventory: Path
) -> None:
    runbooks.succeed("monitoring", "--yes", "--inventory", str(inventory))
    heard.wait_until_succeeds("[ $(grep -c ^/watchdog /var/tmp/heard) -ge 3 ]", timeout_s=330, sudo=True)
    meshed["dock-load"].succeed("systemctl stop prometheus-node-exporter", sudo=True)
    heard.wait_until_succeeds(
        'grep ^/webhook /var/tmp/heard | grep -q \'"alertname":"HostDown"\'', timeout_s=300, sudo=True
    )
    meshed["dock-load"].succeed("systemctl start prometheus-node-exporter", sudo=True)
    assert runbooks.succeed("monitoring", "--yes", "--json").changes.keys() == {"dock-dash"}
    wait_until_healthy(runbooks)


def blocks_of_a_week(lab: Lab, folder: Path) -> Path:
    """A database with a week of what Prometheus knows of all hosts now, made by promtool on this machine."""
    series = series_of(ask(lab, "query", query='{job!=""}')["result"])
    assert len(series) > 400
    end = (int(time.time()) - 3600) // 7200 * 7200  # what its counters invent is no news for any rule
    for begin in range(end - WEEK_S, end, BLOCK_S):
        until = min(begin + BLOCK_S, end)
        with (folder / "part.om").open("w") as text:
            text.writelines(lines(series, end=until, length_s=until - begin, seed=begin))
        make = ["tsdb", "create-blocks-from", "--max-block-duration=54h", "openmetrics", "part.om", "blocks"]
        subprocess.run(["nice", "-n", "19", PROMTOOL, *make], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (folder / "part.om").unlink()
    return folder / "blocks"


def carry(folder: Path, machine: Machine, target: str) -> None:
    """Copy a folder's content to a machine, through its ssh."""
    archive = subprocess.run(["tar", "-C", str(folder), "-cz", "."], check=True, capture_output=True).stdout
    unpack = f"sudo -n tar -xz -C {target}"
    done = ssh_run(machine.spec, machine.control.paths, unpack, given=archive, timeout_s=300)
    assert done.exit_code == 0, done.stderr


@pytest.mark.drill
def test_a_week_of_five_hosts_stays_within_the_budget_of_512_mib(meshed: Lab, tmp_path: Path) -> None:
    wait_until_all_are_scraped(meshed)
    dash = meshed["dock-dash"]
    assert int(dash.succeed("awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo")) <= 512
    blocks = blocks_of_a_week(meshed, tmp_path)
    dash.succeed("systemctl stop prometheus", sudo=True)
    carry(blocks, dash, "/var/lib/prometheus/metrics2")
    dash.succeed("chown -R prometheus: /var/lib/prometheus/metrics2 && systemctl start prometheus", sudo=True)
    dash.wait_until_succeeds(f"curl -sf {PROMETHEUS.removesuffix('/api/v1')}/-/ready", timeout_s=120)
    now = time.time()
    for query in queries():
        ask(meshed, "query_range", query=query, start=str(now - WEEK_S), end=str(now), step="600")
    series = ask(meshed, "query", query='count({job!=""})', time=str(now - WEEK_S / 2))["result"]
    assert int(series[0]["value"][1]) > 400
    status = dash.succeed("cat /proc/$(systemctl show --value -p MainPID prometheus)/status", sudo=True)
    peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    limits = dash.succeed("systemctl show -p MemoryMax,NRestarts prometheus").split()
    most = int(next(line for line in limits if line.startswith("MemoryMax")).partition("=")[2])
    kills = dash.succeed(
        "awk '/^oom_kill/ { print $2; exit }' /sys/fs/cgroup/system.slice/prometheus.service/memory.events"
    )
    print(f"peak of Prometheus: {peak_kib} KiB of {most >> 10} KiB")
    assert peak_kib * 1024 < most * 0.9
    assert int(kills) == 0
    assert "NRestarts=0" in limits
    left = dash.succeed("awk '/MemAvailable/ { print int($2 / 1024) }' /proc/meminfo")
    assert int(left) > 100, f"{left} MiB are left for everybody else"
