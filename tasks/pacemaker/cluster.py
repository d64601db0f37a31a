"""What `crm_mon` says about a cluster: the same types from its text (1.1.5 to 3.0) and from its XML.

Words are those of Pacemaker 3: ``Master``, ``Slave``, ``Masters`` and ``Slaves`` of older versions are read as
``Promoted`` and ``Unpromoted``, ``Containers`` as guest nodes. Every enumeration for something that one of the forms
cannot say has a member ``NOT_SAID``; numbers that were not said are `NOT_SAID` (-1), texts are ``""``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

NOT_SAID = -1


class Answer(StrEnum):
    """What kind of answer `crm_mon` gave."""

    STATUS = "status"
    NOT_CONNECTED = "not connected"
    """Pacemaker does not run on this host, or does not answer (exit code 102); `Cluster.message` says more."""
    DAEMONS_ONLY = "daemons only"
    """pacemakerd answers, but the cluster's state could not be read: Pacemaker is starting or stopping."""


class Section(StrEnum):
    """Parts of an output. What is not shown is not known, however empty the field for it is."""

    SUMMARY = "summary"
    NODES = "nodes"
    RESOURCES = "resources"
    INACTIVE = "inactive resources"
    """``-r``: without it, inactive resources are left out."""
    BY_NODE = "resources by node"
    """``-n``: resources are listed under their nodes, without the groups and clones that they belong to."""
    BRIEF = "resource counts"
    """``-b``: primitives are counted by agent, not named."""
    ATTRIBUTES = "attributes"
    HISTORY = "history"
    """``-f`` or ``-o``: fail counts."""
    OPERATIONS = "operations"
    FAILURES = "failures"
    FENCING = "fencing"
    BANS = "bans"
    TICKETS = "tickets"


class Daemons(StrEnum):
    """The state of pacemakerd on the host that was asked, in the words of the XML form."""

    INIT = "init"
    STARTING = "starting_daemons"
    WAIT_FOR_PING = "wait_for_ping"
    RUNNING = "running"
    SHUTTING_DOWN = "shutting_down"
    SHUTDOWN_COMPLETE = "shutdown_complete"
    REMOTE = "remote"
    NOT_SAID = "not said"
    """Before 2.1, and when a file was read instead of a running cluster."""


class Quorum(StrEnum):
    WITH = "with"
    WITHOUT = "WITHOUT"
    NO_DC = "NONE"
    """There is no DC, so nobody decides anything in this partition."""
    NOT_SAID = "not said"


class Management(StrEnum):
    """Whether the cluster may act at all."""

    ENABLED = "enabled"
    MAINTENANCE = "maintenance-mode"
    STOP_ALL = "stop-all-resources"
    NOT_SAID = "not said"
    """The text has a banner for the other two only, and none before 1.1.14: no banner proves nothing."""


class Switch(StrEnum):
    ENABLED = "true"
    DISABLED = "false"
    NOT_SAID = "not said"


class NoQuorum(StrEnum):
    """``no-quorum-policy``."""

    STOP = "stop"
    FREEZE = "freeze"
    IGNORE = "ignore"
    DEMOTE = "demote"
    SUICIDE = "suicide"
    FENCE = "fence"
    NOT_SAID = "not said"


class NodeState(StrEnum):
    """In the order in which crm_mon decides: an UNCLEAN node in standby is UNCLEAN."""

    UNCLEAN_ONLINE = "UNCLEAN (online)"
    UNCLEAN_PENDING = "UNCLEAN (pending)"
    UNCLEAN_OFFLINE = "UNCLEAN (offline)"
    PENDING = "pending"
    STANDBY_ON_FAIL = "standby (on-fail)"
    STANDBY = "standby"
    STANDBY_ACTIVE = "standby (with active resources)"
    OFFLINE_STANDBY = "OFFLINE (standby)"
    MAINTENANCE = "maintenance"
    OFFLINE_MAINTENANCE = "OFFLINE (maintenance)"
    ONLINE = "online"
    OFFLINE = "OFFLINE"

    @property
    def unclean(self) -> bool:
        return self.value.startswith("UNCLEAN")


class NodeKind(StrEnum):
    MEMBER = "member"
    REMOTE = "remote"
    GUEST = "guest"


class Health(StrEnum):
    """The node health strategy's verdict, shown since 2.1.3."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"
    NOT_SAID = "not said"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node. ``host`` is the node that a guest runs on; it and ``id`` are said with ``-R`` only."""

    name: str
    state: NodeState
    kind: NodeKind = NodeKind.MEMBER
    health: Health = Health.NOT_SAID
    id: str = field(default="", compare=False)
    host: str = field(default="", compare=False)
    feature_set: str = field(default="", compare=False)


class Role(StrEnum):
    STARTED = "Started"
    STOPPED = "Stopped"
    PROMOTED = "Promoted"
    UNPROMOTED = "Unpromoted"
    STARTING = "Starting"
    STOPPING = "Stopping"
    PROMOTING = "Promoting"
    DEMOTING = "Demoting"
    MIGRATING = "Migrating"
    UNKNOWN = "Unknown"
    NOT_SAID = "not said"
    """A failed resource that is not promoted: the text prints only FAILED."""


class Flag(StrEnum):
    """What is printed beside a resource, in the text's own words."""

    FAILED = "FAILED"
    ORPHANED = "ORPHANED"
    """No longer in the configuration; newer versions also call it "removed"."""
    UNCLEAN = "UNCLEAN"
    """It was on a node that must be fenced before anybody knows."""
    LOCKED = "LOCKED"
    """Kept for a node that was shut down cleanly (``shutdown-lock``)."""
    MONITORING = "Monitoring"
    DISABLED = "disabled"
    TARGET_UNPROMOTED = "target-role:Unpromoted"
    BLOCKED = "blocked"
    """A failed stop: nothing happens any more before a person cleans it up."""
    MAINTENANCE = "maintenance"
    UNMANAGED = "unmanaged"
    FAILURE_IGNORED = "failure ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One instance of a primitive.

    ``nodes`` is empty for an inactive one and has two names only where something went wrong. ``within`` is the path of
    collections that it belongs to, outermost first (``("drbd-clone",)``; replicas of a bundle by their number); under
    a node (`Section.BY_NODE`) nothing is said of them. The text lists healthy members of an anonymous clone by node:
    then ``agent`` is ``""``, and ``id`` may be that of a cloned group. ``probe`` is the result of a failed probe.
    """

    id: str
    role: Role
    nodes: tuple[str, ...] = ()
    flags: frozenset[Flag] = frozenset()
    within: tuple[str, ...] = ()
    agent: str = ""
    address: str = ""
    probe: str = ""
    description: str = field(default="", compare=False)

    @property
    def active(self) -> bool:
        return bool(self.nodes)


class CollectionKind(StrEnum):
    GROUP = "group"
    CLONE = "clone"
    BUNDLE = "bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A group, clone or bundle.

    ``child`` is the id of what a clone clones, ``image`` that of a bundle's container. ``stopped_on`` are the nodes
    where an anonymous clone might run but does not, with the reason that is given (``disabled``, a probe's result or
    ``""``). Text only: ``inactive``, the members that a partly active group does not show.
    """

    id: str
    kind: CollectionKind
    within: tuple[str, ...] = ()
    flags: frozenset[Flag] = frozenset()
    promotable: bool = False
    unique: bool = False
    child: str = ""
    image: str = ""
    stopped_on: tuple[tuple[str, str], ...] = ()
    inactive: int = 0
    description: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """One line of ``-b``: how many primitives of an agent are active (on ``node``, "" for nowhere) of how many."""

    agent: str
    active: int
    configured: int = NOT_SAID
    node: str = ""
    within: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """``expected`` is the score that a ping resource should reach; in the text only when ``value`` is below it."""

    node: str
    name: str
    value: str
    expected: int = NOT_SAID
    connectivity_lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    call: int
    task: str
    interval_ms: int = 0
    exit_code: int = NOT_SAID
    exit_text: str = ""
    changed: str = ""
    exec_ms: int = NOT_SAID
    queue_ms: int = NOT_SAID


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Of one resource on one node: fail count, and operations where they are shown; infinite is 1000000."""

    node: str
    resource: str
    fail_count: int = 0
    last_failure: str = ""
    migration_threshold: int = NOT_SAID
    orphan: bool = False
    operations: tuple[Operation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failed action: kept until somebody cleans it up, even if the resource has recovered long ago."""

    resource: str
    task: str
    interval_ms: int
    node: str
    exit_text: str = ""
    exit_code: int = NOT_SAID
    call: int = NOT_SAID
    status: str = ""
    reason: str = ""
    changed: str = ""
    exec_ms: int = NOT_SAID


class FencingState(StrEnum):
    FAILED = "failed"
    PENDING = "pending"
    SUCCESS = "success"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fencing:
    """One entry of the fencing history; ``later_succeeded`` is said by the text only."""

    action: str
    target: str
    state: FencingState
    delegate: str = ""
    client: str = ""
    origin: str = ""
    completed: str = ""
    reason: str = ""
    later_succeeded: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ban:
    """A location constraint with a negative score; ``weight`` 0: not said (text)."""

    id: str
    resource: str
    node: str
    promoted_only: bool
    weight: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    id: str
    granted: bool
    standby: bool
    last_granted: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One answer of `crm_mon`.

    ``complete`` is False when something is missing that should be there; an incomplete state proves nothing.
    ``shown`` are the parts that the output speaks of. ``dc`` is "" without a DC. ``limited`` is True when options
    left something out that is not in `Section` (one node, one resource).
    """

    answer: Answer
    complete: bool
    message: str = field(default="", compare=False)
    shown: frozenset[Section] = field(default=frozenset(), compare=False)
    limited: bool = field(default=False, compare=False)
    version: str = ""
    daemons: Daemons = Daemons.NOT_SAID
    stack: str = ""
    dc: str = ""
    quorum: Quorum = Quorum.NOT_SAID
    mixed_version: bool = False
    updated: str = field(default="", compare=False)
    changed: str = field(default="", compare=False)
    management: Management = Management.NOT_SAID
    fencing_enabled: Switch = Switch.NOT_SAID
    symmetric: Switch = Switch.NOT_SAID
    no_quorum: NoQuorum = NoQuorum.NOT_SAID
    nodes_configured: int = NOT_SAID
    instances_configured: int = NOT_SAID
    instances_disabled: int = 0
    instances_blocked: int = 0
    nodes: tuple[Node, ...] = ()
    collections: tuple[Collection, ...] = ()
    resources: tuple[Resource, ...] = ()
    briefs: tuple[Brief, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    history: tuple[History, ...] = ()
    failures: tuple[Failure, ...] = ()
    fencing: tuple[Fencing, ...] = ()
    fencing_history: str = ""
    """Why the fencing history could not be read; "" if it could."""
    bans: tuple[Ban, ...] = ()
    tickets: tuple[Ticket, ...] = ()

    def node(self, name: str) -> Node | None:
        """The node of that name, None if it is not listed."""
        return next((node for node in self.nodes if node.name == name), None)
