"""Laptops: peers of every host that are never expected to be there, and the file that their owners carry to them."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from dockyard.change import WriteFile
from dockyard.errors import NotObserved, StepFailed, Unreachable, UsageError
from dockyard.observe import Observed
from dockyard.report import Report
from dockyard.topology import Dns, Peer, Topology
from runbooks import rotate_keys
from runbooks.laptop import hand_over, write_new
from tasks import wireguard
from tasks.wireguard import WireguardState
from tests.unit.meshes import (
    ANNA,
    HOSTS,
    NOW,
    change,
    healthy,
    key_of,
    observed,
    reached,
    topology,
    with_laptop,
)

ROOT = Path(__file__).parents[2]
MESH = with_laptop()
PLANS = [wireguard.plan_keys, wireguard.plan_preshared_keys, wireguard.plan_interface, wireguard.plan_running]
CONF = "/etc/wireguard/wg0.conf"
SECTION = f"# anna\n[Peer]\nPublicKey = {ANNA}\nAllowedIPs = 10.20.0.100/32\n"


def anna(state: WireguardState, **parts: Any) -> WireguardState:
    """``state`` with parts of the laptop's peer replaced."""
    assert state.interface
    peers = state.interface.peers
    return change(state, peers={**peers, ANNA: replace(peers[ANNA], **parts)})


def without_anna(state: WireguardState) -> WireguardState:
    assert state.interface
    return change(state, peers={key: peer for key, peer in state.interface.peers.items() if key != ANNA})


def looked(states: dict[str, Any]) -> Observed:
    return observed(states, {host: reached(host) for host in HOSTS})


def titles(plan: Any) -> dict[str, list[str]]:
    return {host: [change.title for change in changes] for host, changes in plan.items()}


@pytest.mark.parametrize(
    "parts",
    [
        {"latest_handshake": 0, "endpoint": "", "rx_bytes": 0, "tx_bytes": 0},
        {"latest_handshake": NOW - 90_000, "endpoint": "100.64.7.8:40001"},
    ],
)
def test_a_laptop_that_is_away_is_no_fault_and_no_direction(parts: dict[str, Any]) -> None:
    seen = looked({host: anna(state, **parts) for host, state in healthy(MESH).items()})
    assert [plan(MESH, seen) for plan in PLANS] == [{}] * 4
    assert wireguard.check_mesh(MESH, seen) == []
    assert len(wireguard.directions(MESH, seen)) == 20


def test_a_new_laptop_comes_to_every_host_without_an_endpoint_a_keepalive_or_a_preshared_key() -> None:
    seen = observed(healthy())
    assert wireguard.plan_preshared_keys(MESH, seen) == {}
    files = wireguard.plan_interface(MESH, seen)
    assert titles(files) == {host: [f"write {CONF}"] for host in HOSTS}
    for (file,) in files.values():
        assert isinstance(file, WriteFile)
        assert isinstance(file.content, str)
        assert file.content.endswith(f"\n\n{SECTION}")
        assert f"peer {ANNA}" not in file.content
        assert not file.provisional
    brought = "bring wg0 in line, tunnels stay: peer anna is missing"
    assert titles(wireguard.plan_running(MESH, seen)) == {host: [brought] for host in HOSTS}


def test_a_laptop_that_left_the_inventory_has_no_way_in_any_more() -> None:
    seen = looked(healthy(MESH))
    assert titles(wireguard.plan_interface(topology(), seen)) == {host: [f"write {CONF}"] for host in HOSTS}
    for (title,) in titles(wireguard.plan_running(topology(), seen)).values():
        assert title.endswith(f"unknown peer {ANNA} (10.20.0.100/32)")
    faults = [finding.fault for finding in wireguard.check_mesh(topology(), seen)]
    assert faults.count("wg0 has an unknown peer") == faults.count(f"{CONF} was changed") == len(HOSTS)


def given_a_key(state: WireguardState) -> WireguardState:
    return anna(state, preshared=True)


BROKEN: dict[str, tuple[Callable[[WireguardState], WireguardState], str]] = {
    "missing": (without_anna, "peer anna is missing"),
    "another address": (
        lambda state: anna(state, allowed_ips=("0.0.0.0/0",)),
        "peer anna: allowed IPs 0.0.0.0/0 instead of 10.20.0.100/32",
    ),
    "a preshared key": (given_a_key, "peer anna: a preshared key, not planned"),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_what_the_kernel_has_of_a_laptop_is_compared_and_mended(damage: str) -> None:
    damaged, said = BROKEN[damage]
    states = healthy(MESH)
    states["dock-edge"] = damaged(states["dock-edge"])
    (finding,) = wireguard.check_mesh(MESH, looked(states))
    assert (finding.host, finding.subject, finding.evidence) == ("dock-edge", "anna", said)
    assert titles(wireguard.plan_running(MESH, looked(states))) == {
        "dock-edge": [f"bring wg0 in line, tunnels stay: {said}"]
    }


def test_a_section_that_somebody_took_out_of_the_file_is_a_finding() -> None:
    states = healthy(MESH)
    file = states["dock-load"].files[CONF]
    shorter = replace(file, content=file.content.replace(SECTION, ""))
    states["dock-load"] = replace(states["dock-load"], files={**states["dock-load"].files, CONF: shorter})
    (finding,) = wireguard.check_mesh(MESH, looked(states))
    assert (finding.host, finding.fault, finding.evidence) == (
        "dock-load",
        f"{CONF} was changed",
        "missing: # anna",
    )


def test_while_a_host_is_not_seen_a_laptop_is_no_unknown_peer() -> None:
    states: dict[str, Any] = healthy(MESH) | {"dock-edge": Unreachable("dock-edge", "no answer")}
    seen = observed(states, {host: reached(host) for host in HOSTS if host != "dock-edge"})
    assert [finding.host for finding in wireguard.check_mesh(MESH, seen)] == ["dock-edge"]


@pytest.mark.parametrize("plan", PLANS)
def test_a_laptop_with_the_key_of_a_host_is_refused_before_anything_is_done(plan: Any) -> None:
    with pytest.raises(StepFailed, match="the laptop anna has the public key of dock-prod") as caught:
        plan(with_laptop(key=key_of("dock-prod")), observed(healthy()))
    assert "Nothing was done on any host." in caught.value.advice


def test_a_rotation_keeps_laptops_where_they_are() -> None:
    states = healthy(MESH)
    key = states["dock-load"].key
    assert key
    states["dock-load"] = replace(states["dock-load"], next_key=replace(key, public_key=key_of("new")))
    plan = wireguard.plan_swap(MESH, observed(states), "dock-load")
    files = [change for host in HOSTS for change in plan[host] if getattr(change, "path", "") == CONF]
    assert len(files) == len(HOSTS) - 1
    assert all(isinstance(file, WriteFile) and SECTION in str(file.content) for file in files)


# --- the file that the owner carries to the laptop

TEXT = f"""\
# The mesh of dockyard-lab for anna. On Linux it is /etc/wireguard/dock.conf, mode 0600: wg-quick up dock
# No way from outside leads to dock-edge: no public endpoint.
[Interface]
Address = 10.20.0.100/32
MTU = 1420
# Made on the laptop by `wg genkey`, and never anywhere else. `wg pubkey` must make of it what the inventory has:
# {ANNA}
# PrivateKey =
# Names under dock.internal are asked for at dock-load, all others where they always were; by systemd-resolved.
PostUp = resolvectl dns %i 10.20.0.4; resolvectl domain %i '~dock.internal'
# Without it, and in the app on a phone, this line instead. It sends all names there, so cluster.dns needs an upstream.
# DNS = 10.20.0.4, dock.internal

# dock-dash
[Peer]
PublicKey = {key_of("dock-dash")}
AllowedIPs = 10.20.0.1/32
Endpoint = 10.99.0.11:51820
PersistentKeepalive = 25

# dock-prod
[Peer]
PublicKey = {key_of("dock-prod")}
AllowedIPs = 10.20.0.2/32
Endpoint = 10.99.0.12:51820
PersistentKeepalive = 25

# dock-mirror
[Peer]
PublicKey = {key_of("dock-mirror")}
AllowedIPs = 10.20.0.3/32
Endpoint = 10.99.0.13:51820
PersistentKeepalive = 25

# dock-load
[Peer]
PublicKey = {key_of("dock-load")}
AllowedIPs = 10.20.0.4/32
Endpoint = 10.99.0.14:51820
PersistentKeepalive = 25
"""


def with_dns(mesh: Topology, dns: Dns | None) -> Topology:
    return replace(mesh, cluster=replace(mesh.cluster, dns=dns))


def printed(mesh: Topology, states: dict[str, Any] | None = None) -> str:
    return wireguard.laptop_file(mesh, observed(states or healthy(MESH)), "anna")


def test_the_file_calls_every_host_that_can_be_called_and_names_the_others() -> None:
    states = {host: state for host, state in healthy(MESH).items() if host != "dock-edge"}
    assert printed(with_dns(MESH, Dns()), states) == TEXT


def test_hosts_that_do_not_know_the_laptop_yet_are_named() -> None:
    states = healthy(MESH)
    states["dock-prod"] = without_anna(states["dock-prod"])
    states["dock-load"] = replace(states["dock-load"], interface=None)
    assert "\n# Not known yet to dock-prod, dock-load: python runbooks/phase1_baseline.py\n" in printed(MESH, states)


def test_without_dns_within_reach_there_are_no_names() -> None:
    nobody, away = (printed(with_dns(MESH, dns)) for dns in (None, Dns(host="dock-edge")))
    assert "# No names: the inventory has no cluster.dns.\n" in nobody
    assert "# No names: dock-edge answers for them, and has no public endpoint.\n" in away
    assert not any(word in text for text in (nobody, away) for word in ("PostUp", "DNS ="))


def test_names_and_other_ports_of_endpoints_are_kept() -> None:
    prod = MESH.host("dock-prod")
    moved = replace(prod, wireguard=Peer(IPv4Address("10.20.0.2"), endpoint="home.dock.test:51821"))
    assert "Endpoint = home.dock.test:51821\n" in printed(replace(MESH, hosts={**MESH.hosts, "dock-prod": moved}))


def test_a_laptop_that_is_not_in_the_inventory_is_named_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="there is no laptop 'bert'") as caught:
        wireguard.laptop_file(MESH, observed(healthy(MESH)), "bert")
    assert caught.value.advice.endswith("there: anna")


def test_a_file_that_would_not_work_is_not_made() -> None:
    states: dict[str, Any] = healthy(MESH)
    with pytest.raises(NotObserved, match="dock-prod"):
        printed(MESH, states | {"dock-prod": Unreachable("dock-prod", "no answer")})
    with pytest.raises(StepFailed, match="dock-prod has no key yet"):
        printed(MESH, states | {"dock-prod": replace(states["dock-prod"], key=None)})
    with pytest.raises(StepFailed, match="a key rotation is not settled"):
        printed(MESH, states | {"dock-prod": replace(states["dock-prod"], armed_s=10)})


def test_wg_quick_reads_the_file(tmp_path: Path) -> None:
    if not shutil.which("wg-quick"):
        pytest.skip("wireguard-tools is not installed")
    path = tmp_path / "dock.conf"
    write_new(path, TEXT)
    ran = subprocess.run(["wg-quick", "strip", path], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (ran.stdout.count("[Peer]"), "PostUp" in ran.stdout) == (4, False)


def test_a_file_that_may_hold_the_private_key_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "dock.conf"
    write_new(path, TEXT)
    assert (path.read_text(), path.stat().st_mode & 0o777) == (TEXT, 0o600)
    with pytest.raises(UsageError, match="may hold the laptop's private key"):
        write_new(path, "another")
    assert path.read_text() == TEXT
    with pytest.raises(UsageError, match="No such file or directory"):
        write_new(tmp_path / "missing" / "dock.conf", TEXT)


def test_what_is_printed_is_the_file_and_nothing_else(tmp_path: Path) -> None:
    shown, quiet = (Report("laptop", json_mode=json_mode, out=io.StringIO()) for json_mode in (False, True))
    for report in (shown, quiet):
        hand_over(TEXT, None, report)
    assert printed_by(shown) == TEXT
    assert printed_by(quiet) == ""
    assert quiet.tables == {"file": [{"text": TEXT}]}
    hand_over(TEXT, tmp_path / "dock.conf", quiet)
    assert (tmp_path / "dock.conf").read_text() == TEXT


def printed_by(report: Report) -> str:
    file = report.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_a_rotation_says_which_laptops_need_a_new_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["rotate_keys.py", "dock-load", "--yes"])
    monkeypatch.setattr(rotate_keys, "walk", lambda _inventory, _options, steps_of, _report: steps_of(MESH))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert rotate_keys.main() == 0
    assert "anna needs a new file afterwards: python runbooks/laptop.py anna" in out.getvalue()


def test_the_runbook_asks_no_host_about_a_laptop_that_nobody_knows() -> None:
    command = [sys.executable, str(ROOT / "runbooks" / "laptop.py"), "bert", "--inventory", "lab"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert "there is no laptop 'bert'" in ran.stdout
