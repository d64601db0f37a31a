"""How our pods are, out of the objects that the API has: where each runs, and why one does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec import Struct, field

from dockyard.errors import StepFailed
from dockyard.parsing import Printed
from dockyard.typed_json import typed
from tasks.k3s.api import Objects

_ENDED = frozenset({"Succeeded", "Failed"})
"""Phases that no pod comes back from."""


class _Waiting(Struct):
    reason: str = ""
    message: str = ""


class _Terminated(Struct, rename="camel"):
    exit_code: int
    reason: str = ""
    message: str = ""


class _State(Struct):
    waiting: _Waiting | None = None
    terminated: _Terminated | None = None


class _Container(Struct, rename="camel"):
    name: str
    ready: bool = False
    restart_count: int = 0
    state: _State = field(default_factory=_State)
    last_state: _State = field(default_factory=_State)


class _Condition(Struct):
    type: str
    status: str
    reason: str = ""
    message: str = ""


class _Status(Struct, rename="camel"):
    phase: str
    conditions: list[_Condition] = field(default_factory=list)
    init_container_statuses: list[_Container] = field(default_factory=list)
    container_statuses: list[_Container] = field(default_factory=list)


class _Spec(Struct, rename="camel"):
    node_name: str = ""


class _Meta(Struct, rename="camel"):
    name: str
    namespace: str
    deletion_timestamp: str = ""


class _Pod(Struct):
    metadata: _Meta
    spec: _Spec
    status: _Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod. ``node`` is "" before it was put on one; ``reason`` says why it is not ready, in its own words."""

    namespace: str
    name: str
    node: str
    ready: bool
    leaving: bool
    reason: str


def pods(live: Objects) -> list[Pod]:
    """Our pods that run or shall run; raises ParseError for one that is not understood.

    One that has ended (evicted, or its node was shut down) stays in the API as a record: another one took its place.
    """
    seen = [typed(Printed("kubectl get pods -o json", ""), found, _Pod) for found in live.of_kind("Pod")]
    return [_pod(one) for one in seen if one.status.phase not in _ENDED]


def known_pods(live: Objects) -> list[Pod]:
    """`pods`, for who decides on there being none.

    Raises:
        StepFailed: the API did not tell.
    """
    if not live.answers:
        raise StepFailed(
            "the API of K3s does not say which pods run",
            advice=f"It said: {live.said}. Run this again when it answers.",
        )
    return pods(live)


def _pod(seen: _Pod) -> Pod:
    return Pod(
        namespace=seen.metadata.namespace,
        name=seen.metadata.name,
        node=seen.spec.node_name,
        ready=any(one.type == "Ready" and one.status == "True" for one in seen.status.conditions),
        leaving=bool(seen.metadata.deletion_timestamp),
        reason="; ".join(_reasons(seen.status)) or seen.status.phase,
    )


def _reasons(status: _Status) -> Iterator[str]:
    for one in (*status.init_container_statuses, *status.container_statuses):
        ended = one.last_state.terminated or one.state.terminated
        if ended and ended.exit_code:
            yield f"{one.name}: {ended.message.strip() or ended.reason} (exit code {ended.exit_code})"
        elif one.state.waiting and one.state.waiting.reason not in {"", "PodInitializing"}:
            yield f"{one.name}: {' '.join(filter(None, (one.state.waiting.reason, one.state.waiting.message)))}"
    for condition in status.conditions:
        if condition.type == "PodScheduled" and condition.status != "True":
            yield f"{condition.reason}: {condition.message}"
