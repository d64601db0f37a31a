"""What is dirty goes over the line before a switch, while everything still runs.

With `on-congestion block` unmounting writes all of the page cache at the speed of the line; gigabytes take longer than
systemd waits for it, with everything stopped. A step of its own: a run that is cut off while it lasts stops nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from dockyard.change import Change, Plan, Run, filled
from dockyard.observe import Domain, Observed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Replication, Topology
from tasks.drbd import places
from tasks.drbd.replica import LIVE, carries_replica, other_of, replication_of

LONGEST_S = 3600
"""14 GiB at 4 MiB/s. Longer it is not waited for: nothing was stopped yet."""

_PROBE = "flushed"


def _probes(_topology: Topology, _host: Host) -> Sequence[Command]:
    return [Command(_PROBE, ("sh", "-c", f"[ ! -s {places.FLUSHED} ] || cat {places.FLUSHED}"))]


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> str:
    return outputs.text(_PROBE).strip()


FLUSHED: Domain[str] = Domain(_PROBE, _probes, _read, carries_replica)
"""The run that flushed the storage last."""


def plan_flush(topology: Topology, observed: Observed, *, to: str, run: str) -> Plan:
    """Flush the storage of the old writer, once in this ``run``."""
    leaving = other_of(topology, to)
    done = not observed.of(LIVE, leaving).mounted or observed.of(FLUSHED, leaving) == run
    return filled({leaving: [] if done else [flush(replication_of(topology), run)]})


def flush(replication: Replication, run: str) -> Change:
    """Write what is dirty in the storage, and note that ``run`` did it."""
    argv = ("sh", "-c", 'sync -f -- "$1" && echo "$2" >"$3"', "flush", replication.mount, run, places.FLUSHED)
    return Run(title=f"flush {replication.mount}", argv=argv, timeout_s=LONGEST_S)
