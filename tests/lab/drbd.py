"""How a replica stands, asked in a way that DRBD 8.4 and 9 answer alike."""

from __future__ import annotations

import pytest

from lab import Machine

_ALIKE = """\
drbdadm status data | awk '
  /^ *disk:UpToDate/ { own = 1 }
  /peer-disk:UpToDate/ && (/replication:Established/ || !/replication:/) { peer = 1 }
  END { exit !(own && peer) }'"""


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


def wait_until_received(writer: Machine, other: Machine) -> None:
    """Wait until the other replica has received all that was sent to it until now.

    With protocol A nothing else tells: what was handed to TCP is no longer pending.
    """
    sent = int(writer.succeed(_counted("sent", other), sudo=True))
    other.wait_until_succeeds(f"[ $({_counted('received', writer)}) -ge {sent} ]", sudo=True)


def _counted(what: str, other: Machine) -> str:
    """Prints how much, in KiB; DRBD 8.4 calls whoever it is connected to ``peer``."""
    peer = f"/^ *(peer|{other.name}) connection:/,/sent:/"
    return f"drbdsetup status data --verbose --statistics | sed -nE '{peer} s/.*{what}:([0-9]+).*/\\1/p'"


def out_of_sync_kib(machine: Machine) -> int:
    """How much DRBD knows that the other replica lacks, or this one."""
    script = "drbdsetup status data --verbose --statistics | sed -nE 's/.*out-of-sync:([0-9]+).*/\\1/p' | sort -n"
    return int(machine.succeed(script, sudo=True).split()[-1])


def needs_drbd_9(machine: Machine) -> None:
    """Skip a test of what only DRBD 9 can do, in a lab with Debian's 8.4."""
    version = machine.succeed("modinfo -F version drbd", sudo=True).strip()
    if not version.startswith("9."):
        pytest.skip(f"this lab runs DRBD {version}; python -m lab up --modules DIR takes a 9")
