"""One backup now: asked for by a name, so that no clock decides whether it was this one that ended."""

from __future__ import annotations

from collections.abc import Iterator

from dockyard.change import Plan, Run
from dockyard.findings import Finding
from dockyard.observe import Observed
from dockyard.topology import Topology
from tasks.backup import places
from tasks.backup.facts import BACKUP, BackupState
from tasks.backup.finding import finding
from tasks.backup.result import ADVICE

STARTED = """\
n=0; until [ "$(systemctl show --property=ActiveState --value -- "$unit")" != inactive ] || [ $((n += 1)) -gt 20 ]; do
  sleep 0.1
done"""
"""A oneshot that was started is not at work at once; what is over by then is waited for in vain, for two seconds."""

_START = f"""\
set -eu; asked=$1 unit=$2
printf '%s\\n' "$3" >"$asked"
systemctl reset-failed -- "$unit" 2>/dev/null || true
systemctl start --no-block -- "$unit"
{STARTED}"""


def check_idle(_topology: Topology, observed: Observed) -> list[Finding]:
    """No backup and no check is at work: a new one would only wait for their locks.

    A replica that cannot be seen is not waited for: it may be gone for good, and a lock that it left ends by itself.
    """
    return list(_at_work(observed))


def _at_work(observed: Observed) -> Iterator[Finding]:
    for host, state in observed.seen(BACKUP).items():
        for unit, verb in ((places.RUN, "run"), (places.CHECK, "check")):
            if state.busy(unit):
                advice = f"On {host}: journalctl -f -u {unit}"
                yield finding(host, f"{unit} is at work", _progress(state, verb), advice)


def check_mounted(_topology: Topology, observed: Observed) -> list[Finding]:
    """One of the replicas that can be seen has the storage mounted: that is where backups are made."""
    states = observed.seen(BACKUP)
    if any(state.mounted for state in states.values()):
        return []
    host = next(iter(states), next(iter(observed.unseen(BACKUP)), "nobody"))
    return [
        finding(host, "the storage is mounted nowhere that can be seen", ", ".join(states), "python runbooks/health.py")
    ]


def plan_now(_topology: Topology, observed: Observed, *, run: str) -> Plan:
    """Start a backup, under the name ``run``, where the storage is mounted, unless that one was made already."""
    plan = {}
    for host, state in observed.seen(BACKUP).items():
        if state.mounted and not state.busy(places.RUN) and not _made(state, run):
            argv = ("sh", "-c", _START, "start", f"{places.STATE}/asked-run", places.RUN, run)
            plan[host] = [Run(title="back up now", argv=argv)]
    return plan


def _made(state: BackupState, run: str) -> bool:
    return state.run is not None and state.run.asked == run


def check_ended(_topology: Topology, observed: Observed) -> list[Finding]:
    """The backup is not at work any more; its progress until then."""
    return [
        finding(host, "the backup is at work", _progress(state, "run"), f"On {host}: journalctl -f -u {places.RUN}")
        for host, state in observed.seen(BACKUP).items()
        if state.busy(places.RUN)
    ]


def _progress(state: BackupState, verb: str) -> str:
    return str(state.progress.get(verb, "nothing read yet"))


def check_saved(_topology: Topology, observed: Observed, *, run: str) -> list[Finding]:
    """The backup of that name went well."""
    states = observed.seen(BACKUP)
    made = {host: state.run for host, state in states.items() if state.run and state.run.asked == run}
    if not made:
        host = next((host for host, state in states.items() if state.mounted), next(iter(states), "nobody"))
        return [
            finding(host, "the backup did not run", "no result was written", f"On {host}: journalctl -u {places.RUN}")
        ]
    return [
        finding(host, f"the backup failed: {last.reason}", last.evidence, ADVICE[last.reason])
        for host, last in made.items()
        if not last.ok
    ]


def summary(observed: Observed, run: str) -> str:
    """What the backup of that name saved, in a sentence; "" when there is none."""
    for host, state in observed.seen(BACKUP).items():
        last = state.run
        if last and last.asked == run and last.saved:
            how = {
                "stopped": "while the units that use the storage were stopped",
                "snapshot": "from an LVM snapshot",
                "live": "while it may have been written (nothing was stopped)",
            }[last.how]
            return (
                f"Snapshot {last.snapshot[:8]} of {host}: {last.files} files, {last.bytes / 2**20:.1f} MiB, "
                f"in {last.ended - last.began} s, {how}."
            )
    return ""
