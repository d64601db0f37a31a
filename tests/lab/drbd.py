"""How a replica stands, asked in a way that DRBD 8.4 and 9 answer alike."""

from __future__ import annotations

import pytest

from lab import Machine

_ALIKE = """\
drbdadm status data | awk '
  /^ *disk:UpToDate/ { own = 1 }
  /peer-disk:UpToDate/ && (/replication:Established/ || !/replication:/) { peer = 1 }
  END { exit !(own && peer) }'"""
_ACKNOWLEDGED = """\
if grep -q '^version: 8' /proc/drbd; then
  grep -A 1 'cs:Connected' /proc/drbd | grep -q ' pe:0 .* ap:0 '
else
  ! drbdsetup status data --verbose --statistics | grep -Eq '(pending|unacked):[1-9]'
fi"""


def wait_until_apart(machine: Machine, other: str) -> None:
    """Wait until a replica has lost the other one, which 8.4 calls ``peer``."""
    machine.wait_until_succeeds(f"drbdadm status data | grep -Eq '^ *(peer|{other}) connection:'", sudo=True)


def wait_until_alike(machine: Machine, timeout_s: float = 60.0) -> None:
    """Wait until both disks are UpToDate, and nothing is being synchronised."""
    machine.wait_until_succeeds(_ALIKE, sudo=True, timeout_s=timeout_s)


def wait_until_diskless(machine: Machine) -> None:
    """Wait until a replica has given its disk up, while the other one has its own."""
    machine.wait_until_succeeds(
        "drbdadm status data | grep -q '^ *disk:Diskless' && drbdadm status data | grep -q peer-disk:UpToDate",
        sudo=True,
    )


def wait_until_acknowledged(machine: Machine) -> None:
    """Wait until the other replica has acknowledged all that was written here."""
    wait_until_alike(machine)
    machine.wait_until_succeeds(_ACKNOWLEDGED, sudo=True)


def needs_drbd_9(machine: Machine) -> None:
    """Skip a test of what only DRBD 9 can do, in a lab with Debian's 8.4."""
    version = machine.succeed("modinfo -F version drbd", sudo=True).strip()
    if not version.startswith("9."):
        pytest.skip(f"this lab runs DRBD {version}; python -m lab up --modules DIR takes a 9")
