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

MODERN = {"Master": Role.PROMOTED, "Masters": Role.PROMOTED, "Slave": Role.UNPROMOTED, "Slaves": Role.UNPROMOTED}
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
_STATE = re.compile(r"(?P<orphaned>ORPHANED\s+)?(?P<target>\(target-role:\w+\) )?(?P<failed>FAILED\b\s*)?(?P<rest>.*)")
_ROLE = re.compile(r"([A-Z][a-z]+)(?=\s|$)")
_SEVERAL = re.compile(r"(.*?)\[((?:\s+[^\s\[\]]+)+)\s\]\s*")
_NOTE = re.compile(r"\s*\(((?:[^()]|\([^()]*\))*)\)(\s|$)")
_FLAG_WORDS = re.compile(
    r"\b(" + "|".join(sorted(flag.value.split(":")[0] for flag in Flag)) + r"|FAILED|ORPHANED|REMOVED)\b"
)


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


def flags_of(printed: Printed, line_number: int, note: str) -> frozenset[Flag] | None:
    """The flags in ``disabled, blocked``; None if it is something else, such as a description.

    Raises:
        ParseError: some of it are flags and some are not.
    """
    known = {flag.value: flag for flag in Flag}
    words = [
        re.sub(r"target-role:(Slave|Unpromoted)$", Flag.TARGET_UNPROMOTED, word, flags=re.IGNORECASE)
        for word in note.split(", ")
    ]
    words = [Flag.DISABLED if word.lower() == "target-role:stopped" else word for word in words]
    words = [word for word in words if word in known or not word.startswith("target-role:")]
    if all(word in known for word in words):
        return frozenset(known[word] for word in words)
    if _FLAG_WORDS.search(note):
        raise printed.error(line_number, f"has {note!r}, of which we know only a part ({', '.join(known)})")
    return None


@dataclass(slots=True)
class _State:
    """What is behind the agent of a resource, taken apart bit by bit."""

    printed: Printed
    line_number: int
    role: Role
    nodes: tuple[str, ...] = ()
    flags: set[Flag] = field(default_factory=set)
    probe: str = ""
    description: str = ""

    def read(self, rest: str, *, beside_node: bool) -> None:
        """``rest`` is what follows the role; ``beside_node``: the line stands under a node and names none."""
        if several := _SEVERAL.fullmatch(rest):
            rest, self.nodes = several[1], tuple(several[2].split())
        nameless = beside_node or bool(self.nodes)
        while rest := rest.strip():
            if note := _NOTE.match(rest):
                rest = self._note(note[1], rest[note.end() :])
            elif rest == "FAILED" or rest.startswith("FAILED "):
                self.flags.add(Flag.FAILED)
                rest = rest.removeprefix("FAILED")
            elif not nameless and (name := re.match(r"[^\s()\[\]:]+", rest)):
                self.nodes, nameless, rest = (name.group(),), True, rest[name.end() :]
            elif beside_node or len(self.nodes) > 1:
                self._describe(rest)
                return
            else:
                raise self.printed.error(self.line_number, f"has {rest!r} where we know of nothing")

    def _note(self, note: str, rest: str) -> str:
        flags = flags_of(self.printed, self.line_number, note)
        if flags is not None:
            self.flags |= flags
        elif self.role is Role.STOPPED and not self.probe and not self.flags:
            self.probe = note
        else:
            self._describe(f"({note}) {rest}".strip())
            return ""
        return rest

    def _describe(self, text: str) -> None:
        if _FLAG_WORDS.search(text):
            raise self.printed.error(self.line_number, f"has {text!r}: a description or flags that we do not know")
        self.description = text.removeprefix(": ").removeprefix("(").removesuffix(")")


def read_resource(printed: Printed, row: Row, within: tuple[str, ...], under: str = "") -> Resource:
    """One line of a primitive; ``under`` is the node that it stands under."""
    parts = _STATE.fullmatch(row["state"].strip())
    assert parts
    rest, role = parts["rest"], Role.NOT_SAID
    said = _ROLE.match(rest)
    if said and (said[1] in MODERN or not parts["failed"] or said[1] in set(Role)):
        role = MODERN.get(said[1]) or printed.member(Role, said[1], row.line_number)
        rest = rest[said.end() :]
    elif not parts["failed"]:
        raise printed.error(row.line_number, "has no role that we know")
    state = _State(printed, row.line_number, role, flags={Flag.FAILED} if parts["failed"] else set())
    if parts["orphaned"] or row["orphaned"]:
        state.flags.add(Flag.ORPHANED)
    state.read(f"{parts['target'] or ''}{rest}" if not parts["target"] else rest, beside_node=bool(under))
    if parts["target"]:
        state.flags |= flags_of(printed, row.line_number, parts["target"].strip(" ()")) or frozenset()
    return Resource(
        id=row["resource"],
        role=Role.NOT_SAID if Flag.FAILED in state.flags and role is not Role.PROMOTED else role,
        nodes=(under,) if under else state.nodes,
        flags=frozenset(state.flags),
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

    def _parent(self, row: Row) -> _Open | None:
        indent = len(row["indent"].expandtabs())
        while self._open and self._open[-1].indent >= indent:
            self._open.pop()
        if not self._open:
            self.top = indent if self.top == NOT_SAID else self.top
            self.tops += 1
            if indent != self.top:
                raise self.printed.error(row.line_number, "is indented, but nothing above it has members")
            return None
        parent = self._open[-1]
        parent.members = indent if parent.members == NOT_SAID else parent.members
        if indent != parent.members:
            raise self.printed.error(row.line_number, "is indented unlike its neighbours")
        return parent

    def _belongs(self, row: Row, name: str, path: tuple[str, ...]) -> None:
        """Members of a clone are named like the clone's child."""
        clone = next((one for one in self.collections if path and (*one.within, one.id) == path), None)
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
        cloned = any(one.kind is CollectionKind.CLONE for one in self.collections if (*one.within, one.id) == path)
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
        active=int(row["brief_active"]),
        configured=int(row["brief_configured"] or NOT_SAID),
        node=under or row["node"],
        within=within,
    )


def read_collection(printed: Printed, row: Row, within: tuple[str, ...]) -> Collection:
    """The heading of a group, clone or bundle, with the notes behind its name."""
    flags: set[Flag] = set()
    words: set[str] = set()
    inactive, description = 0, ""
    for note in _NOTE.finditer(row["notes"]):
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
    inactive = next((int(word.split()[0]) for word in words if "inactive" in word), 0)
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
