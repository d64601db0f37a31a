"""Our manifests: what Kubernetes' own schemas say of them, and what must be true of the pod that carries the data."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from runbooks.phase1_baseline import MANIFESTS
from tasks.k3s import places
from tasks.k3s.objects import differences, documents
from tests.unit.kube import MIRROR, PROD, topology

LAB = topology()
RELEASES = ("1.31", "1.33", "1.35")


def objects(carrier: str = PROD) -> list[dict[str, Any]]:
    return [one for make in MANIFESTS for text in make(LAB, carrier).values() for one in documents(text)]


def pod_spec() -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in objects() if one["kind"] == "Deployment")["spec"]["template"]["spec"]
    return found


def containers() -> Iterator[dict[str, Any]]:
    yield from (*pod_spec()["initContainers"], *pod_spec()["containers"])


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("one", objects(), ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_kubernetes_own_schemas_accept_every_object(one: dict[str, Any], release: str) -> None:
    kubernetes_validate.validate(one, release, strict=True)


def test_the_schemas_would_refuse_a_word_that_is_none() -> None:
    wrong = json.loads(json.dumps(next(one for one in objects() if one["kind"] == "Deployment")))
    wrong["spec"]["template"]["spec"]["fsGroupChangePolicies"] = "OnRootMismatch"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, RELEASES[0], strict=True)


def test_every_object_is_marked_as_ours() -> None:
    assert all(one["metadata"]["labels"].items() >= places.MANAGED.items() for one in objects())


def test_one_pod_writes_and_it_stays_where_the_data_are() -> None:
    deployment = next(one for one in objects() if one["kind"] == "Deployment")
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    volume = next(one for one in objects() if one["kind"] == "PersistentVolume")["spec"]
    claim = next(one for one in objects() if one["kind"] == "PersistentVolumeClaim")["spec"]
    assert volume["accessModes"] == claim["accessModes"] == ["ReadWriteOncePod"]
    assert volume["persistentVolumeReclaimPolicy"] == "Retain"
    (term,) = volume["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": places.STORAGE_LABEL, "operator": "In", "values": [places.HERE]}]
    evicting = [one for one in pod_spec()["tolerations"] if one["effect"] == "NoExecute"]
    assert len(evicting) == 2
    assert not any("tolerationSeconds" in one for one in evicting)


def test_a_claim_never_changes_since_kubernetes_could_not_resize_it() -> None:
    made = {
        one["kind"]: one["spec"]
        for make in MANIFESTS
        for text in make(LAB, PROD).values()
        for one in documents(text)
        if "spec" in one
    }
    assert made["PersistentVolume"]["capacity"] == {"storage": places.CLAIMED}
    assert made["PersistentVolumeClaim"]["resources"]["requests"] == {"storage": places.CLAIMED}


def test_no_container_is_root_or_may_become_it() -> None:
    security = pod_spec()["securityContext"]
    assert (security["runAsUser"], security["fsGroup"], security["runAsNonRoot"]) == (1000, 1000, True)
    assert security["fsGroupChangePolicy"] == "OnRootMismatch"
    for one in containers():
        assert one["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_it_is_reached_on_the_mesh_address_of_its_node_only() -> None:
    for carrier, address in ((PROD, "10.20.0.2"), (MIRROR, "10.20.0.3")):
        (port,) = next(one for one in objects(carrier) if one["kind"] == "Deployment")["spec"]["template"]["spec"][
            "containers"
        ][0]["ports"]
        assert (port["hostIP"], port["hostPort"]) == (address, 443)
    assert {one["spec"]["type"] for one in objects() if one["kind"] == "Service"} == {"ClusterIP"}


def test_quantities_are_written_as_kubernetes_gives_them_back() -> None:
    limits = pod_spec()["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": "2", "memory": "2Gi"}
    assert all(isinstance(one["value"], str) for one in pod_spec()["containers"][0]["env"])


def test_its_probes_ask_opencloud_itself() -> None:
    container = pod_spec()["containers"][0]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/status.php", "port": "https", "scheme": "HTTPS"}
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 300, "the first start makes its configuration"


def test_no_secret_is_in_a_manifest() -> None:
    assert not [one for one in objects() if one["kind"] == "Secret"]
    assert not [one for one in pod_spec()["containers"][0]["env"] if "PASSWORD" in one["name"]]


def script(name: str, volume: Path) -> subprocess.CompletedProcess[str]:
    """An init container, with ``volume`` in the place of the mount."""
    one = next(one for one in pod_spec()["initContainers"] if one["name"] == name)
    text = one["args"][0].replace("/volume/", f"{volume}/")
    return subprocess.run([*one["command"], text], capture_output=True, text=True, check=False)


def test_a_pod_does_not_start_on_an_empty_folder(tmp_path: Path) -> None:
    ran = script("volume", tmp_path)
    assert (ran.returncode, ran.stderr) == (1, f"{places.MARKER} is missing: this is not the volume opencloud\n")
    (tmp_path / places.MARKER).write_text("another\n")
    assert script("volume", tmp_path).returncode == 1
    (tmp_path / places.MARKER).write_text("opencloud\n")
    assert script("volume", tmp_path).returncode == 0


WHOLE = '{"name":"KV_service-registry","subjects":["x"]}'


SUM = "0123456789abcdef"


@pytest.mark.parametrize(
    ("content", "checksum", "damaged"),
    [
        (WHOLE, SUM, ""),
        ("", SUM, "meta.inf"),
        (WHOLE[:20], SUM, "meta.inf"),
        ("\0" * 40, SUM, "meta.inf"),
        (None, SUM, "meta.inf"),
        (WHOLE, "", "meta.sum"),
        (WHOLE, "\0" * 16, "meta.sum"),
        (WHOLE, None, "meta.sum"),
    ],
)
def test_a_nats_store_that_was_cut_short_is_named_before_it_is_opened(
    tmp_path: Path, content: str | None, checksum: str | None, damaged: str
) -> None:
    assert script("nats-store", tmp_path).returncode == 0, "the first start"
    good, other = (tmp_path / "data/nats/jetstream/$G/streams" / name for name in ("main queue", "KV_service-registry"))
    for stream in (good, other):
        (stream / "msgs").mkdir(parents=True)
    (good / "meta.inf").write_text(WHOLE)
    (good / "meta.sum").write_text(SUM)
    (good / "obs" / "sse-1").mkdir(parents=True)
    (good / "obs" / "sse-1" / "meta.inf").write_text("")  # a consumer: NATS goes on without it
    for name, text in (("meta.inf", content), ("meta.sum", checksum)):
        if text is not None:
            (other / name).write_text(text)
    ran = script("nats-store", tmp_path)
    assert ran.returncode == (1 if damaged else 0)
    named = [name for name in ("meta.inf", "meta.sum") if f"KV_service-registry/{name}" in ran.stderr]
    assert named == ([damaged] if damaged else [])
    assert "main queue" not in ran.stderr


def test_differences_are_named_by_their_path() -> None:
    there = {"a": {"b": [1, {"c": 2, "added": 0}], "added": 1}}
    assert list(differences({"a": {"b": [1, {"c": 2}]}}, there)) == []
    assert list(differences({"a": {"b": [1, {"c": 3}]}}, there)) == ["a.b[1].c is 2 instead of 3"]
    assert list(differences({"a": {"b": [1]}}, there)) == ["a.b[1] is {'c': 2, 'added': 0} instead of absent"]
    assert list(differences({"x": 1}, there)) == ["x is absent instead of 1"]
