"""Another node carries the volumes: who may, pods that end on the old one, the label, and pods that run on the new.

The storage itself is not moved here: it is there already, mounted by DRBD or copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dockyard.change import Change, Plan, Run, filled, joined
from dockyard.errors import StepFailed
from dockyard.findings import Cause, Finding
from dockyard.observe import Observed
from dockyard.steps import Page
from dockyard.topology import Topology
from dockyard.unseen import unseen
from tasks.k3s import places
from tasks.k3s.api import KUBECTL, NODES, OBJECTS, Api
from tasks.k3s.config import server_of, settings
from tasks.k3s.facts import K3S
from tasks.k3s.join import (
    carrier,
    check_api,
    drop_label,
    finding,
    is_labelled,
    is_standby,
    lift_taint,
    set_label,
    set_taint,
    standby_taints,
    uncordon,
    workers,
)
from tasks.k3s.nodes import Truth
from tasks.k3s.pods import Pod, known_pods, pods
from tasks.k3s.upkeep import plan_drain
from tasks.k3s.volumes import holding, volumes

_PRICE = """\
K3s cannot know whether they still run and write: a node that it does not hear of may live on, and a stopped agent
  leaves its pods running. Make sure that it is off, or that its pods have ended. Then they are struck off."""


def check_target(topology: Topology, observed: Observed, *, to: str) -> list[Finding]:
    """``to`` is ready, and the volumes are there and nowhere else.

    Raises:
        StepFailed: two nodes have the label of the volumes already.
    """
    found = [*check_api(topology, observed), *_without(topology, observed, to)]
    for api in observed.seen(NODES).values():
        if api.answers:
            found += [*_not_ready(topology, api, to), *_elsewhere(topology, observed, api, to)]
    return found


def _not_ready(topology: Topology, api: Api, to: str) -> Iterator[Finding]:
    carrier(topology, api)
    node = api.nodes.nodes.get(to)
    if node is None or node.ready is not Truth.TRUE:
        evidence = f"Ready is {node.ready}" if node else f"nodes: {', '.join(api.nodes.nodes) or 'none'}"
        yield finding(to, "is not ready as a node of K3s", evidence, "python runbooks/health.py says why")
    elif node.unschedulable:
        yield finding(to, "is cordoned: no pod can start there", "spec.unschedulable", f"k3s kubectl uncordon {to}")


def _without(topology: Topology, observed: Observed, to: str) -> Iterator[Finding]:
    if to in observed.unseen(K3S):
        yield from (one for one in unseen(observed, K3S, Cause.K3S) if one.host == to)
        return
    state, root = observed.of(K3S, to), settings(topology).volumes
    advice = f"python runbooks/failover.py --to {to} hands it over" if topology.cluster.drbd else f"Mount it on {to}"
    if root.mounted and not state.mounted:
        yield finding(to, "does not have the storage of the volumes", f"nothing is mounted at {root.path}", advice)
        return
    for name, volume in volumes(topology).items():
        if state.volumes.get(volume.path) != name:
            again = f"Bring the data there first: ls -la {volume.path} on {to}; docs/k3s.md, Volumes"
            yield finding(to, f"the volume {name} is not there", f"{volume.path} has no marker of it", again)


def _elsewhere(topology: Topology, observed: Observed, api: Api, to: str) -> Iterator[Finding]:
    """A storage that two hosts have mounted, and a host that K3s hears of and we do not: nobody can say what it has."""
    if not (root := settings(topology).volumes).mounted:
        return
    for host in (one.name for one in workers(topology) if one.name != to):
        state, node = observed.seen(K3S).get(host), api.nodes.nodes.get(host)
        if state and state.mounted:
            advice = f"Hand it over first: python runbooks/failover.py --to {to}"
            yield finding(host, "has the storage of the volumes, too", f"something is mounted at {root.path}", advice)
        elif state is None and node and node.ready is Truth.TRUE:
            yield from (one for one in unseen(observed, K3S, Cause.K3S) if one.host == host)


def check_one_copy(topology: Topology, observed: Observed) -> list[Finding]:
    """Every worker was looked at, and no volume lies on two of them.

    A snapshot from before a move lets its pod start where the old copy is, also when that worker comes back later.
    """
    names = {host.name for host in workers(topology)}
    found = [replace(one, advice=_WITHOUT) for one in unseen(observed, K3S, Cause.K3S) if one.host in names]
    if settings(topology).volumes.mounted:
        return found
    for name, volume in volumes(topology).items():
        hosts = holding(observed, name, volume)
        marker = f"{volume.path}/{places.MARKER}"
        if len(hosts) > 1:
            advice = f"On the one that is not in use: mv {marker} {marker}.old; then no pod starts there"
            found.append(finding(hosts[0], f"the volume {name} lies on {' and on '.join(hosts)}", marker, advice))
    return found


_WITHOUT = (
    "Bring it back first. If it must go without: take k3s-worker (and opencloud) from its roles, for as long as it is "
    "away. Its copy of a volume must not start afterwards: k3s_node.py --remove it, if the snapshot knows it"
)


def left_behind(topology: Topology, observed: Observed, *, to: str, ready: bool) -> list[Pod]:
    """Our pods on other nodes than ``to``, on those that are ready or on the others; see `known_pods` for errors."""
    server = server_of(topology).name
    nodes, live = observed.of(NODES, server).nodes.nodes, observed.of(OBJECTS, server)
    alive = {name for name, node in nodes.items() if node.ready is Truth.TRUE}
    return [pod for pod in known_pods(live) if pod.node not in {"", to} and (pod.node in alive) is ready]


def page(topology: Topology, observed: Observed, *, to: str) -> Page | None:
    """What a person has to know before pods of a node that is away are struck off; None when there are none."""
    lost = left_behind(topology, observed, to=to, ready=False)
    if not lost:
        return None
    away = ", ".join(sorted({pod.node for pod in lost}))
    lines = (f"{away} is not ready. Its pods: {', '.join(pod.name for pod in lost)}.", _PRICE)
    return Page(lines=lines, phrase=f"{away} does not run them any more".lower())


def plan_end(topology: Topology, observed: Observed, *, to: str) -> Plan:
    """Let pods elsewhere end: their node is drained, so that none comes back there before the label has moved."""
    hosts = sorted({pod.node for pod in left_behind(topology, observed, to=to, ready=True)})
    return joined(*(plan_drain(topology, observed, host=host, leaving=True) for host in hosts))


def plan_strike_off(topology: Topology, observed: Observed, *, to: str) -> Plan:
    """Take the pods of nodes that are away out of the API, which would wait for their kubelet for ever."""
    lost = left_behind(topology, observed, to=to, ready=False)
    return {server_of(topology).name: [_strike_off(pod) for pod in lost]} if lost else {}


def _strike_off(pod: Pod) -> Change:
    argv = (*KUBECTL, "delete", "pod", "--namespace", pod.namespace, "--force", pod.name)
    return Run(title=f"strike off the pod {pod.name} on {pod.node}", argv=argv)


def plan_hand_over(topology: Topology, observed: Observed, *, to: str) -> Plan:
    """Move the label to ``to``, and open what was drained for it: the taint keeps pods away from the others."""
    server = server_of(topology).name
    nodes = observed.of(NODES, server).nodes.nodes
    closed = [one.name for one in workers(topology) if one.name in nodes and nodes[one.name].unschedulable]
    opened = [uncordon(host) for host in closed if host != to]
    return joined(plan_move(topology, observed, to=to), {server: opened})


def plan_move(topology: Topology, observed: Observed, *, to: str) -> Plan:
    """Let the volumes be on ``to``: for a failover, once the storage is mounted there and on no other host.

    The label is taken from everybody else before ``to`` gets it: for a moment nobody has it, never two.
    Pods that run elsewhere are not stopped by this: drain their node first, or know that it is dead.
    """
    server = server_of(topology).name
    nodes = observed.of(NODES, server).nodes.nodes
    changes: list[Change] = []
    for host in workers(topology):
        node = nodes.get(host.name)
        if node and host.name != to:
            changes += [drop_label(host.name)] if places.STORAGE_LABEL in node.labels else []
            changes += [] if is_standby(node) else [set_taint(host.name)]
    node = nodes.get(to)
    if node is None:
        raise StepFailed(f"{to} is no node of K3s", advice=f"The nodes are: {', '.join(nodes) or 'none'}")
    changes += [] if is_labelled(node) else [set_label(to)]
    changes += [lift_taint(to)] if standby_taints(node) else []
    return filled({server: changes})


def check_moved(topology: Topology, observed: Observed, *, to: str) -> list[Finding]:
    """Every pod of ours is ready on ``to``, and there is one for each volume at least."""
    server = server_of(topology).name
    found = unseen(observed, OBJECTS, Cause.K3S)
    live = observed.seen(OBJECTS).get(server)
    if live is None:
        return found
    there = pods(live)
    look = f"On {server}: k3s kubectl get pods --all-namespaces -o wide; k3s kubectl describe pods --all-namespaces"
    for pod in there:
        if pod.node != to or not pod.ready or pod.leaving:
            found.append(finding(to, f"the pod {pod.name} is not ready there", pod.reason, look))
    for name in volumes(topology).keys() - {pod.namespace for pod in there}:
        said = live.said or f"the namespace {name} has none"
        found.append(finding(to, f"no pod of {name} is there yet", said, look))
    return found
