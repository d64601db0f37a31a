"""K3s on the lab's machines, by the scripts that a person types. With the stand-in, or a real binary (`lab up --k3s`).

What needs the stand-in (it serves the folder of a volume, and it can be made in another version) says so.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab import Lab, Machine
from lab.k3s import standin
from lab.standin.k3s import VERSION
from tests.lab.conftest import (
    HOSTS,
    Memory,
    Ran,
    Runbooks,
    pin_elsewhere,
    replace_in,
    typed_at_a_terminal,
    wait_until_healthy,
)

NODES = {"dock-load": "10.20.0.4", "dock-prod": "10.20.0.2", "dock-mirror": "10.20.0.3"}
URL = "https://opencloud.dock.internal"
VOLUME = "/srv/k3s/opencloud"
MARKER = f"{VOLUME}/.dockyard-volume"
KUBECTL = "k3s kubectl"
TOKEN = "/var/lib/rancher/k3s/server/token"
SERVER = "dock-load:/var/lib/rancher/k3s/server"
PODS = f"{KUBECTL} get pods --namespace opencloud -o json"


@pytest.fixture(scope="session")
def runbooks(everything: Runbooks) -> Runbooks:
    return everything


def objects(lab: Lab, what: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(lab["dock-load"].succeed(f"{KUBECTL} get {what} -o json", sudo=True))[
        "items"
    ]
    return found


def the_pod(lab: Lab) -> dict[str, Any]:
    (pod,) = objects(lab, "pods --namespace opencloud")
    return pod


def fetched(machine: Machine, path: str = "/status.php") -> str:
    return machine.wait_until_succeeds(f"curl --silent --fail --insecure --max-time 5 {URL}{path}", timeout_s=60)


def begin_again(lab: Lab) -> None:
    """Let the pod end; the cluster makes another one."""
    name = the_pod(lab)["metadata"]["name"]
    lab["dock-load"].succeed(f"{KUBECTL} delete pod --namespace opencloud --wait=false {name}", sudo=True)
    gone = f'said=$({PODS}) && ! echo "$said" | grep -qF {name}'
    lab["dock-load"].wait_until_succeeds(gone, sudo=True, timeout_s=90)


def newest_snapshot(load: Machine) -> str:
    return load.succeed("ls -t /var/lib/dockyard/k3s-snapshots | head -n 1", sudo=True).strip()


def named(ran: Ran, host: str, *words: str) -> None:
    """Some finding about ``host`` has all these words."""
    findings = [one for step in ran.document["steps"] for one in step["findings"]]
    texts = [f"{one['fault']} {one['evidence']}" for one in findings if one["host"] == host]
    assert any(all(word in text for word in words) for text in texts), str(ran)


def test_nodes_joined_through_the_mesh_and_nobody_else(meshed: Lab) -> None:
    nodes = {node["metadata"]["name"]: node for node in objects(meshed, "nodes")}
    assert set(nodes) == set(NODES)
    for name, node in nodes.items():
        addresses = {one["type"]: one["address"] for one in node["status"]["addresses"]}
        assert addresses["InternalIP"] == NODES[name]
    taints = {name: {one["key"] for one in node["spec"].get("taints", ())} for name, node in nodes.items()}
    assert "dockyard.io/standby" in taints["dock-mirror"]
    assert "dockyard.io/standby" not in taints["dock-prod"]
    assert nodes["dock-prod"]["metadata"]["labels"]["dockyard.node-restriction.kubernetes.io/storage"] == "here"
    for host in set(HOSTS) - set(NODES):
        meshed[host].fail("test -e /etc/rancher || test -e /usr/local/bin/k3s")


def test_api_and_kubelet_answer_in_the_mesh_only(meshed: Lab) -> None:
    for host, address in NODES.items():
        ports = "( sport = :6443 or sport = :10250 )"
        shown = meshed[host].succeed(f"ss -H -l -n -t '{ports}'", sudo=True)
        listening = {line.split()[3].rpartition(":")[0].strip("[]") for line in shown.splitlines()}
        assert listening <= {address, "127.0.0.1", "::1"}, shown
        assert address in listening
        meshed[host].succeed("nft list table inet dockyard_k3s | grep 8472", sudo=True)


def test_the_token_is_in_files_for_root_and_nowhere_else(meshed: Lab, runbooks: Runbooks) -> None:
    token = meshed["dock-load"].succeed(f"cat {TOKEN}", sudo=True).strip().rpartition(":")[2]
    assert len(token) > 16
    for host in ("dock-prod", "dock-mirror"):
        assert meshed[host].succeed("stat -c %a:%U /etc/rancher/k3s/token", sudo=True) == "600:root\n"
        assert token in meshed[host].succeed("cat /etc/rancher/k3s/token", sudo=True)
    for host in NODES:
        assert token not in meshed[host].succeed("ps -e -o args=", sudo=True)
        assert token not in meshed[host].journal()
    journals = list((runbooks.state / "dockyard" / "journal").glob("*.jsonl"))
    assert journals
    assert not any(token in path.read_text() for path in journals)


def test_what_lies_in_the_volume_is_served_by_its_name_to_every_host(meshed: Lab) -> None:
    meshed["dock-prod"].succeed(f"echo dear >{VOLUME}/data/letter", sudo=True)
    for host in HOSTS:
        assert "installed" in fetched(meshed[host])
    assert fetched(meshed["dock-edge"], "/data/letter") == "dear\n"  # the stand-in serves the folder
    assert the_pod(meshed)["spec"]["nodeName"] == "dock-prod"


@pytest.mark.drill
def test_an_empty_folder_is_never_taken_for_the_volume(meshed: Lab, runbooks: Runbooks) -> None:
    prod = meshed["dock-prod"]
    prod.succeed(f"mv {VOLUME} {VOLUME}.away && mkdir -m 2770 {VOLUME} && chgrp 1000 {VOLUME}", sudo=True)
    try:
        begin_again(meshed)
        said = f"""{PODS} | grep -F '"message": ".dockyard-volume is missing'"""
        meshed["dock-load"].wait_until_succeeds(said, sudo=True, timeout_s=60)
        health = runbooks.run("health", "--json")
        named(health, "dock-prod", "the volume opencloud is not there", "nothing is mounted")
        refused = runbooks.run("phase1_baseline", "--yes", "--only", "Make the volumes")
        assert refused.exit_code == 1, str(refused)
        assert "was made before, and is not on dock-prod" in refused.stdout
        assert prod.succeed(f"ls -A {VOLUME}", sudo=True) == ""
    finally:
        prod.succeed(f"rmdir {VOLUME} && mv {VOLUME}.away {VOLUME}", sudo=True)
    wait_until_healthy(runbooks)


@pytest.mark.drill
def test_a_host_that_must_never_be_a_node_is_named(meshed: Lab, runbooks: Runbooks) -> None:
    file = "/etc/rancher/k3s/config.yaml"
    meshed["dock-edge"].succeed(f"install -D /dev/null {file}", sudo=True)
    health = runbooks.run("health", "--json")
    assert health.faults == ["dock-edge: has K3s and must never join it"], str(health)
    meshed["dock-edge"].succeed("rm -r /etc/rancher", sudo=True)


@pytest.mark.drill
def test_a_damaged_nats_store_is_named_and_mended_by_what_the_manual_says(meshed: Lab, runbooks: Runbooks) -> None:
    stream = f"'{VOLUME}/data/nats/jetstream/$G/streams/KV'"
    meshed["dock-prod"].succeed(f"install -d -g 1000 -m 2770 {stream} && : >{stream}/meta.inf", sudo=True)
    begin_again(meshed)
    meshed["dock-load"].wait_until_succeeds(f"{PODS} | grep -F 'store is damaged: /volume/'", sudo=True, timeout_s=60)
    named(runbooks.run("health", "--json"), "dock-prod", "is not ready", "the NATS store is damaged", "KV/meta.inf")
    meshed["dock-prod"].succeed(f"mv {stream} {VOLUME}/KV.damaged", sudo=True)
    wait_until_healthy(runbooks)


@pytest.mark.drill
def test_pods_go_on_without_the_control_plane(meshed: Lab, runbooks: Runbooks) -> None:
    meshed["dock-load"].crash()
    assert "installed" in fetched(meshed["dock-edge"])
    health = runbooks.run("health", "--json")
    assert health.exit_code == 3, str(health)
    assert [fault for fault in health.faults if fault.startswith("dock-prod: K3s")] == []
    named(health, "dock-load", "starts, moves and changes nothing; pods that run go on")
    meshed["dock-prod"].succeed("systemctl restart --no-block k3s-agent", sudo=True)
    assert "installed" in fetched(meshed["dock-edge"])
    meshed["dock-load"].start()
    wait_until_healthy(runbooks)


@pytest.mark.drill
def test_after_a_power_cut_a_worker_comes_back_with_its_pod_and_its_data(meshed: Lab, runbooks: Runbooks) -> None:
    prod = meshed["dock-prod"]
    prod.succeed(f"echo kept >{VOLUME}/data/kept && sync {VOLUME}/data/kept", sudo=True)
    prod.crash()
    meshed["dock-load"].wait_until_succeeds(
        f"{KUBECTL} get nodes -o json | grep NodeStatusUnknown", sudo=True, timeout_s=90
    )
    assert {one["spec"].get("nodeName") for one in objects(meshed, "pods --namespace opencloud")} == {"dock-prod"}
    prod.start()
    assert fetched(meshed["dock-edge"], "/data/kept") == "kept\n"
    wait_until_healthy(runbooks)


NEW_KEY = """\
mkdir /root/first && mv /etc/ssh/ssh_host_* /root/first &&
ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key && systemctl restart ssh &&
cat /etc/ssh/ssh_host_ed25519_key.pub"""
FIRST_KEY = "rm /etc/ssh/ssh_host_* && mv /root/first/* /etc/ssh && systemctl restart ssh"


@pytest.fixture
def anew(meshed: Lab, memory: Memory, inventory: Path, tmp_path: Path) -> Iterator[Machine]:
    """dock-mirror as the installer leaves it, with a host key that the lab knows and ``inventory`` does not."""
    memory.forget()
    mirror, lab_knows = meshed["dock-mirror"], meshed.paths.known_hosts
    mirror.reset()
    before = lab_knows.read_text()
    pinned = tmp_path / "known_hosts"
    pinned.write_text(before)
    pin_elsewhere(inventory, pinned)
    kind, blob = mirror.succeed(NEW_KEY, sudo=True).split()[:2]
    try:
        lab_knows.write_text(f"{before}[127.0.0.1]:{mirror.spec.ssh_port} {kind} {blob}\n")
        yield mirror
        mirror.succeed(FIRST_KEY, sudo=True)
    finally:
        lab_knows.write_text(before)


@pytest.mark.drill
def test_a_worker_that_is_installed_anew_is_trusted_by_a_person_and_brought_back_by_one_run(
    meshed: Lab, runbooks: Runbooks, anew: Machine, inventory: Path
) -> None:
    meshed["dock-load"].wait_until_succeeds(
        f"{KUBECTL} get nodes -o json | grep NodeStatusUnknown", sudo=True, timeout_s=90
    )
    here, host = replace(runbooks, inventory=inventory), anew.spec.name
    refused = here.run("phase1_baseline", "--yes")
    assert refused.exit_code == 3, str(refused)
    assert "trust.py" in refused.stdout
    trusted, shown = typed_at_a_terminal(here, "trust", prompt=f"Type {host} to replace it: ", answer=host)
    assert trusted == 0, shown
    here.succeed("phase1_baseline", "--yes")
    assert {node["metadata"]["name"] for node in objects(meshed, "nodes")} == set(NODES)
    wait_until_healthy(here)


def with_standin(version: str, folder: Path, inventory: Path) -> Path:
    """An inventory that wants the stand-in in another version, with its checksum in it."""
    program = folder / "k3s"
    program.write_bytes(standin(version))
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    wanted = f'binary: {program}\n      version: {version}\n      sha256: {{amd64: "{digest}"}}'
    replace_in(inventory / "defaults.yaml", "binary: $XDG_CACHE_HOME/dockyard/lab/k3s", wanted)
    return inventory


@pytest.mark.drill
def test_an_upgrade_goes_node_by_node_and_back_is_the_snapshot_alone(
    meshed: Lab, runbooks: Runbooks, memory: Memory, inventory: Path, tmp_path: Path
) -> None:
    memory.built = ""
    where = ("--inventory", str(with_standin("v1.34.1+standin", tmp_path, inventory)))
    named(runbooks.run("health", "--json", *where), "dock-load", "runs another release")
    meshed["dock-prod"].succeed(f"echo kept >{VOLUME}/data/kept", sudo=True)
    ran = runbooks.succeed("k3s_upgrade", "--yes", *where)
    order = [ran.stdout.index(f"Upgrade {host}") for host in ("dock-load", "dock-prod", "dock-mirror")]
    assert order == sorted(order)
    assert {node["status"]["nodeInfo"]["kubeletVersion"] for node in objects(meshed, "nodes")} == {"v1.34.1+standin"}
    assert not any(node["spec"].get("unschedulable") for node in objects(meshed, "nodes"))
    assert fetched(meshed["dock-edge"], "/data/kept") == "kept\n"
    taken = newest_snapshot(meshed["dock-load"])
    assert taken.startswith("before-upgrade-")
    assert runbooks.succeed("k3s_upgrade", "--yes", "--json", *where).changes == {}
    for version, fault in (("v1.36.0", "skips a minor release"), ("v1.33.5", "would be a step back")):
        path = inventory / "defaults.yaml"
        path.write_text(re.sub(r"version: v[\d.]+\+standin", f"version: {version}+standin", path.read_text()))
        refused = runbooks.run("k3s_upgrade", "--yes", *where)
        assert refused.exit_code == 1, str(refused)
        assert fault in refused.stdout

    runbooks.succeed("k3s_snapshot", "--restore", taken, "--yes", "--destroy", SERVER)
    assert {node["status"]["nodeInfo"]["kubeletVersion"] for node in objects(meshed, "nodes")} == {VERSION}
    assert fetched(meshed["dock-edge"], "/data/kept") == "kept\n"
    wait_until_healthy(runbooks)


@pytest.mark.drill
def test_a_token_is_rotated_and_a_snapshot_brings_the_old_one_back(
    meshed: Lab, runbooks: Runbooks, memory: Memory
) -> None:
    memory.built = ""
    load, mirror = meshed["dock-load"], meshed["dock-mirror"]
    old = load.succeed(f"cat {TOKEN}", sudo=True)
    runbooks.succeed("k3s_snapshot", "--yes")
    name = newest_snapshot(load)
    runbooks.succeed("k3s_token", "--yes")
    new = load.succeed(f"cat {TOKEN}", sudo=True)
    assert new != old
    assert mirror.succeed("cat /etc/rancher/k3s/token", sudo=True) == new
    wait_until_healthy(runbooks)

    load.succeed(f"{KUBECTL} create namespace later", sudo=True)
    refused = runbooks.run("k3s_snapshot", "--restore", name, "--yes")
    assert refused.exit_code != 0, str(refused)
    assert f"--destroy {SERVER}" in refused.stdout + refused.stderr
    runbooks.succeed("k3s_snapshot", "--restore", name, "--yes", "--destroy", SERVER)
    assert load.succeed(f"cat {TOKEN}", sudo=True) == mirror.succeed("cat /etc/rancher/k3s/token", sudo=True) == old
    load.fail(f"{KUBECTL} get namespace later -o name", sudo=True)
    assert "installed" in fetched(meshed["dock-edge"])
    wait_until_healthy(runbooks)


@pytest.mark.drill
def test_a_worker_leaves_in_good_order_and_who_carries_the_volumes_stays(
    meshed: Lab, runbooks: Runbooks, memory: Memory
) -> None:
    memory.built = ""
    kept = runbooks.run("k3s_node", "--remove", "dock-prod", "--yes")
    assert kept.exit_code == 1, str(kept)
    assert "carries the volumes" in kept.stdout
    runbooks.succeed("k3s_node", "--remove", "dock-mirror", "--yes")
    assert {node["metadata"]["name"] for node in objects(meshed, "nodes")} == {"dock-load", "dock-prod"}
    meshed["dock-mirror"].fail("systemctl is-active k3s-agent")
    assert runbooks.succeed("k3s_node", "--remove", "dock-mirror", "--yes", "--json").changes == {}
    runbooks.succeed("phase1_baseline", "--yes")
    wait_until_healthy(runbooks)


@pytest.mark.drill
def test_the_volumes_move_to_another_worker_and_back(meshed: Lab, runbooks: Runbooks, memory: Memory) -> None:
    memory.built = ""
    prod, mirror = meshed["dock-prod"], meshed["dock-mirror"]
    prod.succeed(f"echo dear >{VOLUME}/data/letter", sudo=True)
    refused = runbooks.run("k3s_move", "--to", "dock-mirror", "--yes")
    assert refused.exit_code == 1, str(refused)
    assert "the volume opencloud is not there" in refused.stdout
    assert the_pod(meshed)["spec"]["nodeName"] == "dock-prod"

    packed = prod.succeed(f"tar -cz -C / {VOLUME.removeprefix('/')} | base64 -w 0", sudo=True)
    mirror.succeed(f"echo {packed.strip()} | base64 -d | tar -xz -C /", sudo=True)
    runbooks.succeed("k3s_move", "--to", "dock-mirror", "--yes")
    assert the_pod(meshed)["spec"]["nodeName"] == "dock-mirror"
    at = f"--resolve opencloud.dock.internal:443:{NODES['dock-mirror']}"
    letter = f"curl --silent --fail --insecure --max-time 5 {at} {URL}/data/letter"
    assert meshed["dock-edge"].wait_until_succeeds(letter, timeout_s=60) == "dear\n"
    assert runbooks.succeed("k3s_move", "--to", "dock-mirror", "--yes", "--json").changes == {}

    runbooks.succeed("k3s_move", "--to", "dock-prod", "--yes")
    assert the_pod(meshed)["spec"]["nodeName"] == "dock-prod"
    wait_until_healthy(runbooks)


@pytest.mark.drill
def test_a_control_plane_on_a_new_disk_is_brought_back_from_the_copy_at_a_worker(
    meshed: Lab, runbooks: Runbooks, memory: Memory
) -> None:
    memory.forget()
    load = meshed["dock-load"]
    load.succeed(f"{KUBECTL} create namespace dear", sudo=True)
    meshed["dock-prod"].succeed(f"echo kept >{VOLUME}/data/kept", sudo=True)
    old = load.succeed(f"cat {TOKEN}", sudo=True)
    runbooks.succeed("k3s_snapshot", "--yes")
    name = newest_snapshot(load)

    load.reset()
    refused = runbooks.run("phase1_baseline", "--yes")
    assert refused.exit_code == 1, str(refused)
    assert f"k3s_snapshot.py --restore {name}" in refused.stdout
    load.fail(f"{KUBECTL} get namespace dear -o name", sudo=True)
    assert load.succeed(f"cat {TOKEN}", sudo=True) != old
    runbooks.succeed("k3s_snapshot", "--restore", name, "--yes", "--destroy", SERVER)
    load.succeed(f"{KUBECTL} get namespace dear -o name", sudo=True)
    assert load.succeed(f"cat {TOKEN}", sudo=True) == old
    runbooks.succeed("phase1_baseline", "--yes")
    assert fetched(meshed["dock-edge"], "/data/kept") == "kept\n"
    wait_until_healthy(runbooks)
