"""What the API says, asked on the control plane itself: the nodes, and the objects of ours.

An API that does not answer is a state of its own, with what kubectl(1) said: the hosts can still be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from dockyard.observe import Domain
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Role, Topology
from dockyard.typed_json import every, typed
from tasks.k3s import places
from tasks.k3s.nodes import Nodes, read_json

KUBECTL = ("k3s", "kubectl")
_KINDS = "namespaces,storageclasses,persistentvolumes,persistentvolumeclaims,configmaps,services,deployments,pods"
_SELECTOR = ",".join(f"{key}={value}" for key, value in places.MANAGED.items())
_FAILURES = frozenset({0, 1, 127})
"""kubectl(1) ends with 1 whatever is wrong; 127 is no K3s at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """``answers`` says whether the API gave its nodes; if not, ``said`` is what kubectl had to say."""

    answers: bool
    nodes: Nodes = field(default_factory=lambda: Nodes(nodes={}))
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """Our objects as the API has them, by (kind, namespace, name)."""

    answers: bool
    live: Mapping[tuple[str, str, str], Mapping[str, Any]] = field(default_factory=dict)
    said: str = ""

    def of_kind(self, kind: str) -> list[Mapping[str, Any]]:
        """All objects of one kind."""
        return [found for (name, _, _), found in self.live.items() if name == kind]


class _Meta(Struct):
    name: str
    namespace: str = ""


class _Object(Struct):
    kind: str
    metadata: _Meta


class _List(Struct):
    kind: str
    items: list[Any]


def is_server(topology: Topology, host: Host) -> bool:
    """Whether the API can be asked on ``host``."""
    return topology.cluster.k3s is not None and Role.K3S_SERVER in host.roles


def _node_probes(_topology: Topology, _host: Host) -> Sequence[Command]:
    return [Command("k3s nodes", (*KUBECTL, "get", "nodes", "-o", "json"), accepts=_FAILURES, timeout_s=30)]


def _read_nodes(_topology: Topology, _host: Host, outputs: Outputs) -> Api:
    answer = outputs["k3s nodes"]
    text = outputs.text("k3s nodes")
    if answer.exit_code:
        return Api(answers=False, said=_last_line(answer.stderr))
    return Api(answers=True, nodes=read_json(text, datetime.fromtimestamp(outputs.received_at, UTC)))


NODES = Domain("k3s nodes", _node_probes, _read_nodes, is_server)


def _object_probes(_topology: Topology, _host: Host) -> Sequence[Command]:
    argv = (*KUBECTL, "get", _KINDS, "--all-namespaces", "--selector", _SELECTOR, "-o", "json")
    return [Command("k3s objects", argv, accepts=_FAILURES, timeout_s=30)]


def _read_objects(_topology: Topology, _host: Host, outputs: Outputs) -> Objects:
    answer = outputs["k3s objects"]
    text = outputs.text("k3s objects")
    if answer.exit_code:
        return Objects(answers=False, said=_last_line(answer.stderr))
    return Objects(answers=True, live=read_objects(text))


OBJECTS = Domain("k3s objects", _object_probes, _read_objects, is_server)


def read_objects(text: str) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """The list that `kubectl get -o json` printed.

    Raises:
        ParseError: no list, an object without kind or name, one twice.
    """
    printed = Printed("kubectl get -o json", text)
    found: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for item in every(printed, typed(printed, printed.json(), _List).items):
        seen = typed(printed, item, _Object)
        key = (seen.kind, seen.metadata.namespace, seen.metadata.name)
        if key in found:
            raise printed.error(0, f"has {' '.join(key)} twice")
        found[key] = item
    return found


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2] or "(kubectl said nothing)"
