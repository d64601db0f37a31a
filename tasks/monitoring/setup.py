"""From hosts that nobody watches to exporters on all and Prometheus with Alertmanager on one: three plans, in order.

Our drop-ins lie there before a package is installed, so that what Debian starts never listens on a public address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from dockyard.change import Change, Plan, Unit, WriteFile, filled, install, unit
from dockyard.findings import Cause, Finding
from dockyard.observe import Observed
from dockyard.service import RELOAD, unit_file
from dockyard.topology import Topology
from dockyard.unseen import unseen
from tasks.monitoring import budget, places
from tasks.monitoring.facts import EXPORTER_PACKAGES, SERVER_PACKAGES, SETUP, MonitoringState
from tasks.monitoring.texts import Text, exporter_texts, server_config, server_of, server_units, wanted_of

_VALIDATE = {
    places.RULES: ("/usr/bin/promtool", "check", "rules", "{}"),
    places.CONFIG: ("/usr/bin/promtool", "check", "config", "{}"),
    places.ALERTMANAGER_CONFIG: ("/usr/bin/amtool", "check-config", "{}"),
}
_READS = {
    places.EXPORTER: (places.drop_in(places.EXPORTER),),
    places.TIMER: (unit_file(places.TIMER),),
    places.PROMETHEUS: (places.drop_in(places.PROMETHEUS), places.RULES, places.CONFIG),
    places.ALERTMANAGER: (places.drop_in(places.ALERTMANAGER), places.ALERTMANAGER_CONFIG),
}
"""The files that a unit reads when it starts."""


def plan_exporters(
    topology: Topology, observed: Observed, *, backup_state: str, opencloud: Callable[[Topology], str]
) -> Plan:
    """node_exporter on every host, on its mesh address alone, and the script whose metrics it hands on."""
    if server_of(topology) is None:
        return {}
    return filled(
        {
            host: _changes(
                state,
                exporter_texts(topology, topology.host(host), backup_state=backup_state, opencloud=opencloud(topology)),
                EXPORTER_PACKAGES,
                [places.EXPORTER, places.TIMER],
            )
            for host, state in observed.seen(SETUP).items()
        }
    )


def plan_server(topology: Topology, observed: Observed) -> Plan:
    """Prometheus and Alertmanager on the host that watches; what they would not read is never put into place."""
    server = server_of(topology)
    if server is None:
        return {}
    state = observed.of(SETUP, server.name)
    texts = server_units(topology, server, state.machine_mib)
    config = server_config(topology, server, state.machine_mib)
    return filled(
        {server.name: _changes(state, texts, SERVER_PACKAGES, [places.PROMETHEUS, places.ALERTMANAGER], config)}
    )


def _changes(
    state: MonitoringState,
    drop_ins: Mapping[str, Text],
    packages: Mapping[str, str],
    units: Sequence[str],
    config: Mapping[str, Text] | None = None,
) -> list[Change]:
    before = _writes(state, drop_ins)
    reload = [RELOAD] if before or any(state.units[name].reload_needed for name in units) else []
    missing = sorted({packages[tool] for tool in state.missing if tool in packages})
    laid = {change.path for change in before}
    started = [
        change for name in units for change in _running(state, name, config or {}, laid, reinstalled=bool(missing))
    ]
    return [*before, *reload, *([install(missing)] if missing else []), *started]


def _running(
    state: MonitoringState, name: str, config: Mapping[str, Text], laid: Iterable[str], *, reinstalled: bool
) -> list[Change]:
    """The files that one unit reads, and its start: what the next unit refuses does not keep this one back."""
    own = _writes(state, {path: text for path, text in config.items() if path in _READS[name]})
    return [*own, *_started(state, name, {*laid, *(change.path for change in own)}, reinstalled=reinstalled)]


def _writes(state: MonitoringState, texts: Mapping[str, Text]) -> list[WriteFile]:
    wanted = [
        WriteFile(path=path, content=text, seen=state.files[path], mode=mode, validate=_VALIDATE.get(path, ()))
        for path, (text, mode) in texts.items()
    ]
    return [change for change in wanted if change.needed()]


def _started(state: MonitoringState, name: str, written: Iterable[str], *, reinstalled: bool) -> list[Change]:
    """Enabled, active, and started after the last of its files was written, whoever wrote it."""
    seen, reads = state.units[name], _READS[name]
    newest = max(state.files[path].mtime_ns for path in reads) // 10**9
    stale = seen.state.is_active and (newest > seen.since or seen.reload_needed)
    restart = stale or reinstalled or bool(set(written) & set(reads))
    return unit(Unit(name=name, seen=seen.state, enabled=True, active=True, restart=restart))


def check_setup(topology: Topology, observed: Observed) -> list[Finding]:
    """The machine has room for all that it is to carry."""
    server = server_of(topology)
    if server is None:
        return []
    state = observed.seen(SETUP).get(server.name)
    if state is None:
        return unseen(observed, SETUP, Cause.MONITORING)
    return _too_much(topology, server.name, state.machine_mib)


def _too_much(topology: Topology, host: str, machine_mib: int) -> list[Finding]:
    wanted = wanted_of(topology)
    needed = budget.needed_mib(wanted, machine_mib)
    if needed <= machine_mib * budget.MOST_SHARE:
        return []
    optional = " or ".join(name for name in ("grafana", "loki") if getattr(wanted, name))
    return [
        Finding(
            cause=Cause.MONITORING,
            host=host,
            fault="has too little memory for the monitoring that the inventory asks for",
            evidence=f"the limits add up to {needed} MiB of {machine_mib} MiB; {budget.MOST_SHARE:.0%} are the most",
            advice=f"cluster.monitoring: leave out {optional or 'memory_mib'}, or take a bigger machine",
        )
    ]
