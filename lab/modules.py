"""Kernel modules that the machines get beside those of Debian's kernel: `python -m lab up --modules DIR`.

Debian's kernel carries DRBD 8.4. LINBIT's DRBD 9 (drbd.ko and drbd_transport_tcp.ko) lies in /lib/modules/.../updates,
which depmod(8) prefers, so that it is what `modprobe drbd` loads.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

SUFFIXES = (".ko", ".ko.xz", ".deb")
INCOMING = "/tmp/dockyard-lab-modules"  # noqa: S108 (on a machine that nobody else uses)
INSTALL = f"""\
set -eu
updates=/lib/modules/$(uname -r)/updates
mkdir -p "$updates"
loaded=
for file in {INCOMING}/*.ko {INCOMING}/*.ko.xz; do
  [ -e "$file" ] || continue
  install -m 0644 "$file" "$updates/"
  name=$(basename "${{file%.ko*}}" | tr - _)
  [ ! -d "/sys/module/$name" ] || loaded="$loaded $name"
done
depmod
for name in $loaded; do modprobe -r "$name"; modprobe "$name"; done
set -- {INCOMING}/*.deb
[ ! -e "$1" ] || DEBIAN_FRONTEND=noninteractive dpkg --install --force-confold "$@"
rm -rf {INCOMING}
sync"""


@dataclass(frozen=True, slots=True)
class Modules:
    """Files by name: kernel modules, and packages that are installed with them."""

    files: Mapping[str, bytes]

    @property
    def key(self) -> str:
        """A hash over all of it, ``""`` for no file."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()[:16] if self.files else ""

    @property
    def archive(self) -> bytes:
        """All of it as a tar file."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name, content in self.files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()


def read_modules(folder: Path, release: str) -> Modules:
    """Read modules and packages out of ``folder``, for the kernel ``release``.

    Raises:
        LabError: there is no module, or one that was built for another kernel.
    """
    try:
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name.endswith(SUFFIXES)}
    except OSError as error:
        raise LabError(f"the modules cannot be read: {error}") from error
    modules = {name: content for name, content in files.items() if not name.endswith(".deb")}
    if not modules:
        raise LabError(f"{folder} holds no kernel module", advice="it needs drbd.ko and drbd_transport_tcp.ko")
    for name, content in modules.items():
        built_for = release_of_module(name, content)
        if built_for != release:
            raise LabError(
                f"{name} was built for the kernel {built_for or '(it does not say which)'}, the lab runs {release}",
                advice=f"build it with the package linux-headers-{release}",
            )
    return Modules(files)


def release_of_module(name: str, content: bytes) -> str:
    """The kernel that a module was built for: the first word of ``vermagic`` in its `.modinfo`; ``""`` without one."""
    try:
        plain = lzma.decompress(content) if name.endswith(".xz") else content
    except lzma.LZMAError as error:
        raise LabError(f"{name} cannot be unpacked: {error}") from error
    _, found, rest = plain.partition(b"\0vermagic=")
    return rest.partition(b"\0")[0].decode("ascii", "replace").partition(" ")[0] if found else ""


def release_of_kernel(kernel: bytes) -> str:
    """The release in a bzImage: ``kernel_version`` at 0x20e (Linux, Documentation/arch/x86/boot.rst)."""
    at = int.from_bytes(kernel[0x20E:0x210], "little") + 0x200
    if kernel[0x202:0x206] != b"HdrS" or at == 0x200:
        raise LabError("the kernel of the image does not say which release it is")
    return kernel[at:].partition(b"\0")[0].decode("ascii", "replace").partition(" ")[0]
