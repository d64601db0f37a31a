"""All of phase 1 in one command, on the whole inventory of the lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import Lab
from tests.lab.conftest import HOSTS, Runbooks


@pytest.fixture(scope="session")
def runbooks(everything: Runbooks) -> Runbooks:
    return everything


HIDE = """\
for tool in wg wg-quick curl jq nft dnsmasq prometheus promtool prometheus-alertmanager amtool prometheus-node-exporter
do for path in /usr/bin/$tool /usr/sbin/$tool; do [ ! -e $path ] || mv $path $path.away; done; done"""


@pytest.mark.drill
def test_a_dry_run_on_hosts_that_lack_every_package_goes_to_its_end(pristine: Lab, runbooks: Runbooks) -> None:
    for host in HOSTS:
        pristine[host].succeed(HIDE, sudo=True)
    dry = runbooks.succeed("phase1_baseline", "--dry-run")
    for line in (
        "install wireguard-tools",
        "install dnsmasq",
        "install curl",
        "+[Interface]",
        "/etc/dockyard/monitoring/prometheus.yml",
        "apply opencloud: Namespace",
    ):
        assert line in dry.stdout, str(dry)


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
