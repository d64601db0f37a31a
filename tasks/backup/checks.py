"""What health has to say about backups: none, too old, failed and why, nobody woken, passwords that differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from dockyard.findings import Cause, Finding
from dockyard.observe import Observed
from dockyard.topology import Topology
from dockyard.unseen import unseen
from tasks.backup import places
from tasks.backup.facts import BACKUP, BackupState
from tasks.backup.finding import finding
from tasks.backup.result import ADVICE, LastRun
from tasks.backup.script import backup_of, texts

States = Mapping[str, BackupState]
SET_UP = "python runbooks/backup.py sets it up"
CHECK_LIMIT_DAYS = 16
"""A weekly check that is older than this was missed twice."""


def check_backup(topology: Topology, observed: Observed, *, storage: places.Storage) -> list[Finding]:
    """Everything, once there is a storage; nothing while the inventory describes no backups."""
    if topology.cluster.backup is None:
        return []
    states = observed.seen(BACKUP)
    missing = unseen(observed, BACKUP, Cause.BACKUP)
    if states and not any(state.repository or state.password for state in states.values()):
        return [
            *missing,
            finding(next(iter(states)), "backups were never set up", "no password, no repository", SET_UP),
        ]
    return [
        *missing,
        *_secrets(states),
        *_files(topology, states, storage),
        *_timers(states),
        *_age(topology, states),
        *_last_run(states),
        *_last_check(states),
    ]


def _secrets(states: States) -> Iterator[Finding]:
    fingerprints = {host: state.password.fingerprint for host, state in states.items() if state.password}
    if len(set(fingerprints.values())) > 1:
        yield finding(
            next(iter(fingerprints)),
            "the replicas have different passwords for the repository",
            "; ".join(f"{host}: {fingerprint}" for host, fingerprint in fingerprints.items())
            + " (SHA-256, the beginning)",
            f"After a failover no backup could be made or read. Find the right one ({places.PASSWORD}) and copy it",
        )
    for host, state in states.items():
        if state.password is None:
            yield finding(host, "has no password for the repository", f"{places.PASSWORD} is not there", SET_UP)
        elif not state.password.private:
            yield finding(host, f"others than root may read {places.PASSWORD}", "its mode is not 0600", SET_UP)


def _files(topology: Topology, states: States, storage: places.Storage) -> Iterator[Finding]:
    for host, state in states.items():
        wanted = texts(topology, topology.host(host), storage=storage)
        stale = [path for path, (text, _) in wanted.items() if state.files[path].content != text]
        if stale:
            yield finding(host, "what makes the backups is not as planned", ", ".join(stale), SET_UP)


def _timers(states: States) -> Iterator[Finding]:
    for host, state in states.items():
        for name in (places.RUN_TIMER, places.CHECK_TIMER):
            seen = state.units[name]
            if not (seen.is_active and seen.is_enabled):
                said = f"{seen.active} and {seen.enabled or 'not installed'}"
                yield finding(
                    host, f"{name} does not wake anybody", said, f"{SET_UP}; by hand: systemctl enable --now {name}"
                )


def _age(topology: Topology, states: States) -> Iterator[Finding]:
    limit_h = backup_of(topology).max_age_h
    found = newest(states, lambda state: state.good)
    if found is None:
        if states:
            host = next((host for host, state in states.items() if state.mounted), next(iter(states)))
            yield finding(host, "there is no backup yet", "no run was ever saved", "python runbooks/backup.py --now")
        return
    host, good = found
    age_h = (states[host].now - good.began) / 3600
    if age_h > limit_h:
        yield finding(
            host,
            f"the newest backup is {age_h:.0f} hours old",
            f"snapshot {good.snapshot[:8]}; more than {limit_h:g} hours are too old (cluster.backup.max_age_h)",
            "python runbooks/backup.py --now shows what keeps it from being made",
        )


def _last_run(states: States) -> Iterator[Finding]:
    found = newest(states, lambda state: state.run)
    if found and not found[1].ok:
        host, last = found
        fault = "old backups could not be removed" if last.stage == "retention" else "the last backup failed"
        yield finding(host, f"{fault}: {last.reason}", last.evidence, ADVICE[last.reason])


def _last_check(states: States) -> Iterator[Finding]:
    found = newest(states, lambda state: state.check)
    if found is None:
        return
    host, last = found
    days = (states[host].now - last.ended) / 86400
    if not last.ok:
        yield finding(host, f"the last check of the backups failed: {last.reason}", last.evidence, ADVICE[last.reason])
    elif days > CHECK_LIMIT_DAYS:
        advice = f"On {host}: systemctl start {places.CHECK}; journalctl -u {places.CHECK}"
        yield finding(host, f"the backups were last read back {days:.0f} days ago", f"part {last.how}", advice)


def newest(states: States, of: Callable[[BackupState], LastRun | None]) -> tuple[str, LastRun] | None:
    """The run that ended last, on whichever replica, and that replica; None when there is none."""
    runs = {host: run for host, state in states.items() if (run := of(state))}
    host = max(runs, key=lambda host: runs[host].ended, default=None)
    return (host, runs[host]) if host else None
