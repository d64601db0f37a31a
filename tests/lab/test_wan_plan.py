"""The line is measured by the real receiver and sender, and agrees with what the lab's wire was set to."""

from __future__ import annotations

import pytest

from lab import Lab
from tests.lab.conftest import Runbooks


@pytest.mark.drill
def test_the_measured_line_is_the_one_of_the_wire(meshed: Lab, runbooks: Runbooks) -> None:
    meshed.wan("home", "dc", rtt_s=0.06, rate_bit_s=10e6)
    try:
        ran = runbooks.run("wan_plan", "--measure", "--yes", "--json", "--size", "100G")
    finally:
        meshed.wan_default("home", "dc")
    assert ran.exit_code == 1, str(ran)  # the inventory says something else
    known = {row["name"]: float(row["value"]) for row in ran.document["tables"]["known"] if row["from"] == "measured"}
    assert known["mbit"] == pytest.approx(8.8, rel=0.2), str(ran)
    assert known["rtt_ms"] == pytest.approx(70, rel=0.25), str(ran)
    for host in ("dock-prod", "dock-mirror"):
        meshed[host].fail("systemctl is-active dockyard-wan-sink.service")
    again = runbooks.run("wan_plan", "--measure", "--yes", "--json", "--size", "100G", "--seconds", "4")
    assert again.exit_code in {0, 1}, str(again)
