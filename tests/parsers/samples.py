"""Recorded outputs: ``tests/samples/<template>/<version>__<case>__<host>.txt`` and its companions of the same stem.

    .txt           standard output, byte for byte              (always)
    .stderr        standard error, where there was some
    .rc            exit code, where it was not 0
    .json, .xml, .dump   the machine-readable form, recorded in the same moment, where the tool has one
    .facts.json    what a reader must find: from the machine-readable form or read by a person, not made by our reader

``<version>`` names tool and version as ``drbd-9.2.16``; ``<case>`` the state, with the options after a plus sign
(``019_established+verbose``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parents[1] / "samples"
MACHINE_FORMS = (".json", ".xml", ".dump")


@dataclass(frozen=True, slots=True)
class Sample:
    """One recorded moment of one tool on one host."""

    path: Path

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"

    @property
    def version(self) -> str:
        return self.path.stem.split("__")[0]

    @property
    def case(self) -> str:
        return self.path.stem.split("__")[1]

    @property
    def host(self) -> str:
        return self.path.stem.split("__")[2]

    @property
    def text(self) -> str:
        return self.path.read_bytes().decode("utf-8", "surrogateescape")

    @property
    def stderr(self) -> str:
        return self._companion(".stderr") or ""

    @property
    def exit_code(self) -> int:
        return int(self._companion(".rc") or 0)

    @property
    def machine(self) -> str | None:
        """The machine-readable form, None where the tool has none."""
        found = [text for form in MACHINE_FORMS if (text := self._companion(form)) is not None]
        return found[0] if found else None

    @property
    def facts(self) -> Any:
        return json.loads(self._companion(".facts.json") or "null")

    def _companion(self, ending: str) -> str | None:
        path = self.path.with_name(self.path.stem + ending)
        return path.read_bytes().decode("utf-8", "surrogateescape") if path.exists() else None


def samples_of(template: str) -> list[Sample]:
    """All samples of one template, in order of their names."""
    return [Sample(path) for path in sorted((SAMPLES / template).glob("*.txt"))]
