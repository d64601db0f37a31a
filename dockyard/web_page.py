"""Markdown as one self-contained HTML page: no script, nothing loaded, readable in print and in the dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dockyard.rendering import render_document


@dataclass(frozen=True, slots=True)
class Chapter:
    """A heading of the second order: ``id`` is where a link to it leads."""

    id: str
    title: str


def web_page(title: str, text: str, *, language: str, picture: str) -> str:
    """The page of ``text`` (CommonMark with tables), with contents and ``picture`` (SVG) before its first chapter."""
    body, chapters = _html(text)
    head, mark, rest = body.partition("<h2")
    return render_document(
        "page.html",
        title=title,
        language=language,
        head=head,
        chapters=chapters,
        picture=picture,
        body=mark + rest,
    )


def _html(text: str) -> tuple[str, Sequence[Chapter]]:
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(text)
    chapters: list[Chapter] = []
    for token, content in pairwise(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            chapters.append(Chapter(f"chapter-{len(chapters) + 1}", content.content))
            token.attrSet("id", chapters[-1].id)
    html = reader.renderer.render(tokens, reader.options, {})
    return html.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>"), chapters
