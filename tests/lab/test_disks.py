"""A disk dies, on either side; and data that was there before phase 2, with DRBD's metadata on a device of its own.

The disks are small device-mapper targets on the machines' data disks: one that gets an empty table (dmsetup(8),
wipe_table) answers every request with an error, and a table with another part of the data disk is a new, bare disk.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import Lab, Machine
from tests.lab import numbered
from tests.lab.conftest import Memory, Runbooks, replace_in
from tests.lab.drbd import wait_until_alike, wait_until_diskless
from tests.lab.numbered import PAIR, UNIT, acknowledged, records

DISK = "/dev/mapper/store"
SECTORS = 96 * 2048
METADATA = "/dev/loop0"


def table(number: int) -> str:
    """The table of the ``number``-th disk: a part of the data disk that no other one touches."""
    return f'"0 {SECTORS} linear /dev/vdb {number * SECTORS}"'


def dies(machine: Machine) -> None:
    machine.succeed("dmsetup wipe_table store", sudo=True)


def replace_disk(machine: Machine, number: int) -> None:
    machine.succeed(f"dmsetup reload store --table {table(number)} && dmsetup resume store", sudo=True)
    machine.succeed(f"cmp -n {SECTORS * 512} {DISK} /dev/zero", sudo=True)


@pytest.fixture
def on_small_disks(meshed: Lab, memory: Memory, inventory: Path) -> Path:
    """An inventory with small disks for both replicas, and the unit that writes numbered records."""
    memory.built = ""
    for host in PAIR:
        meshed[host].succeed(f"dmsetup create store --table {table(0)}", sudo=True)
    replace_in(inventory / "hosts.yaml", "disk: /dev/vdb", f"disk: {DISK}")
    return inventory


@pytest.mark.drill
def test_the_storage_outlives_the_disk_of_either_side(meshed: Lab, runbooks: Runbooks, on_small_disks: Path) -> None:
    prod, mirror = meshed["dock-prod"], meshed["dock-mirror"]
    replace_in(on_small_disks / "defaults.yaml", "mount: /srv/data", f"mount: /srv/data\n      units: [{UNIT}]")
    where = ("--inventory", str(on_small_disks))
    numbered.install(meshed)
    runbooks.succeed("phase2_drbd", "--yes", *where)
    prod.succeed(f"systemctl start {UNIT}", sudo=True)

    dies(prod)
    wait_until_diskless(prod)
    before = acknowledged(prod)
    prod.wait_until_succeeds(f'[ "$(tail -n 1 /var/tmp/acknowledged)" -gt {before + 50} ]', sudo=True)
    health = runbooks.run("health", "--json", *where)
    wanted = "dock-prod: data has no disk here: dock-mirror holds the only copy, and this Primary works over the line"
    assert health.faults == [wanted], str(health)
    dead = runbooks.run("phase2_drbd", "--yes", *where)
    assert dead.exit_code == 1, str(dead)
    assert f"{DISK} cannot be read" in dead.stdout + dead.stderr, str(dead)

    runbooks.succeed("failover", "--to", "dock-mirror", "--yes", *where)
    assert before < acknowledged(prod) <= records(mirror)
    back = runbooks.run("failover", "--to", "dock-prod", "--yes", *where)
    assert back.exit_code == 1, str(back)
    assert "data has no disk here" in back.stdout, str(back)

    replace_disk(prod, 1)
    new = runbooks.succeed("phase2_drbd", "--yes", "--json", *where)
    assert new.changes == {"dock-prod": [f"create DRBD's metadata on {DISK}", "bring data in line with its file"]}
    wait_until_alike(prod)
    runbooks.succeed("failover", "--to", "dock-prod", "--yes", *where)
    assert acknowledged(mirror) <= records(prod)

    dies(mirror)
    wait_until_diskless(mirror)
    health = runbooks.run("health", "--json", *where)
    assert health.faults == ["dock-mirror: data has no disk here: dock-prod holds the only copy"], str(health)
    there = runbooks.run("failover", "--to", "dock-mirror", "--yes", *where)
    assert there.exit_code == 1, str(there)
    replace_disk(mirror, 2)
    runbooks.succeed("phase2_drbd", "--yes", *where)
    assert runbooks.succeed("health", "--json", *where).faults == []
    assert acknowledged(prod) <= records(prod)


@pytest.mark.drill
def test_data_that_was_there_before_is_kept_and_copied(meshed: Lab, runbooks: Runbooks, on_small_disks: Path) -> None:
    """External metadata: the file system fills the writer's disk, and stays as it is."""
    prod, mirror = meshed["dock-prod"], meshed["dock-mirror"]
    replace_in(on_small_disks / "hosts.yaml", f"disk: {DISK}", f"disk: {DISK}, metadata: {METADATA}")
    where = ("--inventory", str(on_small_disks))
    for host in PAIR:
        meshed[host].succeed("modprobe loop && losetup --find && truncate -s 4M /var/tmp/metadata", sudo=True)
        meshed[host].succeed(f"losetup {METADATA} /var/tmp/metadata", sudo=True)
    prod.succeed(
        f"mkfs.ext4 -q {DISK} && mount {DISK} /mnt && cp -r /etc /mnt/ && "
        "dd if=/dev/urandom of=/mnt/random bs=1M count=24 status=none",
        sudo=True,
    )
    listing = "find . -type f ! -name '.*' -print0 | sort -z | xargs -0 sha256sum"
    before = prod.succeed(f"cd /mnt && {listing}", sudo=True)
    assert before.count("\n") > 100
    prod.succeed("umount /mnt", sudo=True)

    runbooks.succeed("phase2_drbd", "--yes", *where)
    assert prod.succeed(f"cd /srv/data && {listing}", sudo=True) == before
    assert runbooks.succeed("phase2_drbd", "--yes", "--json", *where).changes == {}
    runbooks.succeed("failover", "--to", "dock-mirror", "--yes", *where)
    assert mirror.succeed(f"cd /srv/data && {listing}", sudo=True) == before
    for host in PAIR:
        fresh = f"blockdev --flushbufs {DISK}"  # DRBD writes past the disk's page cache, which may hold what was there
        shown = meshed[host].succeed(f"{fresh} && wipefs --noheadings --output TYPE {DISK}", sudo=True)
        assert shown.strip() == "ext4"
    assert runbooks.succeed("health", "--json", *where).faults == []
