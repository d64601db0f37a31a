"""What the readers are tried on: `python -m tests.parsers.coverage` writes the table of tools, versions and states."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from tests.parsers.readers import Answer, Reader, all_readers

DOCUMENT = Path(__file__).parents[2] / "docs" / "parsers.md"
BEGIN, END = "<!-- the table: python -m tests.parsers.coverage -->", "<!-- end of the table -->"


def table() -> str:
    """A row for each tool and version: how many samples there are, and every word that they show."""
    lines = ["| command | version | samples | states and words that they show |", "|---|---|---|---|"]
    for reader in sorted(all_readers(), key=lambda reader: reader.command):
        lines += _rows(reader)
    return "\n".join(lines)


def _rows(reader: Reader) -> list[str]:
    counts: dict[str, int] = defaultdict(int)
    words: dict[str, set[str]] = defaultdict(set)
    for sample in reader.samples:
        counts[sample.version] += 1
        words[sample.version] |= {str(word) for word in reader.words(reader.read(Answer.of(sample)))}
    name = f"`{reader.command}`"
    return [
        f"| {name} | {version} | {counts[version]} | {', '.join(sorted(words[version]))} |"
        for version in sorted(counts)
    ]


def with_table(text: str) -> str:
    """The document with today's table in the place of the old one."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
