"""The volumes move to another worker: refused where the storage is not, in order, and a lost node only by a phrase."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dockyard.errors import StepFailed, Unreachable, UsageError
from dockyard.observe import Observed
from dockyard.topology import Topology
from runbooks.k3s_move import at, require_worker, steps
from tasks import k3s
from tasks.k3s import move, places
from tasks.k3s.nodes import Truth
from tests.unit.kube import LOAD, MIRROR, NODE_NAMES, PROD, STANDBY, api, objects, observed, planned, pod, topology
from tests.unit.replicas import argvs, titles

LAB, MOUNTED = topology(), topology(mounted=True)
LOST: dict[str, Any] = {"dock_prod": {"ready": Truth.UNKNOWN}}


def seen(cluster: Topology = LAB, *, one: Any = None, hosts: Any = None, **nodes: Any) -> Observed:
    """The volume lies on mirror; parts of nodes by name, ``hosts`` in the place of states, ``one`` as the only pod."""
    states: dict[str, Any] = {host: planned(cluster, host) for host in NODE_NAMES}
    states[PROD] = replace(states[PROD], volumes={})
    states[MIRROR] = replace(states[MIRROR], volumes={"/srv/k3s/opencloud": "opencloud"}, mounted=True)
    live = objects(cluster)
    there = replace(live, live={**live.live, ("Pod", "opencloud", "opencloud-1"): one or pod(PROD)})
    return observed(cluster, {**states, **(hosts or {})}, nodes=api(cluster, **nodes), live=there)


def faults(found: Observed, cluster: Topology = LAB) -> list[str]:
    return [f"{one.host}: {one.fault}" for one in move.check_target(cluster, found, to=MIRROR)]


def test_who_is_ready_and_has_the_volumes_may_carry_them() -> None:
    assert faults(seen()) == []
    assert faults(seen(MOUNTED), MOUNTED) == []
    gone = seen(MOUNTED, hosts={PROD: Unreachable(PROD, "no route to host")}, **LOST)
    assert faults(gone, MOUNTED) == [], "the phrase is about that"


@pytest.mark.parametrize(
    ("cluster", "parts", "fault"),
    [
        (LAB, {"dock_mirror": {"ready": Truth.FALSE}}, "dock-mirror: is not ready as a node of K3s"),
        (LAB, {"dock_mirror": {"unschedulable": True}}, "dock-mirror: is cordoned: no pod can start there"),
        (LAB, {"hosts": {MIRROR: planned(LAB, MIRROR)}}, "dock-mirror: the volume opencloud is not there"),
        (
            MOUNTED,
            {"hosts": {MIRROR: planned(MOUNTED, MIRROR)}},
            "dock-mirror: does not have the storage of the volumes",
        ),
        (
            MOUNTED,
            {"hosts": {PROD: replace(planned(MOUNTED, PROD), mounted=True)}},
            "dock-prod: has the storage of the volumes, too",
        ),
        (MOUNTED, {"hosts": {PROD: Unreachable(PROD, "no route")}}, "dock-prod: could not be looked at"),
        (LAB, {"hosts": {MIRROR: Unreachable(MIRROR, "no route")}}, "dock-mirror: could not be looked at"),
    ],
)
def test_nobody_else_may(cluster: Topology, parts: dict[str, Any], fault: str) -> None:
    assert faults(seen(cluster, **parts), cluster) == [fault]


def test_a_volume_that_lies_on_two_workers_is_named_before_an_old_snapshot_may_choose() -> None:
    assert move.check_one_copy(LAB, seen()) == []
    both = {host: replace(planned(LAB, host), volumes={"/srv/k3s/opencloud": "opencloud"}) for host in (PROD, MIRROR)}
    (found,) = move.check_one_copy(LAB, seen(hosts=both))
    assert found.fault == "the volume opencloud lies on dock-prod and on dock-mirror"
    assert "mv /srv/k3s/opencloud/.dockyard-volume /srv/k3s/opencloud/.dockyard-volume.old" in found.advice
    assert move.check_one_copy(MOUNTED, seen(MOUNTED, hosts=both)) == [], "DRBD has it on one side alone"


@pytest.mark.parametrize("cluster", [LAB, MOUNTED])
def test_a_worker_that_is_away_may_have_the_other_copy(cluster: Topology) -> None:
    (found,) = move.check_one_copy(cluster, seen(cluster, hosts={MIRROR: Unreachable(MIRROR, "no route to host")}))
    assert (found.host, found.unseen) == (MIRROR, True)
    assert "take k3s-worker (and opencloud) from its roles" in found.advice


def test_pods_of_a_node_that_is_ready_end_by_a_drain_and_need_no_phrase() -> None:
    assert titles(move.plan_end(LAB, seen(), to=MIRROR)) == {LOAD: [f"drain {PROD}: opencloud-1"]}
    assert move.page(LAB, seen(), to=MIRROR) is None
    assert move.plan_strike_off(LAB, seen(), to=MIRROR) == {}
    waiting = seen(one=pod("", ready=False), dock_prod={"unschedulable": True})
    assert move.plan_end(LAB, waiting, to=MIRROR) == {}, "its place is taken by one that waits for the label"


def test_pods_of_a_node_that_is_away_are_struck_off_after_a_phrase() -> None:
    found = seen(**LOST)
    assert move.plan_end(LAB, found, to=MIRROR) == {}
    page = move.page(LAB, found, to=MIRROR)
    assert page
    assert page.phrase == "dock-prod does not run them any more"
    assert "opencloud-1" in page.lines[0]
    (argv,) = argvs(move.plan_strike_off(LAB, found, to=MIRROR))
    assert argv == "k3s kubectl delete pod --namespace opencloud --force opencloud-1"


def test_the_label_moves_and_what_was_drained_is_opened_once() -> None:
    plan = argvs(move.plan_hand_over(LAB, seen(dock_prod={"unschedulable": True}), to=MIRROR))
    order = [argv.split("kubectl ", 1)[1].split()[0] for argv in plan]
    assert order == ["label", "taint", "label", "taint", "uncordon"]
    here = {places.STORAGE_LABEL: places.HERE}
    done = seen(dock_prod={"labels": {}, "taints": (STANDBY,)}, dock_mirror={"labels": here, "taints": ()})
    assert move.plan_hand_over(LAB, done, to=MIRROR) == {}


def test_opencloud_gets_the_address_of_its_new_node_before_the_label_is_there() -> None:
    (change,) = k3s.plan_apply(LAB, seen(), manifests=at(MIRROR))[LOAD]
    (command,) = change.commands()
    assert isinstance(command.stdin, bytes)
    assert b'"hostIP": "10.20.0.3"' in command.stdin
    kinds = [step.title for step in steps(MIRROR)]
    assert kinds.index(f"Apply OpenCloud with the address of {MIRROR}") < kinds.index(
        f"Move the label of the volumes to {MIRROR}"
    )


@pytest.mark.parametrize(
    ("one", "fault"),
    [
        (pod(MIRROR), ""),
        (pod(MIRROR, ready=False), "the pod opencloud-1 is not ready there"),
        (pod(PROD), "the pod opencloud-1 is not ready there"),
        ({**pod(MIRROR), "status": {"phase": "Failed"}}, "no pod of opencloud is there yet"),
    ],
)
def test_it_is_done_when_the_pod_is_ready_there(one: dict[str, Any], fault: str) -> None:
    found = move.check_moved(LAB, seen(one=one), to=MIRROR)
    assert [said.fault for said in found] == ([fault] if fault else [])


@pytest.mark.parametrize("plan", [move.page, move.plan_end, move.plan_strike_off])
def test_an_api_that_tells_of_no_objects_is_not_one_without_pods(plan: Any) -> None:
    silent = observed(LAB, nodes=api(LAB), live=k3s.Objects(answers=False, said="etcdserver: timed out"))
    with pytest.raises(StepFailed, match="does not say which pods run") as raised:
        plan(LAB, silent, to=MIRROR)
    assert "timed out" in raised.value.advice


@pytest.mark.parametrize("host", [LOAD, "dock-edge", "nobody"])
def test_who_is_no_worker_is_wrong_usage(host: str) -> None:
    with pytest.raises(UsageError, match="is no worker of K3s"):
        require_worker(LAB, host)
    require_worker(LAB, MIRROR)
