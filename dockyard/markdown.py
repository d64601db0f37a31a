"""Tables and findings as Markdown, for pages and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dockyard.findings import Finding

_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|#~"} | {"\n": " "})


def text(plain: str) -> str:
    """``plain`` with every character that Markdown would take for its own escaped (CommonMark, 2.4)."""
    return plain.translate(_SPECIAL)


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """A table with the keys of the first row as its head; ``""`` without rows."""
    if not rows:
        return ""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join("| " + " | ".join(cell if cell == "---" else text(cell) for cell in line) + " |" for line in lines)


def findings(found: Sequence[Finding]) -> str:
    """One heading of the third order each, with its evidence and what to do next."""
    return "\n\n".join(
        f"### {text(one.host)}: {text(one.fault)}\n\nSeen: {text(one.evidence)}\n\nNext: {text(one.advice)}"
        for one in found
    )
