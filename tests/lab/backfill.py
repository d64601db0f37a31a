"""A past for Prometheus: what it has of all hosts now, told for every half minute of a week, as OpenMetrics text."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

WEEK_S = 7 * 86400


@dataclass(frozen=True, slots=True)
class Series:
    """One series as /api/v1/query gave it, with its value now."""

    labels: Mapping[str, str]
    value: float

    @property
    def name(self) -> str:
        inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in self.labels.items() if key != "__name__")
        return f"{self.labels['__name__']}{{{inner}}}"

    @property
    def counts(self) -> bool:
        return self.labels["__name__"].endswith("_total")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def series_of(result: Sequence[Mapping[str, object]]) -> list[Series]:
    """The series in the ``result`` of an instant query."""
    found = []
    for one in result:
        labels, value = one["metric"], one["value"]
        assert isinstance(labels, dict)
        assert isinstance(value, list)
        found.append(Series(labels, float(value[1])))
    return found


def lines(
    series: Sequence[Series], *, end: int, length_s: int = WEEK_S, step_s: int = 30, seed: int = 1
) -> Iterator[str]:
    """The lines of the text, ``# EOF`` last. Counters grow by uneven steps, most other values wander; none is constant
    unless it is a whole number below 2: those are flags."""
    chance = random.Random(seed)
    for one in series:
        flag = not one.counts and one.value in (0.0, 1.0)
        value = 0.0 if one.counts else one.value
        size = max(abs(one.value), 1.0)
        for at in range(end - length_s, end, step_s):
            if one.counts:
                value += chance.random() * size / 1000
            elif not flag:
                value = one.value + chance.gauss(0, size / 50)
            yield f"{one.name} {value:.6g} {at}\n"
    yield "# EOF\n"
