"""What the NAS shows to a replica: its host key, and the repository. Health asks none of this: the NAS may be slow."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msgspec import Struct

from dockyard.findings import Cause, Finding
from dockyard.host_keys import HostKey, KnownHosts
from dockyard.observe import Domain, Observed
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Sftp, Topology
from dockyard.typed_json import typed
from dockyard.unseen import unseen
from tasks.backup import places
from tasks.backup.facts import BACKUP
from tasks.backup.finding import finding
from tasks.backup.script import backup_of, known_as
from tasks.backup.snapshots import Repository, Snapshots, read_snapshots
from tasks.backup.tools import carries_replica

ANY = frozenset(range(256))
TIMEOUT_S = 120.0
_KEYS = "host keys of the NAS"
_CONFIG = "repository"
_SNAPSHOTS = "snapshots"


def _sftp(topology: Topology) -> Sftp | None:
    return topology.cluster.backup.sftp if topology.cluster.backup else None


def _by_sftp(topology: Topology, host: Host) -> bool:
    return carries_replica(topology, host) and _sftp(topology) is not None


def _probe_keys(topology: Topology, _host: Host) -> Sequence[Command]:
    sftp = _sftp(topology)
    assert sftp
    scan = f"ssh-keyscan -T 15 -p {sftp.port} -- {shlex.quote(sftp.host)} 2>/dev/null"
    return [Command(_KEYS, ("sh", "-c", scan), timeout_s=60, accepts=ANY)]


def _read_keys(topology: Topology, _host: Host, outputs: Outputs) -> tuple[HostKey, ...]:
    sftp = _sftp(topology)
    assert sftp
    return KnownHosts.parse(outputs.text(_KEYS)).keys_of(known_as(sftp))


NAS_KEYS = Domain("host keys of the NAS", _probe_keys, _read_keys, _by_sftp)
"""The keys that the NAS shows to a replica; none when it does not answer."""


def check_host_key(topology: Topology, observed: Observed) -> list[Finding]:
    """The NAS shows every replica the key that the inventory pins. A key that nobody pinned is shown, never trusted."""
    sftp = _sftp(topology)
    if sftp is None:
        return []
    return [*unseen(observed, NAS_KEYS, Cause.BACKUP), *_wrong_keys(sftp, observed)]


def _wrong_keys(sftp: Sftp, observed: Observed) -> Iterator[Finding]:
    pinned = sftp.host_key
    for host, keys in observed.seen(NAS_KEYS).items():
        lines = {key.line("").strip(): key for key in keys}
        shown = ", ".join(f"{key.type} {key.fingerprint}" for key in keys)
        if not keys:
            advice = f"Is it up, with SFTP switched on? On {host}: ssh-keyscan -p {sftp.port} {sftp.host}"
            yield finding(host, "the NAS does not answer", f"{sftp.host} port {sftp.port}", advice)
        elif pinned is None:
            best = next((line for line in lines if line.startswith("ssh-ed25519")), next(iter(lines)))
            advice = (
                "Compare the fingerprint with what the NAS itself shows (there: ssh-keygen -lf "
                "/etc/ssh/ssh_host_ed25519_key.pub), then pin it in defaults.yaml, cluster.backup.sftp:\n"
                f'  host_key: "{best}"'
            )
            yield finding(host, "the host key of the NAS is unknown", shown, advice)
        elif pinned not in lines:
            advice = "Somebody may sit in between; nothing was sent. If the NAS was really reinstalled, pin the new one"
            yield finding(host, "THE HOST KEY OF THE NAS IS NOT THE PINNED ONE", shown, advice)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryState:
    """Whether the repository can be read with our password; its ``id`` if so, else what restic said."""

    standing: Repository
    id: str = ""
    message: str = ""


class _Config(Struct):
    id: str


def _probe_repository(_topology: Topology, _host: Host) -> Sequence[Command]:
    argv = (places.SCRIPT, "restic", "cat", "config", "--no-lock", "--quiet")
    return [Command(_CONFIG, argv, timeout_s=TIMEOUT_S, accepts=ANY)]


def _read_repository(_topology: Topology, _host: Host, outputs: Outputs) -> RepositoryState:
    answer = outputs[_CONFIG]
    text = outputs.text(_CONFIG)
    if answer.exit_code:
        seen = read_snapshots(text, stderr=answer.stderr, exit_code=answer.exit_code)
        return RepositoryState(standing=seen.repository, message=seen.message)
    printed = Printed("restic cat config", text)
    return RepositoryState(standing=Repository.READABLE, id=typed(printed, printed.json(), _Config).id)


REPOSITORY = Domain("repository", _probe_repository, _read_repository, carries_replica)


def _probe_snapshots(_topology: Topology, _host: Host) -> Sequence[Command]:
    argv = (places.SCRIPT, "restic", "snapshots", "--json", "--no-lock", "--tag", "dockyard")
    return [Command(_SNAPSHOTS, argv, timeout_s=TIMEOUT_S, accepts=ANY)]


def _read_snapshots(_topology: Topology, _host: Host, outputs: Outputs) -> Snapshots:
    answer = outputs[_SNAPSHOTS]
    return read_snapshots(outputs.text(_SNAPSHOTS), stderr=answer.stderr, exit_code=answer.exit_code)


SNAPSHOTS = Domain("snapshots", _probe_snapshots, _read_snapshots, carries_replica)


def check_login(topology: Topology, observed: Observed) -> list[Finding]:
    """The NAS lets every replica in, whether or not there is a repository yet."""
    found = [*unseen(observed, REPOSITORY, Cause.BACKUP)]
    for host, state in observed.seen(REPOSITORY).items():
        if state.standing is Repository.UNREACHABLE:
            evidence = state.message.replace("\n", " / ")
            found.append(
                finding(
                    host,
                    "the NAS does not let us in, or cannot be reached",
                    evidence,
                    _way_in(topology, observed, host),
                )
            )
    return found


def _way_in(topology: Topology, observed: Observed, host: str) -> str:
    backup = backup_of(topology)
    if backup.rest:
        return f"On {host}: curl -v {backup.rest.url}; its password lies in {places.REST_PASSWORD} (docs/backup.md)"
    assert backup.sftp
    key = observed.of(BACKUP, host).public_key
    return (
        f"Give the user {backup.sftp.user} of {backup.sftp.host} this line in ~/.ssh/authorized_keys, and let it write "
        f"to {backup.sftp.path}:\n  restrict {key}\nThen run this again."
    )


def check_repository(topology: Topology, observed: Observed) -> list[Finding]:
    """Every replica reads the same repository, the one that was made."""
    found = check_login(topology, observed)
    for host, state in observed.seen(REPOSITORY).items():
        if state.standing in {Repository.MISSING, Repository.WRONG_PASSWORD, Repository.LOCKED}:
            found.append(
                finding(
                    host,
                    f"the repository cannot be used: {state.standing}",
                    state.message,
                    f"Look at {places.PASSWORD} and at the NAS",
                )
            )
    return found
