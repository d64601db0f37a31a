"""The proof that a backup can be restored: into a scratch folder, every file compared with its checksum, written down.

The checksums were taken before the files were saved and lie in the snapshot; they come from the files, not from restic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec import Struct

from dockyard import evidence
from dockyard.change import Plan, Run
from dockyard.errors import StepFailed
from dockyard.evidence import Evidence, Fact
from dockyard.findings import Cause, Finding
from dockyard.observe import Domain, Observed
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Topology
from dockyard.typed_json import typed
from dockyard.unseen import unseen
from tasks.backup import places
from tasks.backup.facts import BACKUP, BackupState
from tasks.backup.finding import finding
from tasks.backup.nas import ANY, SNAPSHOTS, TIMEOUT_S
from tasks.backup.result import ADVICE, LastRun, Reason
from tasks.backup.run import STARTED
from tasks.backup.script import replication_of
from tasks.backup.snapshots import Repository, Snapshot, Snapshots
from tasks.backup.tools import TOOLS, carries_replica

KIND = "restore-drill"
SPARE = 1.1
"""A restore must leave some room: what is free has to be so many times the size of the snapshot."""

_ROOM = "room"
_SIZE = "size of the snapshot"
_ASK_ROOM = """\
folder=$1; while [ ! -d "$folder" ]; do folder=$(dirname -- "$folder"); done
df -B 1 --output=avail,target -- "$folder" | tail -n 1"""

_START = f"""\
set -eu; asked=$1 script=$2 unit=$3
printf '%s\\n' "$4" >"$asked"
install -d -m 0755 -- "$(dirname -- "$6")"
systemctl reset-failed -- "$unit" 2>/dev/null || true
systemd-run --quiet --no-block --collect --unit="$unit" --property=Type=oneshot --property=Nice=10 \\
  --property=TimeoutStopSec=infinity --property=ExecStopPost="$script release drill" -- "$script" drill "$5" "$6"
{STARTED}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Bytes that a restored snapshot takes, bytes that are free in the scratch folder, and on which mount it lies.

    ``size_bytes`` is None when the NAS could not say; ``message`` is then what restic said.
    """

    size_bytes: int | None
    free_bytes: int
    mount: str
    message: str = ""


class _Stats(Struct):
    total_size: int


def room(scratch: str, snapshot: str) -> Domain[Room]:
    """The domain for one scratch folder and one snapshot (an id, or ``latest``)."""

    def probes(_topology: Topology, _host: Host) -> Sequence[Command]:
        size = (places.SCRIPT, "restic", "stats", "--json", "--no-lock", "--mode", "restore-size", snapshot)
        return [
            Command(_ROOM, ("sh", "-c", _ASK_ROOM, "room", scratch)),
            Command(_SIZE, size, timeout_s=TIMEOUT_S, accepts=ANY),
        ]

    def read(_topology: Topology, _host: Host, outputs: Outputs) -> Room:
        free, mount = outputs.text(_ROOM).split(maxsplit=1)
        answer = outputs[_SIZE]
        text = outputs.text(_SIZE)
        if answer.exit_code:
            return Room(size_bytes=None, free_bytes=int(free), mount=mount.strip(), message=answer.stderr.strip())
        printed = Printed("restic stats", text)
        size = typed(printed, printed.json(), _Stats).total_size
        return Room(size_bytes=size, free_bytes=int(free), mount=mount.strip())

    return Domain("room for a restore", probes, read, carries_replica)


def pick(seen: Snapshots, wanted: str) -> Snapshot | None:
    """The snapshot whose id begins with ``wanted`` (``latest``: the newest); None when there is none, or several."""
    if wanted == "latest":
        return seen.newest
    found = [one for one in seen.snapshots if one.id.startswith(wanted)]
    return found[0] if len(found) == 1 else None


def place(observed: Observed, on: str) -> str:
    """Where to restore: ``on``, or without one where the storage is mounted; raises StepFailed when that is nowhere."""
    mounted = [host for host, state in observed.seen(BACKUP).items() if state.mounted]
    if not on and not mounted:
        raise StepFailed("the storage is mounted nowhere that can be seen", advice="Say where to restore: --on HOST")
    return on or mounted[0]


def check_snapshot(_topology: Topology, observed: Observed, *, on: str, snapshot: str) -> list[Finding]:
    """The repository can be read from where the restore is to be, and the snapshot is there."""
    on = place(observed, on)
    found = [one for one in unseen(observed, SNAPSHOTS, Cause.BACKUP) if one.host == on]
    for host, seen in observed.seen(SNAPSHOTS).items():
        if host != on:
            continue
        if seen.repository is not Repository.READABLE:
            fault = f"the repository cannot be read: {seen.repository}"
            found.append(finding(on, fault, seen.message, "Is the NAS up?"))
        elif pick(seen, snapshot) is None:
            there = ", ".join(one.short_id for one in seen.snapshots) or "none"
            advice = "python runbooks/backup.py --now"
            found.append(finding(on, f"there is no snapshot {snapshot}", f"there: {there}", advice))
    return found


def check_room(topology: Topology, observed: Observed, *, on: str, domain: Domain[Room]) -> list[Finding]:
    """The scratch folder lies beside the live data and has room for all of the snapshot."""
    on = place(observed, on)
    found = [one for one in unseen(observed, domain, Cause.BACKUP) if one.host == on]
    seen = observed.seen(domain).get(on)
    if seen is None:
        return found
    mount = replication_of(topology).mount
    if seen.mount == mount or seen.mount.startswith(f"{mount}/"):
        found.append(finding(on, "the scratch folder lies in the live storage", seen.mount, "Give another --scratch"))
    if seen.size_bytes is None:
        found.append(finding(on, "the size of the snapshot could not be read", seen.message, "Is the NAS up?"))
    elif seen.free_bytes < seen.size_bytes * SPARE:
        size, free = (f"{number / 2**20:.1f} MiB" for number in (seen.size_bytes, seen.free_bytes))
        fault = f"there is no room to restore into ({seen.mount})"
        found.append(finding(on, fault, f"{free} are free, {size} and a tenth are needed", "Give another --scratch"))
    return found


def plan_restore(_topology: Topology, observed: Observed, *, on: str, run: str, snapshot: str, scratch: str) -> Plan:
    """Start the restore of a snapshot, in a unit of its own that goes on without us. Nothing live is touched."""
    on = place(observed, on)
    state = observed.of(BACKUP, on)
    if state.busy(places.DRILL) or result(state, run):
        return {}
    chosen = pick(observed.of(SNAPSHOTS, on), snapshot)
    if chosen is None:
        raise StepFailed(f"{on}: there is no snapshot {snapshot}", advice="Nothing was restored.")
    folder = f"{scratch}/dockyard-drill-{run.replace(':', '')}"
    asked = f"{places.STATE}/asked-drill"
    argv = ("sh", "-c", _START, "start", asked, places.SCRIPT, places.DRILL, run, chosen.id, folder)
    title = f"restore snapshot {chosen.short_id} of {chosen.time:%Y-%m-%d %H:%M} UTC{chosen.time:%z} into {folder}"
    return {on: [Run(title=title, argv=argv)]}


def result(state: BackupState, run: str) -> LastRun | None:
    """How the drill of that name ended; None when it did not."""
    return state.drill if state.drill and state.drill.asked == run else None


def check_ended(_topology: Topology, observed: Observed, *, on: str, run: str) -> list[Finding]:
    """The drill is over; its progress until then."""
    on = place(observed, on)
    state = observed.seen(BACKUP).get(on)
    if state is None or result(state, run) or not state.busy(places.DRILL):
        return []
    progress = str(state.progress.get("drill", "nothing restored yet"))
    return [finding(on, "the restore is at work", progress, f"On {on}: journalctl -f -u {places.DRILL}")]


def check_equal(_topology: Topology, observed: Observed, *, on: str, run: str) -> list[Finding]:
    """Every file came back as it was when it was saved."""
    on = place(observed, on)
    ended = result(observed.of(BACKUP, on), run)
    if ended is None:
        advice = f"On {on}: journalctl -u {places.DRILL}"
        return [finding(on, "the restore did not run to its end", "no result was written", advice)]
    if ended.ok:
        return []
    counted = sentence(ended) if ended.reason is Reason.DIFFERS else ""
    seen = f"{counted}; {ended.evidence}" if counted else ended.evidence
    return [finding(on, f"the restore failed: {ended.reason}", seen, ADVICE[ended.reason])]


def verdict(observed: Observed, *, on: str, run: str) -> str:
    """The result of the drill of that name, for a person."""
    on = place(observed, on)
    ended = result(observed.of(BACKUP, on), run)
    return f"On {on}: {sentence(ended)}, in {ended.ended - ended.began} s." if ended else f"On {on}: no result."


def sentence(ended: LastRun) -> str:
    """What was compared, for a person."""
    counts = dict(ended.counts)
    others = [f"{counts[name]} {name}" for name in ("differing", "changed", "missing", "extra") if counts.get(name)]
    same = f"{counts.get('equal', 0)} of {counts.get('files', 0)} files are equal to what was saved"
    return f"{same} ({counts.get('bytes', 0) / 2**20:.1f} MiB){', ' if others else ''}{', '.join(others)}"


def plan_record(
    topology: Topology,
    observed: Observed,
    *,
    on: str,
    run: str,
    snapshot: str,
    by: str,
    kernel: Callable[[Observed, str], str],
) -> Plan:
    """Write the result down at the arbitrator, whichever it is; nothing where there is none."""
    on = place(observed, on)
    ended = result(observed.of(BACKUP, on), run)
    if ended is None:
        return {}
    chosen = pick(observed.of(SNAPSHOTS, on), snapshot)
    about: dict[str, Fact] = {
        "host": on,
        "snapshot": chosen.short_id if chosen else snapshot,
        "saved_at": f"{chosen.time:%Y-%m-%dT%H:%M:%S%z}" if chosen else "",
        "saved": ended.how,
        "duration_s": ended.ended - ended.began,
        "reason": "" if ended.ok else str(ended.reason),
    }
    versions = {
        "restic": observed.of(TOOLS, on).release,
        "kernel": kernel(observed, on),
        "repository": observed.of(BACKUP, on).repository[:8],
    }
    facts = {**about, **dict(ended.counts)}
    return evidence.plan_record(
        topology,
        observed,
        Evidence(kind=KIND, run=run, by=by, passed=ended.ok, versions=versions, facts=facts),
    )
