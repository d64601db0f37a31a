"""Whom health leaves to the mesh: an exporter that cannot be reached through a dead tunnel is no news of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dockyard.errors import Unreachable
from dockyard.observe import Observed
from runbooks.health import check_monitoring
from tasks import monitoring
from tasks.machine import MACHINE, MachineState, Offset
from tests.unit import meshes
from tests.unit.monitored import DASH, EDGE, PROD, answering, healthy, topology

LAB = topology()
SEEN = MachineState(clock=Offset(least=0, most=0), kernel="6.12", uptime_s=1.0, file_systems=(), missing=())
LOST = {"10.20.0.5:9100"}


def swept(*, silent: tuple[str, str] | None = None, gone: str = "") -> Observed:
    """The exporter of dock-edge does not answer; ``gone`` is not seen, ``silent`` hears nothing of the other."""
    reach = {host: meshes.reached(host) for host in LAB.hosts}
    if silent:
        reach[silent[0]] = meshes.silent(reach[silent[0]], silent[1])
    mesh = meshes.observed(meshes.healthy(), reach)
    said = answering(LAB)
    watching = {
        MACHINE.name: SEEN,
        monitoring.MONITORING.name: healthy(LAB)[DASH],
        monitoring.PROMETHEUS.name: replace(said, reached=said.reached - LOST),
    }
    machines: dict[str, dict[str, object]] = {host: {MACHINE.name: SEEN} for host in LAB.hosts}
    machines[DASH] = watching
    if gone:
        machines[gone] = {MACHINE.name: Unreachable(gone, "no route")}
    return mesh.merged(Observed(machines))


def test_an_exporter_that_is_silent_in_a_whole_mesh_is_a_finding() -> None:
    assert [finding.subject for finding in check_monitoring(LAB, swept())] == [EDGE]
    assert [finding.subject for finding in check_monitoring(LAB, swept(silent=(PROD, EDGE)))] == [EDGE]


@pytest.mark.parametrize("silent", [(DASH, EDGE), (EDGE, DASH)])
def test_where_the_tunnel_is_dead_the_mesh_says_so(silent: tuple[str, str]) -> None:
    assert check_monitoring(LAB, swept(silent=silent)) == []


def test_a_host_that_is_gone_is_named_once_and_not_by_its_exporter() -> None:
    assert check_monitoring(LAB, swept(gone=EDGE)) == []
