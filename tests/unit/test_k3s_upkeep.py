"""Another release, another token, snapshots, nodes that leave: in order, once, and refused where data would suffer."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dockyard.errors import StepFailed
from dockyard.observe import Observed
from dockyard.secret import Secret
from dockyard.topology import Topology
from tasks import k3s
from tasks.k3s import copies, places, upkeep
from tasks.k3s.facts import TokenSeen
from tasks.k3s.nodes import Nodes, Truth
from tests.unit.kube import LOAD, MIRROR, NODE_NAMES, PROD, VERSION, api, bare, node, observed, planned, topology
from tests.unit.replicas import argvs, destroyed, titles

LAB = topology()
KEPT = "2026-11-02T00:00:00Z"
NEXT = "v1.34.1+k3s1"
NEW_DIGEST = "ab" * 32
NEW = topology(version=NEXT, sha256={"amd64": NEW_DIGEST})


def before(cluster: Topology = NEW, **nodes: Any) -> Observed:
    """Nodes that run the old release, while the inventory wants the new one."""
    return observed(cluster, {host: planned(LAB, host) for host in NODE_NAMES}, nodes=api(LAB, **nodes))


def test_what_runs_the_wanted_release_is_left_alone() -> None:
    seen = observed(LAB)
    for host in NODE_NAMES:
        assert upkeep.plan_upgrade(LAB, seen, host=host) == {}
        assert upkeep.plan_drain(LAB, seen, host=host) == {}
        assert upkeep.plan_uncordon(LAB, seen, host=host) == {}
    assert upkeep.plan_fetch(LAB, seen) == {}
    assert upkeep.check_upgrade(LAB, seen) == []


def test_the_release_is_brought_first_and_then_each_node_is_moved() -> None:
    seen = before()
    assert set(upkeep.plan_fetch(NEW, seen)) == set(NODE_NAMES)
    assert titles(upkeep.plan_drain(NEW, seen, host=PROD)) == {LOAD: [f"drain {PROD}: opencloud-1"]}
    plan = titles(upkeep.plan_upgrade(NEW, seen, host=PROD))
    assert plan == {
        PROD: [
            f"let {places.BINARY} be {places.stored(NEW_DIGEST)}",
            f"start {places.AGENT} anew; containers go on",
        ]
    }


def test_a_run_that_was_cut_off_goes_on_where_it_was() -> None:
    hosts = {host: planned(LAB, host) for host in NODE_NAMES}
    moved = {host: replace(state, binary=places.stored(NEW_DIGEST)) for host, state in hosts.items()}
    moved[PROD] = replace(moved[PROD], stale=True)
    cut = observed(NEW, moved, nodes=api(LAB, dock_prod={"unschedulable": True}))
    assert titles(upkeep.plan_upgrade(NEW, cut, host=PROD)) == {PROD: [f"start {places.AGENT} anew; containers go on"]}
    assert upkeep.plan_upgrade(NEW, cut, host=MIRROR) == {}
    assert upkeep.plan_uncordon(NEW, cut, host=PROD) == {}, "not before it runs the new release"
    done = observed(NEW, moved, nodes=api(LAB, dock_prod={"unschedulable": True, "version": NEXT}))
    assert titles(upkeep.plan_uncordon(NEW, done, host=PROD)) == {LOAD: [f"let pods start on {PROD} again"]}


@pytest.mark.parametrize(
    ("wanted", "fault"),
    [("v1.35.0+k3s1", "skips a minor release"), ("v1.33.4+k3s1", "would be a step back"), (NEXT, "")],
)
def test_steps_that_kubernetes_cannot_take_are_refused(wanted: str, fault: str) -> None:
    cluster = topology(version=wanted, sha256={"amd64": NEW_DIGEST})
    found = upkeep.check_upgrade(cluster, before(cluster))
    assert [fault in one.fault for one in found] == ([True] if fault else [])


def test_a_version_without_its_checksum_is_no_upgrade() -> None:
    half = topology(version="v1.34.1+k3s1")
    assert [one.fault for one in upkeep.check_upgrade(half, before(half))] == [
        f"cluster.k3s.sha256 is still that of {VERSION}"
    ]


def test_a_file_without_its_version_is_no_upgrade_either() -> None:
    unnamed = topology(version=None, sha256={"amd64": NEW_DIGEST})
    assert [one.fault for one in upkeep.check_upgrade(unnamed, before(unnamed))] == [
        "nobody can say how large the step is"
    ]


def test_a_node_is_back_when_its_unit_has_started() -> None:
    hosts = {host: replace(planned(LAB, host), binary=places.stored(NEW_DIGEST)) for host in NODE_NAMES}
    new = api(LAB, **{host.replace("-", "_"): {"version": NEXT} for host in NODE_NAMES})
    assert upkeep.check_upgraded(NEW, observed(NEW, hosts, nodes=new), host=PROD) == []
    hosts[PROD] = replace(hosts[PROD], unit=replace(hosts[PROD].unit, active="activating"))
    (found,) = upkeep.check_upgraded(NEW, observed(NEW, hosts, nodes=new), host=PROD)
    assert found.fault == "k3s-agent.service has not started", "the API calls it ready for a while yet"


def test_a_node_that_only_an_older_datastore_knows_does_not_hold_a_restore_up() -> None:
    known = api(LAB)
    other = replace(known.nodes.nodes[MIRROR], labels={})
    more = replace(known, nodes=replace(known.nodes, nodes={**known.nodes.nodes, "dock-old": other}))
    assert upkeep.check_started(LAB, observed(LAB, nodes=more)) == []
    assert [one.fault for one in k3s.check_joined(LAB, observed(LAB, nodes=more))] == [
        "dock-old is a node of K3s and must not be"
    ]


def test_a_node_that_is_not_ready_stops_an_upgrade() -> None:
    assert [one.host for one in upkeep.check_upgrade(NEW, before(dock_mirror={"ready": Truth.FALSE}))] == [MIRROR]


def test_a_worker_without_k3s_stops_no_upgrade_and_is_left_to_phase_1() -> None:
    hosts = {**{host: planned(LAB, host) for host in NODE_NAMES}, MIRROR: bare(LAB, MIRROR)}
    away = api(LAB, dock_mirror={"ready": Truth.UNKNOWN})
    seen = observed(NEW, hosts, nodes=away)
    assert upkeep.check_upgrade(NEW, seen) == []
    assert set(upkeep.plan_fetch(NEW, seen)) == {LOAD, PROD}
    for plan in (upkeep.plan_drain, upkeep.plan_upgrade, upkeep.plan_uncordon):
        assert plan(NEW, seen, host=MIRROR) == {}
    assert upkeep.check_upgraded(NEW, seen, host=MIRROR) == []
    assert [one.host for one in upkeep.check_upgrade(NEW, before(dock_mirror={"ready": Truth.UNKNOWN}))] == [MIRROR]


def test_a_token_is_made_only_when_everybody_has_the_last_one() -> None:
    plan = upkeep.plan_rotate(LAB, observed(LAB))
    assert list(plan) == [LOAD]
    assert not any("--token" in argv or "--new-token" in argv for argv in argvs(plan))
    hosts = {host: planned(LAB, host) for host in NODE_NAMES}
    hosts[LOAD] = replace(hosts[LOAD], server_token=TokenSeen(fingerprint="f" * 16, private=True))
    assert upkeep.plan_rotate(LAB, observed(LAB, hosts)) == {}


def test_a_node_does_not_leave_while_nobody_knows_its_pods() -> None:
    silent = observed(LAB, nodes=api(LAB), live=k3s.Objects(answers=False, said="timed out"))
    with pytest.raises(StepFailed, match="does not say which pods run"):
        upkeep.plan_drain(LAB, silent, host=PROD, leaving=True)


def test_a_snapshot_is_taken_once_and_a_restore_has_to_be_named() -> None:
    assert list(upkeep.plan_snapshot(LAB, observed(LAB), name="one")) == [LOAD]
    hosts = {host: planned(LAB, host) for host in NODE_NAMES}
    hosts[LOAD] = replace(hosts[LOAD], snapshots=("one",))
    seen = observed(LAB, hosts)
    assert upkeep.plan_snapshot(LAB, seen, name="one") == {}
    plan = upkeep.plan_restore(LAB, seen, name="one", run="now")
    assert destroyed(plan) == {"dock-load:/var/lib/rancher/k3s/server"}
    with pytest.raises(StepFailed, match="no snapshot 'two'") as raised:
        upkeep.plan_restore(LAB, seen, name="two", run="now")
    assert "one" in raised.value.advice
    hosts[LOAD] = replace(hosts[LOAD], restored="one now")
    assert upkeep.plan_restore(LAB, observed(LAB, hosts), name="one", run="now") == {}


def fake_systemctl(folder: Path) -> dict[str, str]:
    """A systemctl(1) that writes down what it was asked for."""
    program = folder / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$1" >>{folder}/asked\n')
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:/usr/bin:/bin"}


def test_a_snapshot_and_its_restore_move_everything_together(tmp_path: Path) -> None:
    environment = fake_systemctl(tmp_path)
    (tmp_path / "bin" / "k3s").write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/told; echo node/dock-prod; exit 1\n')
    (tmp_path / "bin" / "k3s").chmod(0o755)
    server = tmp_path / "data" / "server"
    (server / "db").mkdir(parents=True)
    password = tmp_path / "node" / "password"
    password.parent.mkdir()
    for path in (server / "db/state.db", server / "token", password):
        path.write_text("old")
    kept = tmp_path / "kept" / "one"
    take = ["sh", "-c", upkeep._TAKE, "take", str(kept), str(tmp_path / "data"), "k3s", str(password)]
    subprocess.run(take, check=True, env=environment)
    assert {(kept / name).read_text() for name in ("db/state.db", "token", "node-password")} == {"old"}
    assert (tmp_path / "asked").read_text().split() == ["stop", "start"]
    for path in (server / "db/state.db", server / "token", password):
        path.write_text("new")
    aside, note = tmp_path / "kept" / "aside", server / "note"
    restore = [
        "sh",
        "-c",
        upkeep._RESTORE,
        "restore",
        *map(str, (kept, tmp_path / "data", "k3s", password, aside, note, "volumes=here", "one now")),
    ]
    drain = "kubectl drain dock-prod --ignore-daemonsets --delete-emptydir-data --timeout=80s"
    subprocess.run(restore, check=True, env=environment)
    assert {path.read_text() for path in (server / "db/state.db", server / "token", password)} == {"old"}
    assert {(aside / name).read_text() for name in ("db/state.db", "token", "node-password")} == {"new"}
    assert note.read_text() == "one now\n"
    assert (tmp_path / "told").read_text().splitlines() == ["kubectl get nodes --selector volumes=here -o name", drain]


def test_a_restore_that_is_ended_before_the_datastore_is_changed_opens_what_it_drained(tmp_path: Path) -> None:
    environment = fake_systemctl(tmp_path)
    for name, script in (
        ("k3s", f'echo "$*" >>{tmp_path}/told; case $2 in get) echo node/dock-prod ;; drain) kill $PPID ;; esac'),
        ("systemctl", f'echo "$1" >>{tmp_path}/told; [ $1 = start ]'),
        ("timeout", 'shift; exec "$@"'),
    ):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    kept = tmp_path / "kept"
    (kept / "db").mkdir(parents=True)
    (kept / "token").write_text("old")
    (tmp_path / "data" / "server").mkdir(parents=True)
    where = map(str, (kept, tmp_path / "data", "k3s", tmp_path / "password", tmp_path / "aside", tmp_path / "note"))
    restore = ["sh", "-c", upkeep._RESTORE, "restore", *where, "volumes=here", "one now"]
    ended = subprocess.run(restore, check=False, env=environment)
    told = [line.split()[:2] for line in (tmp_path / "told").read_text().splitlines()]
    assert (ended.returncode, told) == (143, [["kubectl", "get"], ["kubectl", "drain"], ["kubectl", "uncordon"]])


@pytest.mark.parametrize("missing", ["db", "token"])
def test_half_a_snapshot_is_not_restored(tmp_path: Path, missing: str) -> None:
    environment = fake_systemctl(tmp_path)
    kept = tmp_path / "kept"
    for part in {"db", "token"} - {missing}:
        (kept / part).mkdir(parents=True)
        (kept / part / "rows").write_text("rows")
    where = map(str, (kept, tmp_path / "data", "k3s", tmp_path / "password", tmp_path / "aside", tmp_path / "note"))
    restore = ["sh", "-c", upkeep._RESTORE, "restore", *where, "volumes=here", "one now"]
    assert subprocess.run(restore, check=False, env=environment).returncode != 0
    assert not (tmp_path / "asked").exists(), "nothing was stopped"


def test_a_restore_that_finds_no_room_leaves_the_control_plane_as_it_was(tmp_path: Path) -> None:
    environment = fake_systemctl(tmp_path)
    (tmp_path / "bin" / "cp").write_text("#!/bin/sh\necho 'No space left on device' >&2; exit 1\n")
    (tmp_path / "bin" / "cp").chmod(0o755)
    kept, server = tmp_path / "kept", tmp_path / "data" / "server"
    for folder in (kept, server):
        (folder / "db").mkdir(parents=True)
        (folder / "token").write_text(folder.name)
    where = map(str, (kept, tmp_path / "data", "k3s", tmp_path / "password", tmp_path / "aside", tmp_path / "note"))
    restore = ["sh", "-c", upkeep._RESTORE, "restore", *where, "volumes=here", "one now"]
    assert subprocess.run(restore, check=False, env=environment, capture_output=True).returncode != 0
    assert (server / "db").is_dir()
    assert (server / "token").read_text() == "server"
    assert not (tmp_path / "asked").exists(), "nothing was stopped"


def put_back(note: str = "", **parts: Any) -> dict[str, Any]:
    """Nodes after the control plane was put back; ``note`` is what the workers have noted."""
    hosts = {host: replace(planned(LAB, host), restored=note, **parts) for host in NODE_NAMES}
    hosts[LOAD] = replace(hosts[LOAD], restored="one now")
    return hosts


def test_after_a_restore_every_worker_starts_anew_once() -> None:
    """A kubelet goes on from what it saw last, which the datastore does not know any more."""
    plan = upkeep.plan_follow(LAB, observed(LAB, put_back()), name="one", run="now")
    assert set(plan) == {PROD, MIRROR}
    assert titles(plan)[PROD] == [
        f"start {places.AGENT} anew; containers go on",
        "note that it was started after one now was put back",
    ]
    assert upkeep.plan_follow(LAB, observed(LAB, put_back("one now")), name="one", run="now") == {}
    assert set(upkeep.plan_follow(LAB, observed(LAB, put_back("one before")), name="one", run="now")) == {PROD, MIRROR}
    fresh = {**put_back(), MIRROR: bare(LAB, MIRROR)}
    assert set(upkeep.plan_follow(LAB, observed(LAB, fresh), name="one", run="now")) == {PROD}


def test_a_restore_goes_back_to_the_release_of_the_inventory_on_every_node() -> None:
    newer = put_back(binary=places.stored(NEW_DIGEST))
    newer[LOAD] = replace(newer[LOAD], restored="", snapshots=("one",))
    seen = observed(LAB, newer)
    first, second = titles(upkeep.plan_restore(LAB, seen, name="one", run="now"))[LOAD]
    assert first.startswith(f"let {places.BINARY} be ")
    assert second.startswith("put the control plane back to one")
    assert titles(upkeep.plan_follow(LAB, seen, name="one", run="now"))[PROD][0] == first


def test_a_node_that_is_ready_and_whose_unit_has_not_started_is_not_there_yet() -> None:
    assert upkeep.check_started(LAB, observed(LAB)) == []
    hosts = {host: planned(LAB, host) for host in NODE_NAMES}
    hosts[PROD] = replace(hosts[PROD], unit=replace(hosts[PROD].unit, active="activating"))
    (found,) = upkeep.check_started(LAB, observed(LAB, hosts))
    assert (found.host, found.fault) == (PROD, f"{places.AGENT} has not started")


def test_a_snapshot_goes_to_a_worker_at_another_site_once() -> None:
    assert copies.keeper(LAB) == PROD, "dock-mirror stands where dock-load stands"
    plan = copies.plan_keep(LAB, observed(LAB, k3s_archive={LOAD: Secret("H4sI")}), name="one")
    ((change,),) = plan.values()
    assert list(plan) == [PROD]
    assert "H4sI" not in change.diff() + repr(change)
    assert copies.plan_keep(LAB, with_snapshots(PROD, "one"), name="one") == {}
    shown = copies.plan_keep(LAB, observed(LAB, k3s_archive={LOAD: Secret("")}), name="one")
    assert [change.provisional for change in shown[PROD]] == [True], "in a dry run there is none yet"


def test_a_kept_snapshot_comes_back_to_a_control_plane_that_lacks_it() -> None:
    found = {PROD: Secret("H4sI"), MIRROR: Secret("")}
    assert list(copies.plan_bring(LAB, observed(LAB, k3s_archive=found), name="one")) == [LOAD]
    assert copies.plan_bring(LAB, observed(LAB, k3s_archive={PROD: Secret("")}), name="one") == {}
    assert copies.plan_bring(LAB, with_snapshots(LOAD, "one"), name="one") == {}


def with_snapshots(host: str, *names: str) -> Observed:
    hosts = {name: planned(LAB, name) for name in NODE_NAMES}
    hosts[host] = replace(hosts[host], snapshots=names)
    return observed(LAB, hosts, k3s_archive={LOAD: Secret("H4sI"), PROD: Secret("H4sI")})


def test_the_newest_copy_is_found_by_its_moment() -> None:
    old, new = "before-upgrade-2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"
    assert copies.newest_kept(LAB, with_snapshots(PROD, old, new)) == (PROD, new)
    assert copies.newest_kept(LAB, with_snapshots(LOAD, new)) == ("", ""), "its own do not count"


def new_disk(*, knows: tuple[str, ...] = (), kept: tuple[str, ...] = (KEPT,), answers: bool = True) -> Observed:
    """The control plane has a token of its own, and the API knows itself and ``knows``."""
    hosts = {name: planned(LAB, name) for name in NODE_NAMES}
    hosts[LOAD] = replace(hosts[LOAD], server_token=TokenSeen(fingerprint="f" * 16, private=True))
    hosts[PROD] = replace(hosts[PROD], snapshots=kept)
    nodes = Nodes(nodes={host: node(LAB, host) for host in (LOAD, *knows)})
    return observed(LAB, hosts, nodes=k3s.Api(answers=answers, nodes=nodes))


def test_a_control_plane_on_a_new_disk_is_put_back_before_it_meets_its_workers() -> None:
    (said,) = copies.check_put_back(LAB, new_disk())
    assert (said.host, said.fault) == (
        LOAD,
        f"it is new, and does not know {PROD} and {MIRROR}, whose pods it would end",
    )
    assert f"{PROD} keeps a snapshot: python runbooks/k3s_snapshot.py --restore {KEPT} " in said.advice
    assert f" --destroy {LOAD}:/var/lib/rancher/k3s/server ;" in said.advice


def test_the_snapshot_with_the_new_token_is_newer_than_the_one_of_the_same_run_with_the_old_one() -> None:
    both = ("before-token-2026-11-02T00:00:00Z", "new-token-2026-11-02T00:00:00Z")
    hosts = {**{host: planned(LAB, host) for host in NODE_NAMES}, PROD: replace(planned(LAB, PROD), snapshots=both)}
    assert copies.newest_kept(LAB, observed(LAB, hosts)) == (PROD, both[1])


@pytest.mark.parametrize(
    "seen",
    [observed(LAB), new_disk(knows=(PROD,)), new_disk(kept=()), new_disk(answers=False)],
    ids=["the same token", "a rotation that was cut off", "no snapshot", "no answer"],
)
def test_no_other_control_plane_waits_to_be_put_back(seen: Observed) -> None:
    assert copies.check_put_back(LAB, seen) == []


def test_who_carries_the_volumes_is_opened_after_a_restore() -> None:
    closed = api(LAB, dock_prod={"unschedulable": True}, dock_mirror={"unschedulable": True})
    assert titles(upkeep.plan_open(LAB, observed(LAB, nodes=closed))) == {LOAD: [f"open {PROD} again"]}
    assert upkeep.plan_open(LAB, observed(LAB)) == {}


def test_a_packed_snapshot_arrives_whole_and_for_one_alone_or_not_at_all(tmp_path: Path) -> None:
    source, to = tmp_path / "2026-11-02T00:00:00Z", tmp_path / "kept" / "2026-11-02T00:00:00Z"
    (source / "db").mkdir(parents=True)
    (source / "db" / "state.db").write_text("rows")
    assert (
        subprocess.run(["sh", "-c", copies._PACK, "pack", str(source)], capture_output=True, check=True).stdout == b""
    )
    (source / "token").write_text("word")
    source.chmod(0o700)
    packed = subprocess.run(["sh", "-c", copies._PACK, "pack", str(source)], capture_output=True, check=True).stdout
    keep = ["sh", "-c", copies._KEEP, "keep", str(to)]
    cut = subprocess.run(keep, input=packed[: len(packed) // 2], check=False, capture_output=True)
    assert (cut.returncode != 0, list(to.parent.iterdir())) == (True, [])
    subprocess.run(keep, input=packed, check=True)
    assert [(to / name).read_text() for name in ("token", "db/state.db")] == ["word", "rows"]
    assert [path.stat().st_mode & 0o077 for path in (to.parent, to)] == [0, 0]


def test_a_snapshot_without_a_token_is_none(tmp_path: Path) -> None:
    environment = fake_systemctl(tmp_path)
    (tmp_path / "data" / "server" / "db").mkdir(parents=True)
    take = [
        "sh",
        "-c",
        upkeep._TAKE,
        "take",
        *map(str, (tmp_path / "kept" / "one", tmp_path / "data", "k3s", tmp_path / "x")),
    ]
    assert subprocess.run(take, check=False, env=environment).returncode != 0
    assert not (tmp_path / "kept" / "one").exists()
    assert (tmp_path / "asked").read_text().split() == ["stop", "start"], "started again in any case"


def test_who_carries_the_volumes_or_the_api_cannot_leave() -> None:
    seen = observed(LAB)
    assert [one.host for one in upkeep.check_leaving(LAB, seen, node=PROD)] == [PROD]
    assert [one.host for one in upkeep.check_leaving(LAB, seen, node=LOAD)] == [LOAD]
    assert upkeep.check_leaving(LAB, seen, node=MIRROR) == []
    assert titles(upkeep.plan_leave(LAB, seen, node=MIRROR)) == {LOAD: [f"forget the node {MIRROR}"]}
    stopped = titles(upkeep.plan_stop(LAB, seen, host=MIRROR))[MIRROR]
    assert f"remove {places.TOKEN}" in stopped
    assert stopped[0] == f"systemctl disable -- {places.AGENT}; systemctl stop -- {places.AGENT}"
    assert upkeep.plan_stop(LAB, observed(LAB, {host: bare(LAB, host) for host in NODE_NAMES}), host=MIRROR) == {}


def test_only_a_node_that_is_gone_is_replaced() -> None:
    assert upkeep.plan_leave(LAB, observed(LAB), node=MIRROR, unless_ready=True) == {}
    lost = observed(LAB, nodes=api(LAB, dock_mirror={"ready": Truth.UNKNOWN}))
    assert list(upkeep.plan_leave(LAB, lost, node=MIRROR, unless_ready=True)) == [LOAD]


def test_a_worker_that_was_installed_anew_is_forgotten_before_it_joins() -> None:
    hosts = {host: planned(LAB, host) for host in NODE_NAMES}
    fresh = {**hosts, MIRROR: bare(LAB, MIRROR)}
    lost = api(LAB, dock_mirror={"ready": Truth.UNKNOWN})
    assert titles(k3s.plan_forget(LAB, observed(LAB, fresh, nodes=lost))) == {LOAD: [f"forget the node {MIRROR}"]}
    assert k3s.plan_forget(LAB, observed(LAB, fresh)) == {}, "somebody is ready under that name"
    assert k3s.plan_forget(LAB, observed(LAB, hosts, nodes=lost)) == {}, "it is only away"
    assert VERSION != NEXT
