"""Dockyard's own files, manifests and readers against the stand-in, on loopback: phase 1 without the hosts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from dockyard.topology import VolumeRoot
from lab.standin.k3s import options
from runbooks.phase1_baseline import MANIFESTS
from tasks import opencloud
from tasks.k3s import join, places, volumes
from tasks.k3s.api import KUBECTL, OBJECTS, Objects, read_objects
from tasks.k3s.config import texts
from tasks.k3s.objects import drift
from tasks.k3s.pods import Pod, pods
from tests.unit.kube import LOAD, MIRROR, PROD, topology
from tests.unit.test_lab_standin_k3s import Cluster, cluster_in, eventually, fetched, free_port

MAY_MOUNT = os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0
LAB = topology()


@pytest.mark.parametrize(("host", "role"), [(LOAD, "server"), (PROD, "agent"), (MIRROR, "agent")])
def test_the_stand_in_takes_the_options_that_are_written(
    host: str, role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(texts(LAB, LAB.host(host))[places.CONFIG][0])
    monkeypatch.setenv("K3S_CONFIG_FILE", str(config))
    found = options.read_options(role)
    assert (found.name, found.address, found.bind) == (host, found.address, str(LAB.host(host).wireguard.address))
    assert found.api == ("10.20.0.4", 6443)


@pytest.mark.parametrize(("key", "taken"), [(places.STORAGE_LABEL, False), ("dockyard.io/storage", True)])
def test_no_node_may_give_itself_the_label_of_the_volumes(
    key: str, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"{texts(LAB, LAB.host(PROD))[places.CONFIG][0]}node-label: [{key}={places.HERE}]\n")
    monkeypatch.setenv("K3S_CONFIG_FILE", str(config))
    with nullcontext() if taken else pytest.raises(options.WrongOption, match="--node-labels"):
        options.read_options("agent")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with cluster_in(tmp_path) as made:
        made.start(PROD, **{"node-taint": [f"{places.STANDBY_TAINT}=true:NoSchedule"]})
        eventually(lambda: PROD in made.nodes())
        yield made


def asked(cluster: Cluster) -> Objects:
    (command,) = OBJECTS.probes(LAB, LAB.host(LOAD))
    assert command.argv[: len(KUBECTL)] == KUBECTL
    return Objects(answers=True, live=read_objects(cluster.kubectl(*command.argv[len(KUBECTL) :]).stdout))


def the_pod(cluster: Cluster) -> Pod:
    eventually(lambda: bool(pods(asked(cluster))))
    return pods(asked(cluster))[0]


@pytest.mark.skipif(not MAY_MOUNT, reason="init containers need root and a mount namespace")
def test_opencloud_starts_when_its_volume_and_secret_are_there_and_not_before(cluster: Cluster) -> None:
    root = cluster.folder / "volumes"
    here = topology(volumes=VolumeRoot(path=str(root)))
    port = free_port()
    wanted = [text for make in MANIFESTS for text in make(here, PROD).values()]
    wanted = [text.replace("10.20.0.2", "127.0.0.1").replace("hostPort: 443", f"hostPort: {port}") for text in wanted]
    for text in wanted:
        assert cluster.kubectl("apply", "-f", "-", text=text).returncode == 0
    assert [found for text in wanted for found in drift(text, asked(cluster))] == []
    for change in (join.set_label(PROD), join.lift_taint(PROD)):
        (command,) = change.commands()
        assert cluster.kubectl(*command.argv[len(KUBECTL) :]).returncode == 0
    eventually(lambda: "does not exist" in the_pod(cluster).reason)

    (folder,) = (one.path for one in volumes.volumes(here).values())
    Path(folder).mkdir(parents=True)
    eventually(lambda: "not found" in the_pod(cluster).reason)  # the secret
    secret = opencloud._MAKE_SECRET.replace("/run/", f"{cluster.folder}/")
    program = cluster.folder / "bin" / "k3s"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {cluster.program} "$@"\n')
    program.chmod(0o755)
    environment = {**cluster.environment("load"), "PATH": f"{program.parent}:{os.environ['PATH']}"}
    made = subprocess.run(["sh", "-c", secret, "make", "opencloud"], check=False, env=environment, capture_output=True)
    assert made.returncode == 0, made.stderr.decode()
    assert not list(cluster.folder.glob("dockyard-secret*"))
    eventually(lambda: "this is not the volume opencloud" in the_pod(cluster).reason)

    argv = ["sh", "-c", volumes._MAKE, "make", str(root), folder, "opencloud", "no", places.MARKER]
    subprocess.run(argv, check=True)
    eventually(lambda: the_pod(cluster).ready)
    assert the_pod(cluster).node == PROD
    assert b'"installed": true' in fetched(port, "/status.php")
    Path(folder, "data", "letter").write_text("dear")
    assert fetched(port, "/data/letter") == b"dear"
    again = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert (again.returncode, "holds files" in again.stderr) == (75, True)
