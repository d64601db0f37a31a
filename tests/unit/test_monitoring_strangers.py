"""What is there already on a host is not taken over: refused before the first change, with what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from dockyard.change import UnitState
from dockyard.files import FileState
from dockyard.findings import Cause, Finding
from dockyard.observe import Observed
from dockyard.steps import Converge, Gate
from dockyard.topology import Role, Topology
from runbooks import monitoring as runbook
from tasks import monitoring
from tasks.monitoring import places
from tasks.monitoring.facts import MonitoringState, UnitSeen
from tests.unit.monitored import DASH, PROD, healthy, observed, pristine, topology

LAB = topology()
BOTH = (places.PROMETHEUS, places.ALERTMANAGER)


def check(
    states: Mapping[str, MonitoringState], held: Mapping[tuple[str, int], Sequence[str]] | None = None
) -> list[Finding]:
    def holders(_topology: Topology, _observed: Observed, host: str, port: int) -> Sequence[str] | None:
        return None if held is None else held.get((host, port), [])

    return monitoring.check_strangers(LAB, observed(states), holders=holders)


def with_units(state: MonitoringState, *names: str, active: str, enabled: str) -> MonitoringState:
    units = {
        name: UnitSeen(state=UnitState(name=name, loaded=True, active=active, enabled=enabled, sub="running"))
        for name in names
    }
    return replace(state, units={**state.units, **units})


def bare(*names: str, active: str, enabled: str) -> MonitoringState:
    """The host that is to watch, with these units of somebody else."""
    return with_units(pristine(LAB, DASH), *names, active=active, enabled=enabled)


@pytest.mark.parametrize(
    ("active", "enabled", "refused"),
    [
        ("active", "enabled", True),
        ("active", "disabled", True),
        ("activating", "disabled", True),
        ("inactive", "enabled", True),
        ("failed", "enabled", True),
        ("inactive", "disabled", False),
        ("failed", "disabled", False),
    ],
)
def test_a_prometheus_of_somebody_else_keeps_its_history(active: str, enabled: str, refused: bool) -> None:
    found = check({DASH: bare(*BOTH, active=active, enabled=enabled)})
    assert [one.fault for one in found] == ["a Prometheus of somebody else would be taken over"] * refused
    if found:
        assert (found[0].cause, found[0].host) == (Cause.MONITORING, DASH)
        assert f"prometheus.service is {active} (running), {enabled}" in found[0].evidence
        for words in (
            "systemctl disable --now prometheus.service prometheus-alertmanager.service",
            "mv /var/lib/prometheus/metrics2 /var/lib/prometheus/metrics2.old",
            "the role monitoring to another host",
        ):
            assert words in found[0].advice


def test_an_alertmanager_alone_has_no_history_to_lose() -> None:
    (finding,) = check({DASH: bare(places.ALERTMANAGER, active="active", enabled="enabled")})
    assert "disable --now prometheus-alertmanager.service" in finding.advice
    assert places.DATABASE not in finding.advice


def test_our_own_is_mended_and_not_refused() -> None:
    states = healthy(LAB)
    assert check(states, {}) == []
    lost = places.drop_in(places.PROMETHEUS)
    without = replace(states[DASH], files={**states[DASH].files, lost: FileState(path=lost)})
    assert check({DASH: without}) == [], "health says that phase 1 mends it"
    begun = bare(*BOTH, active="active", enabled="enabled")
    ours = {path: healthy(LAB)[DASH].files[path] for path in map(places.drop_in, BOTH)}
    assert check({DASH: replace(begun, files={**begun.files, **ours})}) == [], "a run that was cut off"


@pytest.mark.parametrize(
    ("host", "port", "unit", "active", "refused"),
    [
        (PROD, 9100, places.EXPORTER, "inactive", True),
        (PROD, 9100, places.EXPORTER, "activating", True),
        (PROD, 9100, places.EXPORTER, "active", False),
        (DASH, 9090, places.PROMETHEUS, "inactive", True),
        (DASH, 9093, places.ALERTMANAGER, "failed", True),
        (PROD, 9090, places.EXPORTER, "active", False),
        (DASH, 3000, places.EXPORTER, "active", False),
    ],
)
def test_who_holds_a_port_of_ours_is_named(host: str, port: int, unit: str, active: str, refused: bool) -> None:
    states = healthy(LAB)
    states[host] = with_units(states[host], unit, active=active, enabled="enabled")
    found = check(states, {(host, port): ["systemd (tcp *:9090)", "docker-proxy (tcp 0.0.0.0:9090)"]})
    assert [one.fault for one in found] == [f"port {port} is taken by somebody else"] * refused
    if found:
        assert found[0].host == host
        assert found[0].evidence == "systemd (tcp *:9090), docker-proxy (tcp 0.0.0.0:9090)"
        assert unit in found[0].advice
    assert check(states) == [], "nobody could look"


def test_nothing_is_changed_before_it_was_asked() -> None:
    first = next(step for step in runbook.WATCHING if isinstance(step, Gate))
    assert first is runbook.WATCHING[0]
    assert (first.on, first.stale_s) == ((), 0.0), "on every host, and looked at anew"
    room = runbook.WATCHING[1]
    assert isinstance(room, Gate)
    assert room.on == (Role.MONITORING,)
    assert isinstance(runbook.WATCHING[2], Converge)
