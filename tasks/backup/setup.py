"""From two replicas that know nothing of backups to a repository and a timer on both.

In this order: `plan_password`, `check_rest_password`, `plan_share_password`, `plan_keys`, `plan_files`,
`plan_repository`, `plan_note`, `plan_timers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dockyard.change import Change, Plan, Run, Unit, WriteFile, filled, joined, unit, write_file
from dockyard.errors import StepFailed
from dockyard.files import FileState
from dockyard.findings import Finding
from dockyard.observe import Domain, Observed
from dockyard.remote import Command, Outputs
from dockyard.secret import Secret
from dockyard.service import RELOAD
from dockyard.topology import Host, Topology
from tasks.backup import places
from tasks.backup.facts import BACKUP, BackupState, SecretSeen
from tasks.backup.finding import finding
from tasks.backup.nas import REPOSITORY
from tasks.backup.script import backup_of, texts
from tasks.backup.snapshots import Repository
from tasks.backup.tools import carries_replica

_MAKE_PASSWORD = """\
umask 077; install -d -m 0700 -- "$(dirname -- "$1")"
[ ! -s "$1" ] && openssl rand -hex 32 >"$1.new" && sync "$1.new" && mv -f -- "$1.new" "$1\""""
_MAKE_KEY = """\
umask 077; install -d -m 0700 -- "$(dirname -- "$1")"
[ -e "$1" ] || ssh-keygen -q -t ed25519 -N '' -C "$2" -f "$1"
[ -s "$1.pub" ] || ssh-keygen -y -f "$1" >"$1.pub\""""
_INIT = """\
set -eu; script=$1 marker=$2
"$script" restic init --quiet
install -d -m 0700 -- "$(dirname -- "$marker")"
"$script" restic cat config --quiet | sed -n 's/^ *"id": "\\([0-9a-f]*\\)".*/\\1/p' >"$marker.new"
[ -s "$marker.new" ] && sync -- "$marker.new" && mv -f -- "$marker.new" "$marker\""""


def _read_password(_topology: Topology, _host: Host, outputs: Outputs) -> Secret:
    return Secret(outputs.text("backup password"))


def _read_rest_password(_topology: Topology, _host: Host, outputs: Outputs) -> Secret:
    return Secret(outputs.text("REST password"))


def _asking(name: str, path: str) -> Callable[[Topology, Host], Sequence[Command]]:
    command = Command(name, ("sh", "-c", f"[ ! -s {path} ] || cat {path}"))
    return lambda _topology, _host: [command]


PASSWORD = Domain("backup password", _asking("backup password", places.PASSWORD), _read_password, carries_replica)
"""The password of the repository itself; asked for only while it is copied from one replica to the other."""

REST_PASSWORD = Domain(
    "REST password", _asking("REST password", places.REST_PASSWORD), _read_rest_password, carries_replica
)


def replicas(topology: Topology) -> list[str]:
    """The hosts that back up, in the order of the inventory."""
    return [host.name for host in topology.hosts.values() if carries_replica(topology, host)]


def plan_password(topology: Topology, observed: Observed) -> Plan:
    """Make the password on the first replica, where nobody has one and no repository was ever made."""
    states = {host: observed.of(BACKUP, host) for host in replicas(topology)}
    if any(state.password for state in states.values()):
        return {}
    made = [host for host, state in states.items() if state.repository]
    if made:
        raise StepFailed(
            f"the password is gone from both replicas, and {made[0]} knows that a repository was made with it",
            advice=f"Write your copy of it into {places.PASSWORD} there (mode 0600): no other one opens the backups.",
        )
    argv = ("sh", "-c", _MAKE_PASSWORD, "make", places.PASSWORD)
    return {next(iter(states)): [Run(title=f"make the password {places.PASSWORD}", argv=argv)]}


def plan_share_password(topology: Topology, observed: Observed) -> Plan:
    """Give the passwords to the replica that has none; they travel over ssh and are shown nowhere.

    Raises:
        StepFailed: the replicas have different ones: which of them is right only its owner can know.
    """
    shared = [_share(topology, observed, PASSWORD, places.PASSWORD, lambda state: state.password)]
    if (rest := backup_of(topology).rest) and rest.user:
        shared.append(
            _share(topology, observed, REST_PASSWORD, places.REST_PASSWORD, lambda state: state.rest_password)
        )
    return joined(*shared)


def _share(
    topology: Topology,
    observed: Observed,
    domain: Domain[Secret],
    path: str,
    of: Callable[[BackupState], SecretSeen | None],
) -> Plan:
    seen = {host: of(observed.of(BACKUP, host)) for host in replicas(topology)}
    holders = {host: secret for host, secret in seen.items() if secret}
    if len({secret.fingerprint for secret in holders.values()}) > 1:
        raise StepFailed(
            f"{path} differs between {' and '.join(holders)}",
            advice=f"Try each: {places.SCRIPT} restic snapshots; then copy the right one over the other.",
        )
    lacking = [host for host, secret in seen.items() if secret is None or not secret.private]
    if not holders or not lacking:
        return {}
    secret = observed.of(domain, next(iter(holders)))
    return {host: [WriteFile(path=path, content=secret, seen=FileState(path=path), mode=0o600)] for host in lacking}


def check_rest_password(topology: Topology, observed: Observed) -> list[Finding]:
    """A REST server that wants a login has its password on at least one replica: it is nobody's to make."""
    rest = backup_of(topology).rest
    first = replicas(topology)[0]
    if rest is None or not rest.user or any(state.rest_password for state in observed.seen(BACKUP).values()):
        return []
    fault = f"the password of {rest.user} for the REST server is missing"
    advice = f"On {first}: sudo install -D -m 600 /dev/stdin {places.REST_PASSWORD}, type it, Ctrl-D"
    return [finding(first, fault, f"there is no {places.REST_PASSWORD} on any replica", advice)]


def plan_keys(topology: Topology, observed: Observed) -> Plan:
    """Make each replica's own ssh key for the NAS; the private half never leaves it."""
    if backup_of(topology).sftp is None:
        return {}
    lacking = [host for host, state in observed.seen(BACKUP).items() if not state.public_key]
    name = topology.cluster.name
    return {
        host: [
            Run(
                title=f"make the ssh key {places.KEY}",
                argv=("sh", "-c", _MAKE_KEY, "make", places.KEY, f"backup of {name} from {host}"),
            )
        ]
        for host in lacking
    }


def plan_files(topology: Topology, observed: Observed, *, storage: places.Storage) -> Plan:
    """Write the script, its units and the NAS's pinned host key; ``storage`` is what backups stand on."""
    return filled({host: _files(topology, host, state, storage) for host, state in observed.seen(BACKUP).items()})


def _files(topology: Topology, host: str, state: BackupState, storage: places.Storage) -> list[Change]:
    wanted = texts(topology, topology.host(host), storage=storage)
    sftp = backup_of(topology).sftp
    unpinned = {places.KNOWN_HOSTS} if sftp and sftp.host_key is None else set()
    changes = [
        change
        for path, (text, mode) in wanted.items()
        for change in write_file(
            WriteFile(path=path, content=text, seen=state.files[path], mode=mode, provisional=path in unpinned)
        )
    ]
    return [*changes, RELOAD] if changes else []


def plan_repository(topology: Topology, observed: Observed) -> Plan:
    """Make the repository once, where the storage is mounted. Restic itself refuses to make one over another.

    Raises:
        StepFailed: one was made before and is not there any more, or another one is in its place.
    """
    if _found(topology, observed):
        return {}
    mounted = [host for host in replicas(topology) if observed.of(BACKUP, host).mounted]
    argv = ("sh", "-c", _INIT, "init", places.SCRIPT, places.REPOSITORY)
    return {(mounted or replicas(topology))[0]: [Run(title="make the repository", argv=argv, timeout_s=300)]}


def plan_note(topology: Topology, observed: Observed) -> Plan:
    """Let both replicas know which repository is ours; see `plan_repository` for what is raised."""
    ours = _found(topology, observed)
    states = {host: observed.of(BACKUP, host) for host in replicas(topology)}
    return {host: [_note(ours)] for host, state in states.items() if ours and state.repository != ours}


def _found(topology: Topology, observed: Observed) -> str:
    """The id of the repository, "" when there is none."""
    seen = [observed.of(REPOSITORY, host) for host in replicas(topology)]
    known = {observed.of(BACKUP, host).repository for host in replicas(topology)} - {""}
    found = {state.id for state in seen} - {""}
    _refuse_another(known, found, [state.standing for state in seen])
    return next(iter(found), "")


def _refuse_another(known: set[str], found: set[str], standings: Sequence[Repository]) -> None:
    if Repository.WRONG_PASSWORD in standings:
        raise StepFailed(
            "there is a repository already, and our password does not open it",
            advice=f"Is it yours? Then put its password into {places.PASSWORD} on both, else give another path.",
        )
    if len(found) > 1:
        raise StepFailed("the replicas see different repositories at the same place", advice="Look at the NAS's name.")
    if known and found != known:
        there = f"another one ({', '.join(found)[:8]})" if found else "none"
        raise StepFailed(
            f"the repository that was made ({', '.join(sorted(known))[:8]}) is not there any more, but {there}",
            advice="Is the NAS's volume mounted, and the path right? If the old backups are really lost: "
            f"rm {places.REPOSITORY} on both replicas, then run this again.",
        )


def _note(repository: str) -> Change:
    seen = FileState(path=places.REPOSITORY)
    return WriteFile(path=places.REPOSITORY, content=f"{repository}\n", seen=seen, mode=0o600)


def plan_timers(_topology: Topology, observed: Observed) -> Plan:
    """Let both replicas look every day whether it is theirs to back up, and every week to check."""
    return filled(
        {
            host: [
                change
                for name in (places.RUN_TIMER, places.CHECK_TIMER)
                for change in unit(
                    Unit(name=name, seen=state.units[name], enabled=True, active=True, reload_manager=True)
                )
            ]
            for host, state in observed.seen(BACKUP).items()
        }
    )
