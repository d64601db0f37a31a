"""The table in docs/parsers.md is that of today's samples."""

from __future__ import annotations

from tests.parsers.coverage import DOCUMENT, with_table


def test_the_table_of_what_is_covered_is_up_to_date() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_table(text) == text, "run: python -m tests.parsers.coverage"
