"""The inventory changes under a running mesh: a host leaves, a laptop comes and goes, an address becomes a name."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lab import Lab
from tests.lab.conftest import HOSTS, Memory, Runbooks, replace_in

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


PEERS = "wg show wg0 allowed-ips"
CALL = """\
set -e; mkdir -p /etc/netns/anna; : >/etc/netns/anna/hosts; echo nameserver 10.20.0.4 >/etc/netns/anna/resolv.conf
(umask 077; printf %s {file} >/etc/wireguard/anna.conf; wg-quick strip anna >/run/anna.conf)
ip netns add anna; ip link add anna type wireguard; wg setconf anna /dev/stdin </run/anna.conf
ip link set anna netns anna; rm /run/anna.conf /etc/wireguard/anna.conf
ip -n anna address add 10.20.0.100/32 dev anna; ip -n anna link set anna up
ip -n anna route add 10.20.0.0/24 dev anna"""
"""A laptop in a network namespace: its interface keeps its socket where it was made, as wireguard.com/netns has it."""


def test_a_laptop_gets_in_and_hears_the_names_until_it_is_taken_out(
    meshed: Lab, runbooks: Runbooks, memory: Memory, inventory: Path
) -> None:
    memory.built = ""  # the DNS server stays
    edge = meshed["dock-edge"]
    private = edge.succeed("wg genkey").strip()
    public = edge.succeed(f"echo {private} | wg pubkey").strip()
    flag = "      preshared_keys: true\n"
    laptop = f"      laptops: {{anna: {{address: 10.20.0.100, public_key: {public}}}}}\n"
    replace_in(inventory / "defaults.yaml", flag, flag + laptop + "    dns: {host: dock-load}\n")
    where = ("--inventory", str(inventory))

    runbooks.succeed("phase1_baseline", "--yes", *where)
    for host in HOSTS:
        assert f"{public}\t10.20.0.100/32\n" in meshed[host].succeed(PEERS, sudo=True)
        meshed[host].fail("grep anna /etc/hosts")
    assert runbooks.succeed("health", "--json", *where).faults == []
    assert runbooks.succeed("phase1_baseline", "--yes", "--json", *where).changes == {}

    text = runbooks.succeed("laptop", "anna", *where).stdout
    filled = text.replace("# PrivateKey =", f"PrivateKey = {private}")
    edge.succeed(CALL.format(file=shlex.quote(filled)), sudo=True)
    for host in STAY:
        edge.wait_until_succeeds(f"ip netns exec anna ping -n -q -c 1 -w 5 {address_of(host)}", sudo=True, timeout_s=60)
    found = edge.succeed("ip netns exec anna getent ahostsv4 grafana.dock.internal", sudo=True)
    assert found.startswith(f"{address_of('dock-dash')} ")
    edge.succeed("ip netns delete anna; rm -r /etc/netns/anna", sudo=True)

    runbooks.succeed("phase1_baseline", "--yes")
    for host in HOSTS:
        assert public not in meshed[host].succeed(PEERS, sudo=True)
    assert runbooks.succeed("health", "--json").faults == []


def address_of(host: str) -> str:
    return f"10.20.0.{HOSTS.index(host) + 1}"


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
