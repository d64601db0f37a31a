"""The documents for the day without a laptop: the procedure in two languages, picture, addresses, arbitration table.

Made of the inventory alone and of nothing that changes by itself, so that the same inventory gives the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from dockyard.picture import picture
from dockyard.rendering import render_document
from dockyard.topology import Host, Ssh, Topology, Transport
from dockyard.web_page import web_page
from tasks.drbd import places
from tasks.drbd.by_hand import ANY, Hands
from tasks.drbd.failures import Setup, Version
from tasks.drbd.replica import replication_of
from tasks.drbd.sheet import Row, Sheet, sheet_of, short

LANGUAGES = ("en", "de")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One host in the table of addresses; ``endpoint``, ``lan`` and ``disk`` are ``""`` where it has none."""

    name: str
    site: str
    roles: str
    login: str
    sudo: str
    address: str
    endpoint: str
    lan: str
    disk: str


def documents(
    topology: Topology, versions: Sequence[Version], options: str = "", *, restore: Sequence[str] = ()
) -> dict[str, str]:
    """All files by name. ``options`` follows the commands of the arbitration table, such as `` --inventory lab``.

    ``restore`` are the commands that bring a backup back beside the live data; none where there are no backups.

    Raises:
        UsageError: the inventory describes no replication.
    """
    drawn = picture(topology)
    table = arbitration(topology, versions, options)
    files = {"topology.svg": f"{drawn}\n", "failures.md": table}
    for language in LANGUAGES:
        text = procedure(topology, versions, language, restore=restore)
        files[f"failover.{language}.md"] = text
        title = text.partition("\n")[0].removeprefix("# ")
        files[f"index.{language}.html"] = web_page(title, f"{text}\n{table}", language=language, picture=drawn)
    return files


def procedure(topology: Topology, versions: Sequence[Version], language: str, *, restore: Sequence[str] = ()) -> str:
    """What to type by hand, as Markdown; see `documents` for ``restore``."""
    return _procedure(topology, versions, language, restore=restore, number=digest(topology))


def _procedure(
    topology: Topology, versions: Sequence[Version], language: str, *, restore: Sequence[str], number: str
) -> str:
    hands = Hands(topology=topology, versions=versions)
    lines = [_line(host) for host in topology.hosts.values()]
    key_hosts = {topology.cluster.arbitrator, *hands.pair}
    return render_document(
        f"failover.{language}.md",
        name=topology.cluster.name,
        digest=number,
        topology=topology,
        replication=replication_of(topology),
        hands=hands,
        old_hands=replace(hands, versions=(Version.V84,)) if Version.V84 in versions else None,
        new_hands=replace(hands, versions=(Version.V9,)) if Version.V9 in versions else None,
        ways=(hands.pair, hands.pair[::-1]),
        hosts=lines,
        key_hosts=[line for line in lines if line.name in key_hosts],
        aliases=", ".join(host for host in sorted(key_hosts) if topology.host(host).ssh.transport is Transport.SYSTEM),
        any=ANY,
        record=places.WRITER,
        guard=places.GUARD,
        storage=places.STORAGE,
        let_go=places.LET_GO,
        up=places.UP,
        restore=restore,
    )


def arbitration(topology: Topology, versions: Sequence[Version], options: str = "") -> str:
    """The table of runbooks/failures.py as Markdown, for each version."""
    setups = [Setup.of(topology, version, options) for version in versions]
    return render_document(
        "failures.md",
        name=topology.cluster.name,
        digest=digest(topology),
        sheets=[(setup, _lettered(sheet_of(setup))) for setup in setups],
    )


def _lettered(sheet: Sheet) -> Sheet:
    def brief(rows: Sequence[Row]) -> Sequence[Row]:
        return short(rows, sheet.letters)

    return replace(sheet, alone=brief(sheet.alone), worse=brief(sheet.worse), back=brief(sheet.back))


def digest(topology: Topology) -> str:
    """Twelve letters of the inventory (without laptops, and where somebody keeps their keys) and of the procedure.

    So a page that an older Dockyard wrote is known to be old as soon as a word of its procedure would be another today.
    """
    hosts = {name: replace(host, ssh=_public(host.ssh)) for name, host in topology.hosts.items()}
    cluster = replace(topology.cluster, wireguard=replace(topology.cluster.wireguard, laptops=None))
    data = msgspec.json.encode(replace(topology, cluster=cluster, hosts=hosts), enc_hook=str, order="deterministic")
    pages = (_procedure(topology, list(Version), language, restore=(), number="") for language in LANGUAGES)
    text = "".join(pages) if topology.cluster.drbd else ""
    return hashlib.sha256(data + text.encode()).hexdigest()[:12]


def _public(ssh: Ssh) -> Ssh:
    return replace(ssh, key_file=None, known_hosts=Path(), sudo_password_file=None)


def _line(host: Host) -> Line:
    port = "" if host.port == 22 else f"-p {host.port} "
    return Line(
        name=host.name,
        site=host.site,
        roles=", ".join(sorted(host.roles)),
        login=f"ssh {port}{host.username}@{host.hostname}",
        sudo=host.ssh.sudo,
        address=str(host.wireguard.address),
        endpoint=host.wireguard.endpoint or "",
        lan=host.wireguard.lan or "",
        disk=host.drbd.disk if host.drbd else "",
    )
