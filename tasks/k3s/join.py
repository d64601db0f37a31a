"""From installed hosts to a cluster: the control plane, the token's way to the workers, the workers, their marks.

In this order: `plan_server`, `check_api`, `plan_forget`, `plan_token`, `plan_workers`, `check_joined`, `plan_marks`.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from dockyard.change import Change, Plan, Run, WriteFile, filled
from dockyard.errors import StepFailed
from dockyard.files import FileState
from dockyard.findings import Cause, Finding
from dockyard.observe import Domain, Observed
from dockyard.remote import Command, Outputs
from dockyard.secret import Secret
from dockyard.topology import Host, Role, Topology
from dockyard.unseen import unseen
from tasks.k3s import places
from tasks.k3s.api import KUBECTL, NODES, OBJECTS, Api, Objects, is_server
from tasks.k3s.config import is_up, restart, running, server_of
from tasks.k3s.facts import K3S, NodeHost, TokenSeen, is_node
from tasks.k3s.nodes import Effect, Node, Taint, Truth


def _ask_token(_topology: Topology, _host: Host) -> Sequence[Command]:
    path = places.SERVER_TOKEN
    return [Command("k3s token", ("sh", "-c", f"[ ! -s {path} ] || cat {path}"))]


def _read_token(_topology: Topology, _host: Host, outputs: Outputs) -> Secret:
    return Secret(outputs.text("k3s token"))


TOKEN = Domain("k3s token", _ask_token, _read_token, is_server)
"""The token itself; asked for only while it is copied to a worker."""


CARRIER_LOST = "python runbooks/k3s_move.py --to HOST, with the host that has the present data, sets the label"


def workers(topology: Topology) -> list[Host]:
    """The hosts that are nodes but not the control plane."""
    return [host for host in topology.hosts.values() if is_node(topology, host) and not is_server(topology, host)]


def plan_server(topology: Topology, observed: Observed) -> Plan:
    """Start the control plane, now and at boot. It makes its datastore, its certificates and its token itself."""
    if topology.cluster.k3s is None:
        return {}
    server = server_of(topology).name
    state = observed.of(K3S, server)
    return filled({server: running(state)})


def plan_token(topology: Topology, observed: Observed) -> Plan:
    """Bring the token to the workers that have none or another one; it travels over ssh and is shown nowhere.

    A worker that runs is started anew: K3s reads the token, and the certificate authority in it, when it starts and at
    no other time. Its pods go on meanwhile.

    Raises:
        StepFailed: the control plane has none yet.
    """
    lacking = [host.name for host in workers(topology) if _lacks_token(topology, observed, host.name)]
    if not lacking:
        return {}
    server = server_of(topology).name
    token = observed.of(TOKEN, server)
    if not token and observed.of(K3S, server).unit.is_active:
        raise StepFailed(
            f"{server} runs K3s and has no token in {places.SERVER_TOKEN}",
            advice=f"It makes one when it starts. On {server}: journalctl -u {places.SERVER} -n 50",
        )
    made = observed.of(K3S, server).server_token
    return {host: _bring(token, observed.of(K3S, host), made) for host in lacking}


def _lacks_token(topology: Topology, observed: Observed, host: str) -> bool:
    mine = observed.of(K3S, host).token
    made = observed.of(K3S, server_of(topology).name).server_token
    return made is None or mine is None or not mine.private or mine.fingerprint != made.fingerprint


def _bring(token: Secret, state: NodeHost, made: TokenSeen | None) -> list[Change]:
    """The note comes first: a run that is cut off before the start leaves it to `plan_workers`."""
    seen, same = state.unit, bool(state.token and made and state.token.fingerprint == made.fingerprint)
    write = WriteFile(
        path=places.TOKEN, content=token, seen=FileState(path=places.TOKEN), mode=0o600, provisional=not token
    )
    if same or not is_up(seen):
        return [write]
    note = Run(title=f"note that {seen.name} has to read another token", argv=("touch", "--", places.RENEWED))
    return [note, write, restart(seen)]


def plan_forget(topology: Topology, observed: Observed) -> Plan:
    """Forget the node of a worker that was installed anew: it has no token, and the API knows another one by its name.

    K3s refuses a node whose own password (/etc/rancher/node/password) is another one than it had (docs.k3s.io, "Node
    Registration"). A node that is ready is left alone: somebody runs under that name.
    """
    if topology.cluster.k3s is None:
        return {}
    server = server_of(topology).name
    nodes = observed.of(NODES, server).nodes.nodes
    fresh = [host.name for host in workers(topology) if observed.of(K3S, host.name).token is None]
    gone = [name for name in fresh if name in nodes and nodes[name].ready is not Truth.TRUE]
    return filled({server: [forget(name) for name in gone]})


def forget(node: str) -> Change:
    """Take a node out of the cluster; its labels and its password go with it."""
    return Run(title=f"forget the node {node}", argv=(*KUBECTL, "delete", "node", node))


def plan_workers(topology: Topology, observed: Observed) -> Plan:
    """Start the workers, now and at boot; anew the one that was not started with its new token."""
    states = {host.name: observed.seen(K3S).get(host.name) for host in workers(topology)}
    return filled({host: running(state) for host, state in states.items() if state})


def check_api(_topology: Topology, observed: Observed) -> list[Finding]:
    """The API answers on the control plane itself."""
    found = unseen(observed, NODES, Cause.K3S)
    for host, api in observed.seen(NODES).items():
        if not api.answers:
            fault = "the API of K3s does not answer: nothing can be started, moved or changed, running pods go on"
            advice = f"On {host}: systemctl status {places.SERVER}; journalctl -u {places.SERVER} -n 50"
            found.append(finding(host, fault, api.said, advice))
    return found


def check_joined(topology: Topology, observed: Observed) -> list[Finding]:
    """`check_ready`, and nobody else is there."""
    found = check_ready(topology, observed)
    for api in observed.seen(NODES).values():
        found += _uninvited(topology, api) if api.answers else []
    return found


def check_ready(topology: Topology, observed: Observed) -> list[Finding]:
    """The API answers, every node of the inventory has joined from the mesh and is ready.

    Of a host that cannot be looked at nothing is said here: that it is away is said already, and explains the rest.
    """
    found = check_api(topology, observed)
    for api in observed.seen(NODES).values():
        found += _not_joined(topology, api, observed.unseen(K3S)) if api.answers else []
    return found


def _not_joined(topology: Topology, api: Api, away: Container[str]) -> Iterator[Finding]:
    for name, host in _members(topology).items():
        if name in away:
            continue
        node = api.nodes.nodes.get(name)
        unit_name = places.SERVER if is_server(topology, host) else places.AGENT
        advice = f"On {name}: systemctl status {unit_name}; journalctl -u {unit_name} -n 50"
        if node is None:
            again = f"{advice}. A node that was forgotten joins again when it starts: systemctl restart {unit_name}"
            yield finding(name, "has not joined K3s", f"nodes: {', '.join(api.nodes.nodes) or 'none'}", again)
        elif node.ready is not Truth.TRUE:
            yield finding(name, "is not ready as a node of K3s", _why_not(node), advice)
        elif node.internal_ip != str(host.wireguard.address):
            evidence = f"{node.internal_ip} instead of {host.wireguard.address}"
            yield finding(name, "joined K3s with an address outside the mesh", evidence, advice)


def _uninvited(topology: Topology, api: Api) -> Iterator[Finding]:
    for name in api.nodes.nodes.keys() - _members(topology).keys():
        advice = f"If it does not belong there: python runbooks/k3s_node.py --remove {name}"
        yield finding(server_of(topology).name, f"{name} is a node of K3s and must not be", "not in its roles", advice)


def _members(topology: Topology) -> dict[str, Host]:
    return {host.name: host for host in topology.hosts.values() if is_node(topology, host)}


def _why_not(node: Node) -> str:
    ready = node.conditions.get("Ready")
    return f"{ready.status}, {ready.reason}: {ready.message}" if ready else "no condition Ready"


def carrier(topology: Topology, api: Api) -> str:
    """The node that carries the volumes: the one with the label, before there is one `home_of`.

    Raises:
        StepFailed: two nodes have the label, so that a pod could start on either.
    """
    labelled = [name for name, node in api.nodes.nodes.items() if is_labelled(node)]
    if len(labelled) > 1:
        raise StepFailed(
            f"{' and '.join(labelled)} both have the label {places.STORAGE_LABEL}={places.HERE}",
            advice="A pod could write on either. Find out which one holds the data, and take it from the other: "
            f"k3s kubectl label node NAME {places.STORAGE_LABEL}-",
        )
    return next(iter(labelled), home_of(topology))


def home_of(topology: Topology) -> str:
    """Where the volumes are at first: the host with the role opencloud, else drbd-primary, else any worker."""
    for role in (Role.OPENCLOUD, Role.DRBD_PRIMARY, Role.K3S_WORKER):
        for host in topology.with_role(role):
            if Role.K3S_WORKER in host.roles:
                return host.name
    return ""


def plan_marks(topology: Topology, observed: Observed) -> Plan:
    """Label the node that carries the volumes, once, and keep every other worker free of pods.

    The label is set here only before there is a volume: later it moves with `move.plan_move` and in no other way. It
    goes with its node when that is forgotten, and nothing else says where the present data are.

    Raises:
        StepFailed: see `carrier`; or there are volumes, and nobody has the label.
    """
    if topology.cluster.k3s is None:
        return {}
    server = server_of(topology).name
    api = observed.of(NODES, server)
    home = carrier(topology, api)
    _refuse_lost(api, observed.of(OBJECTS, server))
    return filled({server: [change for host in workers(topology) for change in _marks(api, host.name, home)]})


def _refuse_lost(api: Api, live: Objects) -> None:
    if not api.answers or any(is_labelled(node) for node in api.nodes.nodes.values()):
        return
    if not live.answers:
        raise StepFailed(
            f"no node has the label {places.STORAGE_LABEL}, and the API does not say whether there are volumes",
            advice=f"It said: {live.said}. Run this again when it answers.",
        )
    if live.of_kind("PersistentVolume"):
        raise StepFailed(
            f"no node has the label {places.STORAGE_LABEL}, and volumes were made before: where are their data?",
            advice=f"The node that had it was forgotten. {CARRIER_LOST}; then this again.",
        )


def _marks(api: Api, host: str, home: str) -> list[Change]:
    node = api.nodes.nodes.get(host)
    if node is None:
        return []
    if host != home:
        return [] if is_standby(node) else [set_taint(host)]
    label = [] if is_labelled(node) else [set_label(host)]
    return [*label, *([lift_taint(host)] if standby_taints(node) else [])]


def is_labelled(node: Node) -> bool:
    """Whether the volumes may be on this node."""
    return node.labels.get(places.STORAGE_LABEL) == places.HERE


def standby_taints(node: Node) -> list[Taint]:
    """Our taint, with whatever effect: a node may have it once with each, and `lift_taint` takes them all."""
    return [taint for taint in node.taints if taint.key == places.STANDBY_TAINT]


def is_standby(node: Node) -> bool:
    """Whether pods are kept away from a worker that does not carry the volumes: other effects do less, or more."""
    return any(taint.effect is Effect.NO_SCHEDULE for taint in standby_taints(node))


def set_label(host: str) -> Change:
    """Let the volumes be on ``host``."""
    argv = (*KUBECTL, "label", "--overwrite", "node", host, f"{places.STORAGE_LABEL}={places.HERE}")
    return Run(title=f"label {host}: the volumes are there", argv=argv)


def drop_label(host: str) -> Change:
    """Let the volumes not be on ``host`` any more."""
    return Run(
        title=f"take the label of the volumes from {host}",
        argv=(*KUBECTL, "label", "node", host, f"{places.STORAGE_LABEL}-"),
    )


def set_taint(host: str) -> Change:
    """Keep pods away from a worker."""
    argv = (*KUBECTL, "taint", "--overwrite", "node", host, f"{places.STANDBY_TAINT}=true:{Effect.NO_SCHEDULE}")
    return Run(title=f"keep pods away from {host}, which does not carry the volumes", argv=argv)


def lift_taint(host: str) -> Change:
    """Let pods come to a worker."""
    argv = (*KUBECTL, "taint", "node", host, f"{places.STANDBY_TAINT}-")
    return Run(title=f"let pods come to {host}", argv=argv)


def uncordon(host: str) -> Change:
    """Let pods come to a node that was drained."""
    return Run(title=f"open {host} again", argv=(*KUBECTL, "uncordon", host))


def finding(host: str, fault: str, evidence: str, advice: str) -> Finding:
    """A finding about K3s."""
    return Finding(cause=Cause.K3S, host=host, fault=fault, evidence=evidence, advice=advice)
