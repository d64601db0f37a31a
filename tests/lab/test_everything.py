"""All of phase 1 in one command, on the whole inventory of the lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import Lab
from tests.lab.conftest import HOSTS, Runbooks


@pytest.fixture(scope="session")
def runbooks(everything: Runbooks) -> Runbooks:
    return everything


def test_the_second_run_changes_nothing_and_all_is_well(meshed: Lab, runbooks: Runbooks, tmp_path: Path) -> None:
    assert runbooks.succeed("phase1_baseline", "--yes", "--json").changes == {}
    page = tmp_path / "health.html"
    health = runbooks.succeed("health", "--json", "--html", str(page))
    assert health.faults == []
    assert {row["node"] for row in health.document["tables"]["K3s"]} == {"dock-load", "dock-prod", "dock-mirror"}
    assert {row["DNS"] for row in health.document["tables"]["hosts"]} == {"right"}
    text = page.read_text()
    assert "Everything is as it should be." in text
    assert all(host in text for host in HOSTS)
