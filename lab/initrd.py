"""A small initial RAM disk: busybox, the few drivers that the root disk needs, and `rootfs/init`.

Under software emulation the distribution's own initrd (udev, hundreds of drivers) costs several seconds a boot.
"""

from __future__ import annotations

import lzma
import stat
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

DRIVERS = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "qemu_fw_cfg")
_TRAILER = "TRAILER!!!"


def load_order(modules_dep: str, drivers: Iterable[str], builtin: str = "") -> list[str]:
    """Paths of the modules to load for `drivers`, dependencies first (`modules.dep` lists the nearest one first).

    Drivers in `builtin` (`modules.builtin`) need no module; raises KeyError for one that is in neither.
    """
    dependencies = {
        path: wanted.split() for path, _, wanted in (line.partition(":") for line in modules_dep.splitlines()) if path
    }
    by_name = {_module_name(path): path for path in dependencies}
    inside = {_module_name(path) for path in builtin.split()}
    order: dict[str, None] = {}
    for driver in drivers:
        if driver in inside:
            continue
        path = by_name[driver]
        order.update(dict.fromkeys([*reversed(dependencies[path]), path]))
    return list(order)


def build_initrd(init: bytes, busybox: bytes, modules: Mapping[str, bytes]) -> bytes:
    """Return an uncompressed cpio archive; `modules` (path -> bytes as shipped) is in load order."""
    unpacked = {PurePosixPath(path).name.removesuffix(".xz"): _unpack(path, data) for path, data in modules.items()}
    entries: list[tuple[str, int, bytes]] = [
        ("bin", stat.S_IFDIR | 0o755, b""),
        ("dev", stat.S_IFDIR | 0o755, b""),
        ("modules", stat.S_IFDIR | 0o755, b""),
        ("init", stat.S_IFREG | 0o755, init),
        ("bin/busybox", stat.S_IFREG | 0o755, busybox),
        ("modules/order", stat.S_IFREG | 0o644, "".join(f"{name}\n" for name in unpacked).encode()),
    ]
    entries += [(f"modules/{name}", stat.S_IFREG | 0o644, data) for name, data in unpacked.items()]
    return b"".join(_cpio_entry(number, *entry) for number, entry in enumerate([*entries, (_TRAILER, 0, b"")], start=1))


def _module_name(path: str) -> str:
    return PurePosixPath(path).name.partition(".ko")[0].replace("-", "_")


def _unpack(path: str, data: bytes) -> bytes:
    return lzma.decompress(data) if path.endswith(".xz") else data


def _cpio_entry(number: int, name: str, mode: int, data: bytes) -> bytes:
    """One entry in the "newc" format (Linux, Documentation/driver-api/early-userspace/buffer-format.rst)."""
    encoded = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    return _padded(header + encoded) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
