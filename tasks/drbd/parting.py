"""Whether the line held while the old writer let go of the storage: DRBD 9 does not know what it could not send then.

It makes a new generation with the next write after a loss of contact, and forgets that it has to when it is demoted.
When the two meet again with one generation, it clears what was marked as out of sync (drbd_state.c of 9.2.16, "cleared
bm UUID and bitmap"; 8.4 keeps it). So a line that is back is no proof; one that was never away is. Unmounting writes,
as long as there is quorum, so what broke before that is known to DRBD.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dockyard.findings import Finding
from dockyard.observe import Domain, Observed
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Topology
from tasks.drbd import places
from tasks.drbd.checks import finding
from tasks.drbd.replica import LIVE, carries_replica, other_of, replication_of
from tasks.drbd.witness import lost_contact
from tasks.drbd.writer import NOBODY, WRITER

PROBE = "parting"

_SCRIPT = r"""
case $(cat /sys/module/drbd/version 2>/dev/null) in 9*) ;; *) exit 0 ;; esac
told() {{
  journalctl --boot --no-pager --quiet --output=export --lines=1 --grep="$2" _TRANSPORT=kernel |
    sed -n "s/^__MONOTONIC_TIMESTAMP=/$1||/p"
}}
stopped=$(systemctl show --property=ActiveExitTimestampMonotonic --value -- {storage}) || exit
printf 'stopped||%s\n' "$stopped"
journalctl --boot --no-pager --quiet --output=export _TRANSPORT=kernel |
  sed -n '/^__MONOTONIC_TIMESTAMP=/ {{ s//first||/p; q }}'
told demoted {demoted}
told lost {lost}
"""
"""Times at which journald got the line: of one clock with systemd's own. What short-monotonic shows is printk's, which
drifts from it by seconds in a month."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """When the host began to let go, and when DRBD last lost contact, in microseconds since its boot; 0: not since."""

    let_go_us: int = 0
    lost_us: int = 0

    @property
    def broke(self) -> bool:
        """The contact was lost after the last write that is sure to have made a new generation."""
        return 0 < self.let_go_us <= self.lost_us


def _probes(topology: Topology, host: Host) -> Sequence[Command]:
    name = replication_of(topology).resource
    lost = lost_contact(name, other_of(topology, host.name))
    demoted = rf"drbd {name}: .*role\( Primary -> Secondary \)"
    script = _SCRIPT.format(storage=places.STORAGE, lost=shlex.quote(lost), demoted=shlex.quote(demoted))
    return [Command(PROBE, ("sh", "-c", script))]


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> Parting:
    return read_parting(outputs.text(PROBE))


def read_parting(text: str) -> Parting:
    """What the probe printed: nothing with DRBD 8.4.

    Raises:
        ParseError: anything else, or the kernel's log is not there, or does not go back to the moment in which the
            storage was stopped.
    """
    if not text:
        return Parting()
    printed = Printed(PROBE, text)
    found = {row["kind"]: int(row["value"]) for row in printed.rows("drbd_witness") if row["value"]}
    if "stopped" not in found:
        raise printed.error(0, f"does not say when {places.STORAGE} was stopped")
    if found["stopped"] and not 0 < found.get("first", 0) < found["stopped"]:
        raise printed.error(0, f"does not go back to the moment in which {places.STORAGE} was stopped")
    return Parting(let_go_us=min(found["stopped"], found.get("demoted", 0)), lost_us=found.get("lost", 0))


PARTING = Domain("parting", _probes, _read, carries_replica)


def check_line_held(topology: Topology, observed: Observed, *, to: str) -> Iterator[Finding]:
    """The line to ``to`` did not break while the other side let go.

    Of no matter once the other side has been told that ``to`` was named: it was proven then, and cannot have taken the
    storage back. Nor where it has no disk: then `drbd-storage down` has read a block back behind the last write.
    """
    leaving, named = other_of(topology, to), observed.seen(WRITER)
    record = named.get(topology.cluster.arbitrator, NOBODY)
    if (record.writer == to and named.get(leaving) == record) or observed.of(LIVE, leaving).diskless:
        return
    if observed.of(PARTING, leaving).broke:
        back = f"python runbooks/failover.py --to {leaving}"
        if record.writer == to:
            back = f"`systemctl start {places.STORAGE}` on it, which was not told yet"
        yield finding(
            leaving,
            "the line broke while it let go: DRBD 9 may not know what has not arrived",
            f"the kernel's log has a lost contact after {places.STORAGE} was stopped",
            f"{leaving} has all of it, and takes it back: {back}. {compare_first(topology, to)}",
        )


def compare_first(topology: Topology, to: str) -> str:
    """What DRBD 9 needs before anything is handed over to ``to`` again."""
    return (
        f"Then, before anything else, on the writer: `systemctl start --no-block {places.VERIFY_SERVICE}`, which finds "
        f"what {to} lacks; `drbdadm invalidate --reset-bitmap=no {replication_of(topology).resource}` on {to} copies "
        f"it. When health finds nothing, this again"
    )
