"""The inventory changes under a running mesh: a host leaves, an address becomes a name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab import Lab
from tests.lab.conftest import HOSTS, Runbooks, replace_in

pytestmark = pytest.mark.drill

STAY = [host for host in HOSTS if host != "dock-edge"]
ENDPOINTS = "wg show wg0 endpoints"


def without_edge(inventory: Path) -> None:
    hosts = inventory / "hosts.yaml"
    hosts.write_text(re.sub(r"^dock-edge:\n(?:[ #].*\n|\n)*", "", hosts.read_text(), flags=re.MULTILINE))
    replace_in(inventory / "defaults.yaml", "      ollama: dock-edge\n", "")


def test_a_host_that_left_the_inventory_loses_its_peer_everywhere(
    meshed: Lab, runbooks: Runbooks, inventory: Path
) -> None:
    without_edge(inventory)
    runbooks.succeed("phase1_baseline", "--yes", "--inventory", str(inventory))
    for host in STAY:
        assert meshed[host].succeed("wg show wg0 peers | wc -l", sudo=True) == "3\n"
        meshed[host].fail("grep dock-edge /etc/hosts")
        meshed[host].fail("ls /etc/wireguard/wg0-dock-edge.psk", sudo=True)
    assert runbooks.succeed("health", "--json", "--inventory", str(inventory)).faults == []
    runbooks.succeed("phase1_baseline", "--yes")
    assert runbooks.succeed("health", "--json").faults == []


def test_an_endpoint_name_is_resolved_again_when_its_address_changes(
    meshed: Lab, runbooks: Runbooks, inventory: Path
) -> None:
    dash, mirror = meshed["dock-dash"], meshed["dock-mirror"]
    for host in HOSTS:
        meshed[host].succeed("echo 10.99.0.13 mirror.lab.test >>/etc/hosts", sudo=True)
    replace_in(inventory / "hosts.yaml", "endpoint: 10.99.0.13", "endpoint: mirror.lab.test")
    runbooks.succeed("phase1_baseline", "--yes", "--inventory", str(inventory))
    assert runbooks.succeed("phase1_baseline", "--yes", "--json", "--inventory", str(inventory)).changes == {}

    mirror.succeed("systemctl stop wg-quick@wg0", sudo=True)
    dash.succeed("sed -i 's/^10.99.0.13 /10.99.0.99 /' /etc/hosts && systemctl restart wg-quick@wg0", sudo=True)
    assert "10.99.0.99:" in dash.succeed(ENDPOINTS, sudo=True)
    dash.succeed("sed -i 's/^10.99.0.99 /10.99.0.13 /' /etc/hosts", sudo=True)
    dash.wait_until_succeeds(f"{ENDPOINTS} | grep -F 10.99.0.13:", sudo=True, timeout_s=180)

    for host in HOSTS:
        meshed[host].succeed("sed -i '/mirror.lab.test/d' /etc/hosts", sudo=True)
    runbooks.succeed("phase1_baseline", "--yes")
    dash.fail("systemctl is-enabled dockyard-wg-resolve.timer")
    assert runbooks.succeed("health", "--json").faults == []
