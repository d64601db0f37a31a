"""Corosync as one node sees it: quorum and members (`corosync-quorumtool -s`), links (`corosync-cfgtool -s`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dockyard.parsing import Printed, Row
from dockyard.standing import Level, Standing
from dockyard.text_blocks import blocks, in_order

_VOTEQUORUM = "corosync_votequorum"
_SECTION_1 = ("date", "provider", "nodes", "local_id", "ring_id", "quorate")
_SECTION_2 = ("expected_votes", "highest_expected", "total_votes", "quorum", "flags")
_NOT_RUNNING = {
    f"Cannot {verb} {service} service" for verb in ("initialize", "initialise") for service in ("CMAP", "QUORUM", "CFG")
}
_NO_API = ("Could not initialize corosync configuration API error", "Could not initialize corosync cmap API error")


class Answering(StrEnum):
    """Whether corosync answered; when it does not, it is stopped, or we are not root: its tools do not tell which."""

    YES = "answering"
    NO = "not answering"


class Flag(StrEnum):
    """Flags of votequorum(5)."""

    TWO_NODE = "2Node"
    QUORATE = "Quorate"
    WAIT_FOR_ALL = "WaitForAll"
    LAST_MAN_STANDING = "LastManStanding"
    AUTO_TIE_BREAKER = "AutoTieBreaker"
    ALLOW_DOWNSCALE = "AllowDownscale"
    QDEVICE = "Qdevice"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOfNode:
    """What a node knows of its quorum device: registered at all, alive, casting its vote, master wins."""

    registered: bool = False
    alive: bool = False
    casts_vote: bool = False
    master_wins: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A node of the partition that this node is in. ``name`` may be an address, and empty when there is none."""

    node_id: int
    name: str
    votes: int
    local: bool
    device: DeviceOfNode = DeviceOfNode()
    device_info: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumDevice:
    """The quorum device, which has no place among the nodes; ``votes`` that count now, of ``all_votes``."""

    name: str
    votes: int
    all_votes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """Votequorum's counts: ``needed`` of ``total`` votes that are here; ``expected`` of them are configured."""

    expected: int
    highest_expected: int
    total: int
    needed: int
    flags: frozenset[Flag]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quorum:
    """Quorum and members. Without votequorum (``votes`` None: there is none) members are not listed.

    ``node_count`` is what corosync counts itself; while it is not answering everything else is empty.
    """

    answering: Answering
    quorate: bool = False
    provider: str = ""
    local_id: int = 0
    ring_id: str = ""
    node_count: int = 0
    votes: Votes | None = None
    members: tuple[Member, ...] = ()
    device: QuorumDevice | None = None
    complete: bool = True


def read_quorum(text: str, *, stderr: str = "", exit_code: int = 0) -> Quorum:
    """What `corosync-quorumtool -s` answered: 0 quorate, 2 not quorate, 1 stopped (before 3.0.1: 1 quorate, 0 not).

    Raises:
        ParseError: an unknown line, a line missing or twice, counts or flags that contradict one another.
    """
    if {text.strip(), stderr.strip()} & _NOT_RUNNING and not (text.strip() and stderr.strip()):
        return Quorum(answering=Answering.NO)
    printed = Printed("corosync-quorumtool -s", text)
    rows = printed.rows("corosync_quorumtool")
    values = in_order(printed, [row for row in rows if not row["node_id"]], _SECTION_1)
    members = tuple(_member(row) for row in rows if row["node_id"] and not row["device"])
    state = Quorum(
        answering=Answering.YES,
        quorate=values["quorate"] == "Yes",
        provider=values["provider"],
        local_id=int(values["local_id"], 0),
        ring_id=values["ring_id"],
        node_count=int(values["nodes"]),
        votes=_votes(printed, rows),
        members=members,
        device=_device(printed, [row for row in rows if row["device"]]),
        complete=printed.whole and not stderr.strip(),
    )
    _check_quorum(printed, state, exit_code)
    return state


def _votes(printed: Printed, rows: Sequence[Row]) -> Votes | None:
    if not any(row["provider"] == _VOTEQUORUM for row in rows):
        return None
    lines = {name: row.line_number for row in rows for name in _SECTION_2 if row[name]}
    values = in_order(printed, [row for row in rows if not row["node_id"]], _SECTION_2)
    words = values["flags"].removeprefix("Flags:").split()
    flags = [printed.member(Flag, word, lines["flags"]) for word in words]
    if len(set(flags)) < len(flags):
        raise printed.error(lines["flags"], "repeats a flag")
    if (Flag.QUORATE in flags) == bool(values.get("blocked", "").strip()):
        raise printed.error(lines["flags"], "contradicts the line above it")
    return Votes(
        expected=int(values["expected_votes"]),
        highest_expected=int(values["highest_expected"]),
        total=int(values["total_votes"]),
        needed=int(values["quorum"]),
        flags=frozenset(flags),
    )


def _member(row: Row) -> Member:
    known = row["qdevice"].split(",")
    return Member(
        node_id=int(row["node_id"], 0),
        name=row["name"],
        votes=int(row["votes"]),
        local=bool(row["local"]),
        device=DeviceOfNode(
            registered=len(known) == 3, alive="A" in known, casts_vote="V" in known, master_wins="MW" in known
        ),
        device_info=row["info"],
    )


def _device(printed: Printed, rows: Sequence[Row]) -> QuorumDevice | None:
    if len(rows) > 1:
        raise printed.error(rows[1].line_number, "is a second quorum device")
    for row in rows:
        votes = int(row["votes"])
        return QuorumDevice(name=row["device"], votes=votes, all_votes=int(row["inactive_votes"] or votes))
    return None


def _check_quorum(printed: Printed, state: Quorum, exit_code: int) -> None:
    ids = [member.node_id for member in state.members]
    local = [member.node_id for member in state.members if member.local]
    wrong = {
        "says Yes, but the exit code says that there is no quorum": state.quorate and exit_code == 2,
        "has members, but no votes": state.votes is None and bool(ids),
        "is quorate and is not": state.votes and (Flag.QUORATE in state.votes.flags) != state.quorate,
        "lists another number of nodes than it counts": state.votes and len(ids) != state.node_count,
        "lists a node twice": len(set(ids)) < len(ids),
        "does not list this node as the local one, once": state.votes and local != [state.local_id],
    }
    for why, is_so in wrong.items():
        if is_so:
            raise printed.error(len(printed.lines), f"ends an output that {why}")


def quorum_standing(state: Quorum) -> Standing:
    """Levels of ``quorum``, ``node NAME`` (or its id) and ``quorum device``.

    Quorum is `Level.DEGRADED` while fewer votes are here than are expected: the next loss may stop everything.
    """
    if state.answering is Answering.NO:
        return {"quorum": Level.FAILED}
    levels = {"quorum": _quorum_level(state)}
    for member in state.members:
        silent = member.device.registered and not (member.device.alive and member.device.casts_vote)
        levels[f"node {member.name or member.node_id}"] = Level.DEGRADED if silent else Level.HEALTHY
    if state.device:
        levels["quorum device"] = Level.HEALTHY if state.device.votes else Level.DEGRADED
    return levels if state.complete else dict.fromkeys(levels, Level.UNKNOWN)


def _quorum_level(state: Quorum) -> Level:
    if not state.quorate:
        return Level.FAILED
    if state.votes and state.votes.total < state.votes.expected:
        return Level.DEGRADED
    return Level.HEALTHY


class RingStatus(StrEnum):
    """What corosync says of a ring or link as a whole."""

    ACTIVE = "active with no faults"
    OK = "OK"
    """Said by udp and udpu always, whatever happens (tools/corosync-cfgtool.c), so it proves nothing."""
    PROBLEMS = "Incrementing problem counter"
    FAULTY = "FAULTY"
    BY_NODE = "status of each node"
    """knet: the states of the nodes say it."""


class NodeLink(StrEnum):
    """The link to one node, in the words of corosync 3.0.4 and later; earlier ones say the same with numbers."""

    LOCALHOST = "localhost"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    CONNECTED_NOT_ENABLED = "connected (not enabled)"
    NOT_ENABLED = "disconnected (not enabled)"
    KNET_ERROR = "knet error"
    CONFIG_ERROR = "config error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A ring (corosync 1 and 2) or link with its address on this node; ``protocol`` is "" where it is not printed.

    ``nodes`` by node id; by position in the list of nodes where ``by_position`` (3.0.0 and 3.0.1 print no ids).
    """

    number: int
    address: str
    status: RingStatus
    protocol: str = ""
    nodes: Mapping[int, NodeLink]
    by_position: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """All links of this node; ``transport`` is "" where it is not printed (before 3.1.1)."""

    answering: Answering
    local_id: int = 0
    transport: str = ""
    links: tuple[Link, ...] = ()
    complete: bool = True


def read_links(text: str, *, stderr: str = "") -> Links:
    """What `corosync-cfgtool -s` answered. The exit code adds nothing: its meaning changed with each version.

    Raises:
        ParseError: an unknown line, something twice or missing, links that know of different nodes.
    """
    said = text.removeprefix("Printing ring status.\n").removeprefix("Printing link status.\n") + stderr
    if said.startswith(_NO_API) and len(said.splitlines()) == 1:
        return Links(answering=Answering.NO)
    printed = Printed("corosync-cfgtool -s", text)
    rows = printed.rows("corosync_cfgtool")
    if not rows:
        raise printed.error(len(printed.lines), "ends an output without a node id")
    local_id = int(rows[0]["local_id"])
    links = tuple(_link(printed, block, local_id) for block in blocks(rows[1:], "link"))
    if len({link.number for link in links}) < len(links) or len({frozenset(link.nodes) for link in links}) > 1:
        raise printed.error(len(printed.lines), "ends an output with a link twice, or links to different nodes")
    return Links(
        answering=Answering.YES,
        local_id=local_id,
        transport=rows[0]["transport"],
        links=links,
        complete=printed.whole and bool(links) and not stderr.strip(),
    )


def _link(printed: Printed, rows: Sequence[Row], local_id: int) -> Link:
    own = [row for row in rows if not (row["node"] or row["position"])]
    values = in_order(printed, own, ("link", "address"))
    nodes = [row for row in rows if row["node"] or row["position"]]
    if ("ring_status" in values) == ("head" in values) or ("head" in values) != bool(nodes) or rows[: len(own)] != own:
        raise printed.error(rows[-1].line_number, "ends a link without one status")
    states = {int(row["node"] or row["position"]): _node_link(printed, row) for row in nodes}
    if len(states) < len(nodes):
        raise printed.error(rows[-1].line_number, "ends a link that has a node twice")
    local = [node for node, state in states.items() if state is NodeLink.LOCALHOST]
    if local not in ([], [local_id]) or (any(row["node"] for row in nodes) and local_id not in states):
        raise printed.error(rows[-1].line_number, f"ends a link whose localhost is not node {local_id}")
    return Link(
        number=int(values["link"]),
        address=values["address"],
        status=_ring_status(values.get("ring_status", "")),
        protocol=values.get("protocol", ""),
        nodes=states,
        by_position=any(row["position"] for row in nodes),
    )


def _ring_status(text: str) -> RingStatus:
    if not text:
        return RingStatus.BY_NODE
    return next(status for status in RingStatus if status.value in text)


def _node_link(printed: Printed, row: Row) -> NodeLink:
    if row["state"]:
        return printed.member(NodeLink, row["state"], row.line_number)
    if row["enabled"] == "0":
        return NodeLink.CONNECTED_NOT_ENABLED if row["connected"] == "1" else NodeLink.NOT_ENABLED
    return NodeLink.CONNECTED if row["connected"] == "1" else NodeLink.DISCONNECTED


_RINGS = {
    RingStatus.ACTIVE: Level.HEALTHY,
    RingStatus.OK: Level.UNKNOWN,
    RingStatus.PROBLEMS: Level.DEGRADED,
    RingStatus.FAULTY: Level.FAILED,
}


def links_standing(state: Links) -> Standing:
    """Levels of ``link 0`` (where corosync judges a link as a whole) and ``link 0 node 2``."""
    if state.answering is Answering.NO:
        return {"links": Level.FAILED}
    levels: dict[str, Level] = {"links": Level.HEALTHY if state.links else Level.FAILED}
    for link in state.links:
        if link.status in _RINGS:
            levels[f"link {link.number}"] = _RINGS[link.status]
        for node, there in link.nodes.items():
            good = there in (NodeLink.CONNECTED, NodeLink.LOCALHOST)
            levels[f"link {link.number} node {node}"] = Level.HEALTHY if good else Level.FAILED
    return levels if state.complete else dict.fromkeys(levels, Level.UNKNOWN)
