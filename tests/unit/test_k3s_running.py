"""What runs goes on with what lies there: another token, a device of flannel that is gone, a guard that was flushed."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dockyard.change import WriteFile
from dockyard.secret import Secret
from dockyard.steps import Planner
from tasks import k3s
from tasks.k3s import config, places
from tasks.k3s.facts import TokenSeen
from tests.unit.kube import LOAD, MIRROR, NODE_NAMES, observed, planned, topology, unit
from tests.unit.replicas import argvs, titles

WORD = Secret(f"K10{'0' * 64}::server:{'f' * 32}\n")
LAB = topology()


@pytest.mark.parametrize("token", [None, TokenSeen(fingerprint="f" * 16, private=True)])
def test_the_token_goes_to_who_lacks_it_and_is_shown_nowhere(token: TokenSeen | None) -> None:
    hosts = {host: planned(LAB, host) for host in NODE_NAMES}
    hosts[MIRROR] = replace(hosts[MIRROR], token=token)
    plan = k3s.plan_token(LAB, observed(LAB, hosts, k3s_token={LOAD: WORD}))
    ((note, change, anew),) = plan.values()
    assert list(plan) == [MIRROR]
    assert note.commands()[0].argv[-1] == places.RENEWED
    assert anew.title == f"start {places.AGENT} anew; containers go on"
    assert places.RENEWED in anew.commands()[0].argv, "the note goes with the start"
    assert isinstance(change, WriteFile)
    assert (change.path, change.content, change.mode) == (places.TOKEN, WORD, 0o600)
    assert WORD.reveal().strip() not in change.diff() + repr(change) + " ".join(argvs(plan))


def test_a_worker_that_does_not_run_or_has_it_gets_the_token_and_no_restart() -> None:
    hosts = {host: planned(LAB, host) for host in NODE_NAMES}
    hosts[MIRROR] = replace(hosts[MIRROR], token=None, unit=unit(places.AGENT, "inactive"))
    plan = titles(k3s.plan_token(LAB, observed(LAB, hosts, k3s_token={LOAD: WORD})))
    assert plan == {MIRROR: [f"write {places.TOKEN}"]}
    known = planned(LAB, MIRROR).token
    assert known
    hosts[MIRROR] = replace(planned(LAB, MIRROR), token=replace(known, private=False))
    assert titles(k3s.plan_token(LAB, observed(LAB, hosts, k3s_token={LOAD: WORD}))) == plan, "it is the same token"


def test_a_worker_that_was_not_started_with_its_new_token_is_started_anew() -> None:
    hosts = {host: planned(LAB, host) for host in NODE_NAMES}
    hosts[MIRROR] = replace(hosts[MIRROR], renewed=True)
    plan = titles(k3s.plan_workers(LAB, observed(LAB, hosts)))
    assert plan == {MIRROR: [f"start {places.AGENT} anew; containers go on"]}
    hosts[MIRROR] = replace(hosts[MIRROR], unit=unit(places.AGENT, "inactive"))
    assert titles(k3s.plan_workers(LAB, observed(LAB, hosts))) == {MIRROR: [f"start {places.AGENT}"]}


@pytest.mark.parametrize(("host", "plan"), [(LOAD, k3s.plan_server), (MIRROR, k3s.plan_workers)])
def test_a_node_whose_flannel_lost_its_device_is_started_anew(host: str, plan: Planner) -> None:
    hosts = {name: planned(LAB, name) for name in NODE_NAMES}
    hosts[host] = replace(hosts[host], severed=True)
    made = plan(LAB, observed(LAB, hosts))
    assert titles(made) == {
        host: [
            "let flannel make flannel.1 again with the next start",
            f"start {hosts[host].unit.name} anew; containers go on",
        ]
    }
    assert made[host][0].commands()[0].argv[-1] == places.FLANNEL, "the note that it was there goes with it"


@pytest.mark.parametrize("active", ["active", "inactive"])
def test_the_guard_is_loaded_where_it_is_not_and_nothing_is_started_for_it(active: str) -> None:
    hosts = {name: planned(LAB, name) for name in NODE_NAMES}
    hosts[MIRROR] = replace(hosts[MIRROR], guarded=False, unit=unit(places.AGENT, active))
    plan = k3s.plan_workers(LAB, observed(LAB, hosts))
    assert plan[MIRROR][0].commands()[0].argv == ("nft", "--file", places.GUARD)
    assert len(plan[MIRROR]) == (1 if active == "active" else 2)


def test_a_restart_takes_the_notes_away_only_when_it_was_asked_for(tmp_path: Path) -> None:
    program = tmp_path / "systemctl"
    notes = [tmp_path / "stale", tmp_path / "renewed"]
    argv = ["sh", "-c", config._RESTART, "restart", "k3s", *map(str, notes)]
    for code in (1, 0):
        program.write_text(f"#!/bin/sh\nexit {code}\n")
        program.chmod(0o755)
        for note in notes:
            note.touch()
        ran = subprocess.run(argv, check=False, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
        assert (ran.returncode, [note.exists() for note in notes]) == (code, [bool(code)] * 2)
