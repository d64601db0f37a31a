"""A healthy pair of replicas as data, for the lab's hosts, and ways to break it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dockyard.change import Plan, UnitState
from dockyard.files import ABSENT, FileState
from dockyard.observe import Observed
from dockyard.topology import Topology
from tasks.drbd import DRBD, USERS, WRITER, config, places, storage
from tasks.drbd.facts import JUST_CREATED, Device, Facts
from tasks.drbd.replica import ReplicaState, replication_of
from tasks.drbd.state import Disk, Link, Peer, PeerCounters, PeerVolume, Replication, Resource, Role, Said, Volume
from tasks.drbd.switch import UsersState
from tasks.drbd.writer import NOBODY, Record
from tests.unit import meshes

PROD, MIRROR, LOAD = "dock-prod", "dock-mirror", "dock-load"
PAIR = (PROD, MIRROR)
HOSTS = (*PAIR, LOAD)
OTHER = {PROD: MIRROR, MIRROR: PROD, LOAD: PROD}
SINCE = "2026-01-02T03:04:05Z"
VERSIONS = {False: "8.4.11", True: "9.2.16"}
USED = "9C1F6B2A7D3E4F50"
"""A generation under which data was written."""

UNITS = ("app.service", "k3s-agent.service")

TIE_BREAKER = Peer(
    name=LOAD,
    link=Link.CONNECTED,
    role=Role.SECONDARY,
    volumes=(PeerVolume(number=0, replication=Replication.ESTABLISHED, disk=Disk.DISKLESS, client=Said.YES),),
)
"""How a replica with DRBD 9 sees the arbitrator."""


def topology(*, units: Sequence[str] = (), metadata: str | None = None) -> Topology:
    """The lab, with units that use the storage, and with external metadata."""
    lab = meshes.topology()
    assert lab.cluster.drbd
    hosts = {
        name: replace(host, drbd=replace(host.drbd, metadata=metadata)) if host.drbd else host
        for name, host in lab.hosts.items()
    }
    cluster = replace(lab.cluster, drbd=replace(lab.cluster.drbd, units=tuple(units)))
    return replace(lab, cluster=cluster, hosts=hosts)


def unit(name: str, active: str = "inactive", enabled: str = "enabled") -> UnitState:
    """``waiting`` is how the storage's unit looks before it has promoted and mounted: active, with a process."""
    sub = {"waiting": "running", "active": "exited"}.get(active, "dead")
    shown = "active" if active == "waiting" else active
    return UnitState(name=name, loaded=bool(enabled), active=shown, enabled=enabled, sub=sub)


def pristine(host: str, *, nine: bool = False) -> ReplicaState:
    """A host with drbd-utils, a module that is not loaded yet, and a bare disk of 10 GiB (none on the arbitrator)."""
    devices = (Device(path="/dev/vdb", size_bytes=10 * 2**30, signatures=frozenset()),) if host in PAIR else ()
    replication = replication_of(topology(units=UNITS))
    paths = [places.config(replication), *places.files(replication)]
    return ReplicaState(
        facts=Facts(
            hostname=host,
            loaded="",
            available=VERSIONS[nine],
            secret="",
            inline="",
            devices=devices,
            mounted_at=(),
            on_mount="",
            immutable=False,
            proof="",
            generation="",
        ),
        resource=None,
        doubt="",
        adjustments=(),
        files={path: FileState(path=path, digest=ABSENT) for path in paths},
        drop_ins=(),
        up=unit(places.UP, enabled=""),
        storage=unit(places.STORAGE, enabled=""),
        device="/dev/drbd0",
        other=OTHER[host],
    )


def resource(role: Role = Role.SECONDARY, disk: Disk = Disk.UP_TO_DATE, **parts: Any) -> Resource:
    """The resource ``data`` with one volume and one peer; parts of the peer by name, no peer with ``peer=None``."""
    peer = parts.pop("peer", "peer")
    link = parts.pop("link", Link.CONNECTED)
    there = PeerVolume(
        number=0,
        replication=parts.pop("replication", Replication.ESTABLISHED if link is Link.CONNECTED else Replication.OFF),
        disk=parts.pop("peer_disk", Disk.UP_TO_DATE if link is Link.CONNECTED else Disk.UNKNOWN),
        counters=PeerCounters(received_kib=0, sent_kib=0, out_of_sync_kib=parts.pop("out_of_sync_kib", 0)),
    )
    seen = Peer(name=peer or "", link=link, role=parts.pop("peer_role", Role.UNKNOWN), volumes=(there,))
    assert not parts, f"unknown: {parts}"
    return Resource(name="data", role=role, volumes=(Volume(number=0, disk=disk),), peers=(seen,) if peer else ())


def healthy(cluster: Topology | None = None, *, nine: bool = False, writer: str = PROD) -> dict[str, ReplicaState]:
    """Every host as it is after all plans of phase 2 were carried out."""
    seen = cluster or topology()
    hosts = HOSTS if nine else PAIR
    states = {host: _up(seen, host, writer, nine=nine) if host in hosts else pristine(host) for host in HOSTS}
    return {host: _with_files(seen, state, hosts, host, nine=nine) for host, state in states.items()}


def _up(cluster: Topology, host: str, writer: str, *, nine: bool) -> ReplicaState:
    bare = pristine(host, nine=nine)
    backing = cluster.host(host).drbd
    devices = bare.facts.devices
    if backing and backing.metadata:
        devices = (*devices, Device(path=backing.metadata, size_bytes=2**26, signatures=frozenset()))
    elif backing:
        devices = (replace(devices[0], signatures=frozenset({"drbd"})),)
    on_drbd = Device(
        path="/dev/drbd0", size_bytes=9 * 2**30, signatures=frozenset({"ext4"} if host == writer else ()),
        readable=host == writer,
    )  # fmt: skip
    facts = replace(
        bare.facts,
        loaded=VERSIONS[nine],
        devices=(*devices, on_drbd) if backing else (),
        mounted_at=("/srv/data",) if host == writer else (),
        on_mount="/dev/drbd0" if host == writer else "",
        immutable=host != writer,
        generation=USED if backing else "",
        secret="abcd",
        inline="abcd",
    )
    role, theirs = (Role.PRIMARY, Role.SECONDARY) if host == writer else (Role.SECONDARY, Role.PRIMARY)
    own = Disk.UP_TO_DATE if backing else Disk.DISKLESS
    name = OTHER[host] if nine else "peer"
    seen_there = resource(role, own, peer=name, peer_role=theirs)
    return replace(
        bare,
        facts=facts,
        resource=replace(seen_there, peers=(*seen_there.peers, TIE_BREAKER)) if nine and backing else seen_there,
        up=unit(places.UP, "active"),
        storage=unit(places.STORAGE, "active" if host == writer else "waiting"),
    )


def _with_files(cluster: Topology, state: ReplicaState, hosts: Sequence[str], host: str, *, nine: bool) -> ReplicaState:
    if host not in hosts:
        return state
    text = config.resource_file(cluster, hosts, quorum=nine)
    units = storage.unit_texts(cluster, quorum=nine, backing=cluster.host(host).drbd)
    wanted = {
        places.config(replication_of(cluster)): (text, 0o600),
        places.GLOBAL: ("global {\n    usage-count no;\n}\n", 0o644),
        **units,
    }
    return replace(state, files={**state.files, **{path: _file(path, *what) for path, what in wanted.items()}})


def _file(path: str, content: str, mode: int) -> FileState:
    return FileState(path=path, kind="regular file", mode=mode, owner="root", group="root", content=content)


def with_facts(state: ReplicaState, **parts: Any) -> ReplicaState:
    return replace(state, facts=replace(state.facts, **parts))


def with_device(state: ReplicaState, path: str, **parts: Any) -> ReplicaState:
    """``state`` with parts of one device replaced."""
    devices = [replace(one, **parts) if one.path == path else one for one in state.facts.devices]
    return with_facts(state, devices=tuple(devices))


def first_meeting(states: Mapping[str, ReplicaState], *proofs: str) -> dict[str, ReplicaState]:
    """Both replicas are up and connected for the first time, after new metadata; ``proofs`` of prod and mirror."""
    met = {
        host: replace(
            with_facts(states[host], proof=proof, generation=JUST_CREATED, on_mount="", mounted_at=(), immutable=True),
            resource=resource(disk=Disk.INCONSISTENT, peer_role=Role.SECONDARY, peer_disk=Disk.INCONSISTENT),
            storage=unit(places.STORAGE, enabled="disabled"),
        )
        for host, proof in zip(PAIR, proofs, strict=True)
    }
    bare = {
        host: with_device(state, "/dev/drbd0", readable=False, signatures=frozenset()) for host, state in met.items()
    }
    return {**states, **bare}


def records(writer: str = PROD, generation: int = 1) -> dict[str, Record]:
    """The record and its copies; nobody is named without ``writer``."""
    record = Record(writer=writer, generation=generation, since=SINCE) if writer else NOBODY
    return dict.fromkeys((LOAD, *PAIR), record)


def users(*, active: str = "", token: int = 0, units: Sequence[str] = UNITS) -> dict[str, UsersState]:
    """The units run on the host ``active``, where the token is, too."""
    return {
        host: UsersState(
            units={name: unit(name, "active" if host == active else "inactive") for name in units},
            token=token if host == active else 0,
        )
        for host in PAIR
    }


def observed(
    states: Mapping[str, object],
    record: Mapping[str, object] | None = None,
    using: Mapping[str, object] | None = None,
) -> Observed:
    """As a sweep would return it; an exception stands for what could not be seen."""
    found: dict[str, dict[str, object]] = {host: {DRBD.name: state} for host, state in states.items()}
    for domain, seen in ((WRITER.name, records() if record is None else record), (USERS.name, using or users())):
        for host, state in seen.items():
            found.setdefault(host, {})[domain] = state
    return Observed(found)


def titles(plan: Plan) -> dict[str, list[str]]:
    return {host: [change.title for change in changes] for host, changes in plan.items()}


def destroyed(plan: Plan) -> set[str]:
    """What would have to be named on the command line."""
    return {change.destroys for changes in plan.values() for change in changes if change.destroys}


def argvs(plan: Plan) -> list[str]:
    """All commands as text."""
    return [" ".join(command.argv) for changes in plan.values() for change in changes for command in change.commands()]
