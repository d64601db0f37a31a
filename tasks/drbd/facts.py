"""What is seen of the machine under DRBD: module, devices and what lies on them, mounts, the secret's fingerprint.

Nothing here loads the module: `drbdsetup status` does, although it only reads (measured), so it is not asked before.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from dockyard.parsing import Printed, Row, first
from dockyard.remote import Command, Outputs
from dockyard.topology import Backing, Replication
from tasks.drbd import places

PROBE = "drbd facts"
BASIC_PROBE = "drbd basics"

_NEXT = r"""newest=$(ls /boot/vmlinuz-* 2>/dev/null | sed 's|.*/vmlinuz-||' | sort -V | tail -n 1)
if [ -n "$newest" ] && [ "$newest" != "$(uname -r)" ]; then
  say next "$newest" "$(modinfo -k "$newest" -F version drbd 2>/dev/null)"
fi"""
"""The newest kernel that is installed: /lib/modules also keeps folders of those that are gone."""

_SCRIPT = r"""say() {{ printf '%s|%s|%s\n' "$1" "$2" "$3"; }}
sum() {{ sha256sum | cut -c 1-16; }}
say hostname '' "$(uname -n)"
[ ! -r /sys/module/drbd/version ] || say loaded '' "$(cat /sys/module/drbd/version)"
available=$(modinfo -F version drbd 2>/dev/null) && say available '' "$available"
{next_kernel}
[ ! -s {secret} ] || say secret '' "$(tr -d '\n' <{secret} | sum)"
inline=$(sed -n 's/^ *shared-secret "\(.*\)";.*/\1/p' {config} 2>/dev/null)
[ -z "$inline" ] || say inline '' "$(printf %s "$inline" | sum)"
for device in {devices}; do
  [ -b "$device" ] && bytes=$(lsblk -b -d -n -o SIZE "$device" | tr -d ' ') && [ -n "$bytes" ] || continue
  say device "$device" "$bytes"
  found=$(wipefs --noheadings --output TYPE "$device" 2>/dev/null) || {{ say unreadable "$device" ''; continue; }}
  for type in $found; do say signature "$device" "$type"; done
done
{superblock}
block='' generation=''
if [ -b {holder} ]; then
  block=$(superblock {holder} {place})
  [ -n "$block" ] || say unreadable {holder} ''
  generation=$(generation "$block")
  [ -z "$generation" ] || say generation '' "$generation"
fi
if [ -b {disk} ] && [ -s {proof} ]; then
  read -r word disk count <{proof}
  [ -n "$generation" ] || [ "$count" = "$(written {disk})" ] || disk=changed
  [ "$disk" != {disk} ] || say proof '' "$word"
fi
findmnt -n -r -o SOURCE,TARGET | while read -r source target; do
  case $source in {drbd}|{drbd}'['*) say mount "$target" "$source" ;; esac
  [ "$target" != {mount} ] || say source '' "$source"
done
case $(lsattr -d {mount} 2>/dev/null) in ????i*) say immutable '' yes ;; esac
"""

SAY_MODULE = r"""
if [ -r /sys/module/drbd/version ]; then
  read -r version </sys/module/drbd/version && printf 'loaded||%s\n' "$version"
else
  version=$(modinfo -F version drbd 2>/dev/null) || version=
  [ -z "$version" ] || printf 'available||%s\n' "$version"
fi
"""
"""Prints the version of the kernel module that runs, else of the one that would be loaded; nothing without one."""

_BASIC_SCRIPT = (
    SAY_MODULE
    + r"""found=$(findmnt -n -r -o SOURCE --mountpoint {mount}) || [ $? = 1 ] || exit # 1: nothing is mounted there
for source in $found; do printf 'source||%s\n' "$source"; done
"""
)

SUPERBLOCK = r"""superblock() {
  at=0; [ "$2" = start ] || at=$(($(lsblk -b -d -n -o SIZE "$1") / 4096 - 1))
  dd if="$1" bs=4096 skip="$at" count=1 iflag=direct status=none 2>/dev/null | od -A n -v -t x1 -N 64 | tr -d ' \n'
}
generation() { printf %s "$1" | sed -n 's/^.\{16\}\(.\{16\}\).\{88\}8374026[bcd]$/\1/p'; }"""
"""Functions of sh(1). `superblock DEVICE start|end` prints the place where DRBD's metadata begins, as 128 hexadecimal
digits, nothing when it cannot be read; `generation` the current generation in that, nothing if it is no metadata.

It lies at the start of an external device, where libblkid and so wipefs(8) do not look, and in the last whole 4 KiB of
a disk. The layout is `struct md_on_disk_08` of drbdmeta.c: size, four generations ... and the magic number at byte 60,
which is ..6b for 8.4, ..6c for 8.4 in use, ..6d for 9. Read past the page cache, as the kernel's DRBD writes past it.
"""

WRITTEN = """\
written() {
  read -r _ _ _ _ _ _ count _ <"/sys/class/block/$(basename "$(readlink -f "$1")")/stat" && echo "$count"
}"""
"""A function of sh(1): how many sectors were ever written to a device since it was plugged in."""

JUST_CREATED = "0000000000000004"
"""The generation of metadata under which nothing was ever written (UUID_JUST_CREATED in drbd.h)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A block device: its size in bytes, and the types of all signatures on it that wipefs(8) knows.

    One that cannot be read (the DRBD device of a Secondary) is not ``readable``; nothing is known of what lies on it.
    """

    path: str
    size_bytes: int
    signatures: frozenset[str]
    readable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Basics:
    """What a switch has to know of a machine.

    ``loaded`` and ``available`` are versions of the kernel module (``""``: there is none; the one that is available may
    be left out while one is loaded). ``on_mount`` is what is mounted at our mount point, ``""`` for nothing.
    """

    loaded: str
    available: str
    on_mount: str

    @property
    def version(self) -> str:
        """Version of the module that runs, or would be loaded."""
        return self.loaded or self.available

    @property
    def is_9(self) -> bool:
        """Whether the module is DRBD 9, with quorum and JSON, and not 8.4."""
        return self.version.split(".")[0] == "9"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts(Basics):
    """The machine under DRBD.

    ``secret`` is the fingerprint of the secret's file, ``inline`` of the one in the resource file; ``""`` where there
    is none. ``mounted_at`` are the places where the DRBD device is mounted. ``immutable`` says that nobody can write
    into the empty mount point (chattr(1), +i). ``proof`` is what a reading of the whole disk found before its metadata
    was made, in this boot: ``zeros``, ``data``, or ``""`` for never tried, or when something was written since.
    ``generation`` is the current one in DRBD's metadata, ``""`` without metadata. ``next_kernel`` is the newest one
    that is installed, if it is not the one that runs, and ``next_version`` that of its DRBD.
    """

    hostname: str
    secret: str
    inline: str
    devices: tuple[Device, ...]
    mounted_at: tuple[str, ...]
    immutable: bool
    proof: str
    generation: str
    next_kernel: str = ""
    next_version: str = ""

    def device(self, path: str) -> Device | None:
        """The device at ``path``, None when there is none."""
        return next((device for device in self.devices if device.path == path), None)

    @property
    def fresh(self) -> bool:
        """There is metadata, and nothing was ever written under it: the first copy may overwrite this disk."""
        return self.generation == JUST_CREATED


def probe(replication: Replication, backing: Backing | None) -> Command:
    """The command that `read` understands."""
    devices = backing.devices if backing else []
    holder = (backing.metadata or backing.disk) if backing else ""
    script = _SCRIPT.format(
        next_kernel=_NEXT,
        secret=shlex.quote(places.secret(replication)),
        config=shlex.quote(places.config(replication)),
        devices=shlex.join([*devices, replication.device]),
        drbd=shlex.quote(replication.device),
        mount=shlex.quote(replication.mount),
        proof=places.PROOF,
        superblock=f"{SUPERBLOCK}\n{WRITTEN}",
        holder=shlex.quote(holder),
        place="start" if backing and backing.metadata else "end",
        disk=shlex.quote(backing.disk if backing else ""),
    )
    return Command(PROBE, ("sh", "-c", script), timeout_s=30)


def basic_probe(replication: Replication) -> Command:
    """The command that `read_basics` understands: a small part of `probe`, in a tenth of its time."""
    script = _BASIC_SCRIPT.format(mount=shlex.quote(replication.mount))
    return Command(BASIC_PROBE, ("sh", "-c", script))


def read_basics(outputs: Outputs) -> Basics:
    """What `basic_probe` found; raises CommandFailed or ParseError."""
    rows = Printed(BASIC_PROBE, outputs.text(BASIC_PROBE)).rows("drbd_facts")
    return Basics(loaded=first(rows, "loaded"), available=first(rows, "available"), on_mount=_last(rows, "source"))


def read(outputs: Outputs) -> Facts:
    """What `probe` found; raises CommandFailed or ParseError."""
    rows = Printed(PROBE, outputs.text(PROBE)).rows("drbd_facts")
    return Facts(
        hostname=first(rows, "hostname"),
        loaded=first(rows, "loaded"),
        available=first(rows, "available"),
        secret=first(rows, "secret"),
        inline=first(rows, "inline"),
        devices=tuple(_device(rows, row) for row in rows if row["kind"] == "device"),
        mounted_at=tuple(row["name"] for row in rows if row["kind"] == "mount"),
        on_mount=_last(rows, "source"),
        immutable=bool(first(rows, "immutable")),
        proof=first(rows, "proof"),
        generation=first(rows, "generation"),
        next_kernel=next((row["name"] for row in rows if row["kind"] == "next"), ""),
        next_version=first(rows, "next"),
    )


def _last(rows: Sequence[Row], kind: str) -> str:
    return first(rows[::-1], kind)


def _device(rows: Sequence[Row], row: Row) -> Device:
    signatures = {other["value"] for other in rows if (other["kind"], other["name"]) == ("signature", row["name"])}
    blind = any((other["kind"], other["name"]) == ("unreadable", row["name"]) for other in rows)
    return Device(path=row["name"], size_bytes=int(row["value"]), signatures=frozenset(signatures), readable=not blind)
