"""The cluster as a picture (SVG): sites as boxes, hosts in them, the mesh as arcs, the replication as an arrow.

All hosts stand in one column and every pair is joined by an arc at its right: so no line runs through a box and no text
is covered, however many hosts and sites there are. Letters are of one width, so boxes are as wide as their text.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations

from dockyard.standing import Level
from dockyard.topology import Host, Role, Topology

Pair = frozenset[str]
"""Two hosts, whichever way packets go."""

LETTER = 7.9
"""Width of a letter of 13 px in the widest of the fonts that are asked for (0.602 em), and a little."""

LINE, PAD, GAP = 18, 12, 12
LEFT = 64
"""Room for the arrow of the replication."""

MIDDLE = LEFT + 2 * PAD
"""Where the boxes of hosts begin."""

WIDEST = 46
"""Letters in a line of roles."""

_SHAPES = """\
.topology text { font: 13px "DejaVu Sans Mono", ui-monospace, Menlo, Consolas, monospace; }
.topology .name { font-weight: bold; }
.topology .arbitrator { stroke-width: 3; }
.topology .link { fill: none; stroke-width: 1.5; }
.topology .nat { stroke-dasharray: 6 4; }
.topology .degraded, .topology .failed { stroke-width: 2.5; }
.topology .copy { fill: none; stroke-width: 4; }"""

_COLOURS = {
    "text": ("fill", "#4f5862", "#aab4be"),
    ".name": ("fill", "#1b1f24", "#e6e9ec"),
    ".site": ("fill", "#eef1f4", "#1d2227"),
    ".host": ("fill", "#ffffff", "#2a3036"),
    ".site, .topology .host, .topology .link": ("stroke", "#8f99a3", "#6f7983"),
    ".judge, .topology .head": ("fill", "#0b57a4", "#8ab8ee"),
    ".arbitrator, .topology .copy": ("stroke", "#0b57a4", "#8ab8ee"),
    ".healthy": ("stroke", "#1a7f37", "#57c46f"),
    ".degraded": ("stroke", "#b35900", "#e8a048"),
    ".failed": ("stroke", "#c62828", "#ff7b72"),
    ".unknown": ("stroke", "#8250c4", "#bc9af0"),
}
"""What is coloured, and its colour on light and on dark ground. Written out: not every viewer knows CSS variables."""


def _style() -> str:
    light, dark = (
        "\n".join(f".topology {what} {{ {how[0]}: {how[at]}; }}" for what, how in _COLOURS.items()) for at in (1, 2)
    )
    return f"{_SHAPES}\n{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}"


@dataclass(frozen=True, slots=True)
class Box:
    """Where one host stands: the upper edge and the height of its box, and what is written in it."""

    host: Host
    top: int
    lines: tuple[str, ...]

    @property
    def height(self) -> int:
        return len(self.lines) * LINE + PAD

    @property
    def middle(self) -> float:
        return self.top + self.height / 2


def picture(topology: Topology, *, writer: str = "", links: Mapping[Pair, Level] | None = None) -> str:
    """A whole SVG document, without a final newline.

    ``writer`` is who writes now (the first Primary, if nobody says). ``links`` colours the arcs of the pairs in it.
    """
    boxes = _boxes(topology)
    wide = max(round(max(map(len, box.lines)) * LETTER) for box in boxes.values()) + 2 * PAD
    right = MIDDLE + wide + PAD
    copies = _copies(topology, writer)
    legend = _legend(topology, copies, links or {})
    bottom = max(box.top + box.height for box in boxes.values()) + 3 * PAD
    bulge = 40 + 22 * (len(boxes) - 1)
    width = round(max(right + bulge, max(len(line) for line in legend) * LETTER + MIDDLE) + PAD)
    height = bottom + len(legend) * LINE + PAD
    name = escape(topology.cluster.name)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="topology" viewBox="0 0 {width} {height}" role="img">',
            f"<title>{name}</title>",
            f"<style>{_style()}</style>",
            *_arcs(topology, boxes, right - PAD, links or {}),
            *_sites(boxes, right),
            *(part for box in boxes.values() for part in _host(topology, box, wide)),
            *_arrow(boxes, copies),
            *(_text(MIDDLE, bottom + LINE * number, line) for number, line in enumerate(legend, 1)),
            "</svg>",
        ]
    )


def _boxes(topology: Topology) -> dict[str, Box]:
    """The hosts from top to bottom, site by site in the order of the inventory."""
    boxes: dict[str, Box] = {}
    top = PAD
    for site in dict.fromkeys(host.site for host in topology.hosts.values()):
        top += LINE + PAD
        for host in (one for one in topology.hosts.values() if one.site == site):
            boxes[host.name] = Box(host, top, tuple(_lines(topology, host)))
            top += boxes[host.name].height + GAP
        top += PAD
    return boxes


def _lines(topology: Topology, host: Host) -> Iterator[str]:
    yield host.name
    endpoint = host.wireguard.endpoint
    yield f"{host.wireguard.address}, {f'reached at {endpoint}' if endpoint else 'behind NAT'}"
    roles = sorted(role for role in host.roles if role is not Role.ARBITRATOR)
    yield from textwrap.wrap(", ".join(roles), WIDEST)
    if host.name == topology.cluster.arbitrator:
        yield f"◆ {Role.ARBITRATOR}"


def _host(topology: Topology, box: Box, wide: int) -> Iterator[str]:
    judge = box.host.name == topology.cluster.arbitrator
    kind = "host arbitrator" if judge else "host"
    yield f'<rect class="{kind}" x="{MIDDLE}" y="{box.top}" width="{wide}" height="{box.height}" rx="6"/>'
    for number, line in enumerate(box.lines, 1):
        kind = "name" if number == 1 else "judge" if judge and number == len(box.lines) else ""
        yield _text(MIDDLE + PAD, box.top + LINE * number, line, kind)


def _sites(boxes: Mapping[str, Box], right: int) -> Iterator[str]:
    """A frame around the hosts of each site. It lies over the beginnings of the arcs and under the hosts."""
    for site in dict.fromkeys(box.host.site for box in boxes.values()):
        own = [box for box in boxes.values() if box.host.site == site]
        top, end = own[0].top - LINE - 4, own[-1].top + own[-1].height + PAD
        left = MIDDLE - PAD
        yield f'<rect class="site" x="{left}" y="{top}" width="{right - left}" height="{end - top}" rx="8"/>'
        yield _text(MIDDLE, top + LINE, site, "name")


def _arcs(topology: Topology, boxes: Mapping[str, Box], edge: int, links: Mapping[Pair, Level]) -> Iterator[str]:
    """An arc for every two hosts, the further apart the wider; dashed where one of them cannot be reached first."""
    names = list(boxes)
    for one, two in sorted(combinations(range(len(names)), 2), key=lambda pair: pair[0] - pair[1]):
        upper, lower = names[one], names[two]
        start = _port(boxes[upper], len(names) - 1, len(names) - 1 - two + one)
        end = _port(boxes[lower], len(names) - 1, two - one - 1)
        out = edge + PAD + (40 + 22 * (two - one)) / 0.75
        way = f"M {edge} {start:g} C {out:g} {start:g}, {out:g} {end:g}, {edge} {end:g}"
        kinds = _kinds(topology, upper, lower, links)
        yield f'<path class="{kinds}" d="{way}"><title>{upper} - {lower}</title></path>'


def _kinds(topology: Topology, one: str, two: str, links: Mapping[Pair, Level]) -> str:
    level = links.get(frozenset({one, two}))
    nat = " nat" if _one_sided(topology, one, two) else ""
    return f"link{nat}" + ("" if level is None else f" {level.name.lower()}")


def _port(box: Box, count: int, place: int) -> float:
    """Where an arc leaves a box: ``place`` from 0 (top) to ``count`` - 1. Near hosts above leave at the top."""
    return box.top + box.height * (place + 1) / (count + 1)


def _one_sided(topology: Topology, one: str, two: str) -> bool:
    return topology.endpoint(one, two) is None or topology.endpoint(two, one) is None


def _copies(topology: Topology, writer: str) -> tuple[str, str] | None:
    """Writer and follower, None where nothing is replicated."""
    pair = [host.name for role in (Role.DRBD_PRIMARY, Role.DRBD_SECONDARY) for host in topology.with_role(role)]
    if len(pair) != 2:
        return None
    first, second = pair if writer in {"", pair[0]} else reversed(pair)
    return first, second


def _arrow(boxes: Mapping[str, Box], copies: tuple[str, str] | None) -> Iterator[str]:
    """From the writer to the copy, at the left of all boxes."""
    if copies:
        start, end = (boxes[host].middle for host in copies)
        tip = MIDDLE - 2
        yield f'<path class="copy" d="M {tip} {start:g} C 0 {start:g}, 0 {end:g}, {tip - 12} {end:g}"/>'
        yield f'<path class="head" d="M {tip} {end:g} l -16 -8 v 16 z"/>'


def _legend(topology: Topology, copies: tuple[str, str] | None, links: Mapping[Pair, Level]) -> Sequence[str]:
    mesh = topology.cluster.wireguard
    lines = [f"─── WireGuard, {mesh.network}, every host with every other"]
    if any(_one_sided(topology, *pair) for pair in combinations(topology.hosts, 2)):
        lines.append("- - one of the two is behind NAT and has to begin")
    if copies:
        lines.append(f"──▶ DRBD: {copies[0]} writes, {copies[1]} follows, asynchronously")
    if links:
        seen = sorted({level.name.lower() for level in links.values()})
        lines.append(f"colours: {', '.join(seen)}")
    return lines


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    shown = f' class="{kind}"' if kind else ""
    return f'<text{shown} x="{x:g}" y="{y:g}">{escape(text)}</text>'
