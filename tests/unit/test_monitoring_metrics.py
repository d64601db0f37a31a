"""The script that writes our metrics, with stand-ins for the tools; DRBD's part against every recorded moment."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.drbd.events import read_events
from tasks.drbd.state import Disk, Link, Role, Said
from tasks.monitoring import places, texts
from tests.parsers.samples import Sample, samples_of
from tests.unit.meshes import ANNA, with_laptop
from tests.unit.monitored import BACKUP_STATE, DASH, LOAD, PROD, PROMTOOL, URL, topology

PROM = "dockyard.prom"
KEYS = {
    "10.20.0.1": "A" * 43 + "=",
    "10.20.0.3": "B" * 43 + "=",
    "10.20.0.4": "C" * 43 + "=",
    "10.20.0.5": "D" * 43 + "=",
}
WG = """\
case $3 in
  allowed-ips) cat "$S/allowed" ;;
  latest-handshakes) cat "$S/handshakes" ;;
esac"""
NODES = {
    "items": [
        {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": status}]}}
        for name, status in (("dock-load", "True"), ("dock-prod", "Unknown"))
    ]
}


class Script:
    """The script of one host in a folder of its own; ``tool`` puts a stand-in in its way."""

    def __init__(self, folder: Path, host: str = PROD, resource: str = "data") -> None:
        cluster = with_laptop(topology())
        assert cluster.cluster.drbd
        drbd = replace(cluster.cluster.drbd, resource=resource)
        cluster = replace(cluster, cluster=replace(cluster.cluster, drbd=drbd))
        text, mode = texts.exporter_texts(cluster, cluster.host(host), backup_state=BACKUP_STATE, opencloud=URL)[
            places.SCRIPT
        ]
        self.folder = folder
        for path in ("bin", "etc/drbd.d", "wants", "backup", "out"):
            (folder / path).mkdir(parents=True)
        self.path = folder / "metrics"
        self.path.write_text(
            text.replace("/etc/drbd.d", f"{folder}/etc/drbd.d")
            .replace("/etc/systemd/system/multi-user.target.wants", f"{folder}/wants")
            .replace(BACKUP_STATE, f"{folder}/backup")
        )
        self.path.chmod(mode)
        self.tool("ping", "exit 1")
        self.tool("wg", WG)
        allowed = [f"{key}\t{address}/32 10.42.0.0/24\n" for address, key in KEYS.items()]
        (folder / "allowed").write_text("".join(allowed))
        handshakes = [f"{key}\t{1795421400 + at}\n" for at, key in enumerate(KEYS.values())]
        (folder / "handshakes").write_text("".join(handshakes))

    def tool(self, name: str, script: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def run(self) -> dict[str, str]:
        """The series that it wrote, with their values."""
        paths = f"{self.folder}/bin:{os.environ['PATH']}"
        environment = {"PATH": paths, "TEXTFILES": str(self.folder / "out"), "S": str(self.folder)}
        ran = subprocess.run([self.path], env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert [path.name for path in (self.folder / "out").iterdir()] == [PROM]
        lines = (self.folder / "out" / PROM).read_text().splitlines()
        series = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        assert len({name for name, _ in series}) == len(series), "a series comes twice"
        described = {line.split()[2] for line in lines if line.startswith("# TYPE")}
        assert {re.sub(r"\{.*", "", name) for name, _ in series} <= described
        return {name.removeprefix("dockyard_"): value for name, value in series}


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


def test_handshakes_carry_the_names_of_the_peers(script: Script) -> None:
    found = script.run()
    assert {name: value for name, value in found.items() if "handshake" in name} == {
        'wireguard_latest_handshake_seconds{peer="dock-dash"}': "1795421400",
        'wireguard_latest_handshake_seconds{peer="dock-mirror"}': "1795421401",
        'wireguard_latest_handshake_seconds{peer="dock-load"}': "1795421402",
        'wireguard_latest_handshake_seconds{peer="dock-edge"}': "1795421403",
    }
    assert found['source_success{source="wireguard"}'] == "1"


def test_every_peer_is_pinged_so_that_an_old_handshake_means_something(script: Script) -> None:
    script.tool("ping", f'echo "$*" >>{script.folder}/pinged')
    script.run()
    pinged = (script.folder / "pinged").read_text()
    assert all(address in pinged for address in KEYS)


def test_a_laptop_is_neither_pinged_nor_has_a_handshake_that_could_be_old(script: Script) -> None:
    script.tool("ping", f'echo "$*" >>{script.folder}/pinged')
    for name, line in (("allowed", f"{ANNA}\t10.20.0.100/32\n"), ("handshakes", f"{ANNA}\t0\n")):
        with (script.folder / name).open("a") as file:
            file.write(line)
    found = [name for name in script.run() if "handshake" in name]
    assert len(found) == len(KEYS)
    assert not any("anna" in name or 'peer=""' in name for name in found)
    assert "10.20.0.100" not in (script.folder / "pinged").read_text()


def test_a_tool_that_fails_is_said_and_the_rest_is_written(script: Script) -> None:
    script.tool("wg", "exit 1")
    (script.folder / "backup" / "repository").write_text("x\n")
    found = script.run()
    assert found['source_success{source="wireguard"}'] == "0"
    assert found['source_success{source="backup"}'] == "1"
    assert not any("handshake" in name for name in found)
    assert found["backup_last_success_seconds"] == "0"


def test_before_anything_is_set_up_nothing_is_claimed(script: Script) -> None:
    names = {re.sub(r"\{.*", "", name) for name in script.run()}
    assert names == {"wireguard_latest_handshake_seconds", "source_success"}


@pytest.mark.parametrize(("stage", "ok"), [("done", "1"), ("backup", "0"), ("retention", "0")])
def test_how_the_last_backup_and_the_last_check_ended(script: Script, stage: str, ok: str) -> None:
    (script.folder / "backup" / "repository").write_text("x\n")
    (script.folder / "backup" / "last-run").write_text(f"began|1795421000\nended|1795421100\nstage|{stage}\n")
    found = script.run()
    assert found['backup_last_ok{what="run"}'] == ok
    assert found['backup_last_ended_seconds{what="run"}'] == "1795421100"
    assert 'backup_last_ok{what="check"}' not in found


def test_the_newest_backup_by_its_beginning(script: Script) -> None:
    (script.folder / "backup" / "repository").write_text("x\n")
    (script.folder / "backup" / "last-good").write_text("began|1795421000\nended|1795421100\nstage|done\n")
    assert script.run()["backup_last_success_seconds"] == "1795421000"


def test_corosync_counts_where_it_is_switched_on(script: Script) -> None:
    (script.folder / "wants" / "corosync.service").touch()
    (sample,) = [one for one in samples_of("corosync_quorumtool") if "011_healthy" in one.case and one.host == PROD]
    script.tool("corosync-quorumtool", f"cat {sample.path}")
    assert script.run()["corosync_quorate"] == "1"
    script.tool("corosync-quorumtool", "exit 1")
    assert script.run()["corosync_quorate"] == "0"


def test_nodes_of_k3s_as_its_server_sees_them(tmp_path: Path) -> None:
    script = Script(tmp_path, LOAD)
    script.tool("k3s", f"[ \"$*\" = 'kubectl get nodes -o json' ] && echo '{json.dumps(NODES)}'")
    found = script.run()
    assert found['k3s_node_ready{node="dock-load"}'] == "1"
    assert found['k3s_node_ready{node="dock-prod"}'] == "0"
    script.tool("k3s", "exit 1")
    found = script.run()
    assert found['source_success{source="k3s_nodes"}'] == "0"
    assert not any("k3s_node_ready" in name for name in found)


@pytest.mark.parametrize(("status", "up"), [("200", "1"), ("503", "0"), ("000", "0")])
def test_opencloud_is_asked_at_its_name_from_the_host_that_watches(tmp_path: Path, status: str, up: str) -> None:
    script = Script(tmp_path, DASH)
    script.tool("curl", f'case "$*" in *"-- {URL}") printf {status} ;; esac')
    assert script.run()["opencloud_up"] == up


def test_nobody_else_asks_opencloud(script: Script) -> None:
    assert "opencloud" not in script.path.read_text()


def test_drbd_that_is_configured_and_down_is_down(script: Script) -> None:
    (script.folder / "etc/drbd.d/data.res").touch()
    script.tool("drbdsetup", "echo 'exists -'")
    assert script.run()['drbd_up{resource="data"}'] == "0"
    script.tool("drbdsetup", "exit 20")
    assert script.run()['drbd_up{resource="data"}'] == "0"


@pytest.mark.parametrize("code", [1, 10, 127])
def test_drbd_that_cannot_be_asked_is_not_told_as_down(script: Script, code: int) -> None:
    (script.folder / "etc/drbd.d/data.res").touch()
    script.tool("drbdsetup", f"exit {code}")
    found = script.run()
    assert found['source_success{source="drbd"}'] == "0"
    assert not any(name.startswith("drbd_") for name in found)


def single_volume(sample: Sample) -> bool:
    return len(re.findall(r"^(?:\S+ )?exists device name:r0 ", sample.text, flags=re.MULTILINE)) == 1


EVENTS = [
    sample for sample in samples_of("drbdsetup_events2") if single_volume(sample) and "timestamps" not in sample.case
]


@pytest.mark.parametrize("sample", EVENTS, ids=str)
def test_drbd_is_told_as_our_reader_understands_it(sample: Sample, tmp_path: Path) -> None:
    script = Script(tmp_path, LOAD if sample.host == LOAD else PROD if sample.host != PROD else "dock-mirror", "r0")
    (tmp_path / "etc/drbd.d/r0.res").touch()
    script.tool("drbdsetup", f"cat {sample.path}")
    found = {name.removeprefix("drbd_"): value for name, value in script.run().items() if name.startswith("drbd_")}
    (resource,) = [one for one in read_events(sample.text).resources if one.name == "r0"]
    (volume,) = resource.volumes
    assert found['up{resource="r0"}'] == "1"
    assert found['primary{resource="r0"}'] == str(int(resource.role is Role.PRIMARY))
    if volume.client is not Said.YES:
        assert found['disk_up_to_date{resource="r0"}'] == str(int(volume.disk is Disk.UP_TO_DATE))
    for peer in resource.peers:
        name = {"peer": script_peer(script)}.get(peer.name, peer.name)
        kind = "tie_breaker_connected" if LOAD in (name, sample.host) else "connected"
        assert found[f'{kind}{{resource="r0",peer="{name}"}}'] == str(int(peer.link is Link.CONNECTED))
        assert found[f'peer_primary{{resource="r0",peer="{name}"}}'] == str(int(peer.role is Role.PRIMARY))
        for theirs in peer.volumes:
            if theirs.client is not Said.YES and theirs.counters:
                behind = found[f'out_of_sync_bytes{{resource="r0",peer="{name}"}}']
                assert int(behind) == theirs.counters.out_of_sync_kib * 1024


def script_peer(script: Script) -> str:
    """What the script calls the one peer of DRBD 8.4."""
    (name,) = re.findall(r'name == "peer" \? "([^"]+)"', script.path.read_text())
    return str(name)


def test_promtool_has_nothing_to_say_against_the_format(script: Script) -> None:
    script.run()
    with (script.folder / "out" / PROM).open() as metrics:
        ran = subprocess.run([PROMTOOL, "check", "metrics"], stdin=metrics, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
