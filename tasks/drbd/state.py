"""What is seen of DRBD on one host, whichever command told it: resources, their volumes, peers and peers' volumes.

Four outputs are read into these types: `drbdadm status` as text (`tasks.drbd.status`), `drbdsetup status --json`
(`tasks.drbd.status_json`) and `drbdsetup events2 --now` (`tasks.drbd.events`); /proc/drbd knows no names and has types
of its own (`tasks.drbd.proc`). Not all of them say all things:

- DRBD 8.4 calls its peer ``peer``, and leaves it out while it is StandAlone. It has no quorum and no clients.
- The text without ``--verbose`` has no numbers, and nothing about the volumes of a peer that is not connected.
- The text without ``--statistics`` has no counters.

A field that an output may leave out says so, and what it then holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Dialect(StrEnum):
    """Which generation of DRBD speaks, as far as the output tells."""

    V84 = "8.4"
    V9 = "9"
    UNTOLD = "untold"


class Outcome(StrEnum):
    """What kind of answer it was."""

    RESOURCES = "resources"
    NOTHING_CONFIGURED = "nothing configured"
    """The kernel has no resource: all are down."""
    NO_RESOURCES_DEFINED = "no resources defined"
    """The configuration files define none."""
    NO_SUCH_RESOURCE = "no such resource"
    """None of those asked for is up, or none has that name; see `DrbdState.missing`."""
    MODULE_NOT_LOADED = "module not loaded"
    CONFIGURATION_REFUSED = "configuration refused"
    """A mistake in any file of the configuration: drbdadm answers nothing at all; drbdsetup still would."""


class Said(StrEnum):
    """Yes or no, if it was said."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    """The tool says that the kernel does not tell it."""
    UNSAID = "unsaid"
    """This output, or this version, does not speak of it."""


class Role(StrEnum):
    PRIMARY = "Primary"
    SECONDARY = "Secondary"
    UNKNOWN = "Unknown"


class Disk(StrEnum):
    DISKLESS = "Diskless"
    ATTACHING = "Attaching"
    DETACHING = "Detaching"
    FAILED = "Failed"
    NEGOTIATING = "Negotiating"
    INCONSISTENT = "Inconsistent"
    OUTDATED = "Outdated"
    UNKNOWN = "DUnknown"
    CONSISTENT = "Consistent"
    UP_TO_DATE = "UpToDate"


class Link(StrEnum):
    """The state of a connection."""

    STAND_ALONE = "StandAlone"
    DISCONNECTING = "Disconnecting"
    UNCONNECTED = "Unconnected"
    TIMEOUT = "Timeout"
    BROKEN_PIPE = "BrokenPipe"
    NETWORK_FAILURE = "NetworkFailure"
    PROTOCOL_ERROR = "ProtocolError"
    TEAR_DOWN = "TearDown"
    CONNECTING = "Connecting"
    CONNECTED = "Connected"


class Replication(StrEnum):
    OFF = "Off"
    ESTABLISHED = "Established"
    STARTING_SYNC_S = "StartingSyncS"
    STARTING_SYNC_T = "StartingSyncT"
    WF_BITMAP_S = "WFBitMapS"
    WF_BITMAP_T = "WFBitMapT"
    WF_SYNC_UUID = "WFSyncUUID"
    SYNC_SOURCE = "SyncSource"
    SYNC_TARGET = "SyncTarget"
    VERIFY_S = "VerifyS"
    VERIFY_T = "VerifyT"
    PAUSED_SYNC_S = "PausedSyncS"
    PAUSED_SYNC_T = "PausedSyncT"
    AHEAD = "Ahead"
    BEHIND = "Behind"


class Suspension(StrEnum):
    """Why a resource does no I/O."""

    USER = "user"
    NO_DATA = "no-data"
    FENCING = "fencing"
    QUORUM = "quorum"
    UNNAMED = "unnamed"
    """The JSON of drbd-utils before 9.21 does not say why."""


class Pause(StrEnum):
    """Why a resynchronisation waits."""

    USER = "user"
    PEER = "peer"
    DEPENDENCY = "dependency"
    MAX_PARALLEL = "max-parallel"


class Blocked(StrEnum):
    """Where requests of a volume wait; NO is said with ``--verbose`` and by events2 only."""

    NO = "no"
    UPPER = "upper"
    LOWER = "lower"


class WriteOrdering(StrEnum):
    NONE = "none"
    DRAIN = "drain"
    FLUSH = "flush"
    BARRIER = "barrier"
    UNSAID = "unsaid"
    """Only ``--verbose --statistics``, JSON and events2 say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeCounters:
    """``--statistics`` of one's own volume. All but read and written are 0 where ``--verbose`` was not asked for."""

    size_kib: int = 0
    read_kib: int
    written_kib: int
    al_writes: int = 0
    bm_writes: int = 0
    upper_pending: int = 0
    lower_pending: int = 0
    al_suspended: Said = Said.UNSAID


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One volume of a resource on this host.

    ``minor`` and ``backing_device`` are None where the output leaves them out; so is ``backing_device`` while there is
    none. ``client`` is YES for a volume that has no disk on purpose. ``quorum`` NO stops writing; YES also where the
    short text of DRBD 9 would have said no. ``blocked`` is empty where nothing is said of it. ``counters`` is None
    where they were not asked for.
    """

    number: int
    disk: Disk
    minor: int | None = None
    client: Said = Said.UNSAID
    quorum: Said = Said.UNSAID
    open: Said = Said.UNSAID
    backing_device: str | None = None
    blocked: frozenset[Blocked] = frozenset()
    counters: VolumeCounters | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCounters:
    """``--statistics`` of one volume towards one peer. ``pending`` and ``unacked`` are 0 without ``--verbose``."""

    received_kib: int
    sent_kib: int
    out_of_sync_kib: int
    pending: int = 0
    unacked: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a resynchronisation or a verification is.

    ``rate_mib_s`` and ``eta_s`` (seconds to go) are None where nothing is said of them, or nothing moves.
    """

    percent: float
    rate_mib_s: float | None = None
    eta_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerVolume:
    """One volume towards one peer. ``progress`` is None while nothing runs."""

    number: int
    replication: Replication
    disk: Disk
    client: Said = Said.UNSAID
    paused: frozenset[Pause] = frozenset()
    progress: Progress | None = None
    counters: PeerCounters | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One way to a peer: addresses as ``ipv4:10.10.0.1:7789``, ``ipv6:[fe80::1]:7789``."""

    local: str
    remote: str
    established: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A connection and what is behind it.

    ``name`` is ``""`` where DRBD 9 has no name for the connection. ``volumes`` is empty for a peer that is not
    connected where the output leaves them out. ``paths`` are in events2 and in the JSON of drbd-utils 9.26 and later.
    """

    name: str
    link: Link
    role: Role
    node_id: int | None = None
    tls: Said = Said.UNSAID
    congested: Said = Said.UNSAID
    ap_in_flight: int | None = None
    rs_in_flight: int | None = None
    volumes: tuple[PeerVolume, ...] = ()
    paths: tuple[Path, ...] = ()

    @property
    def connected(self) -> bool:
        return self.link is Link.CONNECTED

    @property
    def label(self) -> str:
        """The name, or ``node 1`` where there is none, or the address of the peer."""
        return self.name or (self.paths[0].remote if self.node_id is None and self.paths else f"node {self.node_id}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """What events2 of DRBD 9 thinks of making this host Primary; the higher the score the better its data."""

    possible: bool
    score: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource. ``suspended`` is empty while I/O flows; ``promotion`` is None for all but events2 of DRBD 9."""

    name: str
    role: Role
    node_id: int | None = None
    suspended: frozenset[Suspension] = frozenset()
    forced_io_failures: bool = False
    write_ordering: WriteOrdering = WriteOrdering.UNSAID
    volumes: tuple[Volume, ...] = ()
    peers: tuple[Peer, ...] = ()
    promotion: Promotion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DrbdState:
    """All that one answer tells.

    ``missing`` names resources that were asked for and are not up. ``complete`` is False when the output is cut off or
    lacks something that it always has: then `standing` believes nothing of it. ``dialect`` does not count in a
    comparison.
    """

    outcome: Outcome
    resources: tuple[Resource, ...] = ()
    missing: tuple[str, ...] = ()
    complete: bool = True
    dialect: Dialect = field(default=Dialect.UNTOLD, compare=False)

    def resource(self, name: str) -> Resource | None:
        """The resource of that name; None: it is not up."""
        return next((resource for resource in self.resources if resource.name == name), None)
