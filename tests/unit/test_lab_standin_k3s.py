"""The stand-in for K3s, as the one program that the lab installs, on loopback: a control plane and two workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lab.errors import LabError
from lab.k3s import ensure, is_real, provide, standin
from lab.standin.k3s import VERSION, agent, control, schedule
from lab.standin.k3s.server import new_token, password_of
from tasks.k3s.nodes import Truth, read_json
from tests.unit.kube import node, topology

ANSWER_S = 30.0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Cluster:
    """Processes of the stand-in in one folder; the control plane is ``load``."""

    folder: Path
    program: Path
    port: int = field(default_factory=free_port)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def environment(self, name: str) -> dict[str, str]:
        kubeconfig = str(self.folder / "kubeconfig")
        pace = {"STANDIN_BEAT_S": "0.3", "STANDIN_GRACE_S": "3", "STANDIN_RETRY_S": "0.5"}
        return {
            **os.environ,
            **pace,
            "K3S_CONFIG_FILE": str(self.folder / name / "k3s" / "config.yaml"),
            "KUBECONFIG": kubeconfig,
        }

    def start(self, name: str, **options: object) -> None:
        role = "server" if name == "load" else "agent"
        wanted: dict[str, object] = {
            "node-name": name,
            "node-ip": "127.0.0.1",
            "bind-address": "127.0.0.1",
            "data-dir": str(self.folder / name / "data"),
            "kubelet-arg": [f"port={free_port()}"],
        }
        if role == "server":
            wanted |= {"https-listen-port": self.port, "write-kubeconfig": str(self.folder / "kubeconfig")}
        else:
            wanted |= {"server": f"https://127.0.0.1:{self.port}", "token-file": str(self.token)}
        config = self.folder / name / "k3s" / "config.yaml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(json.dumps({**wanted, **options}))
        command = [sys.executable, str(self.program), role]
        self.running[name] = subprocess.Popen(command, env=self.environment(name), stderr=subprocess.PIPE)

    @property
    def token(self) -> Path:
        return self.folder / "load" / "data" / "server" / "token"

    def stop(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.communicate()

    def kubectl(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(self.program), "kubectl", *arguments]
        return subprocess.run(
            command, env=self.environment("load"), input=text, capture_output=True, text=True, check=False
        )

    def nodes(self) -> dict[str, Any]:
        return dict(read_json(self.kubectl("get", "nodes", "-o", "json").stdout, datetime.now(UTC)).nodes)

    def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", "pods", "-A", "-o", "json").stdout)["items"]
        return found

    def close(self) -> None:
        for pod in self.folder.rglob("agent/pods/*.json"):
            os.kill(json.loads(pod.read_text())["process"], signal.SIGKILL)
        for name in list(self.running):
            self.stop(name)


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ANSWER_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@contextmanager
def cluster_in(folder: Path) -> Iterator[Cluster]:
    program = folder / "k3s"
    program.write_bytes(standin())
    made = Cluster(folder, program)
    try:
        made.start("load", **{"node-taint": ["node-role.kubernetes.io/control-plane=true:NoSchedule"]})
        eventually(lambda: made.kubectl("get", "--raw", "/readyz").stdout == "ok")
        yield made
    finally:
        made.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with cluster_in(tmp_path) as made:
        yield made


def manifest(volume: Path, port: int, **pod: object) -> str:
    meta = {"name": "app", "namespace": "app", "labels": {"app": "app"}}
    term = {"matchExpressions": [{"key": "storage", "operator": "In", "values": ["here"]}]}
    spec = {
        "containers": [{"name": "app", "ports": [{"containerPort": 1, "hostPort": port, "hostIP": "127.0.0.1"}]}],
        "volumes": [{"name": "volume", "persistentVolumeClaim": {"claimName": "app"}}],
        **pod,
    }
    objects: list[dict[str, object]] = [
        {"kind": "Namespace", "metadata": {"name": "app"}},
        {
            "kind": "PersistentVolume",
            "metadata": {"name": "app"},
            "spec": {"local": {"path": str(volume)}, "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}},
        },
        {"kind": "PersistentVolumeClaim", "metadata": meta, "spec": {"volumeName": "app"}},
        {
            "kind": "Deployment",
            "metadata": meta,
            "spec": {"replicas": 1, "template": {"metadata": {"labels": {"app": "app"}}, "spec": spec}},
        },
    ]
    return "\n---\n".join(map(json.dumps, objects))


def fetched(port: int, path: str) -> bytes:
    unverified = ssl._create_unverified_context()
    with urllib.request.urlopen(f"https://127.0.0.1:{port}{path}", context=unverified, timeout=10) as answer:
        content: bytes = answer.read()
        return content


def test_it_says_what_it_is(tmp_path: Path) -> None:
    program = tmp_path / "k3s"
    program.write_bytes(standin("v1.34.1+standin"))
    ran = subprocess.run([sys.executable, str(program), "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == "k3s version v1.34.1+standin (a stand-in of the lab, not K3s)\n"
    assert standin("v1.34.1+standin") == program.read_bytes()


def test_the_lab_puts_it_beside_its_checksum(tmp_path: Path) -> None:
    provide(tmp_path / "k3s")
    listed = subprocess.run(["sha256sum", "--check", "k3s.sha256"], cwd=tmp_path, capture_output=True, check=False)
    assert listed.returncode == 0
    assert os.access(tmp_path / "k3s", os.X_OK)
    (tmp_path / "page.html").write_text("<html>")
    with pytest.raises(LabError, match="is no program"):
        provide(tmp_path / "k3s", tmp_path / "page.html")
    given = tmp_path / "given"
    given.write_bytes(b"\x7fELF and more")
    provide(tmp_path / "k3s", given)
    ensure(tmp_path / "k3s")
    assert is_real(tmp_path / "k3s")


def test_a_pod_goes_where_label_taints_and_volume_let_it_and_serves_its_data(cluster: Cluster) -> None:
    for name in ("prod", "mirror"):
        cluster.start(name, **{"node-taint": ["standby=true:NoSchedule"]})
    eventually(lambda: len(cluster.nodes()) == 3)
    volume = cluster.folder / "volume"
    volume.mkdir()
    (volume / "letter").write_text("dear")
    port = free_port()
    assert cluster.kubectl("apply", "-f", "-", text=manifest(volume, port)).returncode == 0
    eventually(lambda: bool(cluster.pods()) and "PodScheduled" in str(cluster.pods()[0]["status"]))
    said = cluster.pods()[0]["status"]["conditions"][0]
    assert said["reason"] == "Unschedulable"
    assert "2 node(s) had untolerated taint {standby: true}" in said["message"]

    assert cluster.kubectl("label", "node", "prod", "storage=here").returncode == 0
    for effect in ("PreferNoSchedule", "NoExecute"):
        assert cluster.kubectl("taint", "--overwrite", "node", "prod", f"standby=true:{effect}").returncode == 0
    assert len(cluster.nodes()["prod"].taints) == 3, "a node may have a taint once with each effect"
    assert cluster.kubectl("taint", "node", "prod", "standby-").returncode == 0
    eventually(lambda: cluster.pods()[0]["status"].get("phase") == "Running")
    eventually(lambda: '"True"' in json.dumps(cluster.pods()[0]["status"]["conditions"][:1]))
    assert cluster.pods()[0]["spec"]["nodeName"] == "prod"
    assert json.loads(fetched(port, "/status.php"))["installed"] is True
    assert fetched(port, "/letter") == b"dear"

    cluster.stop("load")
    cluster.stop("prod")
    assert fetched(port, "/letter") == b"dear", "neither the control plane nor the agent is needed by what runs"
    cluster.start("load")
    eventually(lambda: cluster.kubectl("get", "--raw", "/readyz").stdout == "ok")
    cluster.start("prod")
    eventually(lambda: cluster.nodes()["prod"].ready is Truth.TRUE)
    drained = cluster.kubectl("drain", "prod", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=20s")
    assert drained.returncode == 0, drained.stderr
    eventually(lambda: bool(cluster.pods()) and not cluster.pods()[0]["spec"].get("nodeName"))
    assert cluster.nodes()["prod"].cordoned


def test_a_node_whose_agent_died_is_not_ready_and_another_cannot_take_its_name(cluster: Cluster) -> None:
    cluster.start("prod")
    eventually(lambda: "prod" in cluster.nodes())
    assert (cluster.nodes()["prod"].version, cluster.nodes()["load"].roles) == (VERSION, ("control-plane",))
    cluster.stop("prod")
    eventually(lambda: cluster.nodes()["prod"].ready is Truth.UNKNOWN)
    (cluster.folder / "prod" / "node" / "password").unlink()
    cluster.start("prod")
    stderr = cluster.running.pop("prod").communicate(timeout=ANSWER_S)[1].decode()
    assert "Node password rejected" in stderr
    assert cluster.kubectl("delete", "node", "prod").returncode == 0
    assert "prod" not in cluster.nodes()
    cluster.start("prod")
    eventually(lambda: "prod" in cluster.nodes())
    assert cluster.nodes()["prod"].ready is Truth.TRUE


def test_a_pod_of_a_node_that_is_gone_ends_by_force_alone(cluster: Cluster) -> None:
    meta = {"name": "one", "namespace": "default"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"nodeName": "gone"}, "status": {}}
    assert cluster.kubectl("apply", "-f", "-", text=json.dumps(pod)).returncode == 0
    for words, left in (((), 1), (("--force",), 0)):
        assert cluster.kubectl("delete", "pod", "--namespace", "default", *words, "one").returncode == 0
        found = json.loads(cluster.kubectl("get", "pods", "--namespace", "default", "-o", "json").stdout)
        assert len(found["items"]) == left


def test_an_agent_ends_what_an_older_one_ran_and_the_api_does_not_know(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import time; print('serving', flush=True); time.sleep(60)", "opencloud-1"]
    notes = tmp_path / "opencloud-1.json"
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "serving\n"
        notes.write_text(json.dumps({"process": process.pid}))
        agent._end_unknown({}, tmp_path)
        assert process.wait(ANSWER_S) == -signal.SIGTERM
    agent._end_unknown({}, tmp_path)
    assert not notes.exists()


def test_a_token_that_was_rotated_lets_nobody_in_with_the_old_one(cluster: Cluster) -> None:
    old = cluster.token.read_text()
    environment = {**cluster.environment("load"), "K3S_TOKEN": old}
    command = [sys.executable, str(cluster.program), "token", "rotate"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    new = cluster.token.read_text()
    assert new.partition("::")[0] == old.partition("::")[0]
    assert password_of(new) != password_of(old)
    stale = cluster.folder / "stale"
    stale.write_text(old)
    cluster.start("prod", **{"token-file": str(stale)})
    assert "Unauthorized" in cluster.running.pop("prod").communicate(timeout=ANSWER_S)[1].decode()
    again = subprocess.run(command, env=environment, check=False, capture_output=True)
    assert again.returncode == 1


def test_what_it_does_not_know_is_refused(cluster: Cluster) -> None:
    assert cluster.kubectl("get", "nodes", "--watch").returncode == 1
    assert cluster.kubectl("rollout", "status").returncode == 1
    missing = cluster.kubectl("get", "secret", "none", "-n", "app", "-o", "name")
    assert (missing.returncode, "NotFound" in missing.stderr) == (1, True)
    assert cluster.kubectl("get", "secret", "none", "-n", "app", "-o", "name", "--ignore-not-found").stdout == ""
    cluster.start("prod", **{"flannel-backend": "none"})
    assert "flag provided but not defined: -flannel-backend" in cluster.running.pop("prod").communicate()[1].decode()


def test_an_api_that_is_away_is_said_as_kubectl_says_it(tmp_path: Path) -> None:
    (tmp_path / "k3s").write_bytes(standin())
    (tmp_path / "kubeconfig").write_text(json.dumps({"port": free_port(), "password": "x"}))
    ran = Cluster(tmp_path, tmp_path / "k3s").kubectl("get", "nodes", "-o", "json")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "The connection to the server was refused" in ran.stderr


def test_tolerations_are_matched_as_kubernetes_does() -> None:
    taint = {"key": "a", "value": "1", "effect": "NoSchedule"}
    there = {"metadata": {"name": "n"}, "spec": {"taints": [taint]}, "status": {"conditions": [_ready()]}}
    for toleration, lets in (
        ({"operator": "Exists"}, True),
        ({"key": "a", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "a", "value": "1", "effect": "NoSchedule"}, True),
        ({"key": "a", "value": "2"}, False),
    ):
        pod = {"spec": {"tolerations": [toleration]}}
        assert (schedule.obstacle(pod, there, []) == "") is lets, toleration


def _ready() -> dict[str, Any]:
    return control.condition("True", "KubeletReady", "")


def test_what_it_tells_of_nodes_is_what_our_reader_knows() -> None:
    from lab.standin.k3s.agent import node_object
    from lab.standin.k3s.options import Options

    options = Options(
        name="dock-prod",
        address="10.20.0.2",
        bind="10.20.0.2",
        api=("10.20.0.4", 6443),
        kubelet_port=10250,
        taints=("dockyard.io/standby=true:NoSchedule",),
        labels=(),
        data=Path("/nowhere"),
        token_file=Path("/nowhere"),
        kubeconfig=Path("/nowhere"),
    )
    text = json.dumps({"kind": "List", "items": [node_object(options)]})
    (found,) = read_json(text, datetime.now(UTC)).nodes.values()
    assert found.internal_ip == node(topology(), "dock-prod").internal_ip
    assert [taint.key for taint in found.taints] == ["dockyard.io/standby"]
    assert new_token().startswith("K10")
