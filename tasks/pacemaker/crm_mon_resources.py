"""Nodes and resources in the text of `crm_mon`: the nesting that indentation shows, and what stands beside a name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from dockyard.parsing import Printed, Row
from tasks.pacemaker.cluster import (
    NOT_SAID,
    Brief,
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
from tasks.pacemaker.crm_mon_events import number
from tasks.pacemaker.crm_mon_states import MODERN, NOTE, flags_of, read_state

MOST_INDENTED_TOP = 2
"""Blanks before what belongs to nothing: two with a bullet, one before 2.0.3, none in what people paste."""
LISTS = {
    "Online": (NodeState.ONLINE, NodeKind.MEMBER),
    "OFFLINE": (NodeState.OFFLINE, NodeKind.MEMBER),
    "RemoteOnline": (NodeState.ONLINE, NodeKind.REMOTE),
    "RemoteOFFLINE": (NodeState.OFFLINE, NodeKind.REMOTE),
    "GuestOnline": (NodeState.ONLINE, NodeKind.GUEST),
    "Containers": (NodeState.ONLINE, NodeKind.GUEST),
}
KINDS = {
    "Node": NodeKind.MEMBER,
    "RemoteNode": NodeKind.REMOTE,
    "GuestNode": NodeKind.GUEST,
    "ContainerNode": NodeKind.GUEST,
}

_NAME = re.compile(r"([^\s@()]+)(?:@([^\s@()]*))?(?: \(([^\s()]+)\))?")


def read_nodes(printed: Printed, row: Row) -> list[Node]:
    """The nodes of one line of the node list, in either form."""
    if row["node_list"]:
        state, kind = LISTS[row["node_list"]]
        names = row["list"].strip()
        found = list(_NAME.finditer(names))
        if " ".join(name.group() for name in found) != " ".join(names.split()):
            raise printed.error(row.line_number, "has something that is not the name of a node")
        return [Node(name=name[1], state=state, kind=kind, host=name[2] or "", id=name[3] or "") for name in found]
    health = printed.member(Health, row["health"].lower(), row.line_number) if row["health"] else Health.NOT_SAID
    return [
        Node(
            name=row["node"],
            state=printed.member(NodeState, row["node_state"], row.line_number),
            kind=KINDS[row["node_kind"]],
            health=health,
            id=row["node_id"],
            host=row["host"],
            feature_set=row["feature_set"],
        )
    ]


def read_resource(printed: Printed, row: Row, within: tuple[str, ...], under: str = "") -> Resource:
    """One line of a primitive; ``under`` is the node that it stands under."""
    state = read_state(printed, row.line_number, row["state"], beside_node=bool(under))
    return Resource(
        id=row["resource"],
        role=state.role,
        nodes=(under,) if under else state.nodes,
        flags=frozenset(state.flags | ({Flag.ORPHANED} if row["orphaned"] else set())),
        within=within,
        agent=row["agent"].replace("::", ":", 1),
        address=row["address"],
        probe=state.probe,
        description=state.description,
    )


@dataclass(slots=True)
class _Open:
    """A collection whose members may follow, deeper indented than itself and all alike."""

    indent: int
    path: tuple[str, ...]
    members: int = NOT_SAID
    collection: int = NOT_SAID
    lists: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Tree:
    """Collects the lines of the list of resources."""

    printed: Printed
    collections: list[Collection] = field(default_factory=list)
    resources: list[Resource] = field(default_factory=list)
    briefs: list[Brief] = field(default_factory=list)
    top: int = NOT_SAID
    tops: int = 0
    listed: dict[str, int] = field(default_factory=dict)
    """How many active instances of each clone are only listed by node."""
    _open: list[_Open] = field(default_factory=list)
    _clones: dict[tuple[str, ...], Collection] = field(default_factory=dict)
    _seen: set[tuple[tuple[str, ...], str, tuple[str, ...]]] = field(default_factory=set)

    def add(self, row: Row) -> None:
        """Takes one line.

        Raises:
            ParseError: it stands twice, or below something that it does not belong to.
        """
        parent = self._parent(row)
        path = parent.path if parent else ()
        if row["instance_list"]:
            self._list(row, parent)
        elif row["brief_active"]:
            self.briefs.append(read_brief(row, path))
        elif row["resource"]:
            self._resource(row, path)
        elif row["replica"]:
            self._replica(row, parent)
        else:
            self._collection(row, path)

    def check_members(self) -> None:
        """Raises ParseError for a group or bundle without members: they have lost their indentation, or are missing."""
        paths = {one.within for one in self.resources} | {one.within for one in self.briefs}
        filled = {path[:depth] for path in paths for depth in range(1, len(path) + 1)}
        for one in self.collections:
            if one.kind is not CollectionKind.CLONE and (*one.within, one.id) not in filled:
                raise self.printed.error(0, f"names no member of the {one.kind} {one.id}")

    def _parent(self, row: Row) -> _Open | None:
        indent = len(row["indent"].expandtabs())
        while self._open and self._open[-1].indent >= indent:
            self._open.pop()
        if not self._open:
            self.top = indent if self.top == NOT_SAID else self.top
            self.tops += 1
            if indent != self.top or indent > MOST_INDENTED_TOP:
                raise self.printed.error(row.line_number, "is indented, but nothing above it has members")
            return None
        parent = self._open[-1]
        parent.members = indent if parent.members == NOT_SAID else parent.members
        if indent != parent.members:
            raise self.printed.error(row.line_number, "is indented unlike its neighbours")
        return parent

    def _belongs(self, row: Row, name: str, path: tuple[str, ...]) -> None:
        """Members of a clone are named like the clone's child."""
        clone = self._clones.get(path)
        if clone and clone.child and name != clone.child and not name.startswith(f"{clone.child}:"):
            raise self.printed.error(row.line_number, f"is no instance of {clone.child}, which stands above it")

    def _once(self, row: Row, path: tuple[str, ...], name: str, nodes: tuple[str, ...]) -> None:
        key = (path, name, nodes)
        if key in self._seen:
            raise self.printed.error(row.line_number, f"says {name} a second time")
        self._seen.add(key)

    def _resource(self, row: Row, path: tuple[str, ...]) -> None:
        self._belongs(row, row["resource"], path)
        resource = read_resource(self.printed, row, path)
        cloned = path in self._clones
        if Flag.ORPHANED not in resource.flags and (resource.active or not cloned):
            self._once(row, path, resource.id, resource.nodes if cloned else ())
        self.resources.append(resource)

    def _replica(self, row: Row, parent: _Open | None) -> None:
        if not parent or parent.collection == NOT_SAID or not self.collections[parent.collection].image:
            raise self.printed.error(row.line_number, "is a replica outside of a bundle")
        self._once(row, parent.path, f"replica {row['replica']}", ())
        self._open.append(_Open(len(row["indent"].expandtabs()), (*parent.path, row["replica"])))

    def _collection(self, row: Row, path: tuple[str, ...]) -> None:
        collection = read_collection(self.printed, row, path)
        self._belongs(row, collection.id, path)
        self._once(row, path, collection.id, ())
        self.collections.append(collection)
        if collection.kind is CollectionKind.CLONE:
            self._clones[*path, collection.id] = collection
        opened = _Open(len(row["indent"].expandtabs()), (*path, collection.id), collection=len(self.collections) - 1)
        self._open.append(opened)

    def _list(self, row: Row, parent: _Open | None) -> None:
        clone = self.collections[parent.collection] if parent and parent.collection != NOT_SAID else None
        if not parent or not clone or clone.kind is not CollectionKind.CLONE:
            raise self.printed.error(row.line_number, "is a list of instances outside of a clone")
        word, _, reason = row["instance_list"].partition(" ")
        rank = _rank(word)
        if row["instance_list"] in parent.lists or any(_rank(known) > rank for known in parent.lists):
            raise self.printed.error(row.line_number, "is a second list of the same kind")
        misnamed = rank == 1 and (word == "Started") is clone.promotable
        if misnamed or any(_rank(known) == rank < 2 for known in parent.lists):
            raise self.printed.error(row.line_number, f"does not fit the clone {clone.id}")
        parent.lists.append(row["instance_list"])
        for name in row["list"].split():
            self._instance(row, clone, parent, name, word, reason.strip("()"))

    def _instance(self, row: Row, clone: Collection, parent: _Open, name: str, word: str, reason: str) -> None:
        if word == "Stopped" and name.split(":", maxsplit=1)[0] != clone.child:
            assert parent.collection != NOT_SAID
            now = self.collections[parent.collection]
            self._once(row, parent.path, "stopped", (name,))
            stopped = (*now.stopped_on, (name, reason))
            self.collections[parent.collection] = replace(now, stopped_on=stopped)
            return
        role = Role.STOPPED if word == "Stopped" else MODERN.get(word) or Role(word)
        flags = frozenset({Flag.TARGET_UNPROMOTED}) if reason == "target-role" else frozenset()
        if word == "Stopped":
            self.resources.append(Resource(id=name, role=role, within=parent.path))
            return
        self._once(row, parent.path, clone.child, (name,))
        self.listed[clone.id] = self.listed.get(clone.id, 0) + 1
        self.resources.append(Resource(id=clone.child, role=role, nodes=(name,), flags=flags, within=parent.path))


def _rank(instance_list: str) -> int:
    word = instance_list.split(" ", maxsplit=1)[0]
    return 0 if word in {"Promoted", "Masters"} else 2 if word == "Stopped" else 1


def read_brief(row: Row, within: tuple[str, ...] = (), under: str = "") -> Brief:
    return Brief(
        agent=row["agent"].replace("::", ":", 1),
        active=number(row["brief_active"]),
        configured=number(row["brief_configured"]),
        node=under or row["node"],
        within=within,
    )


def read_collection(printed: Printed, row: Row, within: tuple[str, ...]) -> Collection:
    """The heading of a group, clone or bundle, with the notes behind its name."""
    flags: set[Flag] = set()
    words: set[str] = set()
    inactive, description = 0, ""
    for note in NOTE.finditer(row["notes"]):
        special = {
            word for word in note[1].split(", ") if re.fullmatch(r"promotable|unique|\d+ members? inactive", word)
        }
        words |= special
        others = ", ".join(word for word in note[1].split(", ") if word not in special)
        known = flags_of(printed, row.line_number, others) if others else frozenset()
        if known is None and (special or description):
            raise printed.error(row.line_number, f"has {others!r} where we know of nothing")
        flags |= known or frozenset()
        description = others if known is None else description
    inactive = next((number(word.split()[0]) for word in words if "inactive" in word), 0)
    kind = next(kind for kind in CollectionKind if row[kind.value])
    return Collection(
        id=row[kind.value],
        kind=kind,
        within=within,
        flags=frozenset(flags),
        promotable="promotable" in words or row["clone_kind"] == "Master/Slave",
        unique="unique" in words,
        child=row["child"],
        image=row["image"],
        inactive=inactive,
        description=description,
    )
