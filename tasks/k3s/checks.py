"""What health has to say about K3s: the control plane, nodes, versions, ports, marks, volumes, pods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from dockyard.errors import DockyardError
from dockyard.findings import Cause, Finding
from dockyard.observe import Domain, Observed
from dockyard.remote import Command, Outputs
from dockyard.service import unit_file
from dockyard.topology import Host, Topology
from dockyard.unseen import unseen
from tasks.k3s import places
from tasks.k3s.api import NODES, OBJECTS, Api
from tasks.k3s.binary import digest
from tasks.k3s.config import server_of, settings, stale
from tasks.k3s.copies import newest_kept, restore_of
from tasks.k3s.facts import K3S, NodeHost, is_node
from tasks.k3s.join import (
    CARRIER_LOST,
    carrier,
    check_joined,
    finding,
    is_labelled,
    is_standby,
    standby_taints,
    workers,
)
from tasks.k3s.nodes import Node, Truth
from tasks.k3s.objects import Manifests, drift
from tasks.k3s.pods import Pod, pods
from tasks.k3s.strangers import check_strangers
from tasks.k3s.volumes import Volume, holding, volumes

MENDS = "python runbooks/phase1_baseline.py mends it"
_ANEW = "k3s kubectl -n opencloud rollout restart deployment opencloud"
"""What nftables.service flushed of a pod's own port comes back with its next sandbox and not before
(github.com/kubernetes/kubernetes/issues/93091)."""

_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")


def _is_stranger(topology: Topology, host: Host) -> bool:
    return topology.cluster.k3s is not None and not is_node(topology, host)


def _ask_stranger(_topology: Topology, _host: Host) -> Sequence[Command]:
    files = " ".join(unit_file(name) for name in (places.SERVER, places.AGENT))
    script = f'for file in {files} {places.CONFIG}; do [ ! -e "$file" ] || echo "$file"; done'
    return [Command("k3s stranger", ("sh", "-c", script))]


def _read_stranger(_topology: Topology, _host: Host, outputs: Outputs) -> tuple[str, ...]:
    return tuple(outputs.text("k3s stranger").split())


STRANGER = Domain("k3s stranger", _ask_stranger, _read_stranger, _is_stranger)
"""What of K3s lies on a host that must never be a node."""


def check_k3s(topology: Topology, observed: Observed, *, manifests: Sequence[Manifests]) -> list[Finding]:
    """Everything; one finding where K3s was never set up, and nothing while the inventory does not have it.

    While a host has somebody else's, nothing is said of a cluster: it may be theirs.
    """
    if topology.cluster.k3s is None:
        return []
    states = observed.seen(K3S)
    taken = check_strangers(topology, observed)
    if states and not taken and not any(state.binary for state in states.values()):
        return [finding(server_of(topology).name, "K3s was never set up", "no node has its binary", _set_up())]
    missing = [found for domain in (K3S, STRANGER) for found in unseen(observed, domain, Cause.K3S)]
    if taken:
        return [*missing, *taken, *_strangers(observed)]
    return [
        *missing,
        *_strangers(observed),
        *_headless(topology, observed),
        *_hosts(topology, states),
        *_tokens(topology, states),
        *check_joined(topology, observed),
        *_cluster(topology, observed, manifests),
    ]


def _set_up() -> str:
    return "python runbooks/phase1_baseline.py sets it up"


def _headless(topology: Topology, observed: Observed) -> Iterator[Finding]:
    """What it means that the one control plane cannot be looked at; that it cannot is said by its own finding."""
    server = server_of(topology).name
    if server in observed.unseen(K3S):
        fault = f"without {server} K3s starts, moves and changes nothing; pods that run go on"
        evidence = "it is the only control plane, on purpose (docs/k3s.md); a worker that boots now waits for it"
        host, name = newest_kept(topology, observed)
        back = (
            f"then, as {host} keeps a snapshot: {restore_of(topology, name)}"
            if name
            else "no other host has a snapshot"
        )
        lost = f"if its disk is lost: phase1_baseline.py on a new one, {back}"
        yield finding(server, fault, evidence, f"Bring {server} back; {lost}")


def _strangers(observed: Observed) -> Iterator[Finding]:
    for host, files in observed.seen(STRANGER).items():
        if files:
            advice = f"On {host}: systemctl disable --now k3s-agent; then remove these files. Its roles make it no node"
            yield finding(host, "has K3s and must never join it", ", ".join(files), advice)


def _hosts(topology: Topology, states: Mapping[str, NodeHost]) -> Iterator[Finding]:
    for name, state in states.items():
        host = topology.host(name)
        if not state.unit.is_active or not state.unit.is_enabled:
            evidence = f"{state.unit.name} is {state.unit.active}, {state.unit.enabled or 'not enabled'}"
            yield finding(
                name, "K3s does not run", evidence, f"On {name}: journalctl -u {state.unit.name} -n 50; {MENDS}"
            )
        if files := stale(topology, host, state.files):
            yield finding(name, "what K3s starts with is not as planned", ", ".join(files), MENDS)
        yield from _network(name, state, topology.cluster.wireguard.mtu) if state.unit.is_active else ()
        yield from _release(topology, name, state)
        yield from _expiring(name, state)
        elsewhere = [one for one in state.listening if not _inside(one, str(host.wireguard.address))]
        if elsewhere:
            fault = "K3s listens outside the mesh"
            yield finding(name, fault, ", ".join(elsewhere), f"{MENDS}, if bind-address in {places.CONFIG} was changed")


def _network(name: str, state: NodeHost, mtu: int) -> Iterator[Finding]:
    table, device = " ".join(places.GUARD_TABLE), places.FLANNEL_DEVICE
    if not state.guarded:
        fault = f"nothing keeps others from K3s' port {places.VXLAN_PORT}: its table is not loaded"
        evidence = f"no table {table}; a restart of nftables.service, too, removes all tables"
        advice = f"{MENDS}, or on {name}: nft --file {places.GUARD}. Pods whose port stays away: {_ANEW}"
        yield finding(name, fault, evidence, advice)
    if state.severed:
        evidence = f"no device {device}: it went when the interface of the mesh was made anew"
        advice = f"{MENDS}, or on {name}: systemctl restart {state.unit.name}; containers go on"
        yield finding(name, "its pods reach no pod of another node", evidence, advice)
    if state.mtu is not None and state.mtu > mtu - places.VXLAN_BYTES:
        evidence = (
            f"FLANNEL_MTU is {state.mtu} in {places.FLANNEL}; the mesh carries {mtu}, VXLAN takes {places.VXLAN_BYTES}"
        )
        advice = f"On {name}: ip link delete {device}; systemctl restart {state.unit.name}; then start its pods anew"
        yield finding(name, "its pods send packets that do not fit into the mesh", evidence, advice)


def _expiring(name: str, state: NodeHost) -> Iterator[Finding]:
    for path, ends in state.expiring.items():
        evidence = f"{path} ends on {ends}: K3s makes its certificates for a year, and anew only when it starts"
        advice = f"On {name}: systemctl restart {state.unit.name}; containers go on"
        yield finding(name, "its certificate of K3s ends within three months", evidence, advice)


def _release(topology: Topology, name: str, state: NodeHost) -> Iterator[Finding]:
    try:
        wanted = places.stored(digest(topology, name, state))
    except DockyardError as error:
        yield finding(name, "cannot be a node of K3s", str(error), error.advice)
        return
    if not state.binary:
        yield finding(name, "has no K3s", f"there is no {places.BINARY}", _set_up())
    elif state.binary != wanted:
        advice = "python runbooks/k3s_upgrade.py: control plane before workers, one node at a time"
        yield finding(
            name, "runs another release of K3s than the inventory wants", f"{state.binary}, not {wanted}", advice
        )


def _inside(listening: str, address: str) -> bool:
    host = listening.rpartition(":")[0].strip("[]").removeprefix("::ffff:")
    return host in {address, "127.0.0.1", "::1"}


def _tokens(topology: Topology, states: Mapping[str, NodeHost]) -> Iterator[Finding]:
    server = states.get(server_of(topology).name)
    for host in workers(topology):
        state = states.get(host.name)
        if state is None or state.token is None:
            continue
        if not state.token.private:
            yield finding(host.name, f"others than root may read {places.TOKEN}", "its mode is not 0600", MENDS)
        if server and server.server_token and server.server_token.fingerprint != state.token.fingerprint:
            evidence = f"{state.token.fingerprint}, not {server.server_token.fingerprint} (SHA-256, the beginning)"
            yield finding(host.name, "has another token than the control plane", evidence, MENDS)


def _cluster(topology: Topology, observed: Observed, manifests: Sequence[Manifests]) -> Iterator[Finding]:
    server = server_of(topology).name
    api = observed.seen(NODES).get(server)
    if api is None or not api.answers:
        return
    yield from _versions(topology, api)
    yield from _pressed(api)
    try:
        home = carrier(topology, api)
    except DockyardError as error:
        yield finding(server, "two nodes would carry the volumes", str(error), error.advice)
        return
    yield from _marks(topology, api, home)
    yield from _stored(topology, observed, home)
    yield from _objects(topology, observed, home, manifests)


def _versions(topology: Topology, api: Api) -> Iterator[Finding]:
    server, pinned = server_of(topology).name, settings(topology).version
    nodes = api.nodes.nodes
    wanted = pinned or (nodes[server].version if server in nodes else "")
    for name, node in nodes.items():
        if wanted and node.version != wanted:
            advice = "python runbooks/k3s_upgrade.py finishes it: a node runs its release from its next start on"
            yield finding(name, f"runs K3s {node.version} and not {wanted}", "as it told the API", advice)


def _pressed(api: Api) -> Iterator[Finding]:
    for name, node in api.nodes.nodes.items():
        under = [one for one in _PRESSURES if one in node.conditions and node.conditions[one].status is Truth.TRUE]
        if under:
            evidence = "; ".join(node.conditions[one].message for one in under)
            yield finding(
                name, f"is short of something: {', '.join(under)}", evidence, f"On {name}: free -m; df -h; du -xh /"
            )


def _marks(topology: Topology, api: Api, home: str) -> Iterator[Finding]:
    for host in workers(topology):
        node = api.nodes.nodes.get(host.name)
        if node:
            yield from _mark(host.name, node, home)


def _mark(name: str, node: Node, home: str) -> Iterator[Finding]:
    label, taint = f"{places.STORAGE_LABEL}={places.HERE}", f"{places.STANDBY_TAINT}:NoSchedule"
    if name == home and not is_labelled(node):
        advice = f"Before there is a volume {MENDS}; later: {CARRIER_LOST}"
        yield finding(name, "does not have the label of the volumes: their pods cannot start", f"no {label}", advice)
    if name == home and (there := standby_taints(node)):
        evidence = ", ".join(f"{one.key}:{one.effect}" for one in there)
        yield finding(name, "carries the volumes, and keeps pods away", evidence, MENDS)
    if name != home and not is_standby(node):
        yield finding(name, "takes pods, and must take none: it does not carry the volumes", f"no {taint}", MENDS)
    if node.unschedulable:
        advice = (
            f"After an upgrade that was cut off: python runbooks/k3s_upgrade.py; by hand: k3s kubectl uncordon {name}"
        )
        yield finding(name, "is cordoned: no pod can start there", "spec.unschedulable", advice)


def _stored(topology: Topology, observed: Observed, home: str) -> Iterator[Finding]:
    state = observed.seen(K3S).get(home)
    if state is None:
        return
    for name, volume in volumes(topology).items():
        if state.volumes.get(volume.path) != name:
            mounted = "something is mounted" if state.mounted else "nothing is mounted"
            evidence = f"{volume.path}/{places.MARKER} is not there; {mounted} at {settings(topology).volumes.path}"
            look = (
                f"On {home}: findmnt; ls -la {volume.path}. Its pod does not start without, so nothing is overwritten"
            )
            yield finding(home, f"the volume {name} is not there", evidence, _there(observed, name, volume) or look)


def _there(observed: Observed, name: str, volume: Volume) -> str:
    """How pods follow a volume that another worker has."""
    hosts = holding(observed, name, volume)
    return f"It is on {hosts[0]}: python runbooks/k3s_move.py --to {hosts[0]}" if len(hosts) == 1 else ""


def _objects(topology: Topology, observed: Observed, home: str, manifests: Sequence[Manifests]) -> Iterator[Finding]:
    server = server_of(topology).name
    yield from unseen(observed, OBJECTS, Cause.K3S)
    live = observed.seen(OBJECTS).get(server)
    if live is None:
        return
    if not live.answers:
        advice = f"On {server}: journalctl -u {places.SERVER} -n 50. Until then nothing is known of pods"
        yield finding(server, "the API of K3s tells of nodes and not of objects", live.said, advice)
        return
    for name, text in (pair for one in manifests for pair in one(topology, home).items()):
        if found := drift(text, live):
            yield finding(server, f"{name} is not as planned in the cluster", "; ".join(found[:3]), MENDS)
    away = observed.unseen(K3S)
    for pod in [one for one in pods(live) if one.node not in away]:
        look = f"On {server}: k3s kubectl -n {pod.namespace} describe pod {pod.name}"
        if pod.node and pod.node != home:
            fault = f"the pod {pod.name} is not where the volumes are"
            yield _of_pod(pod, pod.node, fault, f"they are on {home}", look)
        elif not pod.ready:
            yield _of_pod(pod, pod.node or server, f"the pod {pod.name} is not ready", pod.reason, look)


def _of_pod(pod: Pod, host: str, fault: str, evidence: str, advice: str) -> Finding:
    """Shown after what is wrong with the node itself, and before the application that does not answer because of it."""
    return replace(finding(host, fault, evidence, advice), subject=pod.name)
