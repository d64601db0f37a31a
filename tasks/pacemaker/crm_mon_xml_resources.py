"""Nodes and resources in the XML of `crm_mon`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.pacemaker.cluster import (
    Collection,
    CollectionKind,
    Flag,
    Health,
    Node,
    NodeKind,
    NodeState,
    Resource,
    Role,
)
from tasks.pacemaker.crm_mon_states import MODERN
from tasks.pacemaker.xml_element import Element

KINDS = {"member": NodeKind.MEMBER, "ping": NodeKind.MEMBER, "remote": NodeKind.REMOTE}
UNPROMOTED = {"slave", "unpromoted"}


def read_nodes(part: Element) -> tuple[tuple[Node, ...], tuple[Resource, ...]]:
    """The nodes, and the resources that are listed under them with ``-n``."""
    elements = list(part.children("node"))
    nodes = tuple(_node(element) for element in elements)
    if len({node.name for node in nodes}) != len(nodes):
        raise part.error("names a node twice")
    beside = [
        _resource(resource, (), nodes, promotable=False)
        for element in elements
        for resource in element.children("resource")
    ]
    return nodes, tuple(beside)


def _node(node: Element) -> Node:
    if (kind := node.text("type")) not in KINDS:
        raise node.error(f"has the type {kind!r}, where we know of {', '.join(KINDS)}")
    health = node.optional("health")
    guest = node.optional("id_as_resource") or node.optional("container_id")
    return Node(
        name=node.text("name"),
        state=_node_state(node),
        kind=NodeKind.GUEST if guest else KINDS[kind],
        health=node.member(Health, health) if health else Health.NOT_SAID,
        id=node.text("id"),
        feature_set=node.optional("feature_set"),
    )


def _node_state(node: Element) -> NodeState:
    """The word that the text prints: `node_text_status` of lib/pengine/pe_output.c."""
    online, pending, standby = node.flag("online"), node.flag("pending"), node.flag("standby")
    maintenance, on_fail = node.maybe("maintenance"), node.flag("standby_onfail")
    if node.flag("unclean"):
        return NodeState(f"UNCLEAN ({'online' if online else 'pending' if pending else 'offline'})")
    if pending:
        return NodeState.PENDING
    if on_fail and online:
        return NodeState.STANDBY_ON_FAIL
    if standby:
        active = NodeState.STANDBY_ACTIVE if node.count("resources_running") else NodeState.STANDBY
        return active if online else NodeState.OFFLINE_STANDBY
    if maintenance:
        return NodeState.MAINTENANCE if online else NodeState.OFFLINE_MAINTENANCE
    return NodeState.ONLINE if online else NodeState.OFFLINE


def read_tree(
    part: Element, nodes: Sequence[Node], *, limited: bool
) -> tuple[tuple[Collection, ...], tuple[Resource, ...]]:
    """All collections and all instances, each with the path to it."""
    tree = _Tree(nodes, limited)
    for element in part.children("resource", "group", "clone", "bundle"):
        tree.add(element, ())
    return tuple(tree.collections), tuple(tree.resources)


@dataclass(slots=True)
class _Tree:
    nodes: Sequence[Node]
    limited: bool
    collections: list[Collection] = field(default_factory=list)
    resources: list[Resource] = field(default_factory=list)
    promotable: bool = False
    _seen: set[tuple[tuple[str, ...], str, tuple[str, ...]]] = field(default_factory=set)

    def add(self, element: Element, within: tuple[str, ...]) -> None:
        if element.node.tag == "resource":
            cloned = bool(within) and any(one.kind is CollectionKind.CLONE for one in self.collections[-2:])
            resource = _resource(element, within, self.nodes, promotable=self.promotable)
            if (resource.active or not cloned) and Flag.ORPHANED not in resource.flags:
                self._once(element, within, resource.nodes if cloned else ())
            self.resources.append(resource)
        elif element.node.tag == "bundle":
            self._bundle(element, within)
        else:
            self._collection(element, within)

    def _once(self, element: Element, within: tuple[str, ...], nodes: tuple[str, ...] = ()) -> None:
        key = (within, element.text("id"), nodes)
        if key in self._seen:
            raise element.error("stands twice")
        self._seen.add(key)

    def _collection(self, element: Element, within: tuple[str, ...]) -> None:
        self._once(element, within)
        clone = element.node.tag == "clone"
        tags = ("resource", "group") if clone else ("resource",)
        members = list(element.children(*tags))
        if not self.limited and (not members or (not clone and element.count("number_resources") != len(members))):
            raise element.error("does not hold as many resources as it says")
        if not within:
            self.promotable = clone and element.flag("multi_state")
        self.collections.append(
            Collection(
                id=element.text("id"),
                kind=CollectionKind.CLONE if clone else CollectionKind.GROUP,
                within=within,
                flags=_collection_flags(element),
                promotable=clone and self.promotable,
                unique=element.maybe("unique"),
                child=members[0].text("id").split(":")[0] if clone and members else "",
                description=element.optional("description"),
            )
        )
        for member in members:
            self.add(member, (*within, element.text("id")))

    def _bundle(self, element: Element, within: tuple[str, ...]) -> None:
        self._once(element, within)
        self.promotable = False
        bundle = Collection(
            id=element.text("id"),
            kind=CollectionKind.BUNDLE,
            flags=_collection_flags(element),
            unique=element.flag("unique"),
            image=element.text("image"),
            description=element.optional("description"),
        )
        self.collections.append(bundle)
        replicas = list(element.children("replica"))
        if not replicas:
            raise element.error("has no replica")
        for replica in replicas:
            self._once(replica, (bundle.id,))
            members = list(replica.children("resource"))
            if not members:
                raise replica.error("is empty")
            for member in members:
                self.add(member, (bundle.id, replica.text("id")))


def _collection_flags(element: Element) -> frozenset[Flag]:
    unmanaged = "managed" in element.node.attrib and not element.flag("managed")
    flags = {
        Flag.FAILED: element.maybe("failed"),
        Flag.FAILURE_IGNORED: element.maybe("failure_ignored"),
        Flag.DISABLED: element.maybe("disabled"),
        Flag.MAINTENANCE: element.maybe("maintenance"),
        Flag.UNMANAGED: unmanaged and not element.maybe("maintenance"),
    }
    return frozenset(flag for flag, there in flags.items() if there)


def _resource(element: Element, within: tuple[str, ...], nodes: Sequence[Node], *, promotable: bool) -> Resource:
    word = element.text("role")
    role = MODERN.get(word) or element.member(Role, word)
    names = tuple(node.text("name") for node in element.children("node"))
    if len(names) != element.count("nodes_running_on"):
        raise element.error("does not name as many nodes as it runs on")
    if element.flag("active") and not names:
        raise element.error("is active but on no node")
    return Resource(
        id=element.text("id"),
        role=role,
        nodes=names,
        flags=_flags(element, names, nodes, promotable=promotable),
        within=within,
        agent=element.text("resource_agent").replace("::", ":", 1),
        description=element.optional("description"),
    )


def _flags(element: Element, names: Sequence[str], nodes: Sequence[Node], *, promotable: bool) -> frozenset[Flag]:
    """As the text decides: blocked before maintenance before unmanaged."""
    target = element.optional("target_role").lower()
    blocked, maintenance = element.maybe("blocked"), element.maybe("maintenance")
    lost = {node.name for node in nodes if node.state in {NodeState.UNCLEAN_OFFLINE, NodeState.UNCLEAN_PENDING}}
    flags = {
        Flag.FAILED: element.flag("failed"),
        Flag.ORPHANED: element.maybe("orphaned") or element.maybe("removed"),
        Flag.UNCLEAN: bool(lost & set(names)),
        Flag.LOCKED: bool(element.optional("locked_to")),
        Flag.MONITORING: element.optional("pending") == "Monitoring",
        Flag.DISABLED: target == "stopped",
        Flag.TARGET_UNPROMOTED: promotable and target in UNPROMOTED,
        Flag.BLOCKED: blocked,
        Flag.MAINTENANCE: maintenance and not blocked,
        Flag.UNMANAGED: not element.flag("managed") and not blocked and not maintenance,
        Flag.FAILURE_IGNORED: element.maybe("failure_ignored"),
    }
    return frozenset(flag for flag, there in flags.items() if there)
