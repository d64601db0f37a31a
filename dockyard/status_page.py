"""The state of the whole cluster at one moment, as one self-contained web page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from dockyard import markdown
from dockyard.findings import Finding
from dockyard.picture import Pair, picture
from dockyard.standing import Level
from dockyard.topology import Topology
from dockyard.web_page import web_page


def status_page(
    topology: Topology,
    when: datetime,
    findings: Sequence[Finding],
    tables: Mapping[str, Sequence[Mapping[str, str]]],
    *,
    writer: str,
    links: Mapping[Pair, Level],
) -> str:
    """HTML: a verdict and the time, the picture with coloured links, the findings, then every table.

    ``tables`` are rows by title; ``writer`` is who writes now (``""``: nobody, or nothing was seen).
    """
    name = topology.cluster.name
    chapters = [f"# {markdown.text(name)}", _verdict(findings), f"Seen at {when:%Y-%m-%d %H:%M:%S %Z}."]
    chapters += ["## Findings", markdown.findings(findings) or "None."]
    for title, rows in tables.items():
        chapters += [f"## {markdown.text(title.capitalize())}", markdown.table(rows)]
    drawn = picture(topology, writer=writer, links=links)
    return web_page(f"{name}: {_title(findings)}", "\n\n".join(chapters), language="en", picture=drawn)


def _title(findings: Sequence[Finding]) -> str:
    return f"{len(findings)} finding{'s'[: len(findings) > 1]}" if findings else "all is well"


def _verdict(findings: Sequence[Finding]) -> str:
    unseen = sum(finding.unseen for finding in findings)
    if not findings:
        return "**Everything is as it should be.**"
    blind = f" {unseen} of them because something could not be looked at." if unseen else ""
    return f"**{_title(findings).capitalize()}.**{blind} Causes stand before their consequences."
