"""What is written on a node before K3s is started: its options, its unit and what keeps its ports inside the mesh."""

from __future__ import annotations

from collections.abc import Mapping

from dockyard.change import Change, Plan, Run, Unit, UnitState, WriteFile, filled, unit, write_file
from dockyard.files import FileState
from dockyard.observe import Observed
from dockyard.rendering import render
from dockyard.service import RELOAD, unit_file
from dockyard.topology import Host, K3s, Role, Topology
from tasks.k3s import places
from tasks.k3s.facts import K3S, NodeHost, unit_of

_RESTART = 'unit=$1; shift; systemctl restart --no-block -- "$unit" && rm -f -- "$@"'

Text = tuple[str, int]
"""Content and mode of a file."""


def settings(topology: Topology) -> K3s:
    """What the inventory says of K3s; only for hosts that it concerns."""
    assert topology.cluster.k3s, "the domains of K3s concern nobody without it"
    return topology.cluster.k3s


def server_of(topology: Topology) -> Host:
    """The one control plane; the inventory's rules want exactly one."""
    return topology.with_role(Role.K3S_SERVER)[0]


def texts(topology: Topology, host: Host) -> dict[str, Text]:
    """Every file but the token and the binary, by path."""
    values = _values(topology, host)
    return {
        places.CONFIG: (render("k3s-config.yaml", **values), 0o600),
        places.GUARD: (render("k3s.nft", **values), 0o644),
        unit_file(unit_of(host)): (render("k3s.service", **values), 0o644),
    }


def _values(topology: Topology, host: Host) -> Mapping[str, object]:
    mesh, k3s = topology.cluster.wireguard, settings(topology)
    return {
        "name": host.name,
        "fqdn": topology.fqdn(host.name),
        "server": Role.K3S_SERVER in host.roles,
        "server_address": server_of(topology).wireguard.address,
        "address": host.wireguard.address,
        "interface": mesh.interface,
        "network": mesh.network,
        "mtu": mesh.mtu,
        "pods": k3s.pods,
        "services": k3s.services,
        "standby": places.STANDBY_TAINT,
        "token": places.TOKEN,
        "binary": places.BINARY,
        "guard": places.GUARD,
        "api_port": places.API_PORT,
        "kubelet_port": places.KUBELET_PORT,
        "vxlan_port": places.VXLAN_PORT,
    }


def plan_files(topology: Topology, observed: Observed) -> Plan:
    """Write options, unit and guard. K3s that runs with old ones is started anew; its containers go on meanwhile."""
    return filled({name: _files(topology, topology.host(name), state) for name, state in observed.seen(K3S).items()})


def _files(topology: Topology, host: Host, state: NodeHost) -> list[Change]:
    changes = [
        change
        for path, (text, mode) in texts(topology, host).items()
        for change in write_file(
            WriteFile(path=path, content=text, seen=state.files[path], mode=mode, validate=_validator(path))
        )
    ]
    if not changes:
        return []
    return [*changes, RELOAD, *([restart(state.unit)] if is_up(state.unit) else [])]


def is_up(seen: UnitState) -> bool:
    """Whether a unit runs, or is about to: a worker stays ``activating`` for as long as the control plane is away."""
    return seen.active in {"active", "activating"}


def running(state: NodeHost) -> list[Change]:
    """Let K3s run on a node, with all that lies there: started, or started anew where it goes on with what is gone."""
    guard = [] if state.guarded else [_load_guard()]
    if not is_up(state.unit):
        return [*guard, *start(state.unit)]
    severed = [_forget_flannel()] if state.severed else []
    anew = [restart(state.unit)] if state.severed or state.renewed else []
    return [*guard, *start(state.unit), *severed, *anew]


def _load_guard() -> Change:
    argv = ("nft", "--file", places.GUARD)
    return Run(title=f"load {places.GUARD}: what K3s opens is for the mesh", argv=argv)


def _forget_flannel() -> Change:
    title = f"let flannel make {places.FLANNEL_DEVICE} again with the next start"
    return Run(title=title, argv=("rm", "-f", "--", places.FLANNEL))


def start(seen: UnitState) -> list[Change]:
    """Start a unit, now and at boot, without waiting for it: that can take minutes, and a step of its own waits."""
    enabled = unit(Unit(name=seen.name, seen=seen, enabled=True))
    argv = ("systemctl", "start", "--no-block", "--", seen.name)
    return [*enabled, *([] if is_up(seen) else [Run(title=f"start {seen.name}", argv=argv)])]


def restart(seen: UnitState) -> Change:
    """Start a unit anew, without waiting for it. What was noted to be stale or renewed is not any more."""
    argv = ("sh", "-c", _RESTART, "restart", seen.name, places.STALE, places.RENEWED)
    return Run(title=f"start {seen.name} anew; containers go on", argv=argv)


def _validator(path: str) -> tuple[str, ...]:
    return ("nft", "--check", "--file", "{}") if path == places.GUARD else ()


def stale(topology: Topology, host: Host, files: Mapping[str, FileState]) -> list[str]:
    """The files that are not as they should be."""
    return [path for path, (text, _) in texts(topology, host).items() if files[path].content != text]
