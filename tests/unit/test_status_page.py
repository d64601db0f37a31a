"""The page of health: what it says, that it needs nothing else, and that nothing in it is taken for markup."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser

from dockyard import markdown
from dockyard.findings import Cause, Finding
from dockyard.standing import Level
from dockyard.status_page import status_page
from tests.unit.meshes import topology

WHEN = datetime(2026, 3, 1, 4, 5, 6, tzinfo=UTC)
LINKS = {frozenset({"dock-prod", "dock-mirror"}): Level.FAILED, frozenset({"dock-prod", "dock-edge"}): Level.HEALTHY}
FAULT = Finding(
    cause=Cause.MESH,
    host="dock-prod",
    fault="no answer from <dock-mirror>",
    evidence="0 of 3 | pings_\n*lost*",
    advice="wg show wg0",
)


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.opened: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page(*findings: Finding) -> Tags:
    rows = [{"host": "dock-prod", "seen": "yes", "free": "40%"}, {"host": "dock-dash", "seen": "no", "free": "-"}]
    return Tags(status_page(topology(), WHEN, findings, {"hosts": rows}, writer="", links=LINKS))


def test_all_is_well_with_time_tables_and_coloured_links() -> None:
    seen = page()
    assert "Everything is as it should be." in seen.text
    assert "2026-03-01 04:05:06 UTC" in seen.text
    assert "40%" in seen.text
    kinds = [attributes.get("class") or "" for tag, attributes in seen.opened if tag == "path"]
    assert sum("failed" in kind.split() for kind in kinds) == 1
    assert sum("healthy" in kind.split() for kind in kinds) == 1


def test_findings_are_text_and_never_markup() -> None:
    seen = page(FAULT)
    assert "1 finding." in seen.text
    assert "dock-prod: no answer from <dock-mirror>" in seen.text
    assert "0 of 3 | pings_ *lost*" in seen.text
    assert not {tag for tag, _ in seen.opened} & {"dock-mirror", "script", "em", "link", "img", "iframe"}


def test_the_page_loads_nothing() -> None:
    for _, attributes in page(FAULT).opened:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith("#")


def test_cells_keep_bars_and_underscores_to_themselves() -> None:
    assert markdown.table([{"a": "x|y", "b": "__z__"}]) == "| a | b |\n| --- | --- |\n| x\\|y | \\_\\_z\\_\\_ |"
    assert markdown.table([]) == ""
