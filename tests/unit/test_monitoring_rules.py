"""Alerts, configurations and dashboards, judged by promtool: each alert fires in time and says what it should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from dockyard.topology import Email, Topology
from tasks.monitoring import checks, optional, places, texts
from tests.unit.monitored import DASH, DATA, MIB, PROMTOOL, boards, queries, topology

LAB = topology()
MAIL = Email(to="me@mail.lan", sender="dock@mail.lan", smarthost="mail.lan:587", user="dock@mail.lan")


def promtool(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROMTOOL, *words], cwd=cwd, capture_output=True, text=True, check=False)


def loaded(text: str) -> Any:
    return YAML(typ="safe").load(text)


def test_every_alert_fires_in_time_for_whom_it_should_and_is_quiet_before(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(texts.rules(LAB, MIB))
    shutil.copy(DATA / "rules_test.yml", tmp_path)
    ran = promtool("test", "rules", "rules_test.yml", cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_no_alert_is_without_a_test_that_it_fires_and_one_that_it_is_quiet() -> None:
    asked = [one for test in loaded((DATA / "rules_test.yml").read_text())["tests"] for one in test["alert_rule_test"]]
    names = set(checks.names_of_rules(LAB))
    assert {one["alertname"] for one in asked if one["exp_alerts"]} == names
    assert {one["alertname"] for one in asked if not one["exp_alerts"]} == names - {"Watchdog"}


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    (group,) = loaded(texts.rules(LAB, MIB))["groups"]
    assert {rule["alert"] for rule in group["rules"]} == set(checks.names_of_rules(LAB)) > {"Watchdog"}
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in {"critical", "warning", "none"}
        assert rule["alert"] == "Watchdog" or rule["annotations"]["advice"]


def test_the_age_of_a_backup_is_the_one_of_the_inventory() -> None:
    assert LAB.cluster.backup
    patient = replace(LAB, cluster=replace(LAB.cluster, backup=replace(LAB.cluster.backup, max_age_h=50)))
    assert "> 180000\n" in texts.rules(patient, MIB)
    assert "> 129600\n" in texts.rules(replace(LAB, cluster=replace(LAB.cluster, backup=None)), MIB)


@pytest.mark.parametrize("cluster", [LAB, topology(grafana=True, scrape_interval_s=10)])
def test_prometheus_reads_its_configuration(cluster: Topology, tmp_path: Path) -> None:
    written = texts.server_config(cluster, cluster.host(DASH), MIB)
    for path, (text, _) in written.items():
        (tmp_path / Path(path).name).write_text(text.replace(places.FOLDER, str(tmp_path)))
    ran = promtool("check", "config", "prometheus.yml", cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_host_is_asked_at_its_mesh_address() -> None:
    config = loaded(texts.server_config(LAB, LAB.host(DASH), MIB)[places.CONFIG][0])
    node = config["scrape_configs"][0]
    asked = {one["labels"]["host"]: one["targets"] for one in node["static_configs"]}
    assert asked == {host.name: [f"{host.wireguard.address}:9100"] for host in LAB.hosts.values()}
    assert config["global"]["scrape_interval"] == "30s"
    assert not node["honor_timestamps"]


def kept(config: Any, job: str, series: str) -> bool:
    """Whether a series (by its name alone) survives the relabelling of a job, as Prometheus does it."""
    for rule in next(one for one in config["scrape_configs"] if one["job_name"] == job)["metric_relabel_configs"]:
        if rule["source_labels"] != ["__name__"]:
            continue
        matches = bool(re.fullmatch(rule["regex"], series))
        if matches != (rule["action"] == "keep"):
            return False
    return True


def test_no_series_that_an_alert_or_a_dashboard_needs_is_dropped() -> None:
    config = loaded(texts.server_config(LAB, LAB.host(DASH), MIB)[places.CONFIG][0])
    expressions = [rule["expr"] for rule in loaded(texts.rules(LAB, MIB))["groups"][0]["rules"]] + queries()
    used = {
        name for text in expressions for name in re.findall(r"\b((?:node|prometheus|alertmanager|process)_\w+)", text)
    }
    assert len(used) > 15
    for name in used:
        jobs = {"node": ["node"], "process": ["prometheus", "alertmanager"]}.get(
            name.split("_")[0], [name.split("_")[0]]
        )
        assert all(kept(config, job, name) for job in jobs), name


def test_what_nobody_needs_is_dropped() -> None:
    config = loaded(texts.server_config(LAB, LAB.host(DASH), MIB)[places.CONFIG][0])
    for name in (
        "node_memory_VmallocTotal_bytes",
        "node_memory_Slab_bytes",
        "node_disk_info",
        "node_timex_pps_jitter_total",
    ):
        assert not kept(config, "node", name)
    for name in ("node_memory_MemTotal_bytes", "node_memory_SwapFree_bytes", "node_memory_Cached_bytes"):
        assert kept(config, "node", name)
    assert not kept(config, "prometheus", "go_goroutines")


@pytest.mark.parametrize(
    ("parts", "owner"),
    [
        ({}, None),
        ({"webhook": True}, {"webhook_configs"}),
        ({"email": MAIL}, {"email_configs"}),
        ({"webhook": True, "watchdog": True, "email": MAIL}, {"webhook_configs", "email_configs"}),
    ],
)
def test_alerts_go_where_the_inventory_says_and_no_secret_is_in_the_file(
    parts: dict[str, Any], owner: set[str] | None
) -> None:
    cluster = topology(**parts)
    config = loaded(texts.server_config(cluster, cluster.host(DASH), MIB)[places.ALERTMANAGER_CONFIG][0])
    receivers = {one["name"]: one.keys() - {"name"} for one in config["receivers"]}
    assert receivers.get("owner") == owner
    assert config["route"]["receiver"] == ("owner" if owner else "nobody")
    (watchdog,) = config["route"]["routes"]
    assert watchdog["receiver"] == ("watchdog" if parts.get("watchdog") else "nobody")
    assert {watchdog["receiver"], config["route"]["receiver"]} <= receivers.keys()
    files = re.findall(r"(?:url|auth_password)_file: (\S+)", str(texts.server_config(cluster, cluster.host(DASH), MIB)))
    assert sorted(path.split("\\n")[0] for path in files) == sorted(texts.secrets_of(cluster.cluster.monitoring))


def test_every_query_of_a_dashboard_is_one_that_prometheus_understands(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries())]
    assert len(rules) > 15
    (tmp_path / "queries.yml").write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    ran = promtool("check", "rules", "queries.yml", cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_dashboards_ask_the_data_source_that_is_provisioned() -> None:
    found = boards()
    assert len({board["uid"] for board in found.values()}) == len(found) == len(optional.DASHBOARDS)
    source = loaded(optional.grafana_texts(topology(grafana=True), LAB.host(DASH))[places.DATASOURCE])
    uids = {panel["datasource"]["uid"] for board in found.values() for panel in board["panels"]}
    assert uids == {source["datasources"][0]["uid"]}
    for board in found.values():
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
