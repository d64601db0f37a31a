"""What is seen of monitoring on a host: what is installed, what runs since when, and the files of ours.

`SETUP` reads every file in full, for plans; `MONITORING` asks the monitoring host alone, in six processes, for health.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from dockyard.change import UnitState
from dockyard.errors import ParseError
from dockyard.files import FileState, read_file
from dockyard.observe import Domain
from dockyard.parsing import Printed, Row
from dockyard.remote import Command, Outputs
from dockyard.service import unit_file
from dockyard.topology import Host, Monitoring, Role, Topology
from tasks.monitoring import places
from tasks.monitoring.texts import secrets_of, server_of, wanted_of

EXPORTER_PACKAGES = {"prometheus-node-exporter": "prometheus-node-exporter", "jq": "jq"}
SERVER_PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "curl": "curl",
}
"""Commands in /usr/bin, and the Debian packages that bring them (promtool's is one on which prometheus depends)."""

SETUP_PROBE = "monitoring setup"
PROBE = "monitoring facts"
_SINCE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|-"
_UNIT = re.compile(rf"(\S+) (\S+) (\S+) (\S+) ({_SINCE}) (\d+) (\d+) (yes|no)")
_NO_LIMIT = 2**64 - 1

# TZ=UTC: --timestamp=unix is unknown before systemd 251, and Ubuntu 22.04 has 249.
_PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,UnitFileState,ActiveEnterTimestamp,NRestarts,MemoryCurrent,NeedDaemonReload"
)
_UNITS = """\
TZ=UTC systemctl show --property={properties} -- {units} |
awk 'BEGIN {{ RS = ""; FS = "\\n" }} {{
  split("", is)
  for (n = 1; n <= NF; n++) {{ at = index($n, "="); is[substr($n, 1, at - 1)] = substr($n, at + 1) }}
  since = is["ActiveEnterTimestamp"]; memory = is["MemoryCurrent"]; restarts = is["NRestarts"]
  sub(/^[A-Z][a-z][a-z] /, "", since); sub(/ UTC$/, "Z", since); sub(/ /, "T", since)
  if (since == "" || since == "n/a") since = "-"
  printf "unit|%s|%s %s %s %s %s %s %s %s\\n", is["Id"], is["LoadState"], is["ActiveState"], is["SubState"],
    is["UnitFileState"] ? is["UnitFileState"] : "-", since, restarts == "" ? 0 : restarts,
    memory ~ /^[0-9]+$/ ? memory : 0, is["NeedDaemonReload"] == "yes" ? "yes" : "no" }}'"""
_ASK = """\
while read -r key value rest; do [ "$key" != MemTotal: ] || printf 'memory|total|%s\\n' "$value"; done </proc/meminfo
printf 'clock|now|%s\\n' "$(date +%s)"
for tool in {tools}; do [ -x "/usr/bin/$tool" ] || printf 'missing|%s|\\n' "$tool"; done
{more}"""
_DIGESTS = """\
sha256sum -- {files} 2>/dev/null | while read -r digest path; do printf 'digest|%s|%s\\n' "$path" "$digest"; done
stat -c 'secret|%n|%a:%U:%G:%s' -- {secrets} 2>/dev/null
df -P -k {database} 2>/dev/null | while read -r _ size _ free _; do
  case $size in *[!0-9]*) ;; *) printf 'room|%s|%s %s\\n' {database} "$size" "$free" ;; esac
done
true"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSeen:
    """A unit: since when it is active (Unix time, 0 when it never was), and the memory of its cgroup in bytes.

    ``restarts``: how often it ended by itself since somebody started it. ``reload_needed``: a file of it is newer than
    what systemd has read.
    """

    state: UnitState
    since: int = 0
    restarts: int = 0
    memory: int = 0
    reload_needed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringState:
    """What one host answered; ``machine_mib`` is the machine's memory, ``now`` its clock, ``missing`` are commands.

    ``files`` is empty in `MONITORING`, which has ``digests`` (SHA-256, by path) instead, ``secrets`` as
    ``mode:owner:group:bytes``, and the ``size`` and room (``free``) of the database's file system in bytes.
    """

    machine_mib: int
    now: int
    missing: frozenset[str] = frozenset()
    units: Mapping[str, UnitSeen] = field(default_factory=dict)
    files: Mapping[str, FileState] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    size: int = 0
    free: int = 0

    def standing(self, name: str) -> str:
        """``prometheus.service is active (running), enabled``."""
        seen = self.units[name].state
        return f"{name} is {seen.active} ({seen.sub or 'unknown'}), {seen.enabled or 'not installed'}"


def is_server(topology: Topology, host: Host) -> bool:
    """Whether ``host`` is the one that watches."""
    return host is server_of(topology)


def is_watched(topology: Topology, _host: Host) -> bool:
    """Whether anybody watches: without the role monitoring, no host is touched."""
    return server_of(topology) is not None


def server_units(wanted: Monitoring) -> list[str]:
    """The services of the monitoring host that the inventory asks for."""
    optional = [places.GRAFANA] * wanted.grafana + [places.LOKI] * wanted.loki
    return [places.PROMETHEUS, places.ALERTMANAGER, *optional]


def units_of(topology: Topology, host: Host) -> list[str]:
    """All units that monitoring uses on a host."""
    own = [places.EXPORTER, places.METRICS, places.TIMER]
    return [*own, *server_units(wanted_of(topology))] if is_server(topology, host) else own


def tools_of(topology: Topology, host: Host) -> list[str]:
    """The commands that a host needs; jq reads the nodes of K3s, where they are asked for."""
    unused = set[str]() if Role.K3S_SERVER in host.roles else {"jq"}
    packages = {*EXPORTER_PACKAGES, *(SERVER_PACKAGES if is_server(topology, host) else ())}
    return sorted(packages - unused)


def files_of(topology: Topology, host: Host) -> list[str]:
    """All files of ours on a host, but those of Grafana and Loki."""
    own = [
        places.SCRIPT,
        places.drop_in(places.EXPORTER),
        unit_file(places.METRICS),
        unit_file(places.TIMER),
    ]
    return [*own, *server_files()] if is_server(topology, host) else own


def server_files() -> list[str]:
    """The files of the monitoring host alone."""
    drop_ins = [places.drop_in(unit) for unit in (places.PROMETHEUS, places.ALERTMANAGER)]
    return [*drop_ins, places.RULES, places.CONFIG, places.ALERTMANAGER_CONFIG]


def _ask(topology: Topology, host: Host, more: str = "true") -> tuple[str, ...]:
    tools = tools_of(topology, host)
    units = _UNITS.format(properties=_PROPERTIES, units=" ".join(units_of(topology, host)))
    return ("sh", "-c", f"{_ASK.format(tools=' '.join(tools), more=units)}\n{more}")


def _setup_probes(topology: Topology, host: Host) -> Sequence[Command]:
    return [
        Command(SETUP_PROBE, _ask(topology, host)),
        *(read_file(path) for path in files_of(topology, host)),
    ]


def _read_setup(topology: Topology, host: Host, outputs: Outputs) -> MonitoringState:
    state = read_state(outputs.text(SETUP_PROBE), units_of(topology, host))
    return replace(state, files={path: FileState.of(outputs, path) for path in files_of(topology, host)})


def _probes(topology: Topology, host: Host) -> Sequence[Command]:
    more = _DIGESTS.format(
        files=" ".join(server_files()),
        secrets=" ".join(secrets_of(wanted_of(topology)) or ["/nonexistent"]),
        database=places.DATABASE,
    )
    return [Command(PROBE, _ask(topology, host, more))]


def _read(topology: Topology, host: Host, outputs: Outputs) -> MonitoringState:
    return read_state(outputs.text(PROBE), units_of(topology, host))


SETUP = Domain("monitoring setup", _setup_probes, _read_setup, is_watched)
MONITORING = Domain("monitoring", _probes, _read, is_server)


def read_state(text: str, units: Sequence[str]) -> MonitoringState:
    """What the probe printed, without files; raises ParseError for anything unknown, or when a unit is missing."""
    printed = Printed(PROBE, text)
    rows = printed.rows("monitoring_facts")
    by_kind: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_kind.setdefault(row["kind"], {})[row["name"]] = row
    memory, clock = by_kind.get("memory", {}).get("total"), by_kind.get("clock", {}).get("now")
    seen = by_kind.get("unit", {})
    if memory is None or clock is None or set(seen) != set(units):
        raise printed.error(0, "does not tell of the memory, the clock and every unit")
    size, free = _room(printed, by_kind.get("room", {}))
    return MonitoringState(
        machine_mib=_number(printed, memory) // 1024,
        now=_number(printed, clock),
        missing=frozenset(by_kind.get("missing", {})),
        units={name: _unit(printed, row) for name, row in seen.items()},
        digests={name: row["value"] for name, row in by_kind.get("digest", {}).items()},
        secrets={name: row["value"] for name, row in by_kind.get("secret", {}).items()},
        size=size,
        free=free,
    )


def _number(printed: Printed, row: Row) -> int:
    if not row["value"].isdecimal():
        raise printed.error(row.line_number)
    return int(row["value"])


def _room(printed: Printed, rows: Mapping[str, Row]) -> tuple[int, int]:
    for row in rows.values():
        size, _, free = row["value"].partition(" ")
        if not (size.isdecimal() and free.isdecimal()):
            raise printed.error(row.line_number)
        return int(size) * 1024, int(free) * 1024
    return 0, 0


def _unit(printed: Printed, row: Row) -> UnitSeen:
    found = _UNIT.fullmatch(row["value"])
    if not found:
        raise _not_a_unit(printed, row)
    load, active, sub, enabled, since, restarts, memory, reload = found.groups()
    state = UnitState(
        name=row["name"], loaded=load == "loaded", active=active, enabled="" if enabled == "-" else enabled, sub=sub
    )
    return UnitSeen(
        state=state,
        since=_unix_time(printed, row, since),
        restarts=int(restarts),
        memory=0 if int(memory) == _NO_LIMIT else int(memory),
        reload_needed=reload == "yes",
    )


def _unix_time(printed: Printed, row: Row, text: str) -> int:
    """``-`` is never."""
    try:
        return 0 if text == "-" else int(datetime.fromisoformat(text).timestamp())
    except ValueError as error:
        raise _not_a_unit(printed, row) from error


def _not_a_unit(printed: Printed, row: Row) -> ParseError:
    return printed.error(row.line_number, "is no state of a unit")
