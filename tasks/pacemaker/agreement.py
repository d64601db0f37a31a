"""What both forms of `crm_mon` can say about one moment, for comparing them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from tasks.pacemaker.cluster import (
    NOT_SAID,
    Answer,
    Attribute,
    Cluster,
    Collection,
    CollectionKind,
    Failure,
    Fencing,
    FencingState,
    Flag,
    Health,
    History,
    Management,
    Node,
    NodeKind,
    NodeState,
    NoQuorum,
    Resource,
    Role,
    Section,
    Switch,
)

T = TypeVar("T")

NOWHERE = frozenset({NodeState.OFFLINE, NodeState.OFFLINE_STANDBY, NodeState.OFFLINE_MAINTENANCE})
CLONED = frozenset({Flag.FAILED, Flag.ORPHANED, Flag.UNMANAGED, Flag.BLOCKED, Flag.UNCLEAN})
MOVING = frozenset({Role.STARTING, Role.STOPPING, Role.MIGRATING})
"""The text names the node where the operation runs, the XML those where the resource is known to be active."""


def comparable(cluster: Cluster, shown: frozenset[Section]) -> Cluster:
    """The part of ``cluster`` that text and XML say alike, given that the text shows ``shown``.

    The text lists healthy instances of a clone by node only, leaves offline guests out, hides what bundles are made of
    and says nothing of what is as it should be; and operations move between two commands.
    """
    seen = cluster if Section.SUMMARY in shown or cluster.answer is not Answer.STATUS else _headless(cluster)
    return replace(
        seen,
        management=Management.NOT_SAID if seen.management is Management.ENABLED else seen.management,
        fencing_enabled=Switch.NOT_SAID,
        symmetric=Switch.NOT_SAID,
        no_quorum=NoQuorum.NOT_SAID,
        nodes=_sorted(
            _node(node) for node in cluster.nodes if not (node.kind is NodeKind.GUEST and node.state in NOWHERE)
        ),
        collections=(),
        resources=_sorted(set(_all_resources(cluster, shown))),
        briefs=(),
        attributes=_sorted(_attributes(cluster)) if Section.ATTRIBUTES in shown else (),
        history=_sorted(_counts(cluster)) if Section.HISTORY in shown else (),
        failures=_sorted({_failure(one) for one in cluster.failures}),
        fencing=_sorted({_fencing(one) for one in cluster.fencing if one.state is FencingState.FAILED}),
        fencing_history="",
        bans=_sorted(replace(one, weight=0) for one in cluster.bans) if Section.BANS in shown else (),
        tickets=_sorted(cluster.tickets) if Section.TICKETS in shown else (),
    )


def _all_resources(cluster: Cluster, shown: frozenset[Section]) -> list[Resource]:
    beside = Section.BY_NODE in shown
    clones = {(*one.within, one.id): one for one in cluster.collections if one.kind is CollectionKind.CLONE}
    bundles = {one.id for one in cluster.collections if one.kind is CollectionKind.BUNDLE}
    kept = [one for one in cluster.resources if not (one.within and one.within[0] in bundles)]
    if not beside:
        kept = _collapsed(kept, clones)
    return [alike for one in kept for alike in _resources(one, one.within[:1] in clones, shown)]


def _headless(cluster: Cluster) -> Cluster:
    """Without the summary that ``-D`` hides."""
    return Cluster(
        answer=cluster.answer,
        complete=cluster.complete,
        nodes=cluster.nodes,
        resources=cluster.resources,
    )


def _sorted(things: Iterable[T]) -> tuple[T, ...]:
    return tuple(sorted(things, key=repr))


def _node(node: Node) -> Node:
    """Health is shown since 2.1.3, and active resources of a node in standby since 1.1.20."""
    state = NodeState.STANDBY if node.state is NodeState.STANDBY_ACTIVE else node.state
    return replace(node, state=state, health=Health.NOT_SAID if node.health is Health.GREEN else node.health)


def _resources(resource: Resource, cloned: bool, shown: frozenset[Section]) -> list[Resource]:
    """The same instance without what one of the forms leaves out; for each of its nodes where they are listed so."""
    beside = Section.BY_NODE in shown
    if resource.role in MOVING:
        return [] if beside else [replace(_bare(resource, cloned, beside), nodes=())]
    if not resource.active:
        listed = Section.INACTIVE in shown and not cloned and not beside
        return [replace(_bare(resource, cloned, beside), nodes=())] if listed else []
    bare = _bare(resource, cloned, beside)
    return [replace(bare, nodes=(node,)) for node in resource.nodes] if beside else [bare]


def _bare(resource: Resource, cloned: bool, beside: bool) -> Resource:
    failed = Flag.FAILED in resource.flags and resource.role is not Role.PROMOTED
    flags = {Flag.UNMANAGED if flag is Flag.MAINTENANCE else flag for flag in resource.flags} - {Flag.MONITORING}
    flags = flags & CLONED if cloned or beside else flags
    return replace(
        resource,
        role=Role.NOT_SAID if failed else resource.role,
        nodes=tuple(sorted(resource.nodes)),
        flags=frozenset(flags - {Flag.UNCLEAN} if beside or len(resource.nodes) > 1 else flags),
        within=() if beside else resource.within,
        agent="",
        address="",
        probe="",
    )


def _collapsed(resources: list[Resource], clones: Mapping[tuple[str, ...], Collection]) -> list[Resource]:
    """With the members of a healthy instance of a cloned group as the one entry that the text has for them."""
    groups: dict[tuple[str, ...], list[Resource]] = {}
    for resource in resources:
        if len(resource.within) > 1 and resource.within[:1] in clones:
            groups.setdefault(resource.within, []).append(resource)
    alike = {path: one for path, members in groups.items() if (one := _instance(members, clones[path[:1]]))}
    return [one for one in resources if one.within not in alike] + list(alike.values())


def _instance(members: list[Resource], clone: Collection) -> Resource | None:
    """The group as one instance; None if it is listed with its members, because one of them is not as the others."""
    first = members[0]
    if any(one.nodes != first.nodes or one.flags & CLONED or Flag.MAINTENANCE in one.flags for one in members):
        return None
    roles = {one.role for one in members}
    if len(first.nodes) != 1 or roles - {Role.STARTED, Role.PROMOTED, Role.UNPROMOTED}:
        return None
    role = Role.UNPROMOTED if clone.promotable else Role.STARTED
    role = Role.PROMOTED if Role.PROMOTED in roles else role
    return Resource(id=first.within[1].split(":")[0], role=role, nodes=first.nodes, within=first.within[:1])


def _attributes(cluster: Cluster) -> list[Attribute]:
    return [
        replace(one, value=one.value.strip(), expected=NOT_SAID, connectivity_lost=False) for one in cluster.attributes
    ]


def _counts(cluster: Cluster) -> list[History]:
    return [
        History(node=one.node, resource=one.resource, fail_count=one.fail_count)
        for one in cluster.history
        if one.fail_count
    ]


def _failure(failure: Failure) -> Failure:
    return Failure(resource=failure.resource, task=failure.task, interval_ms=failure.interval_ms, node=failure.node)


def _fencing(fencing: Fencing) -> Fencing:
    return Fencing(action=fencing.action, target=fencing.target, state=fencing.state)
