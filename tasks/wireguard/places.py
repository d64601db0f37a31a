"""Where things lie on a host."""

from __future__ import annotations

FOLDER = "/etc/wireguard"
SYNC = "/usr/local/lib/dockyard/wg-sync"
BACK = "/run/dockyard-wg-back"
BACK_UNIT = "dockyard-wg-back"
RESOLVE = "/usr/local/lib/dockyard/wg-resolve"
TIMER = "dockyard-wg-resolve.timer"
RESOLVE_UNIT = "dockyard-wg-resolve.service"
RESOLVE_SERVICE = f"/etc/systemd/system/{RESOLVE_UNIT}"
RESOLVE_TIMER = f"/etc/systemd/system/{TIMER}"


def config(interface: str) -> str:
    """The interface file of wg-quick(8). It holds no secret."""
    return f"{FOLDER}/{interface}.conf"


def private_key(interface: str) -> str:
    return f"{FOLDER}/{interface}.key"


def next_key(interface: str) -> str:
    """The new private key of a rotation, until it takes the place of the old one."""
    return f"{private_key(interface)}.new"


def preshared_key(interface: str, peer: str) -> str:
    return f"{FOLDER}/{interface}-{peer}.psk"


def service(interface: str) -> str:
    return f"wg-quick@{interface}.service"


def drop_in(interface: str) -> str:
    """What we add to wg-quick's own unit."""
    return f"/etc/systemd/system/{service(interface)}.d/dockyard.conf"


def files(interface: str, *, resolving: bool) -> list[str]:
    """All files that are written from templates; the last three only where an endpoint is a name."""
    always = [SYNC, drop_in(interface), config(interface)]
    return [*always, RESOLVE, RESOLVE_SERVICE, RESOLVE_TIMER] if resolving else always
