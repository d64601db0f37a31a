"""What health says about K3s: each fault by its cause, and nothing when all is well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dockyard.errors import ParseError, Unreachable
from dockyard.findings import Cause, Finding, by_cause
from dockyard.observe import Observed
from dockyard.topology import Topology
from runbooks.phase1_baseline import MANIFESTS
from tasks import k3s, opencloud
from tasks.k3s import places, upkeep
from tasks.k3s.facts import TokenSeen
from tasks.k3s.nodes import Condition, Effect, Truth
from tests.unit.kube import (
    LOAD,
    MIRROR,
    NODE_NAMES,
    PROD,
    STANDBY,
    api,
    bare,
    objects,
    observed,
    planned,
    pod,
    topology,
    unit,
)

LAB = topology()


def found(seen: Observed, cluster: Topology = LAB) -> list[Finding]:
    return by_cause(k3s.check_k3s(cluster, seen, manifests=MANIFESTS))


def faults(seen: Observed) -> list[str]:
    return [f"{one.host}: {one.fault}" for one in found(seen)]


def with_host(host: str, **parts: Any) -> Observed:
    hosts: dict[str, object] = {name: planned(LAB, name) for name in NODE_NAMES}
    return observed(LAB, {**hosts, host: replace(planned(LAB, host), **parts)})


def with_pod(one: Mapping[str, Any]) -> Observed:
    live = objects(LAB)
    return observed(LAB, live=replace(live, live={**live.live, ("Pod", "opencloud", "opencloud-1"): one}))


def test_nothing_is_said_when_all_is_well_or_not_wanted() -> None:
    assert found(observed(LAB)) == []
    without = replace(LAB, cluster=replace(LAB.cluster, k3s=None, opencloud=None))
    assert found(Observed(), without) == []


def test_what_was_never_set_up_is_one_finding() -> None:
    silent = k3s.Api(answers=False, said="k3s: not found")
    seen = observed(LAB, {host: bare(LAB, host) for host in NODE_NAMES}, nodes=silent)
    assert faults(seen) == ["dock-load: K3s was never set up"]


def test_objects_that_could_not_be_read_are_not_all_well() -> None:
    said = faults(observed(LAB, live=k3s.Objects(answers=False, said="timed out")))
    assert said == ["dock-load: the API of K3s tells of nodes and not of objects"]
    garbled = ParseError("kubectl get -o json", 1, "{", "")
    assert faults(observed(LAB, live=garbled)) == ["dock-load: k3s objects could not be read"]


def test_an_api_that_is_away_hides_nothing_of_the_hosts() -> None:
    silent = k3s.Api(answers=False, said="The connection to the server was refused")
    hosts = {host: planned(LAB, host) for host in NODE_NAMES}
    hosts[LOAD] = replace(hosts[LOAD], unit=unit(places.SERVER, "failed"))
    said = faults(observed(LAB, hosts, nodes=silent, live=k3s.Objects(answers=False)))
    assert said == [
        "dock-load: K3s does not run",
        "dock-load: the API of K3s does not answer: nothing can be started, moved or changed, running pods go on",
    ]


@pytest.mark.parametrize(
    ("parts", "fault", "evidence"),
    [
        ({"unit": unit(places.AGENT, "inactive")}, "K3s does not run", "k3s-agent.service is inactive"),
        ({"binary": places.stored("1" * 64)}, "runs another release of K3s than the inventory wants", "1111"),
        ({"listening": ("10.20.0.2:10250", "*:10250")}, "K3s listens outside the mesh", "*:10250"),
        ({"listening": ("127.0.0.1:10250", "[::ffff:10.20.0.2]:10250")}, "", ""),
        (
            {"token": TokenSeen(fingerprint="0123456789abcdef", private=False)},
            "others than root may read /etc/rancher/k3s/token",
            "0600",
        ),
        (
            {"token": TokenSeen(fingerprint="f" * 16, private=True)},
            "has another token than the control plane",
            "0123456789abcdef",
        ),
        (
            {"guarded": False},
            "nothing keeps others from K3s' port 8472: its table is not loaded",
            "no table inet dockyard_k3s",
        ),
        (
            {"expiring": {places.CERTIFICATES[0]: "Feb 10 10:00:00 2027 GMT"}},
            "its certificate of K3s ends within three months",
            "client-kubelet.crt ends on Feb 10 10:00:00 2027 GMT",
        ),
        ({"severed": True}, "its pods reach no pod of another node", "no device flannel.1"),
        ({"mtu": 1450}, "its pods send packets that do not fit into the mesh", "FLANNEL_MTU is 1450"),
        ({"mtu": 1370}, "", ""),
        ({"volumes": {}}, "the volume opencloud is not there", "nothing is mounted at /srv/k3s"),
    ],
)
def test_a_fault_of_a_host_is_named(parts: dict[str, object], fault: str, evidence: str) -> None:
    said = found(with_host(PROD, **parts))
    assert [one.fault for one in said] == ([fault] if fault else [])
    assert all(evidence in one.evidence and one.host == PROD and one.cause is Cause.K3S for one in said)


LOST = Condition(status=Truth.UNKNOWN, reason="NodeStatusUnknown", message="Kubelet stopped posting node status.")
FULL = Condition(status=Truth.TRUE, reason="KubeletHasDiskPressure", message="kubelet has disk pressure")


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ({"ready": Truth.UNKNOWN, "conditions": {"Ready": LOST}}, "is not ready as a node of K3s"),
        ({"internal_ip": "192.168.1.10"}, "joined K3s with an address outside the mesh"),
        ({"version": "v1.32.9+k3s1"}, "runs K3s v1.32.9+k3s1 and not v1.33.5+k3s1"),
        ({"conditions": {"DiskPressure": FULL}}, "is short of something: DiskPressure"),
        ({"labels": {}}, "does not have the label of the volumes: their pods cannot start"),
        (
            {"labels": {places.STORAGE_LABEL: places.HERE}, "taints": (STANDBY,)},
            "carries the volumes, and keeps pods away",
        ),
        (
            {"labels": {places.STORAGE_LABEL: "gone"}},
            "does not have the label of the volumes: their pods cannot start",
        ),
        ({"taints": (replace(STANDBY, effect=Effect.NO_EXECUTE),)}, "carries the volumes, and keeps pods away"),
        ({"unschedulable": True}, "is cordoned: no pod can start there"),
    ],
)
def test_a_fault_of_a_node_is_named(parts: dict[str, object], fault: str) -> None:
    assert faults(observed(LAB, nodes=api(LAB, dock_prod=parts))) == [f"dock-prod: {fault}"]


def test_mirror_without_its_taint_two_homes_and_strangers_are_named() -> None:
    assert faults(observed(LAB, nodes=api(LAB, dock_mirror={"taints": ()}))) == [
        "dock-mirror: takes pods, and must take none: it does not carry the volumes"
    ]
    soft = api(LAB, dock_mirror={"taints": (replace(STANDBY, effect=Effect.PREFER_NO_SCHEDULE),)})
    assert faults(observed(LAB, nodes=soft)) == faults(observed(LAB, nodes=api(LAB, dock_mirror={"taints": ()})))
    both = api(LAB, dock_mirror={"labels": {places.STORAGE_LABEL: places.HERE}})
    assert faults(observed(LAB, nodes=both)) == ["dock-load: two nodes would carry the volumes"]
    stranger = observed(LAB, k3s_stranger={"dock-edge": ("/etc/rancher/k3s/config.yaml",)})
    assert faults(stranger) == ["dock-edge: has K3s and must never join it"]
    edge = replace(api(LAB).nodes.nodes[MIRROR], name="dock-edge")
    nodes = replace(api(LAB).nodes, nodes={**api(LAB).nodes.nodes, "dock-edge": edge})
    assert faults(observed(LAB, nodes=replace(api(LAB), nodes=nodes))) == [
        "dock-load: dock-edge is a node of K3s and must not be"
    ]


def test_a_volume_that_another_worker_has_is_followed() -> None:
    hosts = {host: planned(LAB, host) for host in NODE_NAMES}
    hosts[MIRROR] = replace(hosts[MIRROR], volumes=hosts[PROD].volumes)
    hosts[PROD] = replace(hosts[PROD], volumes={})
    (said,) = found(observed(LAB, hosts))
    assert (said.fault, said.advice) == (
        "the volume opencloud is not there",
        f"It is on {MIRROR}: python runbooks/k3s_move.py --to {MIRROR}",
    )


def test_a_host_that_is_away_is_one_finding_and_not_five() -> None:
    hosts: dict[str, object] = {host: planned(LAB, host) for host in NODE_NAMES}
    hosts[PROD] = Unreachable(PROD, "no route to host")
    lost = api(LAB, dock_prod={"ready": Truth.UNKNOWN, "conditions": {"Ready": LOST}})
    live = objects(LAB)
    gone = {**live.live, ("Pod", "opencloud", "opencloud-1"): pod(PROD, ready=False)}
    seen = observed(LAB, hosts, nodes=lost, live=replace(live, live=gone))
    assert [(one.host, one.cause, one.unseen) for one in found(seen)] == [(PROD, Cause.REACH, True)]


def test_a_control_plane_that_is_away_is_said_together_with_what_that_means() -> None:
    hosts: dict[str, object] = {host: planned(LAB, host) for host in NODE_NAMES}
    away = Unreachable(LOAD, "no route to host")
    seen = observed(LAB, {**hosts, LOAD: away}, nodes=away, live=away)
    assert {one.fault for one in found(seen)} == {
        "could not be looked at",
        "without dock-load K3s starts, moves and changes nothing; pods that run go on",
    }
    kept = replace(planned(LAB, PROD), snapshots=("2026-11-02T00:00:00Z",))
    for state, said in (
        (hosts[PROD], "no other host has a snapshot"),
        (kept, "Z --destroy dock-load:/var/lib/rancher/k3s/server"),
    ):
        seen = observed(LAB, {**hosts, LOAD: away, PROD: state}, nodes=away, live=away)
        assert any(said in one.advice for one in found(seen))


def test_a_change_by_hand_and_a_pod_elsewhere_are_named() -> None:
    live = objects(LAB)
    key = ("Deployment", "opencloud", "opencloud")
    edited = {**live.live[key], "spec": {**live.live[key]["spec"], "replicas": 0}}
    said = found(observed(LAB, live=replace(live, live={**live.live, key: edited})))
    assert [(one.fault, one.evidence) for one in said] == [
        ("opencloud is not as planned in the cluster", "Deployment opencloud: spec.replicas is 0 instead of 1")
    ]
    (one,) = found(with_pod(pod(MIRROR)))
    assert (one.host, one.fault, one.cause) == (
        MIRROR,
        "the pod opencloud-1 is not where the volumes are",
        Cause.K3S,
    )


def test_why_a_pod_does_not_start_is_said_in_the_words_of_its_init_container() -> None:
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": "the NATS store is damaged: meta.inf"}}
    statuses = [{"name": "nats-store", "state": ended, "restartCount": 3}]
    (one,) = found(with_pod(pod(PROD, ready=False, initContainerStatuses=statuses)))
    assert one.evidence == "nats-store: the NATS store is damaged: meta.inf (exit code 1)"
    waiting = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available",
    }
    nowhere = {**pod("", ready=False), "status": {"phase": "Pending", "conditions": [waiting]}}
    (one,) = found(with_pod(nowhere))
    assert (one.host, one.evidence) == (LOAD, "Unschedulable: 0/3 nodes are available")


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_has_ended_is_a_record_and_no_fault(phase: str) -> None:
    evicted = pod(MIRROR, ready=False)
    evicted["metadata"]["name"] = "opencloud-0"
    evicted["status"] = {"phase": phase, "reason": "Evicted", "message": "The node was low on resource: memory."}
    live = objects(LAB)
    both = replace(live, live={**live.live, ("Pod", "opencloud", "opencloud-0"): evicted})
    seen = observed(LAB, live=both)
    assert found(seen) == []
    assert upkeep.check_pods(LAB, seen) == []


@pytest.mark.parametrize(("status", "said"), [(200, []), (0, ["nobody answers"]), (503, ["status 503"])])
def test_opencloud_that_does_not_answer_is_an_application_fault(status: int, said: list[str]) -> None:
    seen = Observed({PROD: {opencloud.OPENCLOUD.name: opencloud.Answer(status=status)}})
    findings = opencloud.check_opencloud(LAB, seen)
    assert [one.evidence.split(" from ")[0].split(" at ")[0] for one in findings] == said
    assert all(one.cause is Cause.APPLICATION for one in findings)


@pytest.mark.parametrize(
    ("home", "elsewhere", "said"),
    [
        (200, 200, []),
        (200, 0, ["dock-dash: OpenCloud does not answer to this host"]),
        (503, 503, ["dock-prod: OpenCloud does not answer"]),
        (None, 0, []),
    ],
)
def test_opencloud_that_only_its_own_host_hears_is_a_fault_of_the_way_there(
    home: int | None, elsewhere: int, said: list[str]
) -> None:
    answers = {PROD: home, "dock-dash": elsewhere}
    seen = Observed(
        {
            host: {opencloud.OPENCLOUD.name: opencloud.Answer(status=status)}
            for host, status in answers.items()
            if status is not None
        }
    )
    assert [f"{one.host}: {one.fault}" for one in opencloud.check_opencloud(LAB, seen)] == said
    assert [host.name for host in LAB.hosts.values() if opencloud.is_asked(LAB, host)] == ["dock-dash", PROD]
