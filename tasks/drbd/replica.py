"""What is seen of the replicated resource on one host: DRBD itself in two forms, the machine under it, files and units.

DRBD is asked twice, as text and in a form for machines (JSON of DRBD 9; `events2` of 8.4, which has no JSON). The
second one is believed; where the text does not say the same, `ReplicaState.doubt` says so, and nobody is promoted.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from dockyard.change import UnitState, unit_probe
from dockyard.errors import ParseError, UsageError
from dockyard.files import FileState, read_file
from dockyard.observe import Domain, S
from dockyard.parsing import Printed
from dockyard.remote import Command, Completed, Outputs
from dockyard.topology import Host, Replication, Role, Topology
from tasks.drbd import events, facts, places, status, status_json
from tasks.drbd.facts import Basics, Facts
from tasks.drbd.judgement import comparable
from tasks.drbd.state import Disk, DrbdState, Link, Outcome, Peer, PeerVolume, Resource, Said
from tasks.drbd.state import Role as DrbdRole

REPLICAS = (Role.DRBD_PRIMARY, Role.DRBD_SECONDARY)
ROLES = (*REPLICAS, Role.ARBITRATOR)
WITHOUT_DISK = frozenset({Disk.DISKLESS, Disk.FAILED, Disk.DETACHING})

_TEXT = "drbdsetup status"
_MACHINE = "drbdsetup for machines"
_ADJUST = "drbdadm adjust"

_IF_LOADED = "[ -r /sys/module/drbd/version ] || exit 0\n"
_ASK_TEXT = _IF_LOADED + "drbdsetup status --verbose --statistics"
_ASK_MACHINE = (
    _IF_LOADED
    + """\
case $(cat /sys/module/drbd/version) in
  9.*) exec drbdsetup status --json ;;
  *) exec drbdsetup events2 --now --statistics ;;
esac"""
)
_ASK_DRBD = (
    Command(_TEXT, ("sh", "-c", _ASK_TEXT), accepts=frozenset(range(256))),
    Command(_MACHINE, ("sh", "-c", _ASK_MACHINE), accepts=frozenset(range(256))),
)
_ASK_ADJUST = (
    _IF_LOADED
    + r"""[ -e {config} ] || exit 0
drbdadm --dry-run adjust {name} 2>&1 | sed -E 's/(--shared-secret=)[^ ]*/\1(hidden)/'"""
)
_DROP_INS = "drop-ins of ours"
_ASK_DROP_INS = f"""\
for path in {places.drop_in("*")}; do [ ! -e "$path" ] || printf '%s\\n' "$path"; done"""
_MASK = r's/^( *shared-secret ").*(";.*)/\1(hidden)\2/'


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """How a host's replica is doing, which is all that a switch asks.

    ``resource`` is None while it is not up. ``doubt`` says where the two forms differ, ``""`` when they agree.
    ``device`` is the DRBD device, ``other`` the name of the other replica.
    """

    facts: Basics
    resource: Resource | None
    doubt: str
    storage: UnitState
    device: str
    other: str

    @property
    def running(self) -> bool:
        """The resource is configured in the kernel."""
        return self.resource is not None

    @property
    def disk(self) -> Disk:
        """The state of our own disk; `Disk.DISKLESS` while the resource is down."""
        return self.resource.volumes[0].disk if self.resource and self.resource.volumes else Disk.DISKLESS

    @property
    def attached(self) -> bool:
        return self.disk not in WITHOUT_DISK

    @property
    def diskless(self) -> bool:
        """The resource is up without its disk, which broke or was detached: data is read and written over the line."""
        return self.running and not self.attached

    @property
    def role(self) -> DrbdRole:
        return self.resource.role if self.resource else DrbdRole.UNKNOWN

    @property
    def primary(self) -> bool:
        return self.role is DrbdRole.PRIMARY

    @property
    def waiting(self) -> bool:
        """`dockyard-storage.service` has not promoted and mounted yet, and tries again and again."""
        return self.storage.is_active and self.storage.sub == "running"

    @property
    def mounted(self) -> bool:
        """The DRBD device is mounted where it belongs."""
        return bool(self.facts.on_mount) and self.facts.on_mount == self.device

    @property
    def peer(self) -> Peer | None:
        """The connection to the other replica; DRBD 8.4 has one, and calls it ``peer``."""
        peers = self.resource.peers if self.resource else ()
        return next((peer for peer in peers if peer.name in {self.other, "peer"}), None)

    def sees(self, host: str) -> bool:
        """Whether DRBD 9, which knows its peers by name, is connected to ``host``."""
        peers = self.resource.peers if self.resource else ()
        return any(peer.name == host and peer.connected for peer in peers)

    @property
    def towards(self) -> PeerVolume | None:
        """Our volume as it stands towards the other replica."""
        return self.peer.volumes[0] if self.peer and self.peer.volumes else None

    @property
    def quorum_lost(self) -> bool:
        """DRBD 9 says that this host sees too few of the others: nothing is promoted, and a Primary's I/O fails."""
        return self.resource is not None and any(volume.quorum is Said.NO for volume in self.resource.volumes)

    @property
    def only_copy(self) -> bool:
        """The other replica has no disk, as this side sees it: what is out of sync is all that it will need again."""
        return self.towards is not None and self.towards.disk in WITHOUT_DISK

    @property
    def connected(self) -> bool:
        return self.peer is not None and self.peer.connected

    @property
    def standalone(self) -> bool:
        """The connection was given up; with 8.4 the peer vanishes then."""
        return self.running and (self.peer is None or self.peer.link is Link.STAND_ALONE)

    @property
    def out_of_sync_kib(self) -> int:
        """What the other replica lacks, in KiB, as far as this side knows."""
        return self.towards.counters.out_of_sync_kib if self.towards and self.towards.counters else 0

    @property
    def sentence(self) -> str:
        """Role, disk and connection in the words of DRBD."""
        if not self.running:
            return "resource down" if self.facts.loaded else "module not loaded"
        link = self.peer.link if self.peer else Link.STAND_ALONE
        there = f", {self.towards.replication}, peer's disk {self.towards.disk}" if self.towards else ""
        progress = f", {self.towards.progress.percent:.1f} %" if self.towards and self.towards.progress else ""
        return f"{self.role}, disk {self.disk}, {link}{there}{progress}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaState(Live):
    """All that is seen of a host's replica: how it is doing, and how it was set up.

    ``adjustments`` are the commands that drbdadm(8) would need to bring what runs in line with the file. ``drop_ins``
    are the paths of all that tie a unit to the storage, also of units that the inventory no longer names.
    """

    facts: Facts
    adjustments: tuple[str, ...]
    files: Mapping[str, FileState]
    drop_ins: tuple[str, ...]
    up: UnitState

    @property
    def mount_point_ready(self) -> bool:
        return bool(self.facts.on_mount) or self.facts.immutable


def replication_of(topology: Topology) -> Replication:
    """What the inventory says of the replicated resource; raises UsageError when it says nothing."""
    if topology.cluster.drbd is None:
        raise UsageError(
            "the inventory describes no replication",
            advice="Add cluster.drbd to defaults.yaml and drbd.disk to both replicas in hosts.yaml (docs/drbd.md).",
        )
    return topology.cluster.drbd


def replica_called(topology: Topology, name: str) -> str:
    """``name``, when that host carries a replica; raises UsageError with those that do."""
    replicas = [host.name for host in topology.hosts.values() if host.drbd]
    if topology.host(name).name not in replicas:
        raise UsageError(f"{name} has no replica", advice=f"The replicas are: {', '.join(replicas) or 'none'}")
    return name


def other_of(topology: Topology, host: str) -> str:
    """The other replica; for a tie-breaker the first one."""
    return next(one.name for role in REPLICAS for one in topology.with_role(role) if one.name != host)


def live_probes(topology: Topology, _host: Host) -> Sequence[Command]:
    """The commands that `read_live` understands."""
    return [facts.basic_probe(replication_of(topology)), *_ASK_DRBD, unit_probe(places.STORAGE)]


def probes(topology: Topology, host: Host) -> Sequence[Command]:
    """The commands that `read` understands."""
    replication = replication_of(topology)
    config = places.config(replication)
    adjust = _ASK_ADJUST.format(config=shlex.quote(config), name=shlex.quote(replication.resource))
    return [
        facts.probe(replication, host.drbd),
        *_ASK_DRBD,
        Command(_ADJUST, ("sh", "-c", adjust)),
        _masked(config),
        *(read_file(path) for path in places.files(replication)),
        Command(_DROP_INS, ("sh", "-c", _ASK_DROP_INS)),
        unit_probe(places.UP),
        unit_probe(places.STORAGE),
    ]


def _masked(path: str) -> Command:
    """`read_file` of the resource file, with the secret hidden on the host."""
    plain = read_file(path)
    return replace(plain, argv=(*plain.argv[:-1], f"{{ {plain.argv[-1]}\n}} | sed -E {shlex.quote(_MASK)}"))


def read_live(topology: Topology, host: Host, outputs: Outputs) -> Live:
    """How one host is doing; see `read` for what is raised."""
    replication = replication_of(topology)
    seen = facts.read_basics(outputs)
    machine, doubt = _drbd(seen, outputs)
    return Live(
        facts=seen,
        resource=machine.resource(replication.resource),
        doubt=doubt,
        storage=UnitState.of(outputs, places.STORAGE),
        device=replication.device,
        other=other_of(topology, host.name),
    )


def read(topology: Topology, host: Host, outputs: Outputs) -> ReplicaState:
    """The state of one host.

    Raises:
        CommandFailed, ToolMissing: a probe failed.
        ParseError: a tool printed something unknown, or ended in the middle.
    """
    replication = replication_of(topology)
    seen = facts.read(outputs)
    machine, doubt = _drbd(seen, outputs)
    config = places.config(replication)
    return ReplicaState(
        facts=seen,
        resource=machine.resource(replication.resource),
        doubt=doubt,
        adjustments=tuple(outputs.text(_ADJUST).splitlines()),
        files={
            config: replace(FileState.of(outputs, config), digest=""),
            **{path: FileState.of(outputs, path) for path in places.files(replication)},
        },
        drop_ins=tuple(outputs.text(_DROP_INS).splitlines()),
        up=UnitState.of(outputs, places.UP),
        storage=UnitState.of(outputs, places.STORAGE),
        device=replication.device,
        other=other_of(topology, host.name),
    )


def _drbd(seen: Basics, outputs: Outputs) -> tuple[DrbdState, str]:
    """What the machine-readable form says, and where the text differs from it ("" when they agree)."""
    if not seen.loaded:
        return DrbdState(outcome=Outcome.MODULE_NOT_LOADED), ""
    machine = _read(status_json.read_status_json if seen.is_9 else events.read_events, outputs[_MACHINE])
    text = _read(status.read_status, outputs[_TEXT])
    try:
        Printed(_TEXT, outputs[_TEXT].stdout).agree(comparable(text), comparable(machine))
    except ParseError as error:
        return machine, str(error)
    return machine, ""


def _read(reader: Callable[..., DrbdState], answer: Completed) -> DrbdState:
    state = reader(answer.stdout, stderr=answer.stderr, exit_code=answer.exit_code)
    if not state.complete:
        raise ParseError(answer.name, 0, "", answer.stdout[-200:], why="ends in the middle")
    return state


def carries_replica(topology: Topology, host: Host) -> bool:
    """Whether ``host`` is one of the two that hold the data."""
    return topology.cluster.drbd is not None and host.drbd is not None


def _concerns(topology: Topology, host: Host) -> bool:
    return topology.cluster.drbd is not None and bool(host.roles.intersection(ROLES))


DRBD = Domain("drbd", probes, read, _concerns)

LIVE = Domain("drbd", live_probes, read_live, _concerns)
"""`DRBD` without how it was set up, in a fourth of its time. The name is the same, as a `ReplicaState` is a `Live`:
what looks at `LIVE` takes either; what looks at `DRBD` needs a run that asked for it."""


def beside(domain: Domain[S], to: str) -> Domain[S]:
    """``domain`` of the other replica than ``to`` alone."""
    return replace(domain, concerns=lambda topology, host: carries_replica(topology, host) and host.name != to)
