"""The reader of `crm_mon`, and how its states look in the words of the samples' facts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tasks.pacemaker.agreement import comparable
from tasks.pacemaker.cluster import (
    Answer,
    Cluster,
    CollectionKind,
    Daemons,
    Failure,
    Flag,
    History,
    Node,
    NodeState,
    Quorum,
    Resource,
    Role,
    Section,
)
from tasks.pacemaker.crm_mon import read
from tasks.pacemaker.crm_mon_xml import read_xml
from tasks.pacemaker.standing import standing
from tests.parsers.readers import Answer as Answered
from tests.parsers.readers import Reader
from tests.parsers.samples import Sample

ALWAYS = frozenset({Section.BY_NODE})
"""What a text shows whatever its options; tests/unit/test_pacemaker_forms.py compares all that each text shows."""
MOVING = {Role.STARTING, Role.STOPPING, Role.MIGRATING}
UNMANAGED = {Flag.UNMANAGED, Flag.MAINTENANCE}


def read_sample(answer: Answered) -> Cluster:
    return read(answer.text, stderr=answer.stderr, exit_code=answer.exit_code, version=answer.version)


def machine(text: str, sample: Sample) -> Cluster:
    return read_xml(text, exit_code=sample.exit_code, version=sample.version)


def facts(cluster: Cluster, sample: Sample) -> Any:
    """What the recorded XML says of the same moment, as far as the text with these options can say it."""
    if cluster.answer is not Answer.STATUS:
        return {"status": {"code": 102}} if cluster.answer is Answer.NOT_CONNECTED else {"state": cluster.daemons.value}
    parts: dict[Section, tuple[str, list[Any]]] = {
        Section.ATTRIBUTES: ("node_attributes", [_attribute(one) for one in cluster.attributes]),
        Section.HISTORY: ("fail_counts", [_count(one) for one in cluster.history if one.fail_count]),
    }
    return {
        **(_summary(cluster) if Section.SUMMARY in cluster.shown else {}),
        "nodes": sorted((_node(node) for node in cluster.nodes), key=lambda node: str(node["name"])),
        "resources": _sorted(_resource(one, cluster.shown) for one in cluster.resources if _listed(one, cluster)),
        "failures": _sorted(_failure(one) for one in cluster.failures),
        **{name: _sorted(found) for section, (name, found) in parts.items() if section in cluster.shown},
    }


def _sorted(things: Iterable[Any]) -> list[Any]:
    return sorted(things, key=json.dumps)


def _summary(cluster: Cluster) -> dict[str, Any]:
    state = {"pacemakerd-state": cluster.daemons.value} if cluster.daemons is not Daemons.NOT_SAID else {}
    dc = {
        "mixed_version": cluster.mixed_version,
        "name": cluster.dc,
        "present": True,
        "version": cluster.version,
        "with_quorum": cluster.quorum is Quorum.WITH,
    }
    return {
        "stack": {**state, "type": cluster.stack},
        "dc": dc if cluster.dc else {"present": False},
        "nodes_configured": cluster.nodes_configured,
        "resources_configured": {
            "blocked": cluster.instances_blocked,
            "disabled": cluster.instances_disabled,
            "number": cluster.instances_configured,
        },
    }


def _node(node: Node) -> dict[str, object]:
    found: dict[str, object] = {"name": node.name, "unclean": node.state.unclean}
    if node.state.unclean:
        found["online"] = node.state is NodeState.UNCLEAN_ONLINE
        pending = {} if found["online"] else {"pending": node.state is NodeState.UNCLEAN_PENDING}
        return found | pending
    found["pending"] = node.state is NodeState.PENDING
    if found["pending"]:
        return found
    found["online"] = not node.state.value.startswith("OFFLINE")
    if found["online"]:
        found["standby_onfail"] = node.state is NodeState.STANDBY_ON_FAIL
    if node.state is NodeState.STANDBY_ON_FAIL:
        return found
    standby = node.state in {NodeState.STANDBY, NodeState.STANDBY_ACTIVE, NodeState.OFFLINE_STANDBY}
    kept = node.state in {NodeState.MAINTENANCE, NodeState.OFFLINE_MAINTENANCE}
    return found | {"standby": standby} | ({} if standby else {"maintenance": kept})


def _listed(resource: Resource, cluster: Cluster) -> bool:
    clones = {one.id for one in cluster.collections if one.kind is CollectionKind.CLONE}
    return resource.active or resource.role in MOVING or not set(resource.within) & clones


def _resource(resource: Resource, shown: frozenset[Section]) -> dict[str, object]:
    beside = Section.BY_NODE in shown
    left_out = {
        "managed": Flag.BLOCKED in resource.flags,
        "role": Flag.FAILED in resource.flags and resource.role is not Role.PROMOTED,
        "nodes": resource.role in MOVING and not beside,
        "parent": beside,
    }
    found = {
        "id": resource.id,
        "role": resource.role.value,
        "nodes": list(resource.nodes),
        "failed": Flag.FAILED in resource.flags,
        "blocked": Flag.BLOCKED in resource.flags,
        "orphaned": Flag.ORPHANED in resource.flags,
        "managed": not resource.flags & UNMANAGED,
        "parent": resource.within[-1] if resource.within else None,
    }
    return {name: value for name, value in found.items() if not left_out.get(name)}


def _failure(failure: Failure) -> dict[str, str]:
    task = "monitor" if failure.task == "probe" else failure.task
    key = f"{failure.resource}_{task}_{failure.interval_ms}"
    return {"op_key": key, "node": failure.node, "exitreason": failure.reason}


def _attribute(attribute: Any) -> dict[str, str]:
    return {"name": attribute.name, "node": attribute.node, "value": attribute.value}


def _count(history: History) -> dict[str, object]:
    return {"node": history.node, "resource": history.resource, "fail-count": history.fail_count}


def words(cluster: Cluster) -> list[str]:
    """The states that a sample shows."""
    events = {
        "failed action": cluster.failures,
        "fail count": [one for one in cluster.history if one.fail_count],
        "fencing": cluster.fencing,
        "ban": cluster.bans,
        "ticket": cluster.tickets,
    }
    said = {
        cluster.answer.value,
        f"quorum {cluster.quorum}",
        f"management {cluster.management}",
        *(f"{node.kind} {node.state}" for node in cluster.nodes),
        *(one.role.value for one in cluster.resources),
        *(flag.value for one in cluster.resources for flag in one.flags),
        *(one.kind.value for one in cluster.collections),
        *(name for name, found in events.items() if found),
    }
    return sorted(word for word in said if "not said" not in word)


CRM_MON = Reader(
    template="crm_mon",
    command="crm_mon -1",
    read=read_sample,
    facts=facts,
    standing=standing,
    words=words,
    machine=machine,
    comparable=lambda cluster: comparable(cluster, ALWAYS),
)
READERS = [CRM_MON]
