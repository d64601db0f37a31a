"""The documents for the day without a laptop: one procedure in two languages, a picture, pages that load nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from dockyard.picture import picture
from dockyard.topology import K3s, Ssh, Topology, Transport, VolumeRoot
from tasks.backup import restore_by_hand
from tasks.drbd import places
from tasks.drbd.document import digest, documents, procedure
from tasks.drbd.failures import Version
from tasks.drbd.status import read_status
from tests.printed import Block, blocks, chapters
from tests.unit import backups
from tests.unit.meshes import with_laptop
from tests.unit.replicas import UNITS, topology

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
CHOICES = [(Version.V84,), (Version.V9,), tuple(Version)]
TITLES = {"en": "Hand over: from dock-prod to dock-mirror", "de": "Übergabe: von dock-prod an dock-mirror"}


def pages(versions: tuple[Version, ...], units: tuple[str, ...]) -> tuple[str, str]:
    cluster = topology(units=units)
    return procedure(cluster, versions, "en"), procedure(cluster, versions, "de")


def typed(page: str) -> list[list[Block]]:
    return [found for text in chapters(page).values() if (found := blocks(text))]


@pytest.mark.parametrize(("versions", "units"), list(product(CHOICES, [(), UNITS])))
def test_both_languages_have_the_same_commands_in_the_same_order(
    versions: tuple[Version, ...], units: tuple[str, ...]
) -> None:
    english, german = (typed(page) for page in pages(versions, units))
    assert english == german
    assert len(english) == (8 if Version.V84 in versions else 6)
    assert all(block.prints for chapter in english for block in chapter)


def test_the_commands_are_those_of_the_runbooks() -> None:
    page = procedure(topology(units=UNITS), list(Version), "en")
    (handover,) = (blocks(text) for title, text in chapters(page).items() if title == TITLES["en"])
    commands = [(block.host, block.command) for block in handover]
    assert ("dock-prod", f"systemctl stop {places.STORAGE} && {places.GUARD} down") in commands
    assert ("dock-mirror", f"systemctl start --no-block {places.STORAGE}") in commands
    assert ("dock-prod", "\n".join(f"systemctl stop -- {unit}" for unit in UNITS)) in commands
    assert ("dock-mirror", "\n".join(f"systemctl start -- {unit}" for unit in reversed(UNITS))) in commands
    assert not any(word in command for _, command in commands for word in ("--force", "discard-my-data"))


def test_how_to_restore_is_told_where_there_are_backups() -> None:
    cluster = backups.topology()
    commands = restore_by_hand(cluster)
    assert restore_by_hand(topology()) == ()
    for language, none in (("en", "names no backup"), ("de", "nennt keine Sicherung")):
        page = procedure(cluster, list(Version), language, restore=commands)
        assert "```sh\n{}\n```".format("\n".join(commands)) in page
        assert none not in page
        assert none in procedure(topology(), list(Version), language)


def test_a_name_that_only_the_owners_ssh_may_know_is_said_to_be_one() -> None:
    cluster = topology()
    alias = replace(cluster.host("dock-prod"), hostname="prod", ssh=Ssh(transport=Transport.SYSTEM))
    aliased = replace(cluster, hosts={**cluster.hosts, "dock-prod": alias})
    for language in ("en", "de"):
        assert "~/.ssh/config" not in procedure(cluster, list(Version), language)
        (said,) = (line for line in procedure(aliased, list(Version), language).splitlines() if "~/.ssh/config" in line)
        assert "dock-prod" in said
        assert "dock-mirror" not in said


@pytest.mark.parametrize("version", Version)
def test_what_must_appear_is_what_drbd_prints(version: Version) -> None:
    page = procedure(topology(), [version], "en")
    answers = [block for chapter in typed(page) for block in chapter if block.command == "drbdadm status data | cat"]
    assert answers
    for block in answers:
        state = read_status(block.expected(version)).resource("data")
        assert state is not None
        assert str(state.role) in {"Primary", "Secondary"}


def test_where_the_version_is_known_nothing_is_told_twice() -> None:
    for page in pages((Version.V84,), ()):
        assert {version for chapter in typed(page) for block in chapter for version in block.prints} == {""}


def test_the_same_inventory_gives_the_same_bytes_and_another_one_another_number() -> None:
    cluster = topology()
    assert documents(cluster, list(Version)) == documents(topology(), list(Version))
    prod = cluster.hosts["dock-prod"]
    moved = replace(prod, ssh=replace(prod.ssh, key_file=Path("/elsewhere")))
    assert digest(replace(cluster, hosts={**cluster.hosts, "dock-prod": moved})) == digest(cluster)
    assert digest(with_laptop(cluster)) == digest(cluster), "nothing printed changes, so nothing is to be printed anew"
    away = replace(prod, port=2222)
    assert digest(replace(cluster, hosts={**cluster.hosts, "dock-prod": away})) != digest(cluster)


def test_a_page_with_other_words_has_another_number(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(topology())
    monkeypatch.setattr(places, "LET_GO", "another command")
    assert digest(topology()) != before


def test_the_pages_load_nothing_and_run_nothing() -> None:
    files = documents(topology(units=UNITS), list(Version))
    assert sorted(files) == [
        "failover.de.md",
        "failover.en.md",
        "failures.md",
        "index.de.html",
        "index.en.html",
        "topology.svg",
    ]
    for name in ("index.de.html", "index.en.html"):
        assert not re.search(r"<script|<link|\bsrc=|@import|url\(", files[name])
        targets = re.findall(r'href="#([^"]+)"', files[name])
        assert targets
        assert all(f'id="{target}"' in files[name] for target in targets)


def of_size(hosts: int, sites: int) -> Topology:
    """A mesh of so many hosts with long names; the second of two and more is behind NAT."""
    lab = topology()
    first = lab.hosts["dock-prod"]
    names = [f"a-host-with-quite-a-long-name-{number}" for number in range(hosts)]
    made = {
        name: replace(
            first, name=name, site=f"site-{number % sites}", roles=frozenset(), drbd=None,
            wireguard=replace(first.wireguard, endpoint=None if number == 1 else first.wireguard.endpoint, lan=None),
        )
        for number, name in enumerate(names)
    }  # fmt: skip
    return replace(lab, hosts=made, cluster=replace(lab.cluster, arbitrator=names[0], services={}))


@pytest.mark.parametrize(("hosts", "sites"), [(1, 1), (3, 2), (5, 3), (12, 4)])
def test_the_picture_holds_every_host_and_every_pair_inside_its_frame(hosts: int, sites: int) -> None:
    root = ET.fromstring(picture(of_size(hosts, sites)))
    width, height = (float(number) for number in root.attrib["viewBox"].split()[2:])
    texts = {text.text: text for text in root.iter(f"{SVG}text")}
    assert all(f"a-host-with-quite-a-long-name-{number}" in texts for number in range(hosts))
    for words, text in texts.items():
        assert words is not None
        assert float(text.attrib["x"]) + len(words) * 7.83 <= width
        assert float(text.attrib["y"]) <= height
    arcs = [path for path in root.iter(f"{SVG}path") if path.attrib["class"].startswith("link")]
    assert len(arcs) == hosts * (hosts - 1) // 2
    dashed = [path for path in arcs if "nat" in path.attrib["class"].split()]
    assert len(dashed) == (hosts - 1 if hosts > 1 else 0)


def test_the_picture_of_the_lab_has_the_copy_and_the_arbitrator() -> None:
    drawn = picture(topology())
    assert "◆ arbitrator" in drawn
    assert "DRBD: dock-prod writes, dock-mirror follows" in drawn
    assert "DRBD: dock-mirror writes, dock-prod follows" in picture(topology(), writer="dock-mirror")


def document(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "runbooks" / "document.py"), "--inventory", "lab", *arguments]
    return subprocess.run(
        command, env={**os.environ, "COLUMNS": "140"}, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_runbook_writes_once_and_says_what_it_would_write(tmp_path: Path) -> None:
    folder = tmp_path / "paper"
    dry = document("--output", str(folder), "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "+# dockyard-lab" in dry.stdout
    assert not folder.exists()
    assert document("--output", str(folder)).returncode == 0
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = document("--output", str(folder))
    assert (again.returncode, again.stderr) == (0, "")
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    run = document("--output", str(file / "folder"))
    assert run.returncode == 2
    assert str(file) in run.stdout


DISASTER = "Disaster: dock-prod is gone, dock-mirror takes over"


def test_who_finds_that_somebody_began_is_not_led_past_the_questions() -> None:
    text = chapters(procedure(topology(), list(Version), "en"))[DISASTER]
    begun = text.partition("somebody began")[2].partition("###")[0]
    assert "Do not skip the next steps" in begun
    assert "Show the line again" not in begun


@pytest.mark.parametrize(("version", "reconnects"), [(Version.V84, True), (Version.V9, False)])
def test_drbd_9_is_never_made_to_forget_what_is_missing(version: Version, reconnects: bool) -> None:
    """With equal generations DRBD 9 clears its bitmap when it connects (drbd_state.c, 9.2.16)."""
    for page in pages((version,), ()):
        assert ("drbdadm disconnect data && drbdadm connect data" in page) is reconnects
        assert ("invalidate --reset-bitmap=no data" in page) is not reconnects
        (handover,) = (blocks(text) for title, text in chapters(page).items() if title in TITLES.values())
        asked = [block for block in handover if block.command.startswith("journalctl")]
        assert [block.host for block in asked] == ([] if reconnects else ["dock-prod"])


def test_a_new_writer_that_waits_is_stopped_before_the_old_one_lets_go_again() -> None:
    for page in pages((Version.V84,), ()):
        (text,) = (text for title, text in chapters(page).items() if title in TITLES.values())
        took_back = text.partition("role:Primary")[2]
        assert 0 < took_back.index("`systemctl stop dockyard-storage.service`") < took_back.index("###")


def test_a_page_for_drbd_9_names_no_chapter_that_it_lacks() -> None:
    assert "see the chapter about that" not in procedure(topology(), [Version.V9], "en")
    assert "dafür ein eigenes Kapitel" not in procedure(topology(), [Version.V9], "de")


def test_pods_that_have_the_storage_mounted_are_ended_first() -> None:
    cluster = topology(units=UNITS)
    assert cluster.cluster.k3s is None or cluster.cluster.k3s.volumes.path != "/srv/data"
    there = replace(cluster.cluster, k3s=K3s(volumes=VolumeRoot(path="/srv/data", mounted=True)))
    page = procedure(replace(cluster, cluster=there), list(Version), "en")
    (handover,) = (blocks(text) for title, text in chapters(page).items() if title == TITLES["en"])
    commands = "\n".join(block.command for block in handover)
    assert 0 < commands.index("k3s kubectl drain dock-prod") < commands.index("drbd-storage down")
    assert "kubectl" not in procedure(cluster, list(Version), "en")
