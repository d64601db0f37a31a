"""Reads what `crm_mon -1` prints as text; see `read`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dockyard.parsing import Printed, Row
from tasks.pacemaker.cluster import (
    NOT_SAID,
    Answer,
    Cluster,
    CollectionKind,
    Daemons,
    Flag,
    Management,
    Node,
    NoQuorum,
    Quorum,
    Resource,
    Section,
    Switch,
)
from tasks.pacemaker.crm_mon_events import (
    once,
    read_attributes,
    read_bans,
    read_failure,
    read_fencing,
    read_history,
    read_tickets,
)
from tasks.pacemaker.crm_mon_resources import Tree, read_brief, read_nodes, read_resource

DAEMONS = {
    "Initializing pacemaker": Daemons.INIT,
    "Pacemaker daemons are starting": Daemons.STARTING,
    "Waiting for startup trigger from SBD": Daemons.WAIT_FOR_PING,
    "Pacemaker is running": Daemons.RUNNING,
    "Pacemaker daemons are shutting down": Daemons.SHUTTING_DOWN,
    "Pacemaker daemons are shut down (reporting to SBD)": Daemons.SHUTDOWN_COMPLETE,
}
NO_QUORUM = {
    "Freeze resources": NoQuorum.FREEZE,
    "Stop ALL resources": NoQuorum.STOP,
    "Demote promotable resources and stop all other resources": NoQuorum.DEMOTE,
    "Ignore": NoQuorum.IGNORE,
    "Suicide": NoQuorum.SUICIDE,
    "Fence nodes in partition": NoQuorum.FENCE,
}
SECTIONS = {
    "cluster summary": Section.SUMMARY,
    "node list": Section.NODES,
    "active resources": Section.RESOURCES,
    "full list of resources": Section.RESOURCES,
    "inactive resources": Section.RESOURCES,
    "node attributes": Section.ATTRIBUTES,
    "operations": Section.HISTORY,
    "migration summary": Section.HISTORY,
    "failed actions": Section.FAILURES,
    "failed resource actions": Section.FAILURES,
    "failed fencing actions": Section.FENCING,
    "pending fencing actions": Section.FENCING,
    "fencing history": Section.FENCING,
    "tickets": Section.TICKETS,
    "negative location constraints": Section.BANS,
}
BELONGS = {
    "node_kind": Section.NODES,
    "node_list": Section.NODES,
    "under_node": Section.NODES,
    "resource": Section.RESOURCES,
    "group": Section.RESOURCES,
    "clone": Section.RESOURCES,
    "bundle": Section.RESOURCES,
    "replica": Section.RESOURCES,
    "instance_list": Section.RESOURCES,
    "brief_active": Section.RESOURCES,
    "empty": Section.RESOURCES,
    "attribute": Section.ATTRIBUTES,
    "history": Section.HISTORY,
    "action": Section.FAILURES,
    "failed": Section.FAILURES,
    "fence": Section.FENCING,
    "no_history": Section.FENCING,
    "ban": Section.BANS,
    "ticket": Section.TICKETS,
    "call": Section.HISTORY,
}
"""The section in which a line with that value may stand; the first that is there counts."""
MOST_INSTANCES = 20_000
NOT_CONNECTED = frozenset({102, 107})
"""Exit codes of 2.0 and later, and of 1.1 (ENOTCONN)."""


def read(text: str, *, stderr: str = "", exit_code: int = 0, version: str = "") -> Cluster:
    """The state of the cluster, as far as ``text`` shows it.

    A text never proves that nothing failed: the list of failed actions would be missing in the same way if it had been
    cut off. Exit code 102 and the messages about a missing connection give `Answer.NOT_CONNECTED`.

    Raises:
        ParseError: a line that is not understood, or that stands where it must not.
    """
    printed = Printed("crm_mon", text, version)
    rows = printed.rows("crm_mon")
    status = [row for row in rows if not (row["message"] or _health(row))]
    if status:
        return _Reading(printed).read(status)
    said = " ".join([*(row["message"] for row in rows), *stderr.split("\n")]).strip()
    if not rows and exit_code not in NOT_CONNECTED and "onnect" not in said:
        raise printed.error(0, f"is empty, and crm_mon ended with {exit_code} {said}".rstrip())
    daemons = next((_daemons(printed, row) for row in rows if row["daemons"]), Daemons.NOT_SAID)
    answer = Answer.NOT_CONNECTED if daemons is Daemons.NOT_SAID else Answer.DAEMONS_ONLY
    return Cluster(answer=answer, complete=printed.whole, message=said, daemons=daemons)


def _health(row: Row) -> bool:
    return bool(row["daemons"]) and {name for name, value in row.items() if value} == {"daemons"}


def _daemons(printed: Printed, row: Row) -> Daemons:
    if "remoted is running" in row["daemons"] or "remote" in row["daemons"].split():
        return Daemons.REMOTE
    return DAEMONS.get(row["daemons"]) or printed.member(Daemons, row["daemons"], row.line_number)


@dataclass(slots=True)
class _Reading:
    """Sorts the lines into sections and reads each of them."""

    printed: Printed
    headings: dict[str, int] = field(default_factory=dict)
    sections: dict[Section, list[Row]] = field(default_factory=dict)
    fencing: list[tuple[str, Row]] = field(default_factory=list)
    under: list[tuple[str, Row]] = field(default_factory=list)
    """Lines that stand under the node of that name."""

    def read(self, rows: Sequence[Row]) -> Cluster:
        self._sort(rows)
        nodes = self._nodes()
        tree = Tree(self.printed)
        listed = [row for row in self._rows(Section.RESOURCES) if not row["empty"]]
        for row in listed:
            tree.add(row)
        tree.check_members()
        beside = self._beside_nodes()
        shown = self._shown(bool(tree.briefs) or any(row["brief_active"] for _, row in self.under))
        summary = self._summary()
        counted = _counted(summary, nodes, tree, shown, old="Resources configured." in self.printed.text)
        return Cluster(
            **summary,
            answer=Answer.STATUS,
            complete=self._whole(rows) and counted and self._filled(),
            shown=shown,
            nodes=tuple(nodes),
            collections=tuple(tree.collections),
            resources=(*beside, *tree.resources),
            briefs=(*(read_brief(row, (), node) for node, row in self.under if row["brief_active"]), *tree.briefs),
            attributes=read_attributes(self.printed, self._rows(Section.ATTRIBUTES)),
            history=read_history(self.printed, self._rows(Section.HISTORY)),
            failures=tuple(read_failure(self.printed, row) for row in self._rows(Section.FAILURES)),
            fencing=tuple(read_fencing(self.printed, row, heading) for heading, row in self.fencing if row["fence"]),
            fencing_history=next((row["no_history"] for _, row in self.fencing if row["no_history"]), ""),
            bans=read_bans(self.printed, self._rows(Section.BANS)),
            tickets=read_tickets(self.printed, self._rows(Section.TICKETS)),
        )

    def _rows(self, section: Section) -> list[Row]:
        return self.sections.get(section, [])

    def _sort(self, rows: Sequence[Row]) -> None:
        section, heading, node = Section.SUMMARY, "", None
        for row in rows:
            if row["heading"]:
                heading, node = row["heading"].lower(), None
                section = self._open(row, heading)
                continue
            home = self._home(row, section, heading)
            if home is not section and not (heading == "" and home in {Section.NODES, Section.RESOURCES}):
                raise self.printed.error(row.line_number, f"does not belong under {heading or 'the summary'!r}")
            if node and self._stands_under(row, node):
                self.under.append((node["node"], row))
                continue
            if row["under_node"] or (home is Section.RESOURCES and section is Section.NODES and heading):
                raise self.printed.error(row.line_number, "has no node above it")
            node = row if row["node_kind"] else None
            self.sections.setdefault(home, []).append(row)
            if home is Section.FENCING:
                self.fencing.append((heading, row))
            section = home if not heading else section

    def _open(self, row: Row, heading: str) -> Section:
        if heading in self.headings or sum("resources" in known for known in (*self.headings, heading)) > 1:
            raise self.printed.error(row.line_number, "is a second heading of the same kind")
        if heading == "cluster summary" and self.sections:
            raise self.printed.error(row.line_number, "is not at the beginning")
        self.headings[heading] = row.line_number
        self.sections.setdefault(SECTIONS[heading], [])
        return SECTIONS[heading]

    def _home(self, row: Row, section: Section, heading: str) -> Section:
        home = next((part for name, part in BELONGS.items() if row[name]), Section.SUMMARY)
        if home is Section.SUMMARY and row["of_node"]:
            return section if section in {Section.ATTRIBUTES, Section.HISTORY} else home
        if home is Section.SUMMARY and heading == "" and section is not Section.SUMMARY:
            raise self.printed.error(row.line_number, "does not belong here")
        return section if home is Section.RESOURCES and heading == "node list" else home

    def _stands_under(self, row: Row, node: Row) -> bool:
        """Lines of a node's resources: deeper than the node, and without a gap."""
        depth = len(row["indent"].expandtabs()) - len(node["indent"].expandtabs())
        last = self.under[-1][1] if self.under and self.under[-1][0] == node["node"] else node
        names = bool(row["resource"] or row["brief_active"])
        if row["under_node"]:
            return last is node and row.line_number == node.line_number + 1
        if self._bulleted(node) and last is node and names:
            return False
        return names and depth >= 4 and row.line_number == last.line_number + 1

    def _bulleted(self, row: Row) -> bool:
        return "*" in self.printed.lines[row.line_number - 1][:8]

    def _nodes(self) -> list[Node]:
        seen: set[str] = set()
        nodes: list[Node] = []
        for row in self._rows(Section.NODES):
            for node in read_nodes(self.printed, row):
                once(self.printed, row, node.name, seen)
                nodes.append(node)
        return nodes

    def _beside_nodes(self) -> list[Resource]:
        seen: set[str] = set()
        found: list[Resource] = []
        for node, row in self.under:
            if row["resource"]:
                resource = read_resource(self.printed, row, (), under=node)
                if Flag.ORPHANED not in resource.flags:
                    once(self.printed, row, f"{resource.id} on {node}", seen)
                found.append(resource)
        return found

    def _whole(self, rows: Sequence[Row]) -> bool:
        """False when the last line is cut, or one that goes on in the next has none."""
        return self.printed.whole and rows[-1].line_number <= len(self.printed.lines)

    def _filled(self) -> bool:
        """Whether the headings that never stand alone have lines; before 1.1.14 that of inactive resources may."""
        never_empty = (Section.NODES, Section.RESOURCES, Section.FAILURES)
        empty = {section for section in never_empty if not self.sections.get(section, True)}
        return not empty or (empty == {Section.RESOURCES} and "inactive resources" in self.headings)

    def _shown(self, brief: bool) -> frozenset[Section]:
        shown = {section for section in self.sections if section is not Section.RESOURCES}
        by_node = bool(self.under) or "inactive resources" in self.headings
        by_node = by_node or any(row["node_kind"] and self._ends_with_colon(row) for row in self._rows(Section.NODES))
        inactive = {"full list of resources", "inactive resources"} & self.headings.keys()
        parts = {
            Section.RESOURCES: Section.RESOURCES in self.sections or bool(self.under) or by_node,
            Section.BY_NODE: by_node,
            Section.INACTIVE: bool(inactive)
            or any(row["empty"] == "No resources" for row in self._rows(Section.RESOURCES)),
            Section.BRIEF: brief,
            Section.OPERATIONS: "operations" in self.headings,
        }
        return frozenset(shown | {part for part, there in parts.items() if there})

    def _ends_with_colon(self, row: Row) -> bool:
        return self.printed.lines[row.line_number - 1].rstrip().endswith(":")

    def _summary(self) -> dict[str, Any]:
        said = self._once_each()
        return {
            "stack": said.get("stack", ""),
            "daemons": said.get("daemons_read", Daemons.NOT_SAID),
            "dc": said.get("dc", ""),
            "version": said.get("dc_version", ""),
            "quorum": Quorum(said.get("no_dc") or said.get("quorum") or Quorum.NOT_SAID),
            "mixed_version": "mixed" in said,
            "updated": said.get("updated", ""),
            "changed": said.get("written", ""),
            "management": self._management(said),
            "fencing_enabled": _switch(said, "fencing_enabled", "enabled"),
            "symmetric": _switch(said, "symmetric", "symmetric"),
            "no_quorum": NO_QUORUM.get(said.get("no_quorum", ""), NoQuorum.NOT_SAID),
            "nodes_configured": _count(said, "nodes", NOT_SAID),
            "instances_configured": _count(said, "instances", NOT_SAID),
            "instances_disabled": _count(said, "disabled", 0),
            "instances_blocked": _count(said, "blocked", 0),
        }

    def _once_each(self) -> dict[str, Any]:
        said: dict[str, Any] = {}
        for row in self._rows(Section.SUMMARY):
            for name in [name for name, value in row.items() if value and name not in {"indent", "node_id"}]:
                if name in said or (name == "quorum" and "no_dc" in said) or (name == "no_dc" and "quorum" in said):
                    raise self.printed.error(row.line_number, "says something a second time")
                said[name] = row[name]
            if row["daemons"]:
                said["daemons_read"] = _daemons(self.printed, row)
        return said

    def _management(self, said: dict[str, Any]) -> Management:
        if ("banner" in said) != ("will" in said):
            raise self.printed.error(0, "has half of the banner about resource management")
        if "will" not in said:
            return Management.NOT_SAID
        return Management.MAINTENANCE if said["will"].startswith("not") else Management.STOP_ALL


def _switch(said: dict[str, Any], name: str, yes: str) -> Switch:
    return Switch.NOT_SAID if name not in said else Switch.ENABLED if said[name] == yes else Switch.DISABLED


def _count(said: dict[str, Any], name: str, default: int) -> int:
    digits = str(said.get(name, default))
    return int(digits) if len(digits) < 10 else MOST_INSTANCES


def _counted(
    summary: dict[str, Any], nodes: Sequence[Node], tree: Tree, shown: frozenset[Section], *, old: bool
) -> bool:
    """Whether as many nodes and resources are listed as the summary counts.

    Offline guests are never listed; each leaves an inactive replica of its bundle.
    """
    if summary["nodes_configured"] == NOT_SAID or summary["instances_configured"] == NOT_SAID:
        return summary["stack"] == "" and summary["quorum"] is Quorum.NOT_SAID
    bundles = {one.id for one in tree.collections if one.kind is CollectionKind.BUNDLE}
    guests = sum(not one.active for one in tree.resources if one.within and one.within[0] in bundles)
    missing = summary["nodes_configured"] - len(nodes)
    if missing < 0:
        raise tree.printed.error(0, f"lists {len(nodes)} nodes, of {summary['nodes_configured']} that are configured")
    whole = not bundles and Section.INACTIVE in shown and not shown & {Section.BY_NODE, Section.BRIEF}
    configured = summary["instances_configured"]
    enough = not whole or can_be(configured, tree) or (old and configured == tree.tops)
    return 0 <= missing <= guests and enough


def can_be(configured: int, tree: Tree) -> bool:
    """Whether the lines of a full list can stand for that many instances.

    The members of an anonymous clone that are listed by node count once each for a primitive and several times for a
    group. Whoever is orphaned may be counted or not.
    """
    if configured > MOST_INSTANCES:
        return False
    fixed = [one for one in tree.resources if one.agent or not one.active]
    orphans = sum(Flag.ORPHANED in one.flags for one in fixed)
    sums = _any_of(0, range(len(fixed) - orphans, len(fixed) + 1))
    stopped = {one.id for one in tree.collections if one.stopped_on}
    for clone in {one.id for one in tree.collections if one.kind is CollectionKind.CLONE}:
        active = tree.listed.get(clone, 0)
        if clone in stopped:
            sums = _spread(sums, range(active, configured + 1))
        elif active:
            sums = _spread(sums, range(active, configured + 1, active))
    return bool(sums >> configured & 1)


def _any_of(sums: int, values: Iterable[int]) -> int:
    for value in values:
        sums |= 1 << value
    return sums


def _spread(sums: int, values: Iterable[int]) -> int:
    found = 0
    for value in values:
        found |= sums << value
    return found
