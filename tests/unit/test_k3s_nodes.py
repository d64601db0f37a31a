"""Particular cases of the nodes of k3s."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from dockyard.errors import ParseError
from dockyard.standing import Level
from tasks.k3s.nodes import Effect, Nodes, Taint, Truth, read_json, read_wide, standing
from tests.parsers.samples import samples_of

NOW = datetime(2026, 11, 25, 4, 45, tzinfo=UTC)
TROUBLE = next(one for one in samples_of("kubectl_get_nodes") if "trouble" in one.path.stem)


def trouble() -> Any:
    assert TROUBLE.machine
    return json.loads(TROUBLE.machine)


def read(document: Any) -> Nodes:
    return read_json(json.dumps(document), NOW)


def test_each_kind_of_trouble_has_its_level() -> None:
    state = read(trouble())
    levels = standing(state)
    assert {name: node.ready for name, node in state.nodes.items()} == {
        "dock-dash": Truth.FALSE,
        "dock-edge": Truth.TRUE,
        "dock-load": Truth.UNKNOWN,
        "dock-mirror": Truth.TRUE,
        "dock-prod": Truth.TRUE,
    }
    assert (levels["node dock-dash"], levels["node dock-load resources"]) == (Level.FAILED, Level.UNKNOWN)
    assert levels["node dock-edge resources"] is Level.FAILED
    assert levels["node dock-mirror scheduling"] is Level.DEGRADED
    assert Taint(key="dedicated", value="edge", effect=Effect.NO_EXECUTE) in state.nodes["dock-edge"].taints
    assert state.nodes["dock-edge"].conditions["DiskPressure"].reason == "KubeletHasDiskPressure"


def test_the_text_proves_no_resources() -> None:
    levels = standing(read_wide(TROUBLE.text))
    assert levels["node dock-edge resources"] is Level.UNKNOWN
    assert levels["node dock-mirror scheduling"] is Level.DEGRADED


def test_ages() -> None:
    ages = {name: node.age_s for name, node in read_wide(TROUBLE.text).nodes.items()}
    assert (ages["dock-prod"], ages["dock-mirror"], ages["dock-load"]) == (5 * 86400 + 3 * 3600, 3 * 365 * 86400, 95)
    assert read_wide(TROUBLE.text.replace("5d3h", "<unknown>")).nodes["dock-prod"].age_s is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("kind",), "Pod"),
        (("metadata", "name"), "dock-dash"),
        (("metadata", "creationTimestamp"), "yesterday"),
        (("spec", "unschedulable"), "no"),
        (("spec", "taints"), [{"key": "a", "effect": "NoWay"}]),
        (("status", "conditions"), [{"type": "Ready", "status": "Perhaps"}]),
        (("status", "conditions"), [{"type": "Ready", "status": "True"}] * 2),
        (("status", "conditions"), [{"type": "Ready", "status": "True", "reason": "KubeletNotReady"}]),
        (("status", "nodeInfo"), {}),
    ],
)
def test_nodes_that_are_not_as_we_know_them_are_refused(path: tuple[str, ...], value: Any) -> None:
    document = trouble()
    *way, last = path
    place = document["items"][-1]
    for key in way:
        place = place[key]
    place[last] = value
    with pytest.raises(ParseError):
        read(document)


def test_a_node_that_never_said_anything_has_no_ready_condition() -> None:
    document = trouble()
    document["items"][-1]["status"]["conditions"] = []
    assert read(document).nodes["dock-prod"].ready is Truth.ABSENT
    assert standing(read(document))["node dock-prod"] is Level.FAILED


@pytest.mark.parametrize("text", ["", "No resources found\n", TROUBLE.text.split("\n", 1)[1], TROUBLE.text * 2])
def test_no_table_is_no_answer(text: str) -> None:
    with pytest.raises(ParseError):
        read_wide(text)
