"""The checklist: nothing is ticked that is not proven now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from dockyard.checklist import Box, Judged, Mark, Proof, judge
from dockyard.errors import Unreachable
from dockyard.evidence import EVIDENCE, Evidence
from dockyard.findings import Cause, Finding
from dockyard.observe import Observed
from dockyard.topology import Topology, folder_of, load_inventory, read_topology
from runbooks import checklist, health
from tasks import backup, bounds, drbd, machine, monitoring, opencloud
from tasks.backup.tools import Tools
from tasks.drbd.document import digest
from tasks.k3s import K3S, NODES, OBJECTS, STRANGER, Api, Objects
from tasks.machine import FileSystem, MachineState, Offset
from tasks.ollama import OLLAMA, Load
from tests.unit import backups, kube, monitored, replicas, test_ollama
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
        (msgspec.structs.replace(RUN, run="2099-02-01T00:00:00Z"), "is in the future: a clock was wrong"),
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


K3S_BOXES = ("K3s: the control plane", "K3s: the workers", "OpenCloud is deployed")


def marks(cluster: Topology, observed: Observed) -> dict[str, Mark]:
    """The boxes of phase 1 and 2 by title; documents are of both."""
    return {one.box.title: one.mark for one in judge(checklist.boxes_of(cluster, ""), cluster, observed, NOW)}


def of_k3s(cluster: Topology, observed: Observed) -> list[Mark]:
    found = marks(cluster, observed)
    return [found[title] for title in K3S_BOXES]


def answering(status: int) -> dict[str, object]:
    return {kube.PROD: opencloud.Answer(status=status)}


def away(host: str, *names: str) -> Observed:
    return Observed({host: dict.fromkeys(names, Unreachable(host, "no route"))})


SILENT = Api(answers=False, said="k3s: not found")


def test_k3s_with_opencloud_is_ticked_when_all_of_it_was_seen() -> None:
    cluster = kube.topology()
    assert of_k3s(cluster, kube.observed(cluster, opencloud=answering(200))) == [Mark.TICKED] * 3


def test_on_pristine_machines_no_box_of_k3s_is_ticked() -> None:
    cluster = kube.topology()
    bare = {host: kube.bare(cluster, host) for host in kube.NODE_NAMES}
    seen = kube.observed(cluster, bare, nodes=SILENT, live=Objects(answers=False), opencloud=answering(0))
    assert of_k3s(cluster, seen) == [Mark.OPEN] * 3


def test_without_the_control_plane_nobody_knows_of_the_workers_and_of_opencloud() -> None:
    cluster = kube.topology()
    seen = kube.observed(cluster, opencloud=answering(200))
    gone = seen.merged(away(kube.LOAD, K3S.name, NODES.name, OBJECTS.name))
    assert of_k3s(cluster, gone) == [Mark.UNSEEN] * 3


@pytest.mark.parametrize(("nodes", "live"), [(SILENT, Objects(answers=False)), (None, Objects(answers=True))])
def test_without_the_api_or_the_manifests_every_box_is_open(nodes: Api | None, live: Objects) -> None:
    cluster = kube.topology()
    seen = kube.observed(cluster, nodes=nodes, live=live, opencloud=answering(200))
    assert of_k3s(cluster, seen) == [Mark.OPEN] * 3


def test_opencloud_that_does_not_answer_and_one_that_nobody_described_are_not_deployed() -> None:
    cluster, without = kube.topology(), kube.topology(opencloud=False)
    assert of_k3s(cluster, kube.observed(cluster, opencloud=answering(503))) == [Mark.TICKED, Mark.TICKED, Mark.OPEN]
    assert of_k3s(without, kube.observed(without)) == [Mark.TICKED, Mark.TICKED, Mark.OPEN]


def test_a_host_that_has_k3s_and_must_never_be_a_node_is_not_ready() -> None:
    cluster = kube.topology()
    seen = kube.observed(cluster).merged(Observed({"dock-edge": {STRANGER.name: ("/etc/rancher/k3s/config.yaml",)}}))
    found = marks(cluster, seen)
    assert (found["dock-edge is ready"], found["dock-dash is ready"]) == (Mark.OPEN, Mark.TICKED)


def test_of_two_hosts_whose_clocks_disagree_neither_is_ready() -> None:
    root = FileSystem(mount="/", size=100, free=50)
    states = {
        host: {
            machine.MACHINE.name: MachineState(
                clock=Offset(least=s, most=s), kernel="6", uptime_s=9, file_systems=(root,), missing=()
            )
        }
        for host, s in (("dock-prod", 0.6), ("dock-mirror", -0.6), ("dock-load", 0.0))
    }
    found = marks(LAB, Observed(states))
    ready = [found[f"{host} is ready"] for host in ("dock-prod", "dock-mirror", "dock-load")]
    assert ready == [Mark.OPEN, Mark.OPEN, Mark.TICKED]


def test_monitoring_is_not_stable_while_an_exporter_is_not_seen_also_of_a_host_that_is_away() -> None:
    cluster = monitored.topology()
    state, said = monitored.healthy(cluster)[monitored.DASH], monitored.answering(cluster)
    seen = monitored.observed({monitored.DASH: state}, said, domain=monitoring.MONITORING.name)
    assert marks(cluster, seen)["Monitoring is stable"] is Mark.TICKED
    prod = f"{cluster.host('dock-prod').wireguard.address}:9100"
    deaf = replace(said, reached=said.reached - {prod})
    gone = monitored.observed({monitored.DASH: state}, deaf, domain=monitoring.MONITORING.name)
    assert marks(cluster, gone.merged(away("dock-prod", machine.MACHINE.name)))["Monitoring is stable"] is Mark.OPEN


def test_what_is_proven_of_replicas_and_backups_is_not_ticked_while_they_are_not_seen() -> None:
    cluster = monitored.topology()
    kinds = ("replication-drill", drbd.SWITCHOVER, "restore-drill")
    kept = {kind: msgspec.structs.replace(RUN, kind=kind, versions={}) for kind in kinds}
    gone = Observed({cluster.cluster.arbitrator: {EVIDENCE.name: kept}})
    for host in ("dock-prod", "dock-mirror"):
        gone = gone.merged(away(host, drbd.DRBD.name, drbd.WRITER.name, backup.BACKUP.name))
    found = marks(cluster, gone)
    titles = ("DRBD is set up", "Replication is tested", "Failover by hand is tested", "Backups on the NAS")
    assert [found[title] for title in titles] == [Mark.UNSEEN] * 4


def kept_with(cluster: Topology, seen: Observed, kind: str, **versions: str) -> Judged:
    """The box that the run of ``kind`` proves, when it was made with these versions."""
    made = msgspec.structs.replace(RUN, kind=kind, versions=versions)
    evidence = Observed({cluster.cluster.arbitrator: {EVIDENCE.name: {kind: made}}})
    boxes = [one for one in checklist.boxes_of(cluster, "") if kind in {proof.kind for proof in one.proofs}]
    (found,) = judge([replace(box, checks=()) for box in boxes], cluster, seen.merged(evidence), NOW)
    return found


@pytest.mark.parametrize("kind", ["replication-drill", drbd.SWITCHOVER])
def test_evidence_that_was_made_with_another_k3s_expires(kind: str) -> None:
    cluster = kube.topology()
    seen = kube.observed(cluster)
    assert kept_with(cluster, seen, kind, k3s=kube.VERSION).mark is Mark.TICKED
    older = kept_with(cluster, seen, kind, k3s="v1.32.1+k3s1")
    assert older.mark is Mark.OPEN
    assert f"was passed with k3s v1.32.1+k3s1, now {kube.VERSION}." in older.reasons[0]
    (nobody,) = kept_with(cluster, Observed(), kind, k3s=kube.VERSION).reasons
    assert f"was passed with k3s {kube.VERSION}, now not seen." in nobody
    without = replace(cluster, cluster=replace(cluster.cluster, k3s=None))
    assert kept_with(without, Observed(), kind, k3s=kube.VERSION).mark is Mark.TICKED


def test_a_release_that_the_inventory_does_not_name_is_known_by_its_file() -> None:
    cluster = kube.topology(version=None)
    file = f"k3s-{kube.DIGEST[:16]}"
    assert kept_with(cluster, kube.observed(cluster), drbd.SWITCHOVER, k3s=file).mark is Mark.TICKED


def test_a_restore_that_was_proven_with_another_restic_kernel_or_repository_expires() -> None:
    cluster = monitored.topology()
    root = FileSystem(mount="/", size=100, free=50)
    clock = Offset(least=0, most=0)
    prod = {
        backup.BACKUP.name: backups.healthy(cluster)["dock-prod"],
        backup.TOOLS.name: Tools(missing=frozenset(), version="restic 0.18.0 compiled with go1.24"),
        machine.MACHINE.name: MachineState(clock=clock, kernel="6.12", uptime_s=9, file_systems=(root,), missing=()),
        drbd.DRBD.name: replicas.healthy()["dock-prod"],
    }
    seen = Observed({"dock-prod": prod})
    now = {"restic": "0.18.0", "kernel": "6.12", "repository": backups.REPOSITORY[:8]}
    assert kept_with(cluster, seen, "restore-drill", **now).mark is Mark.TICKED
    for older in ({"restic": "0.17.3"}, {"kernel": "6.1"}, {"repository": "0a1b2c3d"}):
        assert kept_with(cluster, seen, "restore-drill", **older).mark is Mark.OPEN
    assert backup.TOOLS in checklist.DOMAINS


def test_documents_of_another_inventory_are_none() -> None:
    nothing = Observed()
    number = digest(LAB)
    assert checklist.check_documents(LAB, nothing, written=f"inventory {number}") == []
    (other,) = checklist.check_documents(LAB, nothing, written="inventory 0000")
    assert other.fault == "the documents are of another inventory, or of an older Dockyard"
    (none,) = checklist.check_documents(LAB, nothing, written="")
    assert none.fault == "there are no documents"


def test_the_six_risks_are_shown_also_of_what_nobody_saw() -> None:
    rows = checklist.risks(LAB, Observed())
    assert len(rows) == 6
    assert all(row["now"] for row in rows)


def now_of(risk: str, cluster: Topology, seen: Observed) -> str:
    (row,) = [row for row in checklist.risks(cluster, seen) if row["risk"] == risk]
    return row["now"]


def test_the_volumes_of_k3s_have_a_home_also_in_phase_1() -> None:
    both, title = kube.topology(), "volumes have one home"
    cluster = replace(both, cluster=replace(both.cluster, drbd=None))
    assert now_of(title, cluster, kube.observed(cluster)) == "opencloud on dock-prod"
    assert now_of(title, both, kube.observed(both)) == (
        "opencloud on dock-prod, "
        "/srv/k3s is on one host alone, and in no backup (docs/k3s.md, Into the replicated storage)"
    )
    bare = {host: kube.bare(cluster, host) for host in kube.NODE_NAMES}
    assert now_of(title, cluster, kube.observed(cluster, bare)) == "no volumes"
    assert now_of(title, cluster, away(kube.PROD, K3S.name)) == "not seen"
    moved = kube.observed(cluster).merged(Observed({"dock-prod": {drbd.DRBD.name: replicas.healthy()["dock-prod"]}}))
    assert now_of(title, cluster, moved) == "opencloud on dock-prod, mounted on dock-prod"


def test_a_host_is_not_ready_while_something_strange_listens_or_lives_beside() -> None:
    assert {machine.check_exposure, bounds.check_apart} <= set(checklist.READY)


def test_the_control_plane_shows_how_old_its_newest_snapshot_is() -> None:
    cluster = kube.topology()
    hosts = {host: kube.planned(cluster, host) for host in kube.NODE_NAMES}
    clock = Offset(least=0, most=0)
    up_a_day = MachineState(clock=clock, kernel="6.12", uptime_s=86400, file_systems=(), missing=())
    up = Observed({kube.LOAD: {machine.MACHINE.name: up_a_day}})
    title = "one control plane"
    assert now_of(title, cluster, kube.observed(cluster, hosts).merged(up)).endswith(
        ", no snapshot on another host (k3s_snapshot.py)"
    )
    hosts[kube.MIRROR] = replace(hosts[kube.MIRROR], snapshots=("daily-2026-11-02T01:02:03Z", "a-2026-10-02T01:02:03Z"))
    assert now_of(title, cluster, kube.observed(cluster, hosts).merged(up)).endswith(
        ", newest snapshot 2026-11-02 on dock-mirror"
    )


def test_the_load_of_ollama_is_what_it_takes_now_beside_what_it_may() -> None:
    lab, title = test_ollama.LAB, "Ollama's load"

    def shown(load: Load, active: str = "active", **limits: Any) -> str:
        state = test_ollama.state(load=load, active=active, limits=replace(test_ollama.LIMITS, **limits))
        return now_of(title, lab, Observed({"dock-edge": {OLLAMA.name: state}}))

    busy = Load(cpus=0.25, memory=3 * 2**29, host=0.52, host_cpus=4)
    machine_load = "the machine's load is 0.52 on 4 CPUs"
    assert shown(busy) == f"dock-edge: 0.25 of 1.5 CPUs since it started, 1.50 GiB of 2 GiB; {machine_load}"
    assert shown(replace(busy, cpus=None), cpus=None, memory=None) == (
        f"dock-edge: just started, 1.50 GiB of all memory; {machine_load}"
    )
    assert shown(replace(busy, cpus=None, memory=None), "failed") == f"dock-edge: it does not run; {machine_load}"
    assert shown(replace(busy, memory=None), "inactive") == f"dock-edge: it does not run; {machine_load}"
    assert shown(replace(busy, memory=None), memory=None) == (
        f"dock-edge: 0.25 of 1.5 CPUs since it started, nobody counts its memory; {machine_load}"
    )
    assert now_of(title, lab, Observed()) == "not seen"


def test_as_markdown_every_box_has_its_sign_and_its_reasons() -> None:
    text = checklist.as_markdown("home_lab", NOW, [judged(), judged(FAULT)], checklist.risks(LAB, Observed()))
    assert "# home\\_lab: checklist" in text
    assert "- ☑ Backups\n  - restore-drill passed 9 days ago" in text
    assert "- ☐ Backups" in text
    assert "dock-prod: is broken (0 of 3). Mend it." in text
