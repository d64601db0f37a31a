"""The nodes of the k3s cluster: `k3s kubectl get nodes`, with ``-o json`` for decisions and ``-o wide`` for people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from dockyard.parsing import Printed, Row
from dockyard.standing import Level, Standing
from dockyard.typed_json import every, typed

_ROLE = "node-role.kubernetes.io/"
_CORDONED = "node.kubernetes.io/unschedulable"
_UNITS_S = {"y": 365 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}
_NONE = "<none>"
_NOTHING = "No resources found"


class Truth(StrEnum):
    """Status of a condition. ``NOT_TRUE`` and ``ABSENT`` are what the text form can say: it prints ``NotReady`` for
    False and Unknown alike, and ``Unknown`` only when there is no such condition.
    """

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"
    NOT_TRUE = "NotReady"
    ABSENT = "absent"


class Effect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


_REASONS = {
    "KubeletReady": ("Ready", Truth.TRUE),
    "KubeletNotReady": ("Ready", Truth.FALSE),
    "KubeletHasSufficientMemory": ("MemoryPressure", Truth.FALSE),
    "KubeletHasInsufficientMemory": ("MemoryPressure", Truth.TRUE),
    "KubeletHasNoDiskPressure": ("DiskPressure", Truth.FALSE),
    "KubeletHasDiskPressure": ("DiskPressure", Truth.TRUE),
    "KubeletHasSufficientPID": ("PIDPressure", Truth.FALSE),
    "KubeletHasInsufficientPID": ("PIDPressure", Truth.TRUE),
}
"""The only condition and status that go with a reason (pkg/kubelet/nodestatus/setters.go)."""

_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """A mark that keeps pods away; ``value`` is often ""."""

    key: str
    value: str
    effect: Effect


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition of a node, with the reason and the message of whoever set it."""

    status: Truth
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node. An address that it does not have is "". ``age_s`` is None where it is not known.

    ``detailed`` is False for the text form, which says nothing of labels, taints and conditions.
    """

    name: str
    ready: Truth
    unschedulable: bool
    roles: tuple[str, ...]
    version: str
    internal_ip: str
    external_ip: str
    os_image: str
    kernel: str
    runtime: str
    detailed: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    age_s: int | None = field(default=None, compare=False)

    @property
    def cordoned(self) -> bool:
        """No new pods come here, as far as is known: the flag, or the taint that follows it."""
        return self.unschedulable or any(taint.key == _CORDONED for taint in self.taints)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """All nodes by name. Not ``complete``: the output was cut off."""

    nodes: Mapping[str, Node]
    complete: bool = True


class _Meta(Struct, rename={"created": "creationTimestamp"}):
    name: str
    created: datetime
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class _Taint(Struct):
    key: str
    effect: str
    value: str = ""


class _Spec(Struct):
    taints: list[_Taint] = msgspec.field(default_factory=list)
    unschedulable: bool = False


class _Condition(Struct):
    type: str
    status: str
    reason: str = ""
    message: str = ""


class _Address(Struct):
    type: str
    address: str


class _Info(Struct, rename="camel"):
    kubelet_version: str
    os_image: str
    kernel_version: str
    container_runtime_version: str


class _Status(Struct, rename={"info": "nodeInfo"}):
    info: _Info
    conditions: list[_Condition]
    addresses: list[_Address] = msgspec.field(default_factory=list)


class _Node(Struct):
    kind: str
    metadata: _Meta
    spec: _Spec
    status: _Status


class _List(Struct):
    kind: str
    items: list[Any]


def read_json(text: str, now: datetime) -> Nodes:
    """What `kubectl get nodes -o json` printed; ages are taken at ``now``, which has a time zone.

    Keys that are not used here are ignored, as the API's rules say that there may be new ones at any time.

    Raises:
        ParseError: no list of nodes, a key that is missing or of another kind, an unknown word, a node twice, a
            condition whose reason belongs to another status.
    """
    printed = Printed("kubectl get nodes -o json", text)
    found = typed(printed, printed.json(), _List)
    if found.kind not in ("List", "NodeList"):
        raise printed.error(0, f"is a {found.kind} and no list")
    nodes = [_node(printed, typed(printed, item, _Node), now) for item in every(printed, found.items)]
    return Nodes(nodes=_by_name(printed, nodes))


def _node(printed: Printed, seen: _Node, now: datetime) -> Node:
    meta, spec, status = seen.metadata, seen.spec, seen.status
    if seen.kind != "Node":
        raise printed.error(0, f"has a {seen.kind} among the nodes")
    conditions = _conditions(printed, meta.name, status.conditions)
    created = meta.created if meta.created.tzinfo else meta.created.replace(tzinfo=UTC)
    return Node(
        name=meta.name,
        ready=conditions["Ready"].status if "Ready" in conditions else Truth.ABSENT,
        unschedulable=spec.unschedulable,
        roles=_roles(meta.labels),
        version=status.info.kubelet_version,
        internal_ip=_first(status.addresses, "InternalIP"),
        external_ip=_first(status.addresses, "ExternalIP"),
        os_image=status.info.os_image,
        kernel=status.info.kernel_version,
        runtime=status.info.container_runtime_version,
        detailed=True,
        labels=meta.labels,
        taints=tuple(
            Taint(key=taint.key, value=taint.value, effect=printed.member(Effect, taint.effect, 0))
            for taint in spec.taints
        ),
        conditions=conditions,
        age_s=int((now - created).total_seconds()),
    )


def _conditions(printed: Printed, name: str, seen: list[_Condition]) -> dict[str, Condition]:
    found: dict[str, Condition] = {}
    for one in seen:
        if one.type in found or one.status not in (Truth.TRUE, Truth.FALSE, Truth.UNKNOWN):
            raise printed.error(0, f"has {one.type} twice for {name}, or with the unknown status {one.status!r}")
        if _REASONS.get(one.reason, (one.type, one.status)) != (one.type, one.status):
            raise printed.error(0, f"says that {one.type} of {name} is {one.status} because of {one.reason}")
        found[one.type] = Condition(status=Truth(one.status), reason=one.reason, message=one.message)
    return found


def _roles(labels: Mapping[str, str]) -> tuple[str, ...]:
    """As kubectl finds them: from the names of labels, and from one older label's value."""
    roles = {label.removeprefix(_ROLE) for label in labels if label.startswith(_ROLE)}
    return tuple(sorted(role for role in roles | {labels.get("kubernetes.io/role", "")} if role))


def _first(addresses: list[_Address], kind: str) -> str:
    return next((address.address for address in addresses if address.type == kind), "")


def read_wide(text: str, *, stderr: str = "") -> Nodes:
    """What `kubectl get nodes -o wide` printed.

    Raises:
        ParseError: an unknown line or column, a node twice.
    """
    if not text and stderr.strip().startswith(_NOTHING):
        return Nodes(nodes={})
    printed = Printed("kubectl get nodes -o wide", text)
    rows = printed.rows("kubectl_get_nodes")
    if not rows:
        raise printed.error(0, "has no node")
    return Nodes(nodes=_by_name(printed, [_node_of(row) for row in rows]), complete=printed.whole)


def _node_of(row: Row) -> Node:
    ready, _, disabled = row["status"].partition(",")
    return Node(
        name=row["name"],
        ready={"Ready": Truth.TRUE, "NotReady": Truth.NOT_TRUE, "Unknown": Truth.ABSENT}[ready],
        unschedulable=bool(disabled),
        roles=tuple(_known(row["roles"]).split(",")) if _known(row["roles"]) else (),
        version=row["version"],
        internal_ip=_known(row["internal_ip"]),
        external_ip=_known(row["external_ip"]),
        os_image=row["os_image"],
        kernel=row["kernel"],
        runtime=row["runtime"],
        detailed=False,
        age_s=_age_s(row["age"]),
    )


def _known(text: str) -> str:
    return "" if text == _NONE else text


def _age_s(text: str) -> int | None:
    """``5d3h`` in seconds, which is up to one of its smallest unit too little; None for ``<unknown>``."""
    parts = re.findall(r"(\d+)([ydhms])", text)
    return sum(int(number) * _UNITS_S[unit] for number, unit in parts) if parts else None


def _by_name(printed: Printed, nodes: list[Node]) -> dict[str, Node]:
    found = {node.name: node for node in nodes}
    if len(found) < len(nodes):
        raise printed.error(0, "has a node twice")
    return found


def as_shown(state: Nodes) -> Nodes:
    """What ``-o wide`` can say of it, to compare the two forms."""
    return replace(state, nodes={name: _node_as_shown(node) for name, node in state.nodes.items()})


def _node_as_shown(node: Node) -> Node:
    ready = Truth.NOT_TRUE if node.ready in (Truth.FALSE, Truth.UNKNOWN) else node.ready
    return replace(node, ready=ready, detailed=False, labels={}, taints=(), conditions={})


def standing(state: Nodes) -> Standing:
    """Levels of ``node NAME``, ``node NAME scheduling``, and of ``node NAME resources`` where the form tells them."""
    levels: dict[str, Level] = {}
    for name, node in state.nodes.items():
        levels[f"node {name}"] = Level.HEALTHY if node.ready is Truth.TRUE else Level.FAILED
        levels[f"node {name} scheduling"] = Level.DEGRADED if node.cordoned else Level.HEALTHY
        levels[f"node {name} resources"] = _resources(node)
    return levels if state.complete else dict.fromkeys(levels, Level.UNKNOWN)


def _resources(node: Node) -> Level:
    found = [node.conditions[pressure].status for pressure in _PRESSURES if pressure in node.conditions]
    if not found or Truth.UNKNOWN in found:
        return Level.UNKNOWN
    return Level.FAILED if Truth.TRUE in found else Level.HEALTHY
