"""Every recorded output is read completely and rightly; where a tool has two forms, both readers agree."""

from __future__ import annotations

import pytest

from tests.parsers.readers import Answer, Reader, all_readers
from tests.parsers.samples import Sample

PAIRS = [pytest.param(reader, sample, id=str(sample)) for reader in all_readers() for sample in reader.samples]


@pytest.mark.parametrize(("reader", "sample"), PAIRS)
def test_a_sample_is_read_as_its_facts_say(reader: Reader, sample: Sample) -> None:
    assert reader.facts(reader.read(Answer.of(sample)), sample) == sample.facts


@pytest.mark.parametrize(
    ("reader", "sample"),
    [pair for pair in PAIRS if pair.values[0].machine and pair.values[1].machine is not None],  # type: ignore[union-attr]  # values are ours
)
def test_text_and_machine_readable_form_give_the_same_state(reader: Reader, sample: Sample) -> None:
    assert sample.machine is not None
    machine = reader.machine_state(sample.machine, sample)
    assert reader.comparable(reader.read(Answer.of(sample))) == reader.comparable(machine)
