"""All readers, as the tests that hold for all of them see them; each domain lists its own in ``read_<domain>.py``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dockyard.standing import Standing
from tests.parsers.samples import Sample, samples_of


@dataclass(frozen=True, slots=True)
class Answer:
    """What one command answered, as a reader is given it: damaged or not."""

    text: str
    stderr: str = ""
    exit_code: int = 0
    version: str = ""

    @classmethod
    def of(cls, sample: Sample) -> Answer:
        return cls(sample.text, sample.stderr, sample.exit_code, sample.version)

    def with_text(self, text: str) -> Answer:
        return replace(self, text=text)


@dataclass(frozen=True, slots=True)
class Reader:
    """One template (or one format without a template) and everything that is known about reading it.

    ``template`` is the name of the template and of the folder of its samples. ``facts`` brings a state into the schema
    of the samples' ``.facts.json``. ``words`` are the states that a sample shows, for the table of what is covered.
    ``machine`` reads the machine-readable form into the same type; ``comparable`` leaves out what the text cannot say.
    ``seed`` makes the facts that ``facts`` itself needs when a sample is recorded, from the host's clock (Unix time).
    """

    template: str
    command: str
    read: Callable[[Answer], Any]
    facts: Callable[[Any, Sample], Any]
    standing: Callable[[Any], Standing]
    words: Callable[[Any], Iterable[str]]
    machine: Callable[[str, Sample], Any] | None = None
    comparable: Callable[[Any], Any] = lambda state: state
    seed: Callable[[Sample, int], Any] | None = None

    def machine_state(self, text: str, sample: Sample) -> Any:
        """The state that the machine-readable form of a sample tells."""
        assert self.machine, f"{self.template} has no machine-readable form"
        return self.machine(text, sample)

    @property
    def samples(self) -> list[Sample]:
        return samples_of(self.template)


def all_readers() -> list[Reader]:
    """The ``READERS`` of every module ``tests/parsers/read_<domain>.py``."""
    here = Path(__file__).parent
    names = sorted(module.name for module in pkgutil.iter_modules([str(here)]) if module.name.startswith("read_"))
    return [reader for name in names for reader in importlib.import_module(f"tests.parsers.{name}").READERS]
