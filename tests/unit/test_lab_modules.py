"""Own kernel modules for the lab: read, refused when for another kernel, installed where depmod prefers them."""

from __future__ import annotations

import io
import lzma
import subprocess
import tarfile
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.modules import INCOMING, INSTALL, read_modules, release_of_kernel

RELEASE = "6.12.117+deb13-amd64"


def module(release: str = RELEASE) -> bytes:
    """The part of an ELF file that counts."""
    return b"\x7fELF...\0license=GPL\0vermagic=" + release.encode() + b" SMP preempt mod_unload modversions \0name=x\0"


def kernel(version: bytes = RELEASE.encode() + b" (debian-kernel@lists.debian.org) #1 SMP") -> bytes:
    header = bytearray(0x300)
    header[0x202:0x206] = b"HdrS"
    header[0x20E:0x210] = (0x80).to_bytes(2, "little")
    header[0x280 : 0x280 + len(version)] = version
    return bytes(header)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "drbd.ko").write_bytes(module())
    (tmp_path / "drbd_transport_tcp.ko.xz").write_bytes(lzma.compress(module()))
    (tmp_path / "drbd-utils_9.deb").write_bytes(b"a package")
    (tmp_path / "build.log").write_bytes(b"nothing to do with it")
    return tmp_path


def test_modules_and_packages_are_taken_and_nothing_else(folder: Path) -> None:
    found = read_modules(folder, RELEASE)
    assert set(found.files) == {"drbd.ko", "drbd_transport_tcp.ko.xz", "drbd-utils_9.deb"}
    with tarfile.open(fileobj=io.BytesIO(found.archive)) as tar:
        inside = {name: file.read() for name in tar.getnames() if (file := tar.extractfile(name))}
    assert inside == found.files


def test_the_key_follows_every_byte(folder: Path) -> None:
    keys = {read_modules(folder, RELEASE).key}
    (folder / "drbd-utils_9.deb").write_bytes(b"A package")
    keys.add(read_modules(folder, RELEASE).key)
    (folder / "drbd-utils_9.deb").unlink()
    keys.add(read_modules(folder, RELEASE).key)
    assert len(keys) == 3


@pytest.mark.parametrize("name", ["drbd.ko", "drbd_transport_tcp.ko.xz"])
def test_a_module_for_another_kernel_is_refused_with_both_releases(folder: Path, name: str) -> None:
    other = module("6.1.0-18-amd64")
    (folder / name).write_bytes(lzma.compress(other) if name.endswith(".xz") else other)
    with pytest.raises(LabError, match=r"6\.1\.0-18-amd64, the lab runs 6\.12\.117\+deb13-amd64") as refused:
        read_modules(folder, RELEASE)
    assert name in str(refused.value)
    assert f"linux-headers-{RELEASE}" in refused.value.advice


@pytest.mark.parametrize("content", [b"", b"\x7fELF without a word"])
def test_a_module_that_says_nothing_is_refused(folder: Path, content: bytes) -> None:
    (folder / "drbd.ko").write_bytes(content)
    with pytest.raises(LabError, match="it does not say which"):
        read_modules(folder, RELEASE)


def test_what_cannot_be_read_is_named(folder: Path) -> None:
    with pytest.raises(LabError, match=r"cannot be read: .*nowhere"):
        read_modules(folder / "nowhere", RELEASE)
    (folder / "drbd.ko.xz").write_bytes(b"no xz")
    with pytest.raises(LabError, match=r"drbd\.ko\.xz cannot be unpacked"):
        read_modules(folder, RELEASE)
    empty = folder / "empty"
    empty.mkdir()
    with pytest.raises(LabError, match="holds no kernel module"):
        read_modules(empty, RELEASE)


def test_the_release_of_a_kernel_is_read_from_its_header() -> None:
    assert release_of_kernel(kernel()) == RELEASE
    for wrong in (b"", kernel()[:0x200], kernel().replace(b"HdrS", b"ELF\0"), kernel().replace(b"\x80\0", b"\0\0")):
        with pytest.raises(LabError, match="does not say which release"):
            release_of_kernel(wrong)


def test_the_script_puts_modules_where_depmod_prefers_them(folder: Path) -> None:
    """Run with the machine's paths moved into a folder, and depmod and dpkg replaced by ones that say how they ran."""
    root, tools, incoming = folder / "root", folder / "tools", folder / "incoming"
    for one in (root, tools, incoming):
        one.mkdir()
    (root / "sys/module/drbd").mkdir(parents=True)
    for name in ("depmod", "dpkg", "modprobe"):
        (tools / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{root}/ran\n')
        (tools / name).chmod(0o755)
    for name in ("drbd.ko", "drbd-utils_9.deb"):
        (incoming / name).write_bytes((folder / name).read_bytes())
    script = INSTALL.replace(INCOMING, str(incoming)).replace("/lib/modules", f"{root}/lib/modules")
    script = script.replace("/sys/module", f"{root}/sys/module")
    path = f"{tools}:/usr/bin:/bin"
    subprocess.run(["sh", "-c", script], check=True, env={"PATH": path})
    (installed,) = root.glob("lib/modules/*/updates/*")
    assert (installed.name, installed.read_bytes()) == ("drbd.ko", module())
    ran = (root / "ran").read_text().splitlines()
    reloads = ["modprobe -r drbd", "modprobe drbd"]
    assert ran == ["depmod", *reloads, f"dpkg --install --force-confold {incoming}/drbd-utils_9.deb"]
    assert not incoming.exists()
