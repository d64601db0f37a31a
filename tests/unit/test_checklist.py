"""The checklist: nothing is ticked that is not proven now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

import msgspec
import pytest

from dockyard.checklist import Box, Judged, Mark, Proof, judge
from dockyard.errors import Unreachable
from dockyard.evidence import EVIDENCE, Evidence
from dockyard.findings import Cause, Finding
from dockyard.observe import Observed
from dockyard.topology import Topology, folder_of, load_inventory, read_topology
from runbooks import checklist, health
from tasks.drbd.document import digest
from tests.unit.meshes import topology

NOW = datetime(2026, 3, 10, tzinfo=UTC)
RUN = Evidence(
    kind="restore-drill", run="2026-03-01T00:00:00Z", by="owner@laptop", passed=True, versions={"restic": "0.18"}
)
FAULT = Finding(cause=Cause.MESH, host="dock-prod", fault="is broken", evidence="0 of 3", advice="Mend it.")
LAB = read_topology(load_inventory(folder_of("lab")))
RUNNING = {"restic": {"0.18"}, "kernel": {"6.12", "6.13"}}


def running(_topology: Topology, _observed: Observed) -> Mapping[str, Collection[str]]:
    return RUNNING


PROOF = Proof(kind="restore-drill", days=30, versions=running, advice="python runbooks/restore_drill.py")


def judged(*found: Finding, kept: Evidence | None = RUN, proofs: tuple[Proof, ...] = (PROOF,)) -> Judged:
    box = Box(phase=2, title="Backups", checks=[lambda _topology, _observed: found], proofs=proofs)
    evidence = {kept.kind: kept} if kept else {}
    observed = Observed({topology().cluster.arbitrator: {EVIDENCE.name: evidence}})
    (one,) = judge([box], topology(), observed, NOW)
    return one


def test_a_box_is_ticked_by_what_is_seen_and_what_was_tried() -> None:
    one = judged()
    assert (one.mark, one.reasons) == (Mark.TICKED, ())
    assert one.proven == ("restore-drill passed 9 days ago (2026-03-01T00:00:00Z) by owner@laptop, with restic 0.18",)


def test_a_finding_opens_it_and_says_what_to_do() -> None:
    one = judged(FAULT)
    assert (one.mark, one.reasons) == (Mark.OPEN, ("dock-prod: is broken (0 of 3). Mend it.",))


def test_what_could_not_be_seen_is_neither_ticked_nor_open() -> None:
    away = Finding(cause=Cause.REACH, host="dock-prod", fault="away", evidence="e", advice="a", unseen=True)
    assert judged(away).mark is Mark.UNSEEN


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        (None, "restore-drill was never tried. python runbooks/restore_drill.py"),
        (msgspec.structs.replace(RUN, passed=False), "restore-drill failed on 2026-03-01T00:00:00Z"),
        (msgspec.structs.replace(RUN, run="2026-02-01T00:00:00Z"), "37 days ago, which is more than 30"),
        (msgspec.structs.replace(RUN, versions={"restic": "0.17"}), "was passed with restic 0.17, now 0.18"),
    ],
)
def test_evidence_that_does_not_hold_opens_the_box(kept: Evidence | None, why: str) -> None:
    one = judged(kept=kept)
    assert one.mark is Mark.OPEN
    assert why in one.reasons[0]


def test_versions_that_only_one_side_knows_do_not_count() -> None:
    assert judged(kept=msgspec.structs.replace(RUN, versions={"drbd": "8.4.11"})).mark is Mark.TICKED


@pytest.mark.parametrize(("proofs", "mark"), [((PROOF,), Mark.UNSEEN), ((), Mark.TICKED)])
def test_without_the_arbitrator_only_boxes_that_need_no_evidence_are_ticked(
    proofs: tuple[Proof, ...], mark: Mark
) -> None:
    arbitrator = topology().cluster.arbitrator
    observed = Observed({arbitrator: {EVIDENCE.name: Unreachable(arbitrator, "no route")}})
    (one,) = judge([Box(phase=2, title="Backups", proofs=proofs)], topology(), observed, NOW)
    assert one.mark is mark


def test_the_owners_list_has_every_box_and_nothing_is_ticked_that_nobody_saw() -> None:
    boxes = checklist.boxes_of(LAB, "")
    titles = [(box.phase, box.title) for box in boxes]
    assert len(titles) == len(set(titles))
    assert {phase for phase, _ in titles} == {1, 2, 3}
    for host in LAB.hosts:
        assert (1, f"{host} is ready") in titles
    away = {domain.name: Unreachable("dock-prod", "no route") for domain in health.DOMAINS}
    observed = Observed({host: {**away, EVIDENCE.name: {}} for host in LAB.hosts})
    assert not [one.box.title for one in judge(boxes, LAB, observed, NOW) if one.mark is Mark.TICKED]


def test_documents_of_another_inventory_are_none() -> None:
    nothing = Observed()
    number = digest(LAB)
    assert checklist.check_documents(LAB, nothing, written=f"inventory {number}") == []
    (other,) = checklist.check_documents(LAB, nothing, written="inventory 0000")
    assert other.fault == "the documents are of another inventory"
    (none,) = checklist.check_documents(LAB, nothing, written="")
    assert none.fault == "there are no documents"


def test_the_six_risks_are_shown_also_of_what_nobody_saw() -> None:
    rows = checklist.risks(LAB, Observed())
    assert len(rows) == 6
    assert all(row["now"] for row in rows)


def test_as_markdown_every_box_has_its_sign_and_its_reasons() -> None:
    text = checklist.as_markdown("home_lab", NOW, [judged(), judged(FAULT)], checklist.risks(LAB, Observed()))
    assert "# home\\_lab: checklist" in text
    assert "- ☑ Backups\n  - restore-drill passed 9 days ago" in text
    assert "- ☐ Backups" in text
    assert "dock-prod: is broken (0 of 3). Mend it." in text
