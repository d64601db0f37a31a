"""Readers of Corosync and SBD."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tasks.pacemaker import sbd
from tasks.pacemaker.corosync import (
    Answering,
    Flag,
    Links,
    Member,
    NodeLink,
    Quorum,
    RingStatus,
    links_standing,
    quorum_standing,
    read_links,
    read_quorum,
)
from tests.parsers.readers import Reader
from tests.parsers.samples import Sample

SILENT = {"answering": str(Answering.NO)}


def quorum_facts(state: Quorum, sample: Sample) -> Any:
    if state.answering is Answering.NO:
        return SILENT
    said = {"Nodes": state.node_count, "Quorate": "Yes" if state.quorate else "No", "Ring ID": state.ring_id}
    if state.votes:
        blocked = "" if Flag.QUORATE in state.votes.flags else " Activity blocked"
        said |= {
            "Expected votes": state.votes.expected,
            "Highest expected": state.votes.highest_expected,
            "Total votes": state.votes.total,
            "Quorum": f"{state.votes.needed}{blocked}",
            "Flags": " ".join(flag for flag in Flag if flag in state.votes.flags),
        }
    return {
        "corosync_quorum": {name: str(value) for name, value in said.items()},
        "members": [member_facts(member, "Qdevice" in sample.text) for member in state.members],
    }


def member_facts(member: Member, column: bool) -> dict[str, Any]:
    device = member.device
    shown = ",".join(
        ("A" * device.alive or "NA", "V" * device.casts_vote or "NV", "MW" if device.master_wins else "NMW")
    )
    return {
        "node_id": member.node_id,
        "votes": member.votes,
        "qdevice": shown if device.registered else "NR" * column,
        "name": member.name,
        "local": member.local,
    }


def quorum_words(state: Quorum) -> Iterable[str]:
    yield state.answering
    yield "quorate" if state.quorate else "not quorate"
    yield from state.votes.flags if state.votes else ["no votequorum"]


def links_facts(state: Links, sample: Sample) -> Any:
    if state.answering is Answering.NO:
        return SILENT
    links = [
        {
            "number": link.number,
            "protocol": link.protocol,
            "address": link.address,
            "status": "" if link.status is RingStatus.BY_NODE else link.status,
            "nodes": {str(node): in_words_of(sample, there) for node, there in link.nodes.items()},
        }
        for link in state.links
    ]
    return {"local_id": state.local_id, "transport": state.transport, "links": links}


def in_words_of(sample: Sample, link: NodeLink) -> str:
    if sample.version not in ("corosync-3.0.0", "corosync-3.0.3"):
        return link
    enabled, connected = "not enabled" not in link, "disconnected" not in link
    return f"link enabled:{enabled:d} link connected:{connected:d}"


def links_words(state: Links) -> Iterable[str]:
    yield state.answering
    for link in state.links:
        yield link.status
        yield from link.nodes.values()


def slots_facts(state: sbd.Slots, sample: Sample) -> Any:
    disks = [[[slot.number, slot.node, slot.message, slot.sender] for slot in disk] for disk in state.disks]
    return {"disks": disks, "unreadable": list(state.unreadable)}


def slots_words(state: sbd.Slots) -> Iterable[str]:
    yield from (slot.message for disk in state.disks for slot in disk)
    yield from ("unreadable disk" for _ in state.unreadable)
    yield from () if state.disks else ["no slots"]


READERS = [
    Reader(
        template="corosync_quorumtool",
        command="corosync-quorumtool -s",
        read=lambda answer: read_quorum(answer.text, stderr=answer.stderr, exit_code=answer.exit_code),
        facts=quorum_facts,
        standing=quorum_standing,
        words=quorum_words,
    ),
    Reader(
        template="corosync_cfgtool",
        command="corosync-cfgtool -s",
        read=lambda answer: read_links(answer.text, stderr=answer.stderr),
        facts=links_facts,
        standing=links_standing,
        words=links_words,
    ),
    Reader(
        template="sbd_list",
        command="sbd -d DEVICE list",
        read=lambda answer: sbd.read_slots(answer.text, stderr=answer.stderr, exit_code=answer.exit_code),
        facts=slots_facts,
        standing=sbd.standing,
        words=slots_words,
    ),
]
