"""Plans of the mesh: nothing on a healthy one, exactly the mend on a broken one, placeholders on a pristine one."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dockyard.change import Plan, WriteFile
from dockyard.errors import NotObserved, StepFailed, Unreachable
from dockyard.observe import Observed
from dockyard.rendering import render
from dockyard.secret import Secret
from dockyard.topology import Endpoint, Topology
from tasks import wireguard
from tasks.wireguard import WireguardState, places, wanted
from tests.unit.meshes import (
    HOSTS,
    NOW,
    change,
    change_peer,
    healthy,
    key_of,
    observed,
    pristine,
    relink,
    topology,
)

PLANS = [wireguard.plan_keys, wireguard.plan_preshared_keys, wireguard.plan_interface, wireguard.plan_running]


def shown(plan: Plan) -> dict[str, list[str]]:
    """The last line of each diff: the command, or the end of a file's diff."""
    return {host: [change.diff().splitlines()[-1] for change in changes] for host, changes in plan.items()}


def titles(plan: Plan) -> dict[str, list[str]]:
    return {host: [change.title for change in changes] for host, changes in plan.items()}


@pytest.mark.parametrize("plan", PLANS)
def test_a_healthy_mesh_needs_nothing(plan: Any) -> None:
    assert plan(topology(), observed(healthy())) == {}


def test_pristine_hosts_make_their_own_keys() -> None:
    plan = wireguard.plan_keys(topology(), observed({host: pristine(host) for host in HOSTS}))
    assert set(plan) == set(HOSTS)
    assert all("wg genkey" in change.diff() and not change.provisional for (change,) in plan.values())


def test_a_file_that_holds_no_key_is_not_replaced() -> None:
    states = healthy()
    state = states["dock-load"]
    assert state.key
    states["dock-load"] = replace(state, key=replace(state.key, public_key=""))
    with pytest.raises(StepFailed, match=r"dock-load: /etc/wireguard/wg0.key is there but holds no") as caught:
        wireguard.plan_keys(topology(), observed(states))
    assert "Nothing was done on any host" in caught.value.advice


@pytest.mark.parametrize("parts", [{"mode": 0o644}, {"owner": "dockyard:root"}])
def test_a_readable_key_is_made_private_and_not_replaced(parts: dict[str, Any]) -> None:
    states = healthy()
    state = states["dock-load"]
    assert state.key
    states["dock-load"] = replace(state, key=replace(state.key, **parts))
    plan = wireguard.plan_keys(topology(), observed(states))
    assert list(plan) == ["dock-load"]
    assert "chmod 0600" in plan["dock-load"][0].diff()
    assert "genkey" not in plan["dock-load"][0].diff()


def numbered() -> Any:
    count = itertools.count()
    return lambda: Secret(f"secret-{next(count)}")


def secrets(plan: Plan) -> dict[tuple[str, str], str]:
    found = {}
    for host, changes in plan.items():
        for one in changes:
            assert isinstance(one, WriteFile)
            assert isinstance(one.content, Secret)
            assert one.mode == 0o600
            found[host, one.path] = one.content.reveal()
    return found


def test_every_pair_gets_one_key_at_both_ends() -> None:
    plan = wireguard.plan_preshared_keys(topology(), observed({host: pristine(host) for host in HOSTS}), numbered())
    made = secrets(plan)
    assert len(made) == 20
    assert len(set(made.values())) == 10
    for one, other in topology().directions():
        assert made[one, f"/etc/wireguard/wg0-{other}.psk"] == made[other, f"/etc/wireguard/wg0-{one}.psk"]
    assert "secret-" not in "".join(change.diff() + repr(change) for changes in plan.values() for change in changes)


@pytest.mark.parametrize("damage", ["missing", "different", "readable", "empty"])
def test_a_pair_that_does_not_match_gets_a_new_key_and_no_other(damage: str) -> None:
    states = healthy()
    state = states["dock-prod"]
    files = dict(state.preshared)
    file = files.pop("dock-edge")
    damaged = {
        "different": replace(file, fingerprint="another"),
        "readable": replace(file, mode=0o644),
        "empty": replace(file, fingerprint=""),
    }
    states["dock-prod"] = replace(
        state, preshared=files | ({"dock-edge": damaged[damage]} if damage in damaged else {})
    )
    plan = wireguard.plan_preshared_keys(topology(), observed(states))
    assert titles(plan) == {
        "dock-prod": ["write /etc/wireguard/wg0-dock-edge.psk"],
        "dock-edge": ["write /etc/wireguard/wg0-dock-prod.psk"],
    }


def test_a_mesh_without_preshared_keys_makes_none_and_removes_old_ones() -> None:
    mesh = without_preshared_keys(topology())
    assert wireguard.plan_preshared_keys(mesh, observed(healthy())) == {}
    plan = wireguard.plan_interface(mesh, observed(healthy()))
    assert titles(plan)["dock-dash"] == [
        "write /etc/wireguard/wg0.conf",
        *(f"remove /etc/wireguard/wg0-{peer}.psk" for peer in sorted(set(HOSTS) - {"dock-dash"})),
    ]


def test_a_preshared_key_that_our_file_never_named_is_moved_aside_and_not_lost() -> None:
    states = healthy()
    dash = states["dock-dash"]
    key = dash.preshared["dock-load"]
    states["dock-dash"] = replace(dash, preshared={**dash.preshared, "phone": key})
    (change,) = wireguard.plan_interface(topology(), observed(states))["dock-dash"]
    assert change.commands()[0].argv == (
        "mv",
        "-f",
        "--",
        "/etc/wireguard/wg0-phone.psk",
        "/etc/wireguard/wg0-phone.psk.old",
    )


def without_preshared_keys(mesh: Topology) -> Topology:
    cluster = replace(mesh.cluster, wireguard=replace(mesh.cluster.wireguard, preshared_keys=False))
    return replace(mesh, cluster=cluster)


def config_of(plan: Plan, host: str) -> WriteFile:
    (found,) = [one for one in plan[host] if isinstance(one, WriteFile) and one.path == "/etc/wireguard/wg0.conf"]
    return found


def test_on_pristine_hosts_the_interface_file_is_shown_with_placeholders_and_never_applied() -> None:
    plan = wireguard.plan_interface(topology(), observed({host: pristine(host) for host in HOSTS}))
    file = config_of(plan, "dock-dash")
    assert file.provisional
    assert "+PublicKey = (the public key of dock-prod, made in an earlier step)" in file.diff()


INTERFACE_FILE = """\
# Written by Dockyard from the inventory; changes here are overwritten.
# The private key and the preshared keys lie beside this file and never in it (docs/wireguard.md). An endpoint that
# is a name stands in a PostUp: wg(8) takes no [Peer] at all while the name of a single one does not resolve.
[Interface]
Address = 10.20.0.5/24
ListenPort = 51820
MTU = 1420
PostUp = wg set %i peer dock/dashxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx= preshared-key /etc/wireguard/%i-dock-dash.psk
PostUp = wg set %i peer dock/prodxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx= preshared-key /etc/wireguard/%i-dock-prod.psk
PostUp = wg set %i peer dock/mirrorxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx= preshared-key /etc/wireguard/%i-dock-mirror.psk
PostUp = wg set %i peer dock/loadxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx= preshared-key /etc/wireguard/%i-dock-load.psk
PostUp = wg set %i private-key /etc/wireguard/%i.key

# dock-dash
[Peer]
PublicKey = dock/dashxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx=
AllowedIPs = 10.20.0.1/32
Endpoint = 10.99.0.11:51820
PersistentKeepalive = 25

# dock-prod
[Peer]
PublicKey = dock/prodxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx=
AllowedIPs = 10.20.0.2/32
Endpoint = 10.99.0.12:51820

# dock-mirror
[Peer]
PublicKey = dock/mirrorxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx=
AllowedIPs = 10.20.0.3/32
Endpoint = 10.99.0.13:51820
PersistentKeepalive = 25

# dock-load
[Peer]
PublicKey = dock/loadxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx=
AllowedIPs = 10.20.0.4/32
Endpoint = 10.99.0.14:51820
PersistentKeepalive = 25
"""
"""dock-edge stands behind NAT: it keeps its way to the other sites open, and nobody has an endpoint for it but prod."""


def test_the_interface_file_of_the_host_behind_nat() -> None:
    states = healthy()
    states["dock-edge"] = replace(states["dock-edge"], files=pristine("dock-edge").files)
    plan = wireguard.plan_interface(topology(), observed(states))
    file = config_of(plan, "dock-edge")
    assert file.content == INTERFACE_FILE
    assert (file.mode, file.provisional) == (0o600, False)


def test_a_host_without_endpoint_gets_none_from_other_sites() -> None:
    text = wanted.interface_file(
        topology(), "dock-dash", wanted.wanted_peers(topology(), observed(healthy()), "dock-dash")
    )
    edge = text.partition("# dock-edge\n")[2]
    assert "Endpoint" not in edge
    assert "PersistentKeepalive" not in edge


def test_a_file_edited_by_hand_is_written_again_on_that_host_only() -> None:
    states = healthy()
    state = states["dock-load"]
    path = "/etc/wireguard/wg0.conf"
    edited = replace(state.files[path], content=state.files[path].content.replace("MTU = 1420", "MTU = 1300"))
    states["dock-load"] = replace(state, files={**state.files, path: edited})
    plan = wireguard.plan_interface(topology(), observed(states))
    assert titles(plan) == {"dock-load": ["write /etc/wireguard/wg0.conf"]}
    assert {"-MTU = 1300", "+MTU = 1420"} < set(plan["dock-load"][0].diff().splitlines())


def test_systemd_reads_its_files_again_after_a_change_and_after_a_run_that_was_cut_off() -> None:
    states = healthy()
    states["dock-load"] = replace(states["dock-load"], reload_needed=True)
    plan = wireguard.plan_interface(topology(), observed(states))
    assert shown(plan) == {"dock-load": ["$ systemctl daemon-reload"]}


@pytest.mark.parametrize("plan", [wireguard.plan_keys, wireguard.plan_interface, wireguard.plan_running])
def test_two_hosts_with_one_key_are_refused_before_anything_is_done(plan: Any) -> None:
    states = healthy()
    states["dock-mirror"] = replace(states["dock-mirror"], key=states["dock-prod"].key)
    with pytest.raises(StepFailed, match="dock-prod and dock-mirror have the same private key") as caught:
        plan(topology(), observed(states))
    assert "Nothing was done on any host." in caught.value.advice


def test_a_host_that_left_is_no_peer_anywhere() -> None:
    states = healthy()
    left = replace(topology(), hosts={name: host for name, host in topology().hosts.items() if name != "dock-edge"})
    seen = observed({host: state for host, state in states.items() if host != "dock-edge"})
    files = wireguard.plan_interface(left, seen)
    assert all("remove /etc/wireguard/wg0-dock-edge.psk" in found for found in titles(files).values())
    running = wireguard.plan_running(left, seen)
    assert set(running) == set(left.hosts)
    assert all(f"unknown peer {key_of('dock-edge')}" in found for (found,) in titles(running).values())


def test_a_peer_that_is_not_in_the_inventory_is_shown_before_it_is_removed() -> None:
    states = healthy()
    state = added(states["dock-load"])
    file = state.files["/etc/wireguard/wg0.conf"]
    laptop = f"{file.content}\n[Peer]\nPublicKey = {key_of('stranger')}\nAllowedIPs = 10.20.0.200/32\n"
    states["dock-load"] = replace(state, files={**state.files, file.path: replace(file, content=laptop)})
    diff = config_of(wireguard.plan_interface(topology(), observed(states)), "dock-load").diff()
    assert f"-[Peer]\n-PublicKey = {key_of('stranger')}\n-AllowedIPs = 10.20.0.200/32" in diff
    (change,) = wireguard.plan_running(topology(), observed(states))["dock-load"]
    assert f"unknown peer {key_of('stranger')}" in change.title


def test_without_having_seen_a_peer_there_is_no_interface_file() -> None:
    states: dict[str, object] = dict(healthy())
    states["dock-edge"] = Unreachable("dock-edge", "no answer")
    with pytest.raises(NotObserved, match="dock-edge"):
        wireguard.plan_interface(topology(), observed(states))


SYNC = "$ /usr/local/lib/dockyard/wg-sync wg0"


def removed(state: WireguardState, peer: str) -> WireguardState:
    assert state.interface
    return change(state, peers={key: seen for key, seen in state.interface.peers.items() if key != key_of(peer)})


def added(state: WireguardState) -> WireguardState:
    assert state.interface
    stranger = replace(next(iter(state.interface.peers.values())), public_key=key_of("stranger"))
    return change(state, peers={**state.interface.peers, key_of("stranger"): stranger})


def lost_endpoint(state: WireguardState) -> WireguardState:
    return change_peer(state, "dock-load", endpoint="10.99.0.99:51820", latest_handshake=NOW - 300)


BROKEN: dict[str, tuple[Callable[[WireguardState], WireguardState], list[str], str]] = {
    "a missing peer": (lambda s: removed(s, "dock-load"), [SYNC], "peer dock-load is missing"),
    "an unknown peer": (added, [SYNC], "unknown peer stranger"),
    "wrong allowed IPs": (
        lambda s: change_peer(s, "dock-load", allowed_ips=("10.20.0.4/32", "0.0.0.0/0")),
        [SYNC],
        "peer dock-load: allowed IPs 10.20.0.4/32, 0.0.0.0/0 instead of 10.20.0.4/32",
    ),
    "a lost keepalive": (
        lambda s: change_peer(s, "dock-load", keepalive_s=0),
        [SYNC],
        "keepalive 0 s instead of 25 s",
    ),
    "no preshared key": (lambda s: change_peer(s, "dock-load", preshared=False), [SYNC], "not the preshared key"),
    "an old preshared key": (
        lambda s: replace(s, loaded={key: peer for key, peer in s.loaded.items() if peer != "dock-load"}),
        [SYNC],
        "peer dock-load: not the preshared key of its file",
    ),
    "an endpoint that leads nowhere": (lost_endpoint, [SYNC], "10.99.0.99:51820 instead of 10.99.0.14:51820"),
    "another port": (lambda s: change(s, listen_port=51821), [SYNC], "port 51821 instead of 51820"),
    "another key": (lambda s: change(s, public_key=key_of("old")), [SYNC], "key is not the one in the key file"),
    "a small MTU": (lambda s: relink(s, mtu=1300), ["$ ip link set mtu 1420 dev wg0"], "it is 1300"),
    "no address": (
        lambda s: relink(s, addresses=(), routes=()),
        ["$ ip address replace 10.20.0.5/24 dev wg0"],
        "10.20.0.5/24",
    ),
    "a foreign address": (
        lambda s: relink(s, addresses=("10.20.0.99/24", "10.20.0.5/24")),
        ["$ ip address delete 10.20.0.99/24 dev wg0", "$ ip address replace 10.20.0.5/24 dev wg0"],
        "10.20.0.99/24",
    ),
    "no route": (
        lambda s: relink(s, routes=()),
        ["$ ip route replace 10.20.0.0/24 dev wg0 proto kernel scope link src 10.20.0.5"],
        "route",
    ),
    "an interface set down": (lambda s: relink(s, up=False, routes=()), ["$ ip link set up dev wg0"], "up"),
    "not enabled": (
        lambda s: replace(s, service=replace(s.service, enabled="disabled")),
        ["$ systemctl enable -- wg-quick@wg0.service"],
        "enable",
    ),
    "a stopped service": (
        lambda s: replace(s, interface=None, link=None, service=replace(s.service, active="inactive")),
        ["$ systemctl start -- wg-quick@wg0.service"],
        "start",
    ),
    "a deleted interface": (
        lambda s: replace(s, interface=None, link=None),
        ["$ systemctl restart -- wg-quick@wg0.service"],
        "restart",
    ),
    "an interface without its service": (
        lambda s: replace(s, service=replace(s.service, active="failed")),
        ["$ ip link delete dev wg0", "$ systemctl start -- wg-quick@wg0.service"],
        "not started by",
    ),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_what_runs_is_mended_on_that_host_and_nothing_else(damage: str) -> None:
    damaged, commands, reason = BROKEN[damage]
    states = healthy()
    states["dock-edge"] = damaged(states["dock-edge"])
    plan = wireguard.plan_running(topology(), observed(states))
    assert shown(plan) == {"dock-edge": commands}
    assert reason in " ".join(titles(plan)["dock-edge"])


def test_a_peer_that_roamed_and_answers_is_left_alone() -> None:
    states = healthy()
    states["dock-edge"] = change_peer(states["dock-edge"], "dock-load", endpoint="10.99.0.99:51820")
    assert wireguard.plan_running(topology(), observed(states)) == {}


def test_a_silent_peer_at_its_planned_endpoint_is_left_alone() -> None:
    states = healthy()
    states["dock-edge"] = change_peer(states["dock-edge"], "dock-load", latest_handshake=0)
    assert wireguard.plan_running(topology(), observed(states)) == {}


def named(mesh: Topology) -> Topology:
    """dock-load is reached by a name."""
    load = mesh.host("dock-load")
    peer = replace(load.wireguard, endpoint="load.dock.test")
    return replace(mesh, hosts={**mesh.hosts, "dock-load": replace(load, wireguard=peer)})


def resolving(states: dict[str, WireguardState], *addresses: str) -> Observed:
    found = {
        host: replace(state, resolved={"load.dock.test": frozenset(addresses)} if host != "dock-load" else {})
        for host, state in states.items()
    }
    return observed(found)


def with_resolver(mesh: Topology) -> dict[str, WireguardState]:
    timer = {"loaded": True, "active": "active", "enabled": "enabled"}
    return {
        host: replace(state, timer=replace(state.timer, **timer)) if host != "dock-load" else state  # type: ignore[arg-type]  # parts by name
        for host, state in healthy(mesh).items()
    }


def test_names_bring_a_timer_to_those_who_use_them_and_leave_with_it() -> None:
    mesh = named(topology())
    bare = {
        host: replace(
            state,
            files=dict.fromkeys(
                places.files("wg0", resolving=host != "dock-load"), pristine(host).files["/etc/wireguard/wg0.conf"]
            ),
        )
        for host, state in healthy().items()
    }
    plan = wireguard.plan_interface(mesh, resolving(bare, "10.99.0.14"))
    assert shown(plan)["dock-dash"][-1] == f"$ systemctl start -- {places.TIMER}"
    assert not any("resolve" in title for title in titles(plan)["dock-load"])
    assert wireguard.plan_interface(mesh, resolving(with_resolver(mesh), "10.99.0.14")) == {}
    states = {host: replace(state, files=healthy()[host].files) for host, state in with_resolver(mesh).items()}
    gone = wireguard.plan_interface(topology(), observed(states))
    assert "dock-load" not in gone
    assert titles(gone)["dock-dash"] == [
        f"systemctl disable -- {places.TIMER}; systemctl stop -- {places.TIMER}",
        f"remove {places.RESOLVE_TIMER}",
        f"remove {places.RESOLVE_SERVICE}",
        f"remove {places.RESOLVE}",
        "let systemd read its files again",
    ]


def test_a_name_that_does_not_resolve_stops_before_anything_is_written() -> None:
    mesh = named(topology())
    states = with_resolver(mesh)
    assert wireguard.plan_interface(mesh, resolving(states)) == {}, "what is in place stays in place"
    files = {**states["dock-dash"].files, "/etc/wireguard/wg0.conf": pristine("x").files["/etc/wireguard/wg0.conf"]}
    states["dock-dash"] = replace(states["dock-dash"], files=files)
    with pytest.raises(StepFailed, match=r"dock-dash: the endpoint load\.dock\.test does not resolve"):
        wireguard.plan_interface(mesh, resolving(states))


@pytest.mark.parametrize(
    ("planned", "seen", "any_port", "verdict"),
    [
        (None, "10.0.0.9:1", False, True),
        (None, "", False, True),
        (Endpoint("10.0.0.1", 51820), "10.0.0.1:51820", False, True),
        (Endpoint("10.0.0.1", 51820), "10.0.0.1:40000", False, False),
        (Endpoint("10.0.0.1", 51820), "10.0.0.1:40000", True, True),
        (Endpoint("10.0.0.1", 51820), "10.0.0.11:51820", True, False),
        (Endpoint("10.0.0.1", 51820), "", True, False),
        (Endpoint("fd00::1", 51820), "[fd00::1]:51820", False, True),
        (Endpoint("load.dock.test", 51820), "10.0.0.7:51820", False, True),
        (Endpoint("load.dock.test", 51820), "10.0.0.8:51820", False, False),
        (Endpoint("gone.dock.test", 51820), "10.0.0.7:51820", False, True),
    ],
)
def test_which_endpoint_counts_as_planned(planned: Endpoint | None, seen: str, any_port: bool, verdict: bool) -> None:
    state = replace(pristine("dock-dash"), resolved={"load.dock.test": frozenset({"10.0.0.6", "10.0.0.7"})})
    assert wanted.is_planned(planned, seen, state, any_port=any_port) is verdict


QUIET: dict[str, Any] = {"capture_output": True, "check": False, "text": True}

WG = """#!/bin/sh
[ "$1 $3" != "show latest-handshakes" ] || { cat "$FOLDER/handshakes"; exit; }
[ "$1 $2" != "set wg0" ] || { echo "$*" >>"$FOLDER/set"; [ "$6" != "gone.dock.test:51820" ]; exit; }
[ "$1 $3" = "syncconf /dev/stdin" ] && [ -p /dev/stdin ] && cat >"$SYNCED"
"""
WG_QUICK = """#!/bin/sh
[ -p /dev/stdout ] || exit 13
grep -v -e '^PostUp' -e '^Address' -e '^MTU' "$FOLDER/$2.conf"
"""


@pytest.fixture
def sync(tmp_path: Path) -> Any:
    """Runs the rendered wg-sync with stand-ins for wg and wg-quick that keep what they were given.

    As AppArmor's profiles of Ubuntu 25.04 do, they refuse files outside /etc/wireguard: only pipes will do.
    """
    folder = tmp_path / "etc"
    programs = tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for name, text in {"wg": WG, "wg-quick": WG_QUICK}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    script = render("wg-sync", resolve=folder / "wg-resolve").replace("/etc/wireguard", str(folder))
    (folder / "handshakes").write_text("")
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "FOLDER": str(folder),
        "SYNCED": str(tmp_path / "synced"),
    }
    (folder / "wg0.conf").write_text(INTERFACE_FILE.replace("/etc/wireguard", str(folder)))
    (folder / "wg0.key").write_text("the+private/key=\n")
    for peer in HOSTS[:4]:
        (folder / f"wg0-{peer}.psk").write_text(f"shared+with/{peer}=\n")

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", script, "wg-sync", "wg0"], env=environment, capture_output=True, check=False, text=True
        )

    return run


def test_the_running_interface_gets_every_key_from_its_file(sync: Any, tmp_path: Path) -> None:
    done = sync()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (tmp_path / "synced").read_text()
    assert "[Interface]\nPrivateKey = the+private/key=\nListenPort = 51820\n" in text
    assert "PublicKey = dock/prodxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx=\nPresharedKey = shared+with/dock-prod=\n" in text
    assert text.count("PresharedKey") == 4
    assert {path.name for path in tmp_path.iterdir()} <= {"bin", "etc", "synced"}, "keys were left behind"


def test_an_endpoint_is_not_set_again_while_its_tunnel_works(sync: Any, tmp_path: Path) -> None:
    keys = {host: f"{host.replace('-', '/')}{'x' * (43 - len(host))}=" for host in HOSTS}
    now = int(time.time())
    (tmp_path / "etc" / "handshakes").write_text(f"{keys['dock-prod']}\t{now - 60}\n{keys['dock-load']}\t{now - 600}\n")
    assert sync().returncode == 0
    text = (tmp_path / "synced").read_text()
    whole = (tmp_path / "etc" / "wg0.conf").read_text()
    assert text.count("Endpoint") == whole.count("Endpoint") - 1
    assert "Endpoint" not in text.partition(keys["dock-prod"])[2].partition("[Peer]")[0]
    assert "Endpoint" in text.partition(keys["dock-load"])[2].partition("[Peer]")[0]
    assert text.count("AllowedIPs") == 4


def test_names_are_resolved_one_by_one_and_a_dead_one_keeps_nobody_out(sync: Any, tmp_path: Path) -> None:
    peers = wanted.wanted_peers(topology(), observed(healthy()), "dock-edge")
    ends = {"dock-dash": Endpoint("gone.dock.test", 51820), "dock-load": Endpoint("load.dock.test", 51820)}
    text = wanted.interface_file(
        topology(), "dock-edge", [replace(peer, endpoint=ends.get(peer.name, peer.endpoint)) for peer in peers]
    )
    folder = tmp_path / "etc"
    (folder / "wg0.conf").write_text(text.replace("/etc/wireguard", str(folder)))
    (folder / "wg-resolve").write_text(render("wg-resolve").replace("/etc/wireguard", str(folder)))
    (folder / "wg-resolve").chmod(0o755)
    known = {peer.name: peer.public_key for peer in peers}
    (folder / "handshakes").write_text(f"{known['dock-dash']}\t0\n{known['dock-load']}\t0\n")
    done = sync()
    assert (done.returncode, done.stderr) == (0, "wg-resolve: gone.dock.test:51820 stays as it was\n")
    assert "dock.test" not in (tmp_path / "synced").read_text()
    assert (folder / "set").read_text().splitlines() == [
        f"set wg0 peer {known['dock-dash']} endpoint gone.dock.test:51820",
        f"set wg0 peer {known['dock-load']} endpoint load.dock.test:51820",
    ]


def test_a_failure_of_wg_is_a_failure(sync: Any, tmp_path: Path) -> None:
    (tmp_path / "bin" / "wg").write_text("#!/bin/sh\ncat >/dev/null\nexit 1\n")
    assert sync().returncode != 0
    (tmp_path / "bin" / "wg-quick").write_text("#!/bin/sh\nexit 3\n")
    assert sync().returncode == 3


@pytest.mark.parametrize("lost", ["wg0.key", "wg0-dock-load.psk"])
def test_a_missing_key_stops_before_the_interface_is_touched(sync: Any, tmp_path: Path, lost: str) -> None:
    (tmp_path / "etc" / lost).unlink()
    done = sync()
    assert done.returncode != 0
    assert f"there is no key in {tmp_path}/etc/{lost}" in done.stderr
    assert not (tmp_path / "synced").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"bin", "etc", "synced"}, "keys were left behind"


def test_a_generated_key_is_private_and_never_replaces_another(tmp_path: Path) -> None:
    if not shutil.which("wg"):
        pytest.skip("wireguard-tools is not installed")
    (one,) = wireguard.plan_keys(topology(), observed({"dock-dash": pristine("dock-dash")}))["dock-dash"]
    argv = [word.replace("/etc/wireguard", str(tmp_path)) for word in one.commands()[0].argv]
    assert subprocess.run(argv, check=False).returncode == 0
    key = tmp_path / "wg0.key"
    first = key.read_text()
    assert (len(first), key.stat().st_mode & 0o777) == (45, 0o600)
    assert subprocess.run(argv, capture_output=True, check=False).returncode != 0
    assert key.read_text() == first


def test_a_second_name_of_a_key_in_use_is_never_written_to(tmp_path: Path) -> None:
    """What is left when power fails between ln and rm, and the key has taken its place since."""
    if not shutil.which("wg"):
        pytest.skip("wireguard-tools is not installed")
    in_use = tmp_path / "wg0.key"
    in_use.write_text("in use")
    (tmp_path / "wg0.key.new.tmp").hardlink_to(in_use)
    (one,) = wireguard.plan_new_key(topology(), observed(healthy()), "dock-load")["dock-load"]
    argv = [word.replace("/etc/wireguard", str(tmp_path)) for word in one.commands()[0].argv]
    assert subprocess.run(argv, check=False).returncode == 0
    assert in_use.read_text() == "in use"
    assert {path.name for path in tmp_path.iterdir()} == {"wg0.key", "wg0.key.new"}
