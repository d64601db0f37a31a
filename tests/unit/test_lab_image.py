"""The image's inputs: key, package list, mirror, initrd, seed."""

from __future__ import annotations

import io
import lzma
import tarfile
from pathlib import Path

import pytest

from lab.image import ROOTFS, debian_mirror, image_key, package_names
from lab.initrd import build_initrd, load_order
from lab.machines import MACHINES, spec_of
from lab.seed import SeedFile, known_hosts, nat_rules, pack

MODULES_DEP = """\
kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz kernel/fs/mbcache.ko.xz kernel/fs/jbd2/jbd2.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/fs/mbcache.ko.xz:
kernel/lib/crc16.ko.xz:
kernel/drivers/char/hw_random/virtio-rng.ko.xz:
"""


def test_the_key_changes_with_a_name_a_content_and_a_border_between_two() -> None:
    keys = {
        image_key(inputs)
        for inputs in ({"a": b"1", "b": b"2"}, {"a": b"1", "c": b"2"}, {"a": b"1", "b": b"3"}, {"a": b"12", "b": b""})
    }
    assert len(keys) == 4
    assert image_key({"b": b"2", "a": b"1"}) == image_key({"a": b"1", "b": b"2"})


def test_package_names_are_read_without_comments() -> None:
    assert package_names("# all\nsudo\n\njq  # JSON\n") == ["sudo", "jq"]


def test_the_packages_that_later_phases_need_are_in_the_image() -> None:
    names = set(package_names((ROOTFS / "packages.txt").read_text()))
    assert {
        "wireguard-tools",
        "drbd-utils",
        "pacemaker",
        "corosync",
        "sbd",
        "restic",
        "prometheus",
        "openssh-server",
    } <= names
    assert not any(" " in name or "," in name for name in names)


@pytest.mark.parametrize(
    ("sources", "mirror"),
    [
        ("deb http://deb.debian.org/debian bookworm main\n", "http://deb.debian.org/debian"),
        ("Types: deb\nURIs: https://deb.debian.org/debian/\nSuites: trixie\n", "https://deb.debian.org/debian"),
        ("deb http://deb.debian.org/debian-security bookworm-security main\n", "https://deb.debian.org/debian"),
        ("deb https://example.org/other stable main\n", "https://deb.debian.org/debian"),
    ],
)
def test_the_mirror_is_the_one_that_apt_uses(sources: str, mirror: str) -> None:
    assert debian_mirror(sources) == mirror


def test_modules_are_loaded_after_what_they_depend_on() -> None:
    order = load_order(MODULES_DEP, ["ext4", "virtio_rng", "virtio_pci"], "kernel/drivers/virtio/virtio_pci.ko\n")
    assert order[-1] == "kernel/drivers/char/hw_random/virtio-rng.ko.xz"
    assert order.index("kernel/fs/jbd2/jbd2.ko.xz") < order.index("kernel/fs/ext4/ext4.ko.xz")
    assert len(order) == 5


def test_a_driver_that_the_kernel_does_not_have_is_an_error() -> None:
    with pytest.raises(KeyError, match="nosuch"):
        load_order(MODULES_DEP, ["nosuch"])


def test_the_initrd_is_an_archive_with_unpacked_modules_in_load_order() -> None:
    modules = {"kernel/b.ko.xz": lzma.compress(b"second"), "kernel/a.ko": b"first"}
    entries = read_cpio(build_initrd(b"#!init", b"busybox", modules))
    assert entries["init"] == (0o100755, b"#!init")
    assert entries["modules/order"][1] == b"b.ko\na.ko\n"
    assert entries["modules/b.ko"][1] == b"second"
    assert entries["dev"][0] == 0o040755


def read_cpio(data: bytes) -> dict[str, tuple[int, bytes]]:
    entries: dict[str, tuple[int, bytes]] = {}
    offset = 0
    while True:
        assert data[offset : offset + 6] == b"070701"
        fields = [int(data[offset + 6 + 8 * index : offset + 14 + 8 * index], 16) for index in range(13)]
        name_end = offset + 110 + fields[11]
        name = data[offset + 110 : name_end - 1].decode()
        start = (name_end + 3) & ~3
        if name == "TRAILER!!!":
            return entries
        entries[name] = (fields[1], data[start : start + fields[6]])
        offset = (start + fields[6] + 3) & ~3


def test_a_seed_has_owners_modes_and_links_and_is_reproducible() -> None:
    files = {
        "etc/a": SeedFile("x\n", 0o600),
        "home/dockyard/.ssh/authorized_keys": SeedFile("k", 0o600, 1000),
        "etc/l": SeedFile("", link_to="/etc/a"),
    }
    data = pack(files)
    assert data == pack(dict(reversed(files.items())))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {entry.name: entry for entry in tar}
    assert (members["etc/a"].mode, members["etc/a"].uid) == (0o600, 0)
    assert members["home/dockyard/.ssh"].isdir()
    assert (members["home/dockyard/.ssh"].mode, members["home/dockyard/.ssh/authorized_keys"].uid) == (0o700, 1000)
    assert members["etc/l"].linkname == "/etc/a"


def test_known_hosts_names_the_forwarded_port_and_drops_the_comment() -> None:
    assert known_hosts({"dock-dash": "ssh-ed25519 AAAA root@dock-dash\n"}) == "[127.0.0.1]:22101 ssh-ed25519 AAAA\n"


def test_only_its_own_site_reaches_a_machine_behind_nat() -> None:
    rules = nat_rules(spec_of("dock-edge"))
    assert "ip saddr != { 10.99.0.12 } ct state new counter drop" in rules
    assert not [spec for spec in MACHINES if spec.site != "home" and str(spec.cluster_address.ip) in rules]


def test_no_script_of_the_image_is_empty() -> None:
    assert all((ROOTFS / name).read_text().strip() for name in ("customize.sh", "init", "make-disk.sh"))
    assert Path(ROOTFS / "init").read_text().startswith("#!/bin/busybox sh\n")
