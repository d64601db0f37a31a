"""A damaged output never reads better than the truth, and no exception but `ParseError` escapes.

What is done to a text: one line deleted, doubled or exchanged with another; cut off at any byte; a word put in that no
version of any tool ever said.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dockyard.errors import ParseError
from dockyard.standing import is_better
from tests.parsers.readers import Answer, Reader, all_readers

READERS = [pytest.param(reader, id=reader.template) for reader in all_readers()]
UNKNOWN_WORD = "flux-compensator"


@st.composite
def damaged(draw: st.DrawFn, text: str) -> str:
    """``text`` with one kind of damage."""
    lines = text.splitlines(keepends=True)
    at = draw(st.integers(0, len(lines) - 1))
    kind = draw(st.sampled_from(["delete", "double", "exchange", "truncate", "insert"]))
    if kind == "delete":
        return "".join(lines[:at] + lines[at + 1 :])
    if kind == "double":
        return "".join(lines[: at + 1] + lines[at:])
    if kind == "exchange":
        other = draw(st.integers(0, len(lines) - 1))
        lines[at], lines[other] = lines[other], lines[at]
        return "".join(lines)
    if kind == "truncate":
        raw = text.encode("utf-8", "surrogateescape")
        return raw[: draw(st.integers(0, len(raw) - 1))].decode("utf-8", "surrogateescape")
    words = lines[at].split(" ")
    place = draw(st.integers(0, len(words)))
    lines[at] = " ".join([*words[:place], UNKNOWN_WORD, *words[place:]])
    return "".join(lines)


def refused_or_no_better(reader: Reader, answer: Answer, text: str) -> bool:
    truth = reader.standing(reader.read(answer))
    try:
        state = reader.read(answer.with_text(text))
    except ParseError:
        return True
    return not is_better(reader.standing(state), truth)


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_text_is_refused_or_reads_no_better(reader: Reader, data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from([one for one in reader.samples if one.text]))
    answer = Answer.of(sample)
    assert refused_or_no_better(reader, answer, data.draw(damaged(answer.text))), str(sample)


@pytest.mark.parametrize("reader", [one for one in READERS if one.values[0].machine])  # type: ignore[union-attr]  # values are ours
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_machine_readable_form_is_refused_or_reads_no_better(reader: Reader, data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from([one for one in reader.samples if one.machine]))
    assert sample.machine is not None
    truth = reader.standing(reader.machine_state(sample.machine, sample))
    text = data.draw(damaged(sample.machine))
    try:
        state = reader.machine_state(text, sample)
    except ParseError:
        return
    assert not is_better(reader.standing(state), truth), str(sample)
