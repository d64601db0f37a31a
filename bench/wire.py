"""Two network namespaces with a slow wire between them, in user space: for kernels without netem (sch_netem).

Needs root, /dev/net/tun and ip(8). The namespaces have no other link, so nothing leaves the machine, and they vanish
with the processes in them.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET, unshare(2)
_SET_INTERFACE = 0x400454CA  # TUNSETIFF, linux/if_tun.h
_TUN_WITHOUT_HEADER = 0x1001  # IFF_TUN | IFF_NO_PI
_libc = ctypes.CDLL(None, use_errno=True)


def between(addresses: Sequence[str], network: str, rtt_s: float, *, on_far_side: Callable[[], None]) -> int:
    """Move this process behind a wire to a namespace that owns ``addresses`` (of ``network``).

    ``on_far_side`` is called there (to start servers). Returns the process id of the wire.

    Raises:
        OSError: not root, or no /dev/net/tun.
    """
    _unshare()
    near = _tun(["addr add 10.97.0.1/32 dev wire", f"route add {network} dev wire"])
    with Path("/proc/self/ns/net").open("rb") as here:
        _unshare()
        far = _tun(["route add 10.97.0.1/32 dev wire", *(f"addr add {one}/32 dev lo" for one in addresses)])
        on_far_side()
        _check(_libc.setns(here.fileno(), _NEW_NETWORK))
    pid = os.fork()
    if not pid:
        _carry(near, far, rtt_s / 2)
    os.close(near)
    os.close(far)
    return pid


def _unshare() -> None:
    _check(_libc.unshare(_NEW_NETWORK))


def _check(returned: int) -> None:
    if returned:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _tun(commands: Sequence[str]) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _SET_INTERFACE, struct.pack("16sH", b"wire", _TUN_WITHOUT_HEADER))
    batch = "\n".join(
        ["link set lo up", "link set wire up txqueuelen 10000", *(line.removeprefix("ip ") for line in commands)]
    )
    subprocess.run(["ip", "-batch", "-"], input=batch.encode(), check=True)
    return descriptor


def _carry(near: int, far: int, delay_s: float) -> NoReturn:
    """Move packets both ways, each ``delay_s`` late, until killed."""
    waiting: deque[tuple[float, int, bytes]] = deque()
    while True:
        left_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        ready, _, _ = select.select([near, far], [], [], left_s)
        now = time.monotonic()
        for source in ready:
            for packet in _packets(source):
                waiting.append((now + delay_s, far if source == near else near, packet))
        while waiting and waiting[0][0] <= now:
            _, target, packet = waiting.popleft()
            os.write(target, packet)


def _packets(source: int) -> list[bytes]:
    found: list[bytes] = []
    with suppress(BlockingIOError):
        while len(found) < 64:
            found.append(os.read(source, 65536))
    return found
