"""What is dirty goes over the line before a switch, while everything still runs.

With `on-congestion block` unmounting writes all of the page cache at the speed of the line; gigabytes take longer than
systemd waits for it, with everything stopped. A step of its own: a run that is cut off while it lasts stops nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dockyard.change import Plan, Run, filled
from dockyard.observe import Domain, Observed
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Topology
from tasks.drbd import places
from tasks.drbd.replica import LIVE, carries_replica, other_of, replication_of

LONGEST_S = 3600
"""14 GiB at 4 MiB/s. Longer it is not waited for: nothing was stopped yet."""

LITTLE_KIB = 8192
"""Less than this is not flushed before: unmounting sends it in seconds, also over a line of 20 Mbit/s."""

_DIRTY, _RUN = "dirty", "flushed"
_COUNT = "/^(Dirty|Writeback):/ { kib += $2 } END { print kib }"


@dataclass(frozen=True, slots=True)
class Dirty:
    """What waits in the host's memory for any disk, in KiB (proc_meminfo(5)), and the ``run`` that flushed last."""

    kib: int
    run: str


def _probes(_topology: Topology, _host: Host) -> Sequence[Command]:
    last = f"[ ! -s {places.FLUSHED} ] || cat {places.FLUSHED}"
    return [Command(_DIRTY, ("awk", _COUNT, "/proc/meminfo")), Command(_RUN, ("sh", "-c", last))]


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> Dirty:
    text = outputs.text(_DIRTY).strip()
    if not text.isdecimal():
        raise Printed(_DIRTY, text).error(0, "is no number of KiB")
    return Dirty(kib=int(text), run=outputs.text(_RUN).strip())


DIRTY = Domain("dirty memory", _probes, _read, carries_replica)


def plan_flush(topology: Topology, observed: Observed, *, to: str, run: str) -> Plan:
    """Flush the storage of the old writer, once in this ``run``, if more than a little waits for any disk there."""
    leaving = other_of(topology, to)
    dirty = observed.of(DIRTY, leaving)
    wanted = observed.of(LIVE, leaving).mounted and dirty.kib >= LITTLE_KIB and dirty.run != run
    mount = replication_of(topology).mount
    argv = ("sh", "-c", 'sync -f -- "$1" && echo "$2" >"$3"', "flush", mount, run, places.FLUSHED)
    return filled({leaving: [Run(title=f"flush {mount}", argv=argv, timeout_s=LONGEST_S)] if wanted else []})
