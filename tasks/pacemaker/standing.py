"""How well a cluster stands, as far as an answer of `crm_mon` proves it."""

from __future__ import annotations

from collections.abc import Iterable

from dockyard.standing import Level, Standing
from tasks.pacemaker.cluster import (
    Answer,
    Attribute,
    Cluster,
    Daemons,
    FencingState,
    Flag,
    Health,
    Management,
    Node,
    NodeState,
    Quorum,
    Resource,
    Role,
    Section,
    Ticket,
)

BROKEN = frozenset({Flag.FAILED, Flag.BLOCKED, Flag.UNCLEAN})
SETTLED = frozenset({Role.STARTED, Role.PROMOTED, Role.UNPROMOTED})
QUORUM = {Quorum.WITH: Level.HEALTHY, Quorum.NOT_SAID: Level.UNKNOWN}
MANAGEMENT = {
    Management.ENABLED: Level.HEALTHY,
    Management.MAINTENANCE: Level.DEGRADED,
    Management.STOP_ALL: Level.FAILED,
    Management.NOT_SAID: Level.UNKNOWN,
}


def standing(cluster: Cluster) -> Standing:
    """A level for each node and each instance, for quorum, management and what has failed.

    Nothing stands in an answer that is not complete. A resource is named with its node, so that one that moved is not
    taken for one that stayed. Failed actions and fencing stand at HEALTHY only where the answer proves that there are
    none: in the XML form, and without any entry.
    """
    if not cluster.complete:
        return {}
    if cluster.answer is not Answer.STATUS:
        return {"pacemaker": Level.FAILED if cluster.answer is Answer.NOT_CONNECTED else Level.DEGRADED}
    return {
        "pacemaker": _daemons(cluster.daemons),
        "quorum": QUORUM.get(cluster.quorum, Level.FAILED),
        "resource management": MANAGEMENT[cluster.management],
        **{f"node {node.name}": _node(node) for node in cluster.nodes},
        **_resources(cluster),
        **_collections(cluster),
        **_failures(cluster),
        **_fencing(cluster),
        **_attributes(cluster.attributes),
        **{f"ticket {ticket.id}": _ticket(ticket) for ticket in cluster.tickets},
    }


def _daemons(daemons: Daemons) -> Level:
    if daemons is Daemons.NOT_SAID:
        return Level.UNKNOWN
    return Level.HEALTHY if daemons is Daemons.RUNNING else Level.DEGRADED


def _node(node: Node) -> Level:
    if node.state.unclean or node.state is NodeState.OFFLINE or node.health is Health.RED:
        return Level.FAILED
    return Level.HEALTHY if node.state is NodeState.ONLINE and node.health is not Health.YELLOW else Level.DEGRADED


def _resources(cluster: Cluster) -> dict[str, Level]:
    """Where resources are listed by node and one of the nodes is UNCLEAN, the text does not prove who was on it."""
    unsure = Section.BY_NODE in cluster.shown and any(node.state.unclean for node in cluster.nodes)
    found: dict[str, Level] = {}
    for resource in cluster.resources:
        name = f"resource {resource.id}" + "".join(f" on {node}" for node in resource.nodes)
        level = Level.UNKNOWN if unsure else _resource(resource)
        found[name] = min(level, found.get(name, level))
    return found


def _resource(resource: Resource) -> Level:
    if resource.flags & BROKEN or resource.probe or len(resource.nodes) > 1:
        return Level.FAILED
    if resource.role in {Role.STOPPED, Role.UNKNOWN}:
        return Level.DEGRADED if Flag.DISABLED in resource.flags else Level.FAILED
    good = resource.active and resource.role in SETTLED and not resource.flags and not resource.description
    return Level.HEALTHY if good else Level.DEGRADED


def _collections(cluster: Cluster) -> dict[str, Level]:
    return {f"{one.kind} {one.id}": Level.DEGRADED for one in cluster.collections if one.flags or one.inactive}


def _failures(cluster: Cluster) -> dict[str, Level]:
    """A failed action is history if the resource has recovered, but nobody has looked at it yet."""
    proved = Section.FAILURES in cluster.shown and not cluster.limited
    overall = Level.DEGRADED if cluster.failures else Level.HEALTHY if proved else Level.UNKNOWN
    named = {f"failed {one.task} of {one.resource} on {one.node}": Level.DEGRADED for one in cluster.failures}
    counts = {
        f"fail count of {one.resource} on {one.node}": Level.DEGRADED for one in cluster.history if one.fail_count
    }
    return {"failed actions": overall, **named, **counts}


def _fencing(cluster: Cluster) -> dict[str, Level]:
    proved = Section.FENCING in cluster.shown and not cluster.limited and not cluster.fencing_history
    overall = {"fencing": Level.HEALTHY} if proved and not cluster.fencing else {}
    bad = {one for one in cluster.fencing if one.state is not FencingState.SUCCESS}
    return {**overall, **{f"{one.state} fencing of {one.target}": Level.DEGRADED for one in bad}}


def _attributes(attributes: Iterable[Attribute]) -> dict[str, Level]:
    """Those of ping resources that are below what they should be; nothing is said of the others."""
    return {
        f"attribute {one.name} on {one.node}": Level.FAILED if one.connectivity_lost else Level.DEGRADED
        for one in attributes
        if one.connectivity_lost or _below(one)
    }


def _below(attribute: Attribute) -> bool:
    return attribute.expected > 0 and attribute.value.isdecimal() and int(attribute.value[:18]) < attribute.expected


def _ticket(ticket: Ticket) -> Level:
    if not ticket.granted:
        return Level.FAILED
    return Level.DEGRADED if ticket.standby else Level.HEALTHY
