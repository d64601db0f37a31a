"""Whether the line held while the old writer let go of the storage: DRBD 9 does not know what it could not send then.

It makes a new generation with the next write after a loss of contact, and forgets that it has to when it is demoted.
When the two meet again with one generation, it clears what was marked as out of sync (drbd_state.c of 9.2.16, "cleared
bm UUID and bitmap"; 8.4 keeps it). So a line that is back is no proof; one that was never away is. Unmounting writes,
so what broke before that is known to DRBD.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dockyard.findings import Finding
from dockyard.observe import Domain, Observed
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Topology
from tasks.drbd import places
from tasks.drbd.checks import finding
from tasks.drbd.replica import carries_replica, other_of, replication_of
from tasks.drbd.witness import lost_contact
from tasks.drbd.writer import NOBODY, WRITER

PROBE = "parting"

_SCRIPT = r"""
case $(cat /sys/module/drbd/version 2>/dev/null) in 9*) ;; *) exit 0 ;; esac
printf 'let_go||%s\n' "$(systemctl show --property=ActiveExitTimestampMonotonic --value -- {storage})"
journalctl --boot --no-pager --quiet --output=short-monotonic --lines=1 --grep={lost} _TRANSPORT=kernel |
  awk -F '[][]' 'END {{ if (NR) printf "lost||%.0f\n", $2 * 1000000 }}'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """When the host began to let go, and when DRBD last lost contact, in microseconds since its boot; 0: not since."""

    let_go_us: int
    lost_us: int

    @property
    def broke(self) -> bool:
        """The contact was lost after the last write that is sure to have made a new generation."""
        return 0 < self.let_go_us <= self.lost_us


def _probes(topology: Topology, host: Host) -> Sequence[Command]:
    lost = lost_contact(replication_of(topology).resource, other_of(topology, host.name))
    script = _SCRIPT.format(storage=places.STORAGE, lost=shlex.quote(lost))
    return [Command(PROBE, ("sh", "-c", script))]


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> Parting:
    return read_parting(outputs.text(PROBE))


def read_parting(text: str) -> Parting:
    """What the probe printed: nothing with DRBD 8.4. Raises ParseError for anything else."""
    found = {row["kind"]: int(row["value"] or 0) for row in Printed(PROBE, text).rows("drbd_witness")}
    return Parting(let_go_us=found.get("let_go", 0), lost_us=found.get("lost", 0))


PARTING = Domain("parting", _probes, _read, carries_replica)


def parting_beside(to: str) -> Domain[Parting]:
    """`PARTING` of the other replica than ``to`` alone."""
    return replace(PARTING, concerns=lambda topology, host: carries_replica(topology, host) and host.name != to)


def check_line_held(topology: Topology, observed: Observed, *, to: str) -> Iterator[Finding]:
    """The line to ``to`` did not break while the other side let go; of no matter once ``to`` has been named."""
    leaving, name = other_of(topology, to), replication_of(topology).resource
    record = observed.seen(WRITER).get(topology.cluster.arbitrator, NOBODY)
    if record.writer != to and observed.of(PARTING, leaving).broke:
        yield finding(
            leaving,
            "the line broke while it let go: DRBD 9 may not know what has not arrived",
            f"the kernel's log has a lost contact after {places.STORAGE} was stopped",
            f"{leaving} has all of it, and takes it back: python runbooks/failover.py --to {leaving}. Then, before "
            f"anything else, `systemctl start --no-block {places.VERIFY_SERVICE}` on it: that finds what {to} lacks; "
            f"`drbdadm invalidate --reset-bitmap=no {name}` on {to} copies it. When health finds nothing, this again",
        )
