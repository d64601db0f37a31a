"""Reader of the nodes of k3s. The facts are the cells of the table without the age, which moves."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from tasks.k3s.nodes import Node, Nodes, Truth, as_shown, read_json, read_wide, standing
from tests.parsers.readers import Reader
from tests.parsers.samples import Sample

NOW = datetime(2026, 11, 25, 4, 45, tzinfo=UTC)


def facts(state: Nodes, sample: Sample) -> Any:
    return [cells(node) for node in state.nodes.values()]


def cells(node: Node) -> list[str]:
    ready = {Truth.TRUE: "Ready", Truth.ABSENT: "Unknown"}.get(node.ready, "NotReady")
    return [
        node.name,
        ready + ",SchedulingDisabled" * node.unschedulable,
        ",".join(node.roles) or "<none>",
        node.version,
        node.internal_ip or "<none>",
        node.external_ip or "<none>",
        node.os_image,
        node.kernel,
        node.runtime,
    ]


def words(state: Nodes) -> Iterable[str]:
    for node in state.nodes.values():
        yield node.ready
        yield from ["SchedulingDisabled"] if node.unschedulable else []


READERS = [
    Reader(
        template="kubectl_get_nodes",
        command="k3s kubectl get nodes -o wide",
        read=lambda answer: read_wide(answer.text, stderr=answer.stderr),
        facts=facts,
        standing=standing,
        words=words,
        machine=lambda text, sample: read_json(text, NOW),
        comparable=as_shown,
    )
]
