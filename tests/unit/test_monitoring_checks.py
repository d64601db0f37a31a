"""What health says about monitoring, from what hosts and Prometheus really answered."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dockyard.change import UnitState
from dockyard.errors import ParseError, Unreachable
from dockyard.findings import Cause, Finding
from dockyard.topology import Email, Topology
from tasks import monitoring
from tasks.monitoring import api, facts, places
from tasks.monitoring.facts import MonitoringState
from tests.unit.monitored import DASH, DATA, EDGE, PROD, answering, healthy, observed, topology, unit

LAB = topology()
API, REACH = (DATA / "api.txt").read_text(), (DATA / "reach.txt").read_text()


def check(
    state: MonitoringState | object, said: object, cluster: Topology = LAB, away: frozenset[str] = frozenset()
) -> list[Finding]:
    found = observed({DASH: state}, said, domain=monitoring.MONITORING.name)
    return monitoring.check_monitoring(cluster, found, away=away)


def faults(state: MonitoringState, said: api.PrometheusState, cluster: Topology = LAB, **more: Any) -> list[str]:
    return [finding.fault for finding in check(state, said, cluster, **more)]


GOOD, SAID = healthy(LAB)[DASH], answering(LAB)


def with_unit(name: str, **parts: Any) -> MonitoringState:
    return replace(GOOD, units={**GOOD.units, name: replace(GOOD.units[name], **parts)})


def test_a_monitoring_that_works_has_no_findings() -> None:
    assert check(GOOD, SAID) == []
    assert monitoring.check_watching(LAB, observed({}, SAID)) == []


def test_before_it_was_set_up_there_is_one_finding() -> None:
    bare = replace(GOOD, units={name: unit(name, "inactive", "") for name in GOOD.units}, digests={})
    (finding,) = check(bare, api.PrometheusState(answers=False))
    assert finding.fault == "nobody watches the cluster"
    assert finding.advice == "python runbooks/monitoring.py mends it", "with its gates"


def test_a_service_that_is_gone_is_named_with_what_it_says() -> None:
    dead = UnitState(name=places.PROMETHEUS, loaded=True, active="failed", enabled="enabled", sub="failed")
    said = replace(SAID, answers=False, targets=(), rules={}, alerts=())
    first, second = check(with_unit(places.PROMETHEUS, state=dead), said)
    assert (first.cause, first.host, first.fault) == (Cause.MONITORING, DASH, "prometheus.service does not run")
    assert first.evidence == "prometheus.service is failed (failed), enabled"
    assert second.fault == "Prometheus does not answer"


@pytest.mark.parametrize(
    ("restarts", "ago_s", "again_and_again"),
    [(0, 5, False), (1, 5, False), (2, 5, False), (3, 599, True), (40, 5, True), (40, 600, False)],
)
def test_a_service_that_ends_again_and_again_is_named_while_it_goes_on(
    restarts: int, ago_s: int, again_and_again: bool
) -> None:
    found = check(with_unit(places.ALERTMANAGER, restarts=restarts, since=GOOD.now - ago_s), SAID)
    assert [one.fault for one in found] == [f"{places.ALERTMANAGER} ends again and again"] * again_and_again
    if found:
        assert found[0].evidence == f"it ended by itself {restarts} times, and runs since {ago_s} s"
        assert found[0].advice.startswith(f"On {DASH}: journalctl -u {places.ALERTMANAGER}")


def test_an_exporter_that_does_not_answer_is_named_unless_others_know_why() -> None:
    said = replace(SAID, reached=SAID.reached - {"10.20.0.5:9100"})
    (finding,) = check(GOOD, said)
    assert (finding.fault, finding.subject) == (f"the exporter of {EDGE} does not answer", EDGE)
    assert check(GOOD, said, away=frozenset({EDGE})) == []


def test_a_host_that_prometheus_does_not_watch_is_named() -> None:
    said = replace(SAID, targets=SAID.targets[:-1])
    assert faults(GOOD, said) == [f"Prometheus does not watch {EDGE}"]


def test_an_alertmanager_that_does_not_answer_means_that_nobody_is_told() -> None:
    said = replace(SAID, reached=SAID.reached - {"10.20.0.1:9093"})
    assert faults(GOOD, said) == ["Alertmanager does not answer: alerts reach nobody"]


def test_rules_that_are_missing_or_fail_are_named() -> None:
    rules = {name: "" for name in SAID.rules if name != "HostDown"} | {"BackupTooOld": "vector cannot contain metrics"}
    found = check(GOOD, replace(SAID, rules=rules))
    assert [(one.fault, one.evidence) for one in found] == [
        ("alerts are not loaded", "HostDown"),
        ("the alert BackupTooOld cannot be worked out", "vector cannot contain metrics"),
    ]


def test_a_file_that_somebody_changed_is_named() -> None:
    (finding,) = check(replace(GOOD, digests={**GOOD.digests, places.RULES: "0" * 64}), SAID)
    assert (finding.fault, finding.evidence) == ("what sets the monitoring up is not as planned", places.RULES)


@pytest.mark.parametrize(
    ("seen", "fine"),
    [
        ("640:root:prometheus:40", True),
        ("600:prometheus:prometheus:40", True),
        ("440:root:prometheus:40", True),
        ("644:root:prometheus:40", False),
        ("600:root:root:40", False),
        ("640:root:prometheus:0", False),
        (None, False),
    ],
)
def test_a_secret_is_there_and_only_for_who_needs_it(seen: str | None, fine: bool) -> None:
    cluster = topology(watchdog=True)
    state = replace(healthy(cluster)[DASH], secrets={places.WATCHDOG_URL: seen} if seen else {})
    found = check(state, answering(cluster), cluster)
    assert (found == []) is fine
    assert fine or places.WATCHDOG_URL in found[0].advice


def test_memory_and_disk_are_compared_with_the_plan() -> None:
    assert faults(with_unit(places.PROMETHEUS, memory=165 * 2**20), SAID) == [
        "Prometheus takes more memory than it may"
    ]
    assert faults(replace(GOOD, size=2 * 2**30), SAID) == ["Prometheus may keep more than its disk holds"]
    assert faults(replace(GOOD, free=2**28), SAID) == ["the disk of Prometheus is full"]


def alert(name: str, host: str, state: str = "firing") -> api.Alert:
    return api.Alert(
        name=name, state=state, severity="critical", host=host, summary=f"{host}: {name}", advice="look", since="2026"
    )


def unread(said: api.PrometheusState, host: str, error: str) -> api.PrometheusState:
    """As ``said``, but Prometheus gets nothing of one host."""
    return replace(
        said, targets=tuple(replace(one, up=False, error=error) if one.host == host else one for one in said.targets)
    )


def test_an_exporter_that_answers_and_gives_prometheus_nothing_for_minutes_is_named() -> None:
    said = unread(SAID, EDGE, "sample limit exceeded")
    assert check(GOOD, said) == []
    assert check(GOOD, replace(said, alerts=(alert("HostDown", EDGE, "pending"),))) == []
    (finding,) = check(GOOD, replace(said, alerts=(alert("HostDown", EDGE),)))
    assert (finding.fault, finding.evidence) == (f"Prometheus gets no metrics of {EDGE}", "sample limit exceeded")
    assert check(GOOD, replace(SAID, alerts=(alert("HostDown", EDGE),))) == [], "it answers again"


def test_what_monitoring_alone_can_know_is_a_finding_when_it_fires() -> None:
    (finding,) = check(GOOD, replace(SAID, alerts=(alert("MetricsStale", PROD), alert("DiskNearlyFull", PROD))))
    assert (finding.host, finding.subject, finding.fault) == (DASH, PROD, f"{PROD}: MetricsStale")
    assert check(GOOD, replace(SAID, alerts=(alert("MetricsStale", PROD, "pending"),))) == []
    assert check(GOOD, replace(SAID, alerts=(alert("SourceFailed", PROD),)), away=frozenset({PROD})) == []


def test_grafana_is_asked_for_after_it_was_installed_and_not_before() -> None:
    cluster = topology(grafana=True)
    where = f"10.20.0.1:{places.PORTS[places.GRAFANA]}"
    target = api.Target(job=places.GRAFANA_JOB, host=DASH, address=where, up=False, error="connection refused")
    said = answering(cluster)
    before = replace(said, reached=said.reached - {where}, targets=(*said.targets, target))
    assert monitoring.check_watching(cluster, observed({}, before)) == []
    state = healthy(cluster)[DASH]
    state = replace(state, units={**state.units, places.GRAFANA: unit(places.GRAFANA)})
    assert faults(state, before, cluster) == ["Grafana does not answer"]


def test_a_host_that_cannot_be_seen_is_said_once() -> None:
    gone = Unreachable(DASH, "no route")
    assert {finding.fault for finding in check(gone, gone)} == {"could not be looked at"}


def test_what_prometheus_really_answered_is_read() -> None:
    state = api.read_state(API, REACH)
    assert state.answers
    assert state.reached == {f"10.20.0.{number}:9100" for number in range(1, 5)}
    down = {(target.job, target.host): target.error for target in state.targets if not target.up}
    assert set(down) == {("alertmanager", DASH), ("node", EDGE)}
    assert "connection refused" in down["node", EDGE]
    assert set(state.rules.values()) == {""}
    pending = {(alert.name, alert.host) for alert in state.alerts if alert.state == "pending"}
    assert ("HostDown", EDGE) in pending
    shown = monitoring.alert_rows(LAB, observed({}, state))
    assert {(row["alert"], row["state"]) for row in shown} == {
        ("HostDown", "pending"),
        ("MetricsStale", "pending"),
        ("AlertsNotDelivered", "pending"),
    }
    waiting = [finding.fault for finding in monitoring.check_watching(LAB, observed({}, state))]
    assert f"Prometheus has no metrics of {EDGE} yet (node)" in waiting


@pytest.mark.parametrize(("body", "code"), [("", "000"), ("Service Unavailable", "503")])
def test_a_prometheus_that_is_gone_or_begins_does_not_answer(body: str, code: str) -> None:
    urls = [f"http://10.20.0.1:9090/{path}" for path in api._PATHS.values()]
    text = "".join(f"{body}\n{url} {code}\n" for url in urls)
    assert not api.read_state(text, REACH).answers


@pytest.mark.parametrize(
    ("text", "reach"),
    [
        ("", REACH),
        (API[: len(API) // 2], REACH),
        (API.replace('"health":"up"', '"health":null'), REACH),
        (API.replace('{"status"', "<html>", 1), REACH),
        (API, REACH + "curl: unknown option\n"),
    ],
)
def test_what_is_no_answer_is_an_error_and_no_empty_state(text: str, reach: str) -> None:
    with pytest.raises(ParseError):
        api.read_state(text, reach)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, ["alerts go to nobody", "nobody outside would notice that dock-dash itself is gone"]),
        ({"webhook": True, "watchdog": True}, ["alerts go to the webhook"]),
        ({"email": Email("me@mail.lan", "d@mail.lan", "mail.lan:587")}, ["alerts go to me@mail.lan", "nobody outside"]),
    ],
)
def test_a_person_reads_who_is_told(parts: Mapping[str, Any], words: list[str]) -> None:
    cluster = topology(**parts)
    state = observed({DASH: healthy(cluster)[DASH]}, domain=monitoring.MONITORING.name)
    lines = monitoring.told(cluster, state)
    assert len(lines) == len(words)
    assert all(line.startswith(word) for line, word in zip(lines, words, strict=True))


SYSTEMCTL = """\
[ "$TZ" = UTC ] || exit 64
case $* in *--timestamp*) echo "systemctl: unrecognized option '--timestamp=unix'" >&2; exit 1 ;; esac
cat <<'END'
MemoryCurrent=21995520
Id=prometheus-node-exporter.service
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
NRestarts=7
ActiveEnterTimestamp=Mon 2026-11-23 08:11:40 UTC
NeedDaemonReload=yes

MemoryCurrent=[not set]
Id=dockyard-metrics.service
LoadState=loaded
ActiveState=inactive
SubState=dead
UnitFileState=static
ActiveEnterTimestamp=n/a

Id=dockyard-metrics.timer
LoadState=not-found
ActiveState=inactive
SubState=dead
UnitFileState=
ActiveEnterTimestamp=
END"""


def answer(tmp_path: Path, systemctl: str = SYSTEMCTL) -> str:
    """What the probe of an ordinary host prints on this machine, with a stand-in for systemctl."""
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\n{systemctl}\n")
    (tmp_path / "systemctl").chmod(0o755)
    argv = monitoring.SETUP.probes(LAB, LAB.host(PROD))[0].argv
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_probe_tells_of_memory_tools_and_units(tmp_path: Path) -> None:
    units = facts.units_of(LAB, LAB.host(PROD))
    state = facts.read_state(answer(tmp_path), units)
    assert state.machine_mib > 100
    exporter = state.units[places.EXPORTER]
    assert (exporter.state.is_active, exporter.state.enabled, exporter.since) == (True, "enabled", 1795421500)
    assert (exporter.memory, exporter.restarts) == (21995520, 7)
    assert state.units[places.TIMER].restarts == 0, "timers have none"
    assert abs(state.now - time.time()) < 60
    assert [name for name, one in state.units.items() if one.reload_needed] == [places.EXPORTER]
    assert (state.units[places.METRICS].since, state.units[places.METRICS].memory) == (0, 0)
    assert not state.units[places.TIMER].state.loaded


def test_a_tool_of_somebody_else_does_not_stand_in_for_the_package(tmp_path: Path) -> None:
    """The drop-ins run what lies in /usr/bin; PATH finds a tarball in /usr/local/bin first."""
    tools = facts.tools_of(LAB, LAB.host(PROD))
    for tool in tools:
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    state = facts.read_state(answer(tmp_path), facts.units_of(LAB, LAB.host(PROD)))
    assert state.missing == {tool for tool in tools if not Path("/usr/bin", tool).exists()}


def test_a_unit_too_few_or_an_unknown_line_is_an_error(tmp_path: Path) -> None:
    text = answer(tmp_path)
    units = facts.units_of(LAB, LAB.host(PROD))
    for spoiled in (
        "\n".join(line for line in text.splitlines() if places.TIMER not in line) + "\n",
        text + "sh: 1: awk: not found\n",
        text.replace("loaded active running", "loaded active"),
        text.replace("2026-11-23T08:11:40Z", "2026-13-23T08:11:40Z"),
        text.replace("2026-11-23T08:11:40Z", "2026-11-23T08:11:40+01:00"),
        answer(tmp_path, SYSTEMCTL.replace(" UTC\n", " CET\n")),
        answer(tmp_path, SYSTEMCTL.replace("Mon 2026-11-23 08:11:40 UTC", "1 week ago")),
        text.replace("memory|total|", "memory|total|x"),
        text.replace("clock|now|", "clock|now|x"),
        "".join(line for line in text.splitlines(keepends=True) if "clock|now|" not in line),
    ):
        with pytest.raises(ParseError):
            facts.read_state(spoiled, units)


def test_the_probe_of_the_monitoring_host_sees_digests_secrets_and_room(tmp_path: Path) -> None:
    cluster = topology(webhook=True)
    script = monitoring.MONITORING.probes(cluster, cluster.host(DASH))[0].argv[-1]
    (tmp_path / "systemctl").write_text("#!/bin/sh\n")
    (tmp_path / "systemctl").chmod(0o755)
    (tmp_path / "webhook-url").write_text("http://nas.lan/\n")
    (tmp_path / "rules.yml").write_text("")
    script = script.replace(places.FOLDER, str(tmp_path)).replace(places.DATABASE, "/")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=True)
    state = facts.read_state(ran.stdout, [])
    assert state.digests == {
        f"{tmp_path}/rules.yml": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    }
    assert list(state.secrets) == [f"{tmp_path}/webhook-url"]
    assert state.secrets[f"{tmp_path}/webhook-url"].endswith(":16")
    assert state.size > state.free > 0
