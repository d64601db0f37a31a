"""DRBD: status as text, as JSON and as events2, and /proc/drbd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any

from tasks.drbd import judgement
from tasks.drbd.events import read_events
from tasks.drbd.proc import Counters8, Device8, ProcDrbd, Progress8, read_proc
from tasks.drbd.proc import standing as proc_standing
from tasks.drbd.state import DrbdState, Pause, Peer, PeerVolume, Replication, Resource, Said, Suspension, Volume
from tasks.drbd.status import read_status
from tasks.drbd.status_json import read_status_json
from tests.parsers.readers import Answer, Reader
from tests.parsers.samples import Sample

SETTLED = {Replication.OFF, Replication.ESTABLISHED}


def _list(kind: type[StrEnum], members: frozenset[Any]) -> str:
    """The members in the order in which DRBD prints them."""
    return ",".join(member for member in kind if member in members) or "no"


def _reader(read: Callable[..., DrbdState]) -> Callable[[Answer], DrbdState]:
    return lambda answer: read(answer.text, stderr=answer.stderr, exit_code=answer.exit_code, version=answer.version)


def _machine(text: str, sample: Sample) -> DrbdState:
    return read_status_json(text) if sample.version.startswith("drbd-9") else read_events(text)


class _Facts:
    """A state in the schema of the facts, as far as the form of a sample says it."""

    def __init__(self, form: str, sample: Sample) -> None:
        self.new = sample.version.startswith("drbd-9")
        both = "+verbose+statistics" in sample.case
        self.form = "short" if form == "text" and not both else form

    @property
    def short(self) -> bool:
        return self.form == "short"

    def state(self, state: DrbdState) -> dict[str, Any]:
        return {
            "outcome": state.outcome.value,
            "missing": list(state.missing),
            "resources": [self._resource(resource) for resource in state.resources],
        }

    def _resource(self, resource: Resource) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "name": resource.name,
            "role": resource.role.value,
            "devices": [self._volume(volume) for volume in resource.volumes],
            "connections": [self._peer(peer) for peer in resource.peers],
        }
        if not self.new:
            return facts | {"suspended": _list(Suspension, resource.suspended)}
        facts |= {"suspended": bool(resource.suspended), "force_io_failures": resource.forced_io_failures}
        if Suspension.UNNAMED not in resource.suspended:
            for reason in [reason for reason in Suspension if reason is not Suspension.UNNAMED]:
                facts[f"suspended_{reason.value.replace('-', '_')}"] = reason in resource.suspended
        return facts | ({"node_id": resource.node_id} if self.form in ("text", "json") else {})

    def _volume(self, volume: Volume) -> dict[str, Any]:
        facts: dict[str, Any] = {"volume": volume.number, "disk": volume.disk.value}
        if self.new and volume.quorum is not Said.UNSAID:
            facts["quorum"] = volume.quorum is Said.YES
        if self.new and volume.client is not Said.UNSAID:
            facts["client"] = volume.client is Said.YES
        if not self.short:
            facts |= {"minor": volume.minor, "size_kib": volume.counters.size_kib if volume.counters else None}
        return facts

    def _peer(self, peer: Peer) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "peer_name": peer.name or None,
            "connection": peer.link.value,
            "peer_role": peer.role.value,
            "volumes": [self._there(volume) for volume in peer.volumes if peer.connected or not self.short],
        }
        if self.form == "events" or (self.new and not self.short):
            facts["peer_node_id"] = peer.node_id
        return facts | ({"congested": peer.congested is Said.YES} if self.form == "json" else {})

    def _there(self, volume: PeerVolume) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "volume": volume.number,
            "replication": volume.replication.value,
            "peer_disk": volume.disk.value,
            "resync_suspended": _list(Pause, volume.paused),
        }
        if self.new and volume.client is not Said.UNSAID:
            facts["peer_client"] = volume.client is Said.YES
        if not self.short and volume.counters and (volume.replication in SETTLED or self.form == "json"):
            facts["out_of_sync_kib"] = volume.counters.out_of_sync_kib
        if self.form == "json":
            facts["percent_resync_done"] = volume.progress.percent if volume.progress else None
        return facts


def _facts(form: str) -> Callable[[DrbdState, Sample], dict[str, Any]]:
    return lambda state, sample: _Facts(form, sample).state(state)


def _words(state: DrbdState) -> Iterator[str]:
    yield state.outcome.value
    for resource in state.resources:
        yield from (resource.role.value, *(f"suspended {reason}" for reason in resource.suspended))
        for volume in resource.volumes:
            yield volume.disk.value
            if volume.quorum is Said.NO:
                yield "no quorum"
        for peer in resource.peers:
            yield peer.link.value
            for there in peer.volumes:
                yield from (there.replication.value, f"peer {there.disk.value}")


def _proc_facts(state: ProcDrbd, sample: Sample) -> dict[str, Any]:
    facts = {"version": state.version or None, "devices": [_device(device) for device in state.devices]}
    return facts | ({"unconfigured": list(state.unconfigured)} if state.unconfigured else {})


def _device(device: Device8) -> dict[str, Any]:
    pauses = {"dependency": "a", "peer": "p", "user": "u"}
    facts: dict[str, Any] = {
        "minor": device.minor,
        "cs": device.connection.value,
        "role": device.role.value,
        "peer_role": device.peer_role.value,
        "disk": device.disk.value,
        "peer_disk": device.peer_disk.value,
        "protocol": device.protocol,
        "io_flags": ("s" if device.suspended else "r")
        + "".join(letter if pause in device.paused else "-" for pause, letter in pauses.items())
        + (device.congestion or "-")
        + ("s" if device.al_suspended else "-"),
        "counters": _counters(device.counters),
    }
    return facts | ({"progress": _progress(device.progress)} if device.progress else {})


def _counters(counters: Counters8) -> dict[str, Any]:
    facts = {
        "ns": counters.sent_kib,
        "nr": counters.received_kib,
        "dw": counters.written_kib,
        "dr": counters.read_kib,
        "al": counters.al_writes,
        "bm": counters.bm_writes,
        "lo": counters.local_pending,
        "pe": counters.peer_pending,
        "ua": counters.unacked,
        "ap": counters.application_pending,
        "ep": counters.epochs,
        "wo": None if counters.write_ordering.value == "unsaid" else counters.write_ordering.value[0],
        "oos": counters.out_of_sync_kib,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _progress(progress: Progress8) -> dict[str, Any]:
    facts = {
        "kind": progress.activity.value,
        "percent": progress.percent,
        "left_kib": progress.left_kib,
        "total_kib": progress.total_kib,
        "eta_s": progress.eta_s,
        "speed_kib": progress.speed_kib_s,
        "speed_avg_kib": progress.average_kib_s,
    }
    return facts | ({"stalled": True} if progress.stalled else {})


def _proc_words(state: ProcDrbd) -> Iterator[str]:
    yield "loaded" if state.loaded else "module not loaded"
    for device in state.devices:
        yield from (device.connection.value, device.role.value, device.disk.value, f"peer {device.peer_disk.value}")


READERS = [
    Reader(
        template="drbdadm_status",
        command="drbdadm status",
        read=_reader(read_status),
        facts=_facts("text"),
        standing=judgement.standing,
        words=_words,
        machine=_machine,
        comparable=judgement.comparable,
    ),
    Reader(
        template="drbdsetup_status_json",
        command="drbdsetup status --json",
        read=_reader(read_status_json),
        facts=_facts("json"),
        standing=judgement.standing,
        words=_words,
    ),
    Reader(
        template="drbdsetup_events2",
        command="drbdsetup events2 --now --statistics",
        read=_reader(read_events),
        facts=_facts("events"),
        standing=judgement.standing,
        words=_words,
    ),
    Reader(
        template="proc_drbd",
        command="cat /proc/drbd",
        read=lambda answer: read_proc(answer.text, stderr=answer.stderr, exit_code=answer.exit_code),
        facts=_proc_facts,
        standing=proc_standing,
        words=_proc_words,
    ),
]
