"""What somebody else made where the mesh would go: keys are never shown, nothing is lost, and there is a way on."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dockyard.errors import StepFailed
from dockyard.files import FileState, read_file
from dockyard.remote import Completed, Outputs
from tasks import wireguard
from tasks.wireguard import WireguardState, conf, foreign, places
from tasks.wireguard.overlap import MESH, Overlap
from tests.unit.meshes import HOSTS, change, healthy, observed, pristine, reached, silent, topology

CONF = places.config("wg0")
PUBLIC = "n2SBb3dC0eep6qdN8LVZ0VJDGCANQiDjrSzaNdqc0DQ="
SECRET = "cE9fEtV0vvGLiP3LqdSP4oz8uVC1yvb3Kb/LPKWt4lE="
SHARED = "8Ck3PqJ0Xo2mUHzZ1Lh0xB7iQyq0hT8Jw5m2pUu3bXk="
OLDER = "aC9fEtV0vvGLiP3LqdSP4oz8uVC1yvb3Kb/LPKWt4lM="
PIPED = "bC9fEtV0vvGLiP3LqdSP4oz8uVC1yvb3Kb/LPKWt4lU="
BY_HAND = f"""\
[Interface]
Address = 10.20.0.4/24
  privatekey={SECRET} # do not lose
# PrivateKey = {OLDER}
PostUp = echo {PIPED} | wg set %i private-key /dev/stdin

[Peer]
PublicKey = {PUBLIC}
PresharedKey = {SHARED}
AllowedIPs = 10.20.0.1/32
"""


def seen(text: str, tmp_path: Path) -> FileState:
    """What `conf.probe` finds where a host has ``text`` as its interface file, under its real path."""
    path = tmp_path / "wg0.conf"
    path.write_text(text)
    command = conf.probe(CONF)
    argv = [word.replace(CONF, str(path)) for word in command.argv]
    ran = subprocess.run(argv, check=True, capture_output=True, text=True)
    answer = Completed(
        name=command.name, argv=command.argv, exit_code=0, stdout=ran.stdout, stderr=ran.stderr, duration_s=0.0
    )
    assert not [key for key in (SECRET, SHARED, OLDER, PIPED) if key in ran.stdout + ran.stderr]
    return conf.read(Outputs("dock-load", [answer], [command]), CONF)


def with_file(state: WireguardState, file: FileState) -> WireguardState:
    return replace(state, files={**state.files, CONF: file})


def test_keys_are_hidden_on_the_host_and_everything_else_is_read(tmp_path: Path) -> None:
    file = seen(BY_HAND, tmp_path)
    assert file.content.splitlines()[2:5] == [
        "  privatekey= (hidden)",
        "# PrivateKey = (hidden)",
        "PostUp = echo (hidden) | wg set %i private-key /dev/stdin",
    ]
    assert f"PublicKey = {PUBLIC}\nPresharedKey = (hidden)\n" in file.content
    assert (file.path, file.kind, file.mode, file.digest) == (CONF, "regular file", 0o644, "")


def test_our_own_file_is_read_byte_for_byte(tmp_path: Path) -> None:
    ours = healthy()["dock-load"].files[CONF].content.replace("dock/dash", "dock+dash")
    named = f"PostUp = WG_ENDPOINT_RESOLUTION_RETRIES=0 wg set %i peer {PUBLIC} endpoint home.lan:51820 || true\n"
    ours = ours.replace("\n\n", f"\n{named}\n", 1)
    assert seen(ours, tmp_path).content == ours
    assert seen(ours.rstrip("\n"), tmp_path).content == ours.rstrip("\n")
    assert len(seen(ours, tmp_path).digest) == 64


def test_the_probe_stands_in_the_place_of_the_plain_one() -> None:
    commands = wireguard.WIREGUARD.probes(topology(), topology().host("dock-load"))
    (asked,) = [command for command in commands if command.name == f"file:{CONF}"]
    assert asked == conf.probe(CONF) != read_file(CONF)
    assert not any(command.argv[-1].count(f"cat -- {CONF}") for command in commands)


PLANS = [wireguard.plan_keys, wireguard.plan_preshared_keys, wireguard.plan_interface, wireguard.plan_running]


@pytest.mark.parametrize("plan", PLANS)
def test_nothing_is_written_over_the_keys_of_somebody_else(plan: Any, tmp_path: Path) -> None:
    states = {host: pristine(host) for host in HOSTS}
    states["dock-load"] = with_file(states["dock-load"], seen(BY_HAND, tmp_path))
    with pytest.raises(StepFailed, match=r"dock-load: /etc/wireguard/wg0\.conf is not Dockyard's") as caught:
        plan(topology(), observed(states))
    assert "keys stand in it" in str(caught.value)
    assert "Nothing was done on any host" in caught.value.advice
    assert "On dock-load, as root: (umask 077; " in caught.value.advice
    assert "mv -n /etc/wireguard/wg0.conf /etc/wireguard/wg0.conf.mine" in caught.value.advice


def test_it_is_one_finding_and_shows_no_secret(tmp_path: Path) -> None:
    states = healthy()
    bare = replace(states["dock-load"], key=None, preshared={}, loaded={})
    states["dock-load"] = with_file(bare, seen(BY_HAND, tmp_path))
    found = wireguard.check_mesh(topology(), observed(states, {host: reached(host) for host in HOSTS}))
    (finding,) = [one for one in found if "dock-load" in {one.host, one.subject} and "peer dock" not in one.evidence]
    assert finding.fault == "/etc/wireguard/wg0.conf is not Dockyard's"
    assert "systemctl stop wg-quick@wg0.service && mv" in finding.advice
    shown = json.dumps([str(one) + one.advice for one in found]) + repr(states)
    assert not [key for key in (SECRET, SHARED, OLDER, PIPED) if key in shown]


def test_a_key_pasted_into_our_own_file_shows_in_no_diff(tmp_path: Path) -> None:
    states = healthy()
    pasted = states["dock-load"].files[CONF].content + f"PresharedKey = {SHARED}\nPrivateKey={SECRET}\n"
    states["dock-load"] = with_file(states["dock-load"], seen(pasted, tmp_path))
    (change,) = wireguard.plan_interface(topology(), observed(states))["dock-load"]
    assert "-PresharedKey = (hidden)\n-PrivateKey= (hidden)" in change.diff()
    assert SECRET not in change.diff() + repr(change)


KEY_ELSEWHERE = "[Interface]\nAddress = 10.8.0.1/24\nPostUp = wg set %i private-key /root/%i.key\n"


@pytest.mark.parametrize("plan", PLANS)
def test_a_file_whose_keys_lie_elsewhere_is_not_written_over_either(plan: Any, tmp_path: Path) -> None:
    states = {host: pristine(host) for host in HOSTS}
    states["dock-load"] = with_file(states["dock-load"], seen(KEY_ELSEWHERE, tmp_path))
    with pytest.raises(StepFailed, match=r"dock-load: /etc/wireguard/wg0\.conf is not Dockyard's") as caught:
        plan(topology(), observed(states))
    assert "keys stand in it" not in str(caught.value)
    assert "mv -n /etc/wireguard/wg0.conf /etc/wireguard/wg0.conf.mine" in caught.value.advice
    assert "wg0.key" not in caught.value.advice


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_file_is_written(text: str, tmp_path: Path) -> None:
    states = healthy()
    states["dock-load"] = with_file(states["dock-load"], seen(text, tmp_path))
    assert list(wireguard.plan_interface(topology(), observed(states))) == ["dock-load"]


def without_file(state: WireguardState, **parts: Any) -> WireguardState:
    return with_file(replace(state, **parts), FileState(path=CONF))


def by_networkd() -> WireguardState:
    """wg0 of somebody else: nothing of Dockyard's is there, and wg-quick knows nothing of it."""
    bare, up = pristine("dock-load"), healthy()["dock-load"]
    return replace(bare, interface=up.interface, link=up.link)


FOREIGN = {
    "made by networkd": by_networkd(),
    "of another kind": replace(by_networkd(), interface=None),
    "without any key": change(by_networkd(), public_key=""),
    "beside an unused key of ours": replace(
        change(by_networkd(), public_key=PUBLIC), key=healthy()["dock-load"].key, files=healthy()["dock-load"].files
    ),
    "whose own file was moved away": replace(by_networkd(), service=healthy()["dock-load"].service),
}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("kind", FOREIGN)
def test_an_interface_of_somebody_else_is_neither_removed_nor_changed(plan: Any, kind: str) -> None:
    states = {**healthy(), "dock-load": without_file(FOREIGN[kind])}
    with pytest.raises(StepFailed, match="dock-load: wg0 is not Dockyard's") as caught:
        plan(topology(), observed(states))
    assert "Nothing was done on any host" in caught.value.advice
    assert "networkctl status wg0; nmcli device show wg0" in caught.value.advice
    assert "cluster.wireguard.interface" in caught.value.advice
    found = wireguard.check_mesh(topology(), observed(states, {host: reached(host) for host in HOSTS}))
    assert [one.fault for one in found if one.host == "dock-load"] == ["wg0 is not Dockyard's"]


OURS = {
    "its file was removed": healthy()["dock-load"],
    "its unit failed, too": replace(
        healthy()["dock-load"], service=replace(healthy()["dock-load"].service, active="failed")
    ),
    "its key is still that of before": change(healthy()["dock-load"], public_key=PUBLIC),
    "all of /etc/wireguard was removed": replace(healthy()["dock-load"], key=None, preshared={}, loaded={}),
    "in the middle of a rotation": replace(
        change(healthy()["dock-load"], public_key=PUBLIC), kept=("wg0.conf.old", "wg0.key.old")
    ),
    "it was never up": pristine("dock-load"),
}


@pytest.mark.parametrize("kind", OURS)
def test_our_own_interface_is_ours_without_its_file(kind: str) -> None:
    states = {**healthy(), "dock-load": without_file(OURS[kind])}
    for plan in PLANS:
        plan(topology(), observed(states))
    found = wireguard.check_mesh(topology(), observed(states, {host: reached(host) for host in HOSTS}))
    assert not [one for one in found if "not Dockyard's" in one.fault]


MESHED = {"network": "the network of the mesh, 10.20.0.0/24", "key": MESH}
LAN = (
    Overlap(device="eth0", what="the address 10.20.0.77/24", **MESHED),
    Overlap(device="eth0", what="the route 10.20.0.0/24", **MESHED),
)


@pytest.mark.parametrize("plan", PLANS)
def test_a_network_that_a_host_uses_already_is_refused_before_anything_is_written(plan: Any) -> None:
    states = {host: pristine(host) for host in HOSTS}
    states["dock-prod"] = replace(states["dock-prod"], overlaps=LAN)
    with pytest.raises(StepFailed, match=r"dock-prod: .* 10\.20\.0\.0/24, is used .*\(eth0 has the address") as caught:
        plan(topology(), observed(states))
    assert "cluster.wireguard.network" in caught.value.advice
    assert "on dock-prod: ip -4 address show dev eth0; ip -4 route show dev eth0" in caught.value.advice


def test_a_network_that_is_used_twice_explains_what_does_not_get_through() -> None:
    states = {**healthy(), "dock-prod": replace(healthy()["dock-prod"], overlaps=LAN)}
    others = [host for host in HOSTS if host != "dock-prod"]
    reach = {host: silent(reached(host), "dock-prod") for host in others}
    reach["dock-prod"] = silent(reached("dock-prod"), *others)
    (finding,) = wireguard.check_mesh(topology(), observed(states, reach))
    assert finding.host == "dock-prod"
    assert finding.evidence.startswith("eth0 has the address 10.20.0.77/24; eth0 has the route 10.20.0.0/24; so 8 ")


def typed(state: WireguardState, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Type the advice where ``tmp_path`` stands for /etc/wireguard."""
    line = foreign.commands("wg0", state).replace("/etc/wireguard", str(tmp_path))
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "wg").write_text("#!/bin/sh\ngrep -Eq '^[A-Za-z0-9+/]{43}=$'\n")
    (programs / "wg-quick").write_text(f"#!/bin/sh\n[ -e {tmp_path}/wg0.conf ] && echo $* >{tmp_path}/calls\n")
    for name in ("wg", "wg-quick"):
        (programs / name).chmod(0o755)
    environment = {"PATH": f"{programs}:/usr/bin:/bin"}
    return subprocess.run(["sh", "-c", line], check=False, capture_output=True, text=True, env=environment)


def test_the_advice_keeps_the_key_as_it_is(tmp_path: Path) -> None:
    state = replace(healthy()["dock-load"], key=None, service=pristine("dock-load").service)
    done = typed(with_file(state, seen(BY_HAND, tmp_path)), tmp_path)
    assert done.returncode == 0, done.stderr
    key = tmp_path / "wg0.key"
    assert (key.read_text(), key.stat().st_mode & 0o777) == (f"{SECRET}\n", 0o600)
    assert (tmp_path / "wg0.conf.mine").read_text() == BY_HAND
    assert (tmp_path / "calls").read_text() == "down wg0\n"
    assert not (tmp_path / "wg0.conf").exists()


def test_the_advice_never_replaces_a_key_file(tmp_path: Path) -> None:
    (tmp_path / "wg0.key").write_text("another")
    done = typed(with_file(pristine("dock-load"), seen(BY_HAND, tmp_path)), tmp_path)
    assert done.returncode != 0
    assert (tmp_path / "wg0.key").read_text() == "another"
    assert (tmp_path / "wg0.conf").exists()
    assert "wg0.key" not in foreign.commands("wg0", with_file(healthy()["dock-load"], seen(BY_HAND, tmp_path)))
