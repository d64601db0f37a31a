"""What is there already and is not ours: a Prometheus with a history, or somebody at a port that we are about to take.

Our drop-in would give Debian's unit our options, and with them its database our retention.
"""

from __future__ import annotations

from collections.abc import Iterator

from dockyard.findings import Cause, Finding
from dockyard.observe import Holders, Observed
from dockyard.topology import Topology
from tasks.monitoring import places
from tasks.monitoring.facts import SETUP, MonitoringState

_CONFIG = {places.PROMETHEUS: places.CONFIG, places.ALERTMANAGER: places.ALERTMANAGER_CONFIG}
_LISTENING = (places.EXPORTER, *_CONFIG)


def check_strangers(topology: Topology, observed: Observed, *, holders: Holders) -> list[Finding]:
    """Nobody else's Prometheus would be taken over, and nobody else holds a port of the monitoring."""
    return [
        finding
        for host, state in observed.seen(SETUP).items()
        for finding in (*_taken_over(host, state), *_held(topology, observed, host, state, holders))
    ]


def _taken_over(host: str, state: MonitoringState) -> Iterator[Finding]:
    foreign = [name for name in _CONFIG if name in state.units and _is_foreign(state, name)]
    if not foreign:
        return
    stop = f"On {host}: systemctl disable --now {' '.join(foreign)}"
    if places.PROMETHEUS in foreign:
        stop += f"; mv {places.DATABASE} {places.DATABASE}.old (its history would be cut to what the inventory keeps)"
    yield _finding(
        host,
        "a Prometheus of somebody else would be taken over",
        "; ".join(state.standing(name) for name in foreign) + "; no file of Dockyard's is there",
        f"{stop}. Or give the role monitoring to another host",
    )


def _is_foreign(state: MonitoringState, name: str) -> bool:
    """Whether it runs, or would at the next boot, and Dockyard never had to do with it."""
    seen = state.units[name].state
    works = seen.active not in {"inactive", "failed"} or seen.is_enabled
    ours = (places.drop_in(name), _CONFIG[name])
    return seen.loaded and works and not any(state.files[path].exists for path in ours)


def _held(
    topology: Topology, observed: Observed, host: str, state: MonitoringState, holders: Holders
) -> Iterator[Finding]:
    for name in _LISTENING:
        port = places.PORTS[name]
        if name not in state.units or state.units[name].state.is_active:
            continue
        if there := holders(topology, observed, host, port):
            advice = (
                f"{name} listens there in the mesh. On {host}: stop it, or let it listen at another port or on its own "
                "addresses only; systemctl list-sockets says who is behind systemd"
            )
            yield _finding(host, f"port {port} is taken by somebody else", ", ".join(there), advice)


def _finding(host: str, fault: str, evidence: str, advice: str) -> Finding:
    return Finding(cause=Cause.MONITORING, host=host, fault=fault, evidence=evidence, advice=advice)
