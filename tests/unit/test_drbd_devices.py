"""The real scripts on real block devices: where metadata is seen, how long a proof holds, what is left alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dockyard.change import Run
from dockyard.remote import Command, Completed, Outputs
from dockyard.topology import Backing
from tasks import drbd
from tasks.drbd import facts, places, storage
from tasks.drbd.facts import JUST_CREATED, Device
from tests.unit.replicas import (
    HOSTS,
    PROD,
    USED,
    observed,
    pristine,
    topology,
    with_facts,
)


@pytest.fixture
def loops(tmp_path: Path) -> Iterator[list[str]]:
    """Two block devices of zeros, 64 MiB each."""
    tools = ("losetup", "wipefs", "lsblk", "drbdmeta", "mkfs.ext4")
    lacking = [tool for tool in tools if not shutil.which(tool)]
    if lacking or os.geteuid() != 0:
        pytest.skip(f"needs root and {', '.join(tools)}; not here: {', '.join(lacking) or 'root'}")
    made: list[str] = []
    try:
        for number in range(2):
            image = tmp_path / f"disk{number}"
            with image.open("wb") as file:
                file.truncate(2**26)
            found = subprocess.run(["losetup", "--show", "-f", image], capture_output=True, text=True, check=False)
            if found.returncode:
                pytest.skip(f"no loop device here: {found.stderr.strip()}")
            made.append(found.stdout.strip())
        yield made
    finally:
        for device in made:
            subprocess.run(["losetup", "-d", device], check=False)


def looked(backing: Backing, proof: Path) -> facts.Facts:
    replication = topology().cluster.drbd
    assert replication
    command = facts.probe(replication, backing)
    argv = [word.replace(places.PROOF, str(proof)) for word in command.argv]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    completed = Completed(command.name, command.argv, 0, done.stdout, done.stderr, 0.1)
    return facts.read(Outputs("dock-prod", [completed], [command], sent_at=0.0, received_at=0.0))


def metadata_on(device: str, *words: str) -> None:
    subprocess.run(["drbdmeta", "0", *words, "--force"], capture_output=True, check=True)
    assert device in words


def run_on(change: Any, proof: Path, stub: Path) -> subprocess.CompletedProcess[str]:
    """Carry a change out with a drbdadm of ours in the place of the real one."""
    argv = [str(proof) if word == places.PROOF else word for word in change.argv]
    env = {"PATH": f"{stub}:{os.environ['PATH']}"}
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("version", ["v08", "v09"])
@pytest.mark.parametrize("external", [False, True])
def test_metadata_is_seen_wherever_it_lies(loops: list[str], tmp_path: Path, version: str, external: bool) -> None:
    disk, other = loops
    backing = Backing(disk=disk, metadata=other if external else None)
    assert looked(backing, tmp_path / "proof").generation == ""
    place = "flex-external" if external else "internal"
    device = other if external else disk
    metadata_on(device, version, device, place, "create-md", *(["1"] if version == "v09" else []))
    seen = looked(backing, tmp_path / "proof")
    assert (seen.generation, seen.fresh) == (JUST_CREATED, True)
    assert [one.readable for one in seen.devices] == [True] * len(seen.devices)
    elsewhere = Backing(disk=other if not external else disk)
    assert looked(elsewhere, tmp_path / "proof").generation == ""


@pytest.fixture
def drbdadm(tmp_path: Path, loops: list[str]) -> Path:
    """A folder with a drbdadm whose create-md makes real metadata on the first device."""
    tool = tmp_path / "stub" / "drbdadm"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\nexec drbdmeta 0 v08 {loops[0]} internal create-md --force >/dev/null 2>&1\n")
    tool.chmod(0o755)
    return tool.parent


def test_a_proof_holds_until_something_is_written(loops: list[str], tmp_path: Path, drbdadm: Path) -> None:
    disk, proof = loops[0], tmp_path / "proof"
    backing = Backing(disk=disk)
    assert run_on(storage._prove(disk, 2**26), proof, drbdadm).returncode == 0
    assert looked(backing, proof).proof == "zeros"
    assert looked(Backing(disk=loops[1]), proof).proof == "", "another disk"
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    subprocess.run(["wipefs", "-q", "-a", disk], check=True)
    assert looked(backing, proof).proof == "", "it was used since"
    assert run_on(storage._prove(disk, 2**26), proof, drbdadm).returncode == 0
    assert looked(backing, proof).proof == "data"


def metadata_change(disk: str, *signatures: str) -> Run:
    cluster = topology()
    hosts = {**cluster.hosts, PROD: replace(cluster.host(PROD), drbd=Backing(disk=disk))}
    device = Device(path=disk, size_bytes=2**26, signatures=frozenset(signatures))
    states = {**{host: pristine(host) for host in HOSTS}, PROD: with_facts(pristine(PROD), devices=(device,))}
    (change,) = drbd.plan_metadata(replace(cluster, hosts=hosts), observed(states))[PROD]
    assert isinstance(change, Run)
    return change


def test_a_proof_outlasts_the_metadata_and_nothing_else(loops: list[str], tmp_path: Path, drbdadm: Path) -> None:
    disk, proof = loops[0], tmp_path / "proof"
    run_on(storage._prove(disk, 2**26), proof, drbdadm)
    done = run_on(metadata_change(disk), proof, drbdadm)
    assert done.returncode == 0, done.stderr
    seen = looked(Backing(disk=disk), proof)
    assert (seen.proof, seen.fresh) == ("zeros", True)
    subprocess.run(["wipefs", "-q", "-a", disk], check=True)
    assert looked(Backing(disk=disk), proof).proof == ""
    assert run_on(metadata_change(disk), proof, drbdadm).returncode == 0
    assert not proof.exists(), "written between the proof and the metadata"


def test_a_disk_that_was_taken_meanwhile_is_left_alone(loops: list[str], tmp_path: Path, drbdadm: Path) -> None:
    disk = loops[0]
    change = metadata_change(disk)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    done = run_on(change, tmp_path / "proof", drbdadm)
    assert (done.returncode, "now holds: ext4" in done.stderr) == (75, True)
    assert looked(Backing(disk=disk), tmp_path / "proof").generation == ""
    named = run_on(metadata_change(disk, "ext4"), tmp_path / "proof", drbdadm)
    assert named.returncode == 0, named.stderr
    (device,) = looked(Backing(disk=disk), tmp_path / "proof").devices
    assert device.signatures == {"drbd"}


def test_two_signatures_are_compared_in_any_order(loops: list[str], tmp_path: Path, drbdadm: Path) -> None:
    disk = loops[0]
    tool = drbdadm / "wipefs"
    tool.write_text('#!/bin/sh\ncase $* in *TYPE*) printf "gpt\\nPMBR\\ngpt\\n" ;; esac\n')
    tool.chmod(0o755)
    done = run_on(metadata_change(disk, "gpt", "PMBR"), tmp_path / "proof", drbdadm)
    assert done.returncode == 0, done.stderr


def test_a_probe_that_says_something_unknown_is_an_error() -> None:
    command = Command(facts.PROBE, ("true",))
    completed = Completed(facts.PROBE, ("true",), 0, "hostname||x\nsurprise||y\n", "", 0.1)
    with pytest.raises(Exception, match="is not understood"):
        facts.read(Outputs(PROD, [completed], [command], sent_at=0.0, received_at=0.0))


@pytest.mark.parametrize("version", ["v08", "v09"])
def test_a_disk_exchanged_above_external_metadata_is_not_attached(
    loops: list[str], tmp_path: Path, version: str
) -> None:
    """drbdmeta sets the generation as if data had been written, and the file system comes and goes with its disk."""
    disk, metadata = loops
    place = [version, metadata, "flex-external"]
    text, _ = storage.unit_texts(topology(), quorum=False, backing=Backing(disk=disk, metadata=metadata))[places.ADJUST]
    tool = tmp_path / "stub" / "drbdadm"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\n[ "$1" = adjust ] || exit 10\necho "attached with --shared-secret=abc"\n')
    tool.chmod(0o755)

    def adjusts() -> bool:
        env = {"PATH": f"{tool.parent}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-c", text], env=env, capture_output=True, text=True, check=False)
        assert ("--shared-secret=(hidden)" in done.stderr) == (done.returncode == 0), done.stderr
        assert done.returncode == 0 or f"{disk} holds nothing, though its metadata on {metadata}" in done.stderr
        return done.returncode == 0

    assert adjusts(), "no metadata yet"
    metadata_on(metadata, *place, "create-md", *(["1"] if version == "v09" else []))
    assert adjusts(), "nothing was written yet"
    metadata_on(metadata, *place, "set-gi", f"{USED}:0:0:0:1:1", *(["--node-id=0"] if version == "v09" else []))
    assert looked(Backing(disk=disk, metadata=metadata), tmp_path / "proof").generation.upper() == USED
    assert not adjusts(), "a new disk"
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    assert adjusts(), "the disk that belongs to it"
