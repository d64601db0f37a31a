"""From nothing to exporters everywhere and Prometheus on one host; what is there stays, what is stale is restarted."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from dockyard.change import Plan, Run, WriteFile
from dockyard.errors import NotObserved, StepFailed, Unreachable
from dockyard.files import FileState
from dockyard.findings import Cause
from dockyard.observe import Observed
from dockyard.service import ServiceState, unit_file
from dockyard.steps import Gate
from dockyard.topology import Role, Topology
from runbooks import monitoring as runbook
from runbooks import phase1_baseline
from tasks import machine, monitoring
from tasks.monitoring import budget, optional, places, setup, texts
from tasks.opencloud import status_url
from tests.unit.monitored import (
    BACKUP_STATE,
    DASH,
    EDGE,
    MIB,
    NOW,
    PROD,
    URL,
    healthy,
    observed,
    pristine,
    service,
    topology,
    unit,
)
from tests.unit.replicas import titles

LAB = topology()


def exporters(cluster: Topology, states: dict[str, object]) -> Plan:
    return monitoring.plan_exporters(cluster, observed(states), backup_state=BACKUP_STATE, opencloud=status_url)


def test_what_is_set_up_is_left_alone() -> None:
    found = observed(healthy(LAB))
    assert monitoring.plan_exporters(LAB, found, backup_state=BACKUP_STATE, opencloud=status_url) == {}
    assert monitoring.plan_server(LAB, found) == {}
    assert monitoring.check_setup(LAB, found) == []


def test_from_nothing_our_drop_ins_come_before_the_packages_that_would_listen_everywhere() -> None:
    bare = {host: pristine(LAB, host) for host in LAB.hosts}
    plan = titles(exporters(LAB, dict(bare)))
    assert set(plan) == set(LAB.hosts)
    assert plan[EDGE] == [
        f"write {places.SCRIPT}",
        f"write {places.drop_in(places.EXPORTER)}",
        f"write {unit_file(places.METRICS)}",
        f"write {unit_file(places.TIMER)}",
        "let systemd read its units again",
        "install prometheus-node-exporter",
        f"systemctl enable -- {places.EXPORTER}; systemctl restart -- {places.EXPORTER}",
        f"systemctl enable -- {places.TIMER}; systemctl restart -- {places.TIMER}",
    ]


def test_prometheus_runs_before_anything_is_asked_of_a_file_of_alertmanager() -> None:
    """Debian 12's Alertmanager refuses the file of a webhook; whoever watches goes on without it."""
    bare = {host: pristine(LAB, host) for host in LAB.hosts}
    assert titles(monitoring.plan_server(LAB, observed(bare)))[DASH] == [
        f"write {places.drop_in(places.PROMETHEUS)}",
        f"write {places.drop_in(places.ALERTMANAGER)}",
        "let systemd read its units again",
        "install curl, prometheus, prometheus-alertmanager",
        f"write {places.RULES}",
        f"write {places.CONFIG}",
        f"systemctl enable -- {places.PROMETHEUS}; systemctl restart -- {places.PROMETHEUS}",
        f"write {places.ALERTMANAGER_CONFIG}",
        f"systemctl enable -- {places.ALERTMANAGER}; systemctl restart -- {places.ALERTMANAGER}",
    ]


def test_nothing_is_put_into_place_that_its_own_tool_does_not_read() -> None:
    plan = monitoring.plan_server(LAB, observed({DASH: pristine(LAB, DASH)}))
    checked = {change.path: change.validate for change in plan[DASH] if isinstance(change, WriteFile)}
    assert checked[places.RULES] == ("/usr/bin/promtool", "check", "rules", "{}")
    assert checked[places.CONFIG] == ("/usr/bin/promtool", "check", "config", "{}")
    assert checked[places.ALERTMANAGER_CONFIG] == ("/usr/bin/amtool", "check-config", "{}")


@pytest.mark.parametrize("path", [places.RULES, places.CONFIG, places.drop_in(places.PROMETHEUS)])
def test_a_file_that_somebody_changed_is_mended_and_read_again(path: str) -> None:
    states = healthy(LAB)
    spoiled = FileState(path=path, kind="regular file", mode=0o644, owner="root", group="root", content="x\n")
    states[DASH] = replace(states[DASH], files={**states[DASH].files, path: spoiled})
    plan = titles(monitoring.plan_server(LAB, observed(states)))[DASH]
    assert plan[0] == f"write {path}"
    assert plan[-1] == f"systemctl restart -- {places.PROMETHEUS}"
    assert not any(places.ALERTMANAGER in title for title in plan)


def test_what_was_started_before_its_file_was_written_is_started_again() -> None:
    """A run that was killed between the two leaves the old configuration at work."""
    states = healthy(LAB)
    old = unit(places.PROMETHEUS, since=NOW - 61)
    states[DASH] = replace(states[DASH], units={**states[DASH].units, places.PROMETHEUS: old})
    assert titles(monitoring.plan_server(LAB, observed(states))) == {
        DASH: [f"systemctl restart -- {places.PROMETHEUS}"]
    }


def test_what_is_stopped_or_not_started_at_boot_is_brought_back() -> None:
    states = healthy(LAB)
    off = {places.EXPORTER: unit(places.EXPORTER, "failed"), places.TIMER: unit(places.TIMER, "active", "disabled")}
    states[PROD] = replace(states[PROD], units={**states[PROD].units, **off})
    assert titles(exporters(LAB, dict(states))) == {
        PROD: [f"systemctl start -- {places.EXPORTER}", f"systemctl enable -- {places.TIMER}"]
    }


def test_a_host_that_cannot_be_seen_keeps_back_nobody_but_itself() -> None:
    states: dict[str, object] = {host: pristine(LAB, host) for host in LAB.hosts}
    states[EDGE] = Unreachable(EDGE, "no route")
    assert set(exporters(LAB, states)) == set(LAB.hosts) - {EDGE}
    states[DASH] = Unreachable(DASH, "no route")
    with pytest.raises(NotObserved, match=DASH):
        monitoring.plan_server(LAB, observed(states))
    assert monitoring.check_setup(LAB, observed(states))[0].unseen


def test_without_a_host_that_watches_nobody_is_touched() -> None:
    alone = replace(LAB, hosts={name: replace(host, roles=frozenset[Role]()) for name, host in LAB.hosts.items()})
    bare = observed({host: pristine(LAB, host) for host in LAB.hosts})
    assert monitoring.plan_exporters(alone, bare, backup_state=BACKUP_STATE, opencloud=status_url) == {}
    assert monitoring.plan_server(alone, bare) == {}
    assert monitoring.check_monitoring(alone, bare) == []
    assert not any(monitoring.SETUP.concerns(alone, host) for host in alone.hosts.values())


@pytest.mark.parametrize("name", [*places.PORTS])
def test_our_drop_in_has_the_last_word(name: str) -> None:
    """Behind the file of `systemctl edit`: systemd reads them in the order of their names."""
    folder, _, ours = places.drop_in(name).rpartition("/")
    assert max("override.conf", "listen.conf", ours) == ours
    assert folder == f"/etc/systemd/system/{name}.d"


def test_everything_listens_on_the_mesh_address_and_nowhere_else() -> None:
    for host in LAB.hosts.values():
        for path, (text, _) in texts.exporter_texts(LAB, host, backup_state=BACKUP_STATE, opencloud=URL).items():
            if path == places.drop_in(places.EXPORTER):
                assert f"--web.listen-address={host.wireguard.address}:9100 " in text
    dash = LAB.host(DASH)
    units = texts.server_units(LAB, dash, MIB)
    assert "--web.listen-address=10.20.0.1:9090 " in units[places.drop_in(places.PROMETHEUS)][0]
    alertmanager = units[places.drop_in(places.ALERTMANAGER)][0]
    assert "--web.listen-address=10.20.0.1:9093 " in alertmanager
    assert '"--cluster.listen-address="' in alertmanager, "its gossip would listen on every address"


@pytest.mark.parametrize(
    ("machine", "wanted", "most"),
    [(470, None, 160), (472, None, 160), (512, None, 179), (300, None, 160), (8000, None, 1024), (470, 200, 200)],
)
def test_prometheus_gets_a_part_of_the_machine(machine: int, wanted: int | None, most: int) -> None:
    cluster = topology(memory_mib=wanted)
    memory = budget.prometheus(cluster.cluster.monitoring, machine)
    assert (memory.most, memory.go_limit) == (most, int(most * 0.8))
    text = texts.server_units(cluster, cluster.host(DASH), machine)[places.drop_in(places.PROMETHEUS)][0]
    assert f"MemoryMax={most}M\n" in text
    assert f"GOMEMLIMIT={memory.go_limit}MiB\n" in text
    (samples,) = re.findall(r"--query.max-samples=(\d+)", text)
    assert int(samples) * 16 * 4 <= most * 2**20


def test_what_is_kept_ends_by_size_before_the_disk_is_full() -> None:
    text = texts.server_units(LAB, LAB.host(DASH), MIB)[places.drop_in(places.PROMETHEUS)][0]
    (mib,) = re.findall(r"--storage\.tsdb\.retention\.size=(\d+)MB", text)
    assert int(mib) <= LAB.cluster.monitoring.retention_gib * 1024


def test_whatever_watches_is_held_to_its_memory() -> None:
    dash = LAB.host(DASH)
    units = {
        **texts.server_units(LAB, dash, MIB),
        **texts.exporter_texts(LAB, dash, backup_state=BACKUP_STATE, opencloud=URL),
    }
    held = [units[places.drop_in(name)][0] for name in (places.ALERTMANAGER, places.EXPORTER)]
    held += [
        optional.grafana_unit(WITH_GRAFANA, dash)[0],
        optional.loki_texts(WITH_LOKI, dash)[0][places.drop_in(places.LOKI)],
    ]
    for text in held:
        most, soft = (int(re.findall(rf"{name}=(\d+)", text)[0]) for name in ("MemoryMax", "GOMEMLIMIT"))
        assert 0 < soft < most
        assert "MemorySwapMax=0" in text.splitlines(), "it would be swapped out, and not ended"


def test_loki_keeps_a_week_and_cuts_off_who_goes_mad() -> None:
    files, _ = optional.loki_texts(WITH_LOKI, WITH_LOKI.host(DASH))
    (config,) = (YAML(typ="safe").load(text) for text in files.values() if "limits_config" in text)
    limits = config["limits_config"]
    assert (limits["retention_period"], limits["ingestion_rate_mb"], limits["max_global_streams_per_user"]) == (
        "168h",
        1,
        500,
    )
    assert config["compactor"]["retention_enabled"] is True


def test_what_does_not_fit_on_the_machine_is_said_before_anything_is_installed() -> None:
    cluster = topology(grafana=True)
    (finding,) = monitoring.check_setup(cluster, observed({DASH: pristine(cluster, DASH)}))
    assert (finding.cause, finding.host) == (Cause.MONITORING, DASH)
    assert finding.evidence == "the limits add up to 800 MiB of 470 MiB; 75% are the most"
    assert "leave out grafana" in finding.advice
    roomy = replace(pristine(cluster, DASH), machine_mib=2048)
    assert monitoring.check_setup(cluster, observed({DASH: roomy})) == []


def seen_optional(texts_of: Mapping[str, str] | None = None, **parts: Any) -> Observed:
    """The host that watches, with these files of ours; neither Grafana nor Loki is there, unless in ``parts``."""
    files = {path: FileState(path=path) for path in optional._files()}
    for path, text in (texts_of or {}).items():
        files[path] = FileState(path=path, kind="regular file", mode=0o644, owner="root", group="root", content=text)
    services = {name: service(name, loaded=False) for name in (places.GRAFANA, places.LOKI)}
    services |= parts.pop("services", {})
    state = optional.OptionalState(files=files, services=services, **parts)
    return observed({DASH: state}, domain=monitoring.OPTIONAL.name)


APT = "https://apt.grafana.com"
WITH_GRAFANA, WITH_LOKI = topology(grafana=True), topology(loki=True)


def grafana(service: ServiceState) -> dict[str, list[str]]:
    """What is planned where Grafana's files are all there."""
    dash = WITH_GRAFANA.host(DASH)
    files = {
        **optional.grafana_texts(WITH_GRAFANA, dash),
        places.drop_in(places.GRAFANA): optional.grafana_unit(WITH_GRAFANA, dash)[0],
        places.GRAFANA_SOURCE: optional._SOURCE,
    }
    seen = seen_optional(files, key=True, password=True, services={places.GRAFANA: service})
    return titles(monitoring.plan_grafana(WITH_GRAFANA, seen))


def loki(service: ServiceState) -> dict[str, list[str]]:
    """What is planned where Loki's files are all there."""
    files, _ = optional.loki_texts(WITH_LOKI, WITH_LOKI.host(DASH))
    return titles(monitoring.plan_loki(WITH_LOKI, seen_optional(files, services={places.LOKI: service})))


def test_grafana_comes_from_its_own_repository_with_a_pinned_key_and_finds_its_dashboards() -> None:
    plan = monitoring.plan_grafana(WITH_GRAFANA, seen_optional())[DASH]
    order = [change.title for change in plan]
    assert order[0] == f"write {places.drop_in(places.GRAFANA)}"
    assert order.index("fetch the key of Grafana's repository") < order.index("install grafana")
    assert order.index("install grafana") < order.index("make Grafana's password")
    (key,) = [change for change in plan if isinstance(change, Run) and "key" in change.title]
    assert key.argv[-1] == optional.KEY_FINGERPRINT
    assert order[-1] == f"systemctl enable -- {places.GRAFANA}; systemctl restart -- {places.GRAFANA}"
    written = {change.path: change.content for change in plan if isinstance(change, WriteFile)}
    unit_text = str(written[places.drop_in(places.GRAFANA)])
    assert f'"GF_SECURITY_ADMIN_PASSWORD=$__file{{{places.GRAFANA_PASSWORD}}}"' in unit_text
    assert "GF_SERVER_HTTP_ADDR=10.20.0.1 " in unit_text
    assert "GF_PLUGINS_PREINSTALL_AUTO_UPDATE=false" in unit_text
    assert {places.dashboard(name) for name in optional.DASHBOARDS} <= set(written)


def test_a_repository_of_grafana_that_apt_knows_already_is_not_named_twice() -> None:
    plan = titles(monitoring.plan_grafana(WITH_GRAFANA, seen_optional(source=True)))[DASH]
    assert "install grafana" in plan
    assert not any("repository" in title or places.GRAFANA_SOURCE in title for title in plan)


def test_a_grafana_of_somebody_else_is_not_taken_over() -> None:
    seen = seen_optional(services={places.GRAFANA: service(places.GRAFANA)})
    with pytest.raises(StepFailed, match="a Grafana of somebody else would be taken over"):
        monitoring.plan_grafana(WITH_GRAFANA, seen)


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ({}, ""),
        ({"grafana.list": f"deb {APT} stable main"}, "source"),
        ({"grafana.list": f"# deb {APT} stable main"}, ""),
        ({"ours.sources": f"URIs: {APT}"}, ""),
        ({"grafana.list.save": f"deb {APT} stable main"}, ""),
        ({"g.sources": f"URIs: {APT}\nEnabled: no"}, ""),
        ({"g.sources": f"URIs: {APT}"}, "source"),
    ],
)
def test_whether_apt_knows_the_repository_by_another_file(tmp_path: Path, sources: dict[str, str], said: str) -> None:
    for name, text in sources.items():
        (tmp_path / name).write_text(text + "\n")
    script = optional._LOOK.replace("/etc/apt/sources.list.d", str(tmp_path)).replace(
        "/etc/apt/sources.list", "/nowhere"
    )
    ran = subprocess.run(
        ["sh", "-c", script, "look", "/none", "/none", str(tmp_path / "ours.sources")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == said.split()


def test_grafana_that_is_set_up_is_left_alone_and_off_by_default() -> None:
    _, mark = optional.grafana_unit(WITH_GRAFANA, WITH_GRAFANA.host(DASH))
    assert grafana(service(places.GRAFANA, mark=mark)) == {}
    assert monitoring.plan_grafana(LAB, observed({})) == {}
    assert not monitoring.OPTIONAL.concerns(LAB, LAB.host(DASH))


def test_grafana_and_loki_that_run_with_older_files_are_started_again_by_the_next_run() -> None:
    restart = "systemctl restart --"
    assert grafana(service(places.GRAFANA, mark="older")) == {DASH: [f"{restart} {places.GRAFANA}"]}
    assert loki(service(places.LOKI, mark="older")) == {DASH: [f"{restart} {places.LOKI}"]}
    unread = service(places.LOKI, mark="older", reload_needed=True)
    assert loki(unread) == {DASH: ["let systemd read its units again", f"{restart} {places.LOKI}"]}


def test_another_dashboard_is_another_mark_of_grafana() -> None:
    dash = WITH_GRAFANA.host(DASH)
    slower = topology(grafana=True, scrape_interval_s=60)
    text, mark = optional.grafana_unit(WITH_GRAFANA, dash)
    assert f"Environment=DOCKYARD_FILES={mark}\n" in text
    assert optional.grafana_unit(slower, dash)[1] != mark


def test_loki_is_not_invented_where_nobody_installed_it() -> None:
    with pytest.raises(StepFailed, match="Debian has no package"):
        monitoring.plan_loki(WITH_LOKI, seen_optional())
    there = {places.LOKI: service(places.LOKI)}
    assert titles(monitoring.plan_loki(WITH_LOKI, seen_optional(services=there))) == {
        DASH: [
            f"write {places.drop_in(places.LOKI)}",
            f"write {places.LOKI_CONFIG}",
            "let systemd read its units again",
            f"systemctl restart -- {places.LOKI}",
        ]
    }
    assert monitoring.plan_loki(LAB, observed({})) == {}


def test_loki_that_is_set_up_is_left_alone_and_has_a_folder_of_its_own() -> None:
    files, mark = optional.loki_texts(WITH_LOKI, WITH_LOKI.host(DASH))
    assert loki(service(places.LOKI, mark=mark)) == {}
    lines = files[places.drop_in(places.LOKI)].splitlines()
    assert {f"Environment=DOCKYARD_FILES={mark}", "StateDirectory=loki", "Type=exec"} <= set(lines)
    assert f"path_prefix: {optional.LOKI_FOLDER}" in files[places.LOKI_CONFIG]
    assert optional.LOKI_FOLDER == "/var/lib/loki"


def test_every_unit_that_is_started_has_files_that_are_ours() -> None:
    ours = {path for host in LAB.hosts for path in healthy(LAB)[host].files}
    assert {path for paths in setup._READS.values() for path in paths} <= ours


def test_a_repository_out_of_reach_keeps_nothing_back_and_what_comes_from_it_is_still_judged() -> None:
    optional_steps = [step.title for step in runbook.OPTIONAL]
    assert [step.title for step in runbook.STEPS][-2:] == optional_steps
    steps = phase1_baseline.STEPS
    titles_of = [step.title for step in steps]
    assert titles_of[-3:-1] == optional_steps
    exposure = [step for step in steps if isinstance(step, Gate) and machine.LISTENING in step.sees][-2:]
    assert [steps.index(step) - len(steps) for step in exposure] == [-4, -1]
    assert [(step.on, step.stale_s) for step in exposure] == [((), 0.0), ([Role.MONITORING], 0.0)]
    assert len(set(titles_of)) == len(titles_of)
