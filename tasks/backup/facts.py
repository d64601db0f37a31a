"""What is seen of the backups on one replica, without asking the NAS: secrets, files, units, how the last runs went.

Secrets are seen by the first 16 digits of their SHA-256 only: enough to tell whether both replicas have the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dockyard.change import UnitState, unit_probe
from dockyard.files import FileState, read_file
from dockyard.observe import Domain
from dockyard.parsing import Printed, Row, first
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Topology
from tasks.backup import places
from tasks.backup.result import LastRun, Progress, read_progress, read_run
from tasks.backup.script import backup_of, replication_of
from tasks.backup.tools import carries_replica

PROBE = "backup facts"
UNITS = (places.RUN, places.CHECK, places.DRILL, places.RUN_TIMER, places.CHECK_TIMER)
_RUNS = ("last-run", "last-good", "last-check", "last-drill")

_ASK = f"""\
say() {{{{ printf '%s|%s|%s\\n' "$1" "$2" "$3"; }}}}
secret() {{{{
  [ ! -s "$2" ] || say "$1" "$(stat -c %a:%U "$2")" "$(sha256sum <"$2" | cut -c 1-16)"
}}}}
say now '' "$(date +%s)"
secret password {places.PASSWORD}
secret rest {places.REST_PASSWORD}
[ ! -s {places.KEY}.pub ] || say key '' "$(cat {places.KEY}.pub)"
[ ! -s {places.REPOSITORY} ] || say repository '' "$(cat {places.REPOSITORY})"
[ "$(findmnt -n -o SOURCE --mountpoint {{mount}})" != {{device}} ] || say mounted '' yes
for name in {" ".join(_RUNS)}; do
  [ ! -s {places.STATE}/$name ] || sed "s/^\\([a-z]*\\)|/$name|\\1|/" {places.STATE}/$name
done
for name in run drill; do
  [ ! -s {places.WORK}/$name/progress ] || say progress $name "$(tail -n 1 {places.WORK}/$name/progress | tr -cd ' -~')"
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSeen:
    """A secret's file: its fingerprint, and whether root alone may read it."""

    fingerprint: str
    private: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupState:
    """The backups as one replica knows them.

    ``now`` is the host's clock in seconds since 1970; ``mounted`` whether the storage is. ``repository`` is the id of
    the one that was made, "" before. ``good`` is the last run that saved something, ``run`` the last one however it
    went. ``progress`` is that of a run or drill at work, by its verb.
    """

    now: int
    mounted: bool = False
    password: SecretSeen | None = None
    rest_password: SecretSeen | None = None
    public_key: str = ""
    repository: str = ""
    run: LastRun | None = None
    good: LastRun | None = None
    check: LastRun | None = None
    drill: LastRun | None = None
    progress: Mapping[str, Progress] = field(default_factory=dict)
    files: Mapping[str, FileState] = field(default_factory=dict)
    units: Mapping[str, UnitState] = field(default_factory=dict)

    def busy(self, unit: str) -> bool:
        """Whether one of our oneshot units is at work, or about to be."""
        return self.units[unit].active not in {"inactive", "failed"}


def _probes(topology: Topology, _host: Host) -> Sequence[Command]:
    replication = replication_of(topology)
    script = _ASK.format(mount=replication.mount, device=replication.device)
    return [
        Command(PROBE, ("sh", "-c", script)),
        *(read_file(path) for path in places.files(backup_of(topology))),
        *(unit_probe(name) for name in UNITS),
    ]


def _read(topology: Topology, _host: Host, outputs: Outputs) -> BackupState:
    return replace(
        read_state(outputs.text(PROBE)),
        files={path: FileState.of(outputs, path) for path in places.files(backup_of(topology))},
        units={name: UnitState.of(outputs, name) for name in UNITS},
    )


def read_state(text: str) -> BackupState:
    """What the probe printed, without files and units; raises ParseError for anything unknown."""
    printed = Printed(PROBE, text)
    rows = printed.rows("backup_facts")
    now = first(rows, "now")
    if not now.isdecimal():
        raise printed.error(0, "does not begin with the host's clock")
    return BackupState(
        now=int(now),
        mounted=bool(first(rows, "mounted")),
        password=_secret(rows, "password"),
        rest_password=_secret(rows, "rest"),
        public_key=first(rows, "key"),
        repository=first(rows, "repository"),
        run=read_run(printed, "last-run", rows),
        good=read_run(printed, "last-good", rows),
        check=read_run(printed, "last-check", rows),
        drill=read_run(printed, "last-drill", rows),
        progress={row["name"]: read_progress(row["value"]) for row in rows if row["kind"] == "progress"},
    )


BACKUP = Domain("backup", _probes, _read, carries_replica)


def _secret(rows: Sequence[Row], kind: str) -> SecretSeen | None:
    found = next((row for row in rows if row["kind"] == kind), None)
    if found is None:
        return None
    return SecretSeen(fingerprint=found["value"], private=found["name"] in {"600:root", "400:root"})
