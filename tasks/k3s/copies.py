"""Snapshots of the control plane on another host, too: who loses its disk loses the ones that lie there.

A snapshot travels over ssh through the memory of the machine that runs this, and is shown nowhere: it holds every
secret of the cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from dockyard.change import Change, Plan, Run
from dockyard.findings import Finding
from dockyard.observe import Domain, Observed
from dockyard.remote import Command, Outputs
from dockyard.secret import Secret
from dockyard.topology import Host, Topology
from tasks.k3s import places
from tasks.k3s.api import NODES, is_server
from tasks.k3s.config import server_of
from tasks.k3s.facts import K3S, is_node
from tasks.k3s.join import finding, workers

_PROBE = "k3s archive"
_PACK = '[ ! -s "$1/token" ] || tar -C "$1" -cz . | base64 -w 0'
_KEEP = """\
set -eu; umask 077; to=$1
install -d -m 0700 -- "$(dirname -- "$to")"
rm -rf -- "$to.new"; mkdir -- "$to.new"; trap 'rm -rf -- "$to.new"' EXIT
base64 -d | tar -xz -C "$to.new"
[ -d "$to.new/db" ]
[ -s "$to.new/token" ]
sync -f -- "$to.new"; mv -T -- "$to.new" "$to\""""


def _path(name: str) -> str:
    return f"{places.SNAPSHOTS}/{name}"


def _ask(_topology: Topology, _host: Host, *, name: str) -> Sequence[Command]:
    return [Command(_PROBE, ("sh", "-c", _PACK, "pack", _path(name)), timeout_s=300)]


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> Secret:
    return Secret(outputs.text(_PROBE))


def _is_worker(topology: Topology, host: Host) -> bool:
    return is_node(topology, host) and not is_server(topology, host)


def taken(name: str) -> Domain[Secret]:
    """The snapshot ``name`` as the control plane has it, in one text; empty where there is none."""
    return Domain(_PROBE, partial(_ask, name=name), _read, is_server)


def kept(name: str) -> Domain[Secret]:
    """The same, as the workers have it."""
    return Domain(_PROBE, partial(_ask, name=name), _read, _is_worker)


def keeper(topology: Topology) -> str:
    """The worker that keeps copies: one at another site than the control plane, if there is one; "" for none."""
    site = server_of(topology).site
    return next((host.name for host in sorted(workers(topology), key=lambda host: host.site == site)), "")


def plan_keep(topology: Topology, observed: Observed, *, name: str) -> Plan:
    """Copy the snapshot ``name`` to the keeper, for root alone. Sees `taken`."""
    host = keeper(topology)
    if not host or name in observed.of(K3S, host).snapshots:
        return {}
    return {host: [_unpack(name, observed.of(taken(name), server_of(topology).name))]}


def plan_bring(topology: Topology, observed: Observed, *, name: str) -> Plan:
    """Bring a snapshot that a worker has kept back to the control plane, where it is not. Sees `kept`."""
    server = server_of(topology).name
    found = next((one for one in observed.seen(kept(name)).values() if one), None)
    if found is None or name in observed.of(K3S, server).snapshots:
        return {}
    return {server: [_unpack(name, found)]}


def _unpack(name: str, archive: Secret) -> Change:
    argv = ("sh", "-c", _KEEP, "keep", _path(name))
    title = f"keep a copy of the snapshot in {_path(name)}, for root alone"
    return Run(title=title, argv=argv, stdin=archive, timeout_s=600, provisional=not archive)


def check_put_back(topology: Topology, observed: Observed) -> list[Finding]:
    """A control plane that knows none of its workers is on a new disk: its snapshot comes before its new token does.

    With another certificate authority and an empty datastore a worker would end the pods that it has within a second
    (`HandlePodCleanups` in pkg/kubelet/kubelet_pods.go), and nothing would say which one carries the volumes.
    """
    if topology.cluster.k3s is None:
        return []
    server = server_of(topology).name
    made, api = observed.of(K3S, server).server_token, observed.of(NODES, server)
    states = {host.name: observed.seen(K3S).get(host.name) for host in workers(topology)}
    tokens = {name: state.token for name, state in states.items() if state and state.token}
    strange = [name for name, token in tokens.items() if made and token.fingerprint != made.fingerprint]
    host, name = newest_kept(topology, observed)
    if not api.answers or not name or not strange or any(one in api.nodes.nodes for one in tokens):
        return []
    fault = f"it is new, and does not know {' and '.join(strange)}, whose pods it would end"
    advice = (
        f"{host} keeps a snapshot: {restore_of(topology, name)} ; then this again. "
        f"To begin anew without it: rm {places.TOKEN} on {' and '.join(strange)}"
    )
    return [finding(server, fault, f"another token than theirs; nodes: {', '.join(api.nodes.nodes)}", advice)]


def restore_of(topology: Topology, name: str) -> str:
    """The command that puts the control plane back to a snapshot."""
    return f"python runbooks/k3s_snapshot.py --restore {name} --destroy {replaced(topology)}"


def replaced(topology: Topology) -> str:
    """What a restore moves aside, as ``--destroy`` names it."""
    return f"{server_of(topology).name}:{places.DATA}/server"


def newest_kept(topology: Topology, observed: Observed) -> tuple[str, str]:
    """The worker that keeps the newest copy that can be seen, and its name; names end with their moment."""
    states = {host.name: observed.seen(K3S).get(host.name) for host in workers(topology)}
    copies = [(name[-20:], host, name) for host, state in states.items() if state for name in state.snapshots]
    _, host, name = max(copies, default=("", "", ""))
    return host, name
