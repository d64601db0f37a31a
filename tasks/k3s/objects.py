"""Manifests: what is wanted, compared with what the API has, and applied where something differs.

The API fills in defaults and adds fields of its own, so what is wanted only has to be contained in what is there. That
way a change by hand is seen, too, and a second run applies nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from ruamel.yaml import YAML

from dockyard.change import Change, Plan, Run, filled
from dockyard.observe import Observed
from dockyard.topology import Topology
from tasks.k3s.api import KUBECTL, NODES, OBJECTS, Objects
from tasks.k3s.config import server_of
from tasks.k3s.join import carrier

Manifests = Callable[[Topology, str], Mapping[str, str]]
"""From the cluster and the name of the volumes' carrier to YAML by name."""

_SHOWN = 3


def plan_apply(topology: Topology, observed: Observed, *, manifests: Manifests) -> Plan:
    """Apply the manifests that are not contained in what the API has."""
    if topology.cluster.k3s is None:
        return {}
    server = server_of(topology).name
    live = observed.of(OBJECTS, server)
    wanted = manifests(topology, carrier(topology, observed.of(NODES, server)))
    return filled({server: [change for name, text in wanted.items() for change in _apply(name, text, live)]})


def _apply(name: str, text: str, live: Objects) -> list[Change]:
    changed = [one for one in documents(text) if _drift(one, live)]
    whole = [one for one in changed if one["kind"] in _WHOLE and _there(one, live) is not None]
    rest = [one for one in changed if one not in whole]
    sent = ((("apply",), rest), (_REPLACE, whole))
    return [_send(verb, name, objects, live) for verb, objects in sent if objects]


_WHOLE = {"Deployment"}
_REPLACE = ("replace", "--save-config")
"""`apply` removes from a list only what it had put there itself: a variable, a port or a volume that somebody added by
hand would stay (kubernetes.io, "Declarative Management", "How apply calculates differences"). What the API itself gives
to other kinds, such as the claim of a volume, must stay."""


def _send(verb: Sequence[str], name: str, objects: Sequence[Mapping[str, Any]], live: Objects) -> Change:
    found = [line for one in objects for line in _drift(one, live)]
    text = "\n---\n".join(json.dumps(one) for one in objects)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    title = f"{verb[0]} {name}: {'; '.join(found[:_SHOWN])}{more}"
    return Run(title=title, argv=(*KUBECTL, *verb, "-f", "-"), stdin=text.encode(), timeout_s=120)


def drift(text: str, live: Objects) -> list[str]:
    """What of a manifest is not there, or there in another way, a line each."""
    return [line for wanted in documents(text) for line in _drift(wanted, live)]


def _drift(wanted: Mapping[str, Any], live: Objects) -> list[str]:
    there, name = _there(wanted, live), f"{wanted['kind']} {wanted['metadata']['name']}"
    return [f"{name} is not there"] if there is None else [f"{name}: {one}" for one in differences(wanted, there)]


def _there(wanted: Mapping[str, Any], live: Objects) -> Mapping[str, Any] | None:
    meta = wanted["metadata"]
    return live.live.get((wanted["kind"], meta.get("namespace", ""), meta["name"]))


def documents(text: str) -> list[dict[str, Any]]:
    """The objects of a manifest in YAML."""
    return [document for document in YAML(typ="safe").load_all(text) if document]


def differences(wanted: object, there: object, path: str = "") -> Iterator[str]:
    """Where ``wanted`` is not contained in ``there``: lists must have the same length, mappings may have more."""
    if isinstance(wanted, Mapping) and isinstance(there, Mapping):
        for key, value in wanted.items():
            yield from differences(value, there.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(wanted, list) and isinstance(there, list):
        for at, (mine, theirs) in enumerate(zip_longest(wanted, there)):
            yield from differences(mine, theirs, f"{path}[{at}]")
    elif wanted != there:
        yield f"{path} is {_short(there)} instead of {_short(wanted)}"


def _short(value: object) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
