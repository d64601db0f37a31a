"""A mount point into which nobody can write while nothing is mounted: files must not land where the data belongs."""

from __future__ import annotations

from dockyard.change import Change, Run

_CLOSE = """\
[ ! -d "$1" ] || [ -z "$(ls -A -- "$1")" ] || { echo "$1 is not empty: a mount would hide its files" >&2; exit 75; }
install -d -m 0755 -- "$1" && chattr +i -- "$1\""""


def closed_mount_point(path: str) -> Change:
    """Make it, immutable; one that holds files is left alone, as a mount would hide them."""
    return Run(title=f"make {path}, immutable while nothing is mounted", argv=("sh", "-c", _CLOSE, "close", path))
