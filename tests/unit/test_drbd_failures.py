"""The arbitration table is right for the lab and for other clusters, and its promises hold in every case."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import permutations, product
from pathlib import Path

import pytest

from dockyard.errors import UsageError
from dockyard.topology import Host, Role, Topology
from tasks.drbd.arbitration import Case, Kind, advice, case_of, may_be_mistaken
from tasks.drbd.failures import (
    Fault,
    Refusal,
    Setup,
    Version,
    World,
    alike,
    broken,
    connected,
    failed_over,
    healthy,
    mended,
    off,
    refusals,
    sees_writer,
    single_faults,
    talk,
    writers,
)
from tasks.drbd.table import doubles, power_back, seats, singles
from tests.unit import meshes

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "data" / "failures"
VERSIONS = list(Version)


def arbitrator_at(name: str) -> Topology:
    """The lab's cluster with the arbitrator on another host."""
    lab = meshes.topology()
    hosts = {host.name: _with_arbitrator(host, here=host.name == name) for host in lab.hosts.values()}
    return Topology(replace(lab.cluster, arbitrator=name), hosts)


def _with_arbitrator(host: Host, *, here: bool) -> Host:
    roles = host.roles - {Role.ARBITRATOR}
    return replace(host, roles=roles | {Role.ARBITRATOR} if here else roles)


def two_sites() -> Topology:
    lab = meshes.topology()
    hosts = {name: host for name, host in lab.hosts.items() if host.site != "vps"}
    services = {name: host for name, host in lab.cluster.services.items() if host in hosts}
    return Topology(replace(lab.cluster, services=services), hosts)


CLUSTERS: dict[str, Callable[[], Topology]] = {
    "lab": meshes.topology,
    "arbitrator beside the writer": lambda: arbitrator_at("dock-edge"),
    "arbitrator at a third site": lambda: arbitrator_at("dock-dash"),
    "two sites": two_sites,
}
EVERY = pytest.mark.parametrize(("cluster", "version"), list(product(CLUSTERS, VERSIONS)))


@cache
def setup_of(cluster: str, version: Version) -> Setup:
    return Setup.of(CLUSTERS[cluster](), version)


def fault(setup: Setup, name: str) -> Fault:
    return next(one for one in single_faults(setup) if one.name == name)


def after(setup: Setup, *names: str) -> World:
    world = healthy(setup)
    for name in names:
        world = broken(setup, world, fault(setup, name))
    return world


def sequences(setup: Setup) -> Iterator[tuple[Fault, ...]]:
    """No failure, every one alone, and every two in both orders."""
    faults = single_faults(setup)
    yield from ((), *((one,) for one in faults), *permutations(faults, 2))


def worlds(setup: Setup) -> Iterator[World]:
    """Every world after up to two failures, and after any part of them is mended again."""
    for faults in sequences(setup):
        world = healthy(setup)
        for one in faults:
            world = broken(setup, world, one)
        yield world
        for one in faults:
            yield mended(setup, world, [other for other in faults if other is not one])


def after_phrases(setup: Setup) -> Iterator[tuple[World, World]]:
    """Before and after every failover that is let through, from any seat."""
    for world in worlds(setup):
        for to, seat in product(setup.replicas, (None, *setup.sites)):
            if not refusals(setup, world, to, seat):
                yield world, failed_over(setup, world, to)


def every_case(setup: Setup) -> Iterator[Case]:
    alone = singles(setup)
    yield from alone
    for cases in doubles(setup, alone).worse.values():
        yield from cases


@EVERY
def test_without_the_phrase_nobody_writes_on_two_sides(cluster: str, version: Version) -> None:
    setup = setup_of(cluster, version)
    for world in worlds(setup):
        assert len(writers(setup, world)) <= 1, world
        assert len(world.alone) <= 1, "a split brain needs a failover"


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_with_drbd_9_nobody_ever_writes_on_two_sides(cluster: str) -> None:
    setup = setup_of(cluster, Version.V9)
    seen = 0
    for _, world in after_phrases(setup):
        seen += 1
        assert len(writers(setup, world)) <= 1, world
        assert len(writers(setup, mended(setup, world))) <= 1, world
    assert seen


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_with_drbd_84_two_writers_need_a_writer_that_nobody_sees(cluster: str) -> None:
    setup = setup_of(cluster, Version.V84)
    doubled = [(before, world) for before, world in after_phrases(setup) if len(writers(setup, world)) > 1]
    assert doubled or cluster == "arbitrator beside the writer", "there, whoever reaches the arbitrator sees the writer"
    for before, world in doubled:
        assert not any(talk(setup, before, host, before.record) for host in (setup.arbitrator, setup.other))
        assert mended(setup, world).alone == set(setup.replicas), "both histories are kept"


@EVERY
def test_nobody_serves_without_an_up_to_date_copy(cluster: str, version: Version) -> None:
    setup = setup_of(cluster, version)
    for world in worlds(setup):
        for writer in writers(setup, world):
            assert writer not in world.off | world.outdated
    for case in every_case(setup):
        able = set(setup.replicas) - case.world.off - case.world.outdated
        assert able or case.verdict.data.startswith("nobody")
        assert case.verdict.data.startswith("nobody") != bool(writers(setup, case.world))


@EVERY
def test_every_line_says_what_to_type_or_that_there_is_nothing_to_do(cluster: str, version: Version) -> None:
    setup = setup_of(cluster, version)
    verdicts = [case.verdict for case in every_case(setup)] + [verdict for _, verdict in power_back(setup)]
    for verdict in verdicts:
        for part in verdict.do.split("; "):
            assert any(word in part for word in ("nothing to do", "python runbooks/", "systemctl", "mend the line"))
        assert all((verdict.data, verdict.waits, verdict.lost, verdict.back))


@EVERY
def test_a_failover_that_is_advised_is_one_that_is_let_through_and_serves(cluster: str, version: Version) -> None:
    setup = setup_of(cluster, version)
    for world in worlds(setup):
        for seat in (None, *setup.sites):
            step = advice(setup, world, seat)
            if step.before:
                assert not refusals(setup, step.before, step.to, seat)
                assert writers(setup, failed_over(setup, step.before, step.to)) == {step.to}


@EVERY
def test_every_pair_is_shown_folded_or_the_same_as_one_failure(cluster: str, version: Version) -> None:
    setup = setup_of(cluster, version)
    alone = singles(setup)
    pairs = doubles(setup, alone)
    count = len(alone)
    assert pairs.count == count * (count - 1) // 2
    verdicts = {case.verdict for case in alone}
    for one, two in permutations([case.faults[0] for case in alone], 2):
        case = case_of(setup, (one, two))
        if case.verdict not in pairs.worse and case.verdict not in verdicts:
            parts = [case_of(setup, (part,)).verdict for part in (one, two)]
            assert any(replace(part, waits=case.verdict.waits) == case.verdict for part in parts) or any(
                alike(setup, case.world) == alike(setup, other.world) for other in alone
            ), case.name


@EVERY
def test_when_all_is_mended_without_a_failover_the_writer_serves_or_is_mounted_again(
    cluster: str, version: Version
) -> None:
    setup = setup_of(cluster, version)
    for world in worlds(setup):
        whole = mended(setup, world)
        assert connected(setup, whole)
        assert advice(setup, whole).kind in {Kind.SERVES, Kind.RESTART}


def test_a_seat_never_reaches_more_than_everybody_who_is_on() -> None:
    for version in VERSIONS:
        setup = setup_of("lab", version)
        for world in worlds(setup):
            for site in setup.sites:
                assert set(refusals(setup, world, setup.other, site)) - set(refusals(setup, world, setup.other)) <= {
                    Refusal.NO_ARBITRATOR,
                    Refusal.NO_TARGET,
                }


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        ((), [Refusal.SEEN]),
        (("dock-prod off",), []),
        (("dock-prod off", "dock-load off"), [Refusal.NO_ARBITRATOR, Refusal.NO_WITNESS]),
        (("dock-mirror off",), [Refusal.NO_TARGET, Refusal.SEEN, Refusal.NO_WITNESS]),
        (("home cut off",), [Refusal.SEEN]),
        (("dc without power",), [Refusal.NO_ARBITRATOR, Refusal.NO_TARGET, Refusal.SEEN, Refusal.NO_WITNESS]),
    ],
)
def test_what_a_failover_is_refused_for(names: tuple[str, ...], refused: list[Refusal]) -> None:
    setup = setup_of("lab", Version.V84)
    assert refusals(setup, after(setup, *names), "dock-mirror") == refused


def test_who_sees_a_writer_that_is_cut_off() -> None:
    setup = setup_of("arbitrator at a third site", Version.V84)
    world = after(setup, "no line dc - home")
    assert sees_writer(setup, world, "dock-mirror") == ["you", "dock-dash"]
    assert sees_writer(setup, world, "dock-mirror", "dc") == ["dock-dash"]
    assert sees_writer(setup, world, "dock-prod") == []


def test_a_pair_without_any_public_endpoint_cannot_talk_between_sites() -> None:
    lab = meshes.topology()
    hidden = {
        name: replace(host, wireguard=replace(host.wireguard, endpoint=None)) if host.site != "vps" else host
        for name, host in lab.hosts.items()
    }
    setup = Setup.of(Topology(lab.cluster, hidden), Version.V84)
    assert not talk(setup, healthy(setup), "dock-prod", "dock-mirror")
    assert talk(setup, healthy(setup), "dock-prod", "dock-dash")


def test_drbd_84_writes_on_alone_and_drbd_9_only_with_the_tie_breaker() -> None:
    for version, alone in ((Version.V84, {"dock-prod"}), (Version.V9, set())):
        setup = setup_of("lab", version)
        assert writers(setup, after(setup, "dock-mirror off")) == {"dock-prod"}
        assert writers(setup, after(setup, "dc without power")) == alone


def test_a_tie_breaker_gives_no_quorum_to_a_host_that_just_booted() -> None:
    setup = setup_of("lab", Version.V9)
    dark = broken(setup, healthy(setup), Fault("dark", "", frozenset({"dock-prod", "dock-mirror"})))
    lit = mended(setup, dark, [off(setup, "dock-mirror")])
    assert talk(setup, lit, "dock-prod", "dock-load")
    assert not lit.quorate
    assert not lit.primary


def test_with_drbd_9_a_copy_is_outdated_while_the_tie_breaker_sees_the_writer() -> None:
    setup = setup_of("arbitrator at a third site", Version.V9)
    world = after(setup, "no line dc - home", "dock-prod off")
    assert refusals(setup, world, "dock-mirror") == [Refusal.OUTDATED]
    assert not mended(setup, world).outdated


def test_the_order_of_two_failures_decides_what_is_lost() -> None:
    setup = setup_of("lab", Version.V84)
    prod, line = fault(setup, "dock-prod off"), fault(setup, "no line dc - home")
    assert case_of(setup, (prod, line)).verdict.lost == "with the failover: the last seconds"
    assert case_of(setup, (line, prod)).verdict.lost == 'with the failover: all since "no line dc - home"'
    assert "split_brain.py" in case_of(setup, (line, prod)).verdict.back


def test_the_seat_from_which_a_living_writer_looks_dead_is_named() -> None:
    setup = setup_of("lab", Version.V84)
    warned = {seat.case: seat.sites for seat in seats(setup, singles(setup)) if "looks dead" in seat.change}
    assert warned == {"no line dc - home": ("dc",), "home cut off": ("vps", "dc"), "dc cut off": ("dc",)}


PLACES = {
    "with the copy": "lab",
    "beside the writer": "arbitrator beside the writer",
    "third site": "arbitrator at a third site",
}


def proof(version: Version) -> list[str]:
    """One line of Markdown for each failure of a site, a line or a host that counts: what each place is good for."""
    setups = [setup_of(cluster, version) for cluster in PLACES.values()]
    lines = []
    for one in single_faults(setups[0]):
        cells = [_cell(case_of(setup, (one,)), setup) for setup in setups]
        if set(cells) != {"serves"}:
            lines.append(f"| {' | '.join([one.name, *cells])} |")
    return lines


def _cell(case: Case, setup: Setup) -> str:
    step = advice(setup, case.world)
    words = {Kind.SERVES: "serves", Kind.FAILOVER: "failover", Kind.POWER_OFF: "I/O errors; power off, then failover"}
    stands = "I/O errors" if case.world.stopped else "stands still"
    said = words.get(step.kind, f"{stands}; wait")
    if seats_at := may_be_mistaken(setup, case.world):
        said += f"; looks dead from {' and '.join(seats_at)}"
    blind = setup.arbitrator in case.world.off and step.kind is Kind.SERVES
    return f"{said}; no changes" if blind else said


@pytest.mark.parametrize("version", VERSIONS)
def test_the_proof_in_the_document_is_what_the_model_says(version: Version) -> None:
    text = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
    part = text.partition(f"**DRBD {version}**")[2].partition("\n\n")[2].partition("\n\n")[0]
    assert part.splitlines()[2:] == proof(version)


def test_a_third_site_is_the_best_place_for_the_arbitrator() -> None:
    for version in VERSIONS:
        down = {place: _down(setup_of(cluster, version)) for place, cluster in PLACES.items()}
        assert down["third site"] <= down["with the copy"]
        waits = {place: _waiting(setup_of(cluster, version)) for place, cluster in PLACES.items()}
        assert waits["third site"] == set()
        assert waits["beside the writer"] == {"home without power"}


def _down(setup: Setup) -> set[str]:
    return {case.name for case in singles(setup) if not writers(setup, case.world)}


def _waiting(setup: Setup) -> set[str]:
    """Single failures with which nobody serves and nothing can be done."""
    return {case.name for case in singles(setup) if advice(setup, case.world).kind is Kind.WAIT}


def test_two_sites_have_one_line_and_no_other_way_to_be_cut_off() -> None:
    setup = setup_of("two sites", Version.V84)
    names = [one.name for one in single_faults(setup)]
    assert [name for name in names if "line" in name or "cut" in name] == ["no line dc - home"]


def test_a_cluster_without_replicas_is_refused() -> None:
    lab = meshes.topology()
    hosts = {name: replace(host, roles=frozenset({Role.LIBVIRT})) for name, host in lab.hosts.items()}
    with pytest.raises(UsageError, match="no replication"):
        Setup.of(Topology(lab.cluster, hosts), Version.V84)


def run(*arguments: str) -> str:
    argv = [sys.executable, str(ROOT / "runbooks" / "failures.py"), "--inventory", "lab", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_person_finds_every_letter_of_the_tables_in_the_list_with_whole_commands() -> None:
    text = run()
    letters = set(re.findall(r"│ ([A-Z]{1,2}) +│", text))
    assert letters == set(re.findall(r"^  ([A-Z]{1,2}) ", text, re.MULTILINE))
    assert "  B  python runbooks/failover.py --to dock-mirror --disaster --inventory lab\n" in text
    assert "512 KiB, 0.1 s of a full line" in text


@pytest.mark.parametrize("version", VERSIONS)
def test_the_table_of_the_lab(version: Version) -> None:
    """Golden: after a wanted change, python runbooks/failures.py --inventory lab --drbd V --json > the file."""
    assert json.loads(run("--drbd", version, "--json")) == json.loads(
        (GOLDEN / f"lab_drbd_{version}.json").read_text(encoding="utf-8")
    )
