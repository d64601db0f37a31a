"""A key rotation that was cut off: seen, not disturbed while it is pending, cleaned up when nothing fires any more."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dockyard.errors import StepFailed
from dockyard.parsing import Printed
from tasks import wireguard
from tasks.wireguard import WireguardState, places, state
from tasks.wireguard.state import KeyFile
from tests.unit.meshes import HOSTS, change, healthy, key_of, observed, reached, topology

OLD = ("wg0.conf.old", "wg0.key.old")
NEW = KeyFile(mode=0o600, owner="root:root", public_key=key_of("dock-load-2"))


def swapped(armed_s: int | None) -> dict[str, WireguardState]:
    """After the change-over of dock-load; the timers run for ``armed_s`` seconds, or are gone (None)."""
    states = {host: replace(one, kept=OLD, armed_s=armed_s) for host, one in healthy().items()}
    states["dock-load"] = replace(states["dock-load"], key_renewed=True)
    return states


def check(states: dict[str, WireguardState]) -> list[Any]:
    return wireguard.check_mesh(topology(), observed(states, {host: reached(host) for host in HOSTS}))


@pytest.mark.parametrize(
    "plan",
    [wireguard.plan_keys, wireguard.plan_preshared_keys, wireguard.plan_interface, wireguard.plan_running],
)
def test_nobody_writes_what_a_pending_way_back_would_replace(plan: Any) -> None:
    states = {**healthy(), "dock-prod": swapped(60)["dock-prod"]}
    with pytest.raises(StepFailed, match=r"dock-prod: a key rotation is not settled; .* decides in 120 s") as caught:
        plan(topology(), observed(states))
    assert caught.value.advice.startswith("Nothing was done on any host. Wait 165 s")


@pytest.mark.parametrize(("armed_s", "when"), [(0, "in 180 s"), (179, "in 1 s"), (181, "now"), (4000, "now")])
def test_a_pending_way_back_is_one_finding_on_the_host_whose_key_it_is(armed_s: int, when: str) -> None:
    (finding,) = check(swapped(armed_s))
    assert (finding.host, finding.fault) == ("dock-load", "a key rotation of dock-load is not settled")
    assert f"dock-edge: dockyard-wg-back.timer decides {when} which key holds" in finding.evidence
    assert ("journalctl -u dockyard-wg-back.service" in finding.evidence) is (when == "now")
    assert "phase1_baseline.py" in finding.advice
    assert wireguard.check_way_back(topology(), observed(swapped(armed_s))) == [finding]


def test_a_rotation_that_is_at_work_is_judged_without_its_own_way_back() -> None:
    seen = observed(swapped(5), {host: reached(host) for host in HOSTS})
    assert wireguard.check_swap(topology(), seen) == []


def test_what_is_left_without_a_timer_is_a_finding_and_is_removed() -> None:
    states = swapped(None)
    states["dock-dash"] = replace(healthy()["dock-dash"], next_key=NEW)
    (finding,) = check(states)
    assert finding.fault == "a key rotation of dock-dash, dock-load is not settled"
    assert "dock-dash: left over are wg0.key.new" in finding.evidence
    assert wireguard.check_way_back(topology(), observed(states)) == []
    plan = wireguard.plan_running(topology(), observed(states))
    assert set(plan) == set(HOSTS)
    assert [one.title for one in plan["dock-load"]] == [
        "forget what a key rotation left behind: wg0.conf.old, wg0.key.old"
    ]


def test_the_old_key_goes_only_after_the_interface_has_the_one_of_the_file() -> None:
    states = swapped(None)
    states["dock-load"] = change(states["dock-load"], public_key=key_of("dock-load-old"))
    found = wireguard.plan_running(topology(), observed(states))["dock-load"]
    assert [one.title.split(":")[0] for one in found] == [
        "bring wg0 in line, tunnels stay",
        "forget what a key rotation left behind",
    ]
    stopped = replace(states["dock-load"], interface=None, link=None)
    found = wireguard.plan_running(topology(), observed({**states, "dock-load": stopped}))["dock-load"]
    assert [one.title.split(":")[0] for one in found] == [
        "systemctl restart -- wg-quick@wg0.service",
        "forget what a key rotation left behind",
    ]


def in_folder(tmp_path: Path, script: str, timer: str, service: str) -> str:
    """Run ``script`` where ``tmp_path`` stands for /etc/wireguard and systemd says this of both units."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.write_text(
        "#!/bin/sh\ncase $* in\n"
        f"*'-p ActiveState'*) printf '%s\\n\\n%s\\n' {timer} {service} ;;\n"
        "*ActiveEnter*) read -r up rest </proc/uptime; echo $(( (${up%.*} - 48) * 1000000 )) ;;\n"
        "*NeedDaemonReload*) echo no ;;\nesac\n"
    )
    systemctl.chmod(0o755)
    environment = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    text = script.replace("/etc/wireguard", str(tmp_path)).replace(places.BACK, str(tmp_path / "back"))
    return subprocess.run(
        ["sh", "-c", text, "settle", "wg0"], check=True, capture_output=True, text=True, env=environment
    ).stdout


@pytest.mark.parametrize(
    ("timer", "service", "armed"),
    [
        ("inactive", "inactive", False),
        ("inactive", "failed", False),
        ("active", "inactive", True),
        ("inactive", "active", True),
        ("inactive", "deactivating", True),
    ],
)
def test_the_probe_sees_the_old_state_and_whether_it_may_come_back(
    tmp_path: Path, timer: str, service: str, armed: bool
) -> None:
    for name, text in {"wg0.key": "new", "wg0.key.old": "old", "wg0.conf": "same", "wg0.conf.old": "same"}.items():
        (tmp_path / name).write_text(text)
    script = state._FILES.format(interface="wg0", units="", back=places.BACK_UNIT)
    rows = Printed("wireguard files", in_folder(tmp_path, script, timer, service)).rows("wireguard_files")
    assert [(row["name"], row["value"]) for row in rows if row["kind"] == "old"] == [
        ("wg0.conf.old", "same"),
        ("wg0.key.old", "other"),
    ]
    seconds = [int(str(row["value"])) for row in rows if row["kind"] == "armed"]
    assert [48 <= one <= 50 for one in seconds] == [True] * armed


def test_settling_removes_what_is_left_and_keeps_the_key_in_use(tmp_path: Path) -> None:
    for name in ("wg0.key", "wg0.conf", *OLD, "wg0.key.new", "wg0-dock-dash.psk", "back"):
        (tmp_path / name).write_text(name)
    (settle,) = wireguard.plan_settle(topology(), observed(swapped(5)))["dock-load"]
    script = settle.commands()[0].argv[2]
    in_folder(tmp_path, script.replace("systemctl -q is-active", "false"), "inactive", "inactive")
    assert {path.name for path in tmp_path.iterdir()} == {"wg0.key", "wg0.conf", "wg0-dock-dash.psk", "bin"}


@pytest.mark.parametrize("decided", ["deciding", "decided"])
def test_a_way_back_that_has_begun_to_decide_is_not_stopped(tmp_path: Path, decided: str) -> None:
    for name in ("wg0.key", "wg0.conf", *(OLD if decided == "deciding" else ())):
        (tmp_path / name).write_text(name)
    before = {path.name for path in tmp_path.iterdir()}
    (settle,) = wireguard.plan_settle(topology(), observed(swapped(5)))["dock-load"]
    script = settle.commands()[0].argv[2]
    active = "true" if decided == "deciding" else "false"
    with pytest.raises(subprocess.CalledProcessError) as failed:
        in_folder(tmp_path, script.replace("systemctl -q is-active", active), "inactive", "inactive")
    assert failed.value.returncode == 75
    assert {path.name for path in tmp_path.iterdir()} == {*before, "bin"}
