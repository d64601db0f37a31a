"""From bare disks to a mounted file system: nothing on a healthy pair, and nothing is lost that was not named."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dockyard.change import Plan, Run
from dockyard.errors import NotObserved, StepFailed, Unreachable
from dockyard.service import unit_file
from dockyard.topology import Backing
from tasks import drbd
from tasks.drbd import places, storage
from tasks.drbd.facts import JUST_CREATED
from tasks.drbd.replica import ReplicaState
from tasks.drbd.state import Disk, Link, Role
from tests.unit.replicas import (
    HOSTS,
    LOAD,
    MIRROR,
    OTHER,
    PAIR,
    PROD,
    SINCE,
    UNITS,
    USED,
    argvs,
    destroyed,
    first_meeting,
    healthy,
    observed,
    pristine,
    records,
    resource,
    titles,
    topology,
    unit,
    with_device,
    with_facts,
)

PLANS: list[Any] = [
    drbd.plan_secret,
    drbd.plan_share_secret,
    drbd.plan_config,
    partial(drbd.plan_record, since=SINCE),
    drbd.plan_copies,
    drbd.plan_units,
    drbd.plan_mount_point,
    drbd.plan_proof,
    drbd.plan_metadata,
    drbd.plan_up,
    drbd.plan_first_sync,
    drbd.plan_promotion,
    drbd.plan_file_system,
    drbd.plan_storage,
]
States = dict[str, ReplicaState]


def bare(*, nine: bool = False) -> States:
    return {host: pristine(host, nine=nine) for host in HOSTS}


def attached_nowhere(states: States, generation: str = "") -> States:
    """The resource is down on both, and has metadata of this generation, or none."""
    down = {
        host: replace(with_facts(states[host], generation=generation), resource=None, up=unit(places.UP))
        for host in PAIR
    }
    return {**states, **down}


@pytest.mark.parametrize("nine", [False, True])
@pytest.mark.parametrize("plan", PLANS)
def test_a_finished_pair_needs_nothing(plan: Any, nine: bool) -> None:
    assert plan(topology(), observed(healthy(nine=nine))) == {}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("lost", PAIR)
def test_nothing_is_planned_while_a_replica_cannot_be_seen(plan: Any, lost: str) -> None:
    gone = Unreachable(lost, "no route")
    record = {**records(), lost: gone}
    with pytest.raises(NotObserved, match=lost):
        plan(topology(), observed({**bare(), lost: gone}, record))


# --- units, mount point


def test_pristine_hosts_get_their_units_and_the_tie_breaker_nothing_to_promote() -> None:
    plan = drbd.plan_units(topology(), observed(bare()))
    written = ["drbd-adjust", "dockyard-drbd.service", "drbd-storage", "drbd-catch", "dockyard-storage.service"]
    assert {host: [title.rpartition("/")[2] for title in found] for host, found in titles(plan).items()} == {
        host: [*written, "let systemd read its units again"] for host in PAIR
    }
    nine = titles(drbd.plan_units(topology(), observed(bare(nine=True))))
    assert [title.rpartition("/")[2] for title in nine[LOAD]][:2] == written[:2]
    assert len(nine[LOAD]) == 3


def test_a_boot_is_finished_although_a_replica_that_is_not_the_writer_waits_for_ever() -> None:
    text, _ = storage.unit_texts(topology(), quorum=False, backing=topology().host(PROD).drbd)[
        unit_file(places.STORAGE)
    ]
    assert "Type=simple" in text.splitlines()


def test_a_disk_that_comes_late_is_waited_for_before_drbd_comes_up() -> None:
    backing = Backing(disk="/dev/disk/by-id/usb-a", metadata="/dev/vg/meta")
    text, _ = storage.unit_texts(topology(), quorum=True, backing=backing)[unit_file(places.UP)]
    wait, catch = (
        text.index(word) for word in ("until [ -b /dev/disk/by-id/usb-a ] && [ -b /dev/vg/meta ] ;", places.CATCH)
    )
    assert wait < catch < text.index("ExecStart=")
    assert "until" not in storage.unit_texts(topology(), quorum=True, backing=None)[unit_file(places.UP)][0]


def test_what_uses_the_storage_is_tied_to_its_mount() -> None:
    cluster = topology(units=UNITS)
    bare_units = {host: titles(drbd.plan_units(cluster, observed(bare())))[host] for host in PAIR}
    for name in UNITS:
        assert all(f"write {places.drop_in(name)}" in titled for titled in bare_units.values())
        text, _ = storage.unit_texts(cluster, quorum=False, backing=topology().host(PROD).drbd)[places.drop_in(name)]
        assert {"AssertPathIsMountPoint=/srv/data", f"After={places.STORAGE}", f"PartOf={places.STORAGE}"} <= set(
            text.splitlines()
        )
    assert drbd.plan_units(cluster, observed(healthy(cluster))) == {}


def test_a_unit_that_is_no_longer_named_is_let_go() -> None:
    states = healthy(topology(units=UNITS))
    once = {host: replace(state, drop_ins=tuple(map(places.drop_in, UNITS))) for host, state in states.items()}
    fewer = topology(units=UNITS[:1])
    plan = titles(drbd.plan_units(fewer, observed({**once, LOAD: states[LOAD]})))
    for host in PAIR:
        assert f"remove {places.drop_in(UNITS[1])}" in plan[host]
        assert f"remove {places.drop_in(UNITS[0])}" not in plan[host]
        assert plan[host][-1] == "let systemd read its units again"


def test_the_mount_point_is_closed_where_it_is_open() -> None:
    states = healthy()
    states[MIRROR] = with_facts(states[MIRROR], immutable=False)
    plan = drbd.plan_mount_point(topology(), observed(states))
    assert titles(plan) == {MIRROR: ["make /srv/data, immutable while nothing is mounted"]}


def test_a_mount_point_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data" / "kept").mkdir(parents=True)
    (change,) = drbd.plan_mount_point(topology(), observed(bare()))[PROD]
    assert isinstance(change, Run)
    argv = [word.replace("/srv/data", str(tmp_path / "data")) for word in change.argv]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, "is not empty" in done.stderr) == (75, True)


# --- proof


def test_bare_disks_are_read_from_end_to_end() -> None:
    plan = drbd.plan_proof(topology(), observed(bare()))
    assert titles(plan) == {host: ["read /dev/vdb (10.0 GiB): does it hold nothing but zeros?"] for host in PAIR}


@pytest.mark.parametrize(
    "parts",
    [{"proof": "zeros"}, {"proof": "data"}, {"generation": JUST_CREATED}],
)
def test_a_disk_is_not_read_again(parts: dict[str, str]) -> None:
    states = {**bare(), PROD: with_facts(pristine(PROD), **parts)}
    assert list(drbd.plan_proof(topology(), observed(states))) == [MIRROR]


def test_a_new_disk_beside_a_copy_that_holds_data_is_not_read() -> None:
    states = {**bare(), PROD: with_facts(pristine(PROD), generation=USED)}
    assert drbd.plan_proof(topology(), observed(states)) == {}


def test_a_disk_with_a_signature_is_not_read() -> None:
    states = {**bare(), PROD: with_device(pristine(PROD), "/dev/vdb", signatures=frozenset({"ext4"}))}
    assert list(drbd.plan_proof(topology(), observed(states))) == [MIRROR]


# --- metadata


def test_metadata_is_made_on_bare_disks_without_a_name() -> None:
    plan = drbd.plan_metadata(topology(), observed(bare()))
    assert titles(plan) == {host: ["create DRBD's metadata on /dev/vdb"] for host in PAIR}
    assert destroyed(plan) == set()


@pytest.mark.parametrize("signatures", [{"ext4"}, {"gpt", "PMBR"}, {"LVM2_member"}, {"crypto_LUKS"}])
def test_a_disk_with_a_signature_must_be_named(signatures: set[str]) -> None:
    states = {**bare(), MIRROR: with_device(pristine(MIRROR), "/dev/vdb", signatures=frozenset(signatures))}
    plan = drbd.plan_metadata(topology(), observed(states))
    assert destroyed(plan) == {"dock-mirror:/dev/vdb"}
    assert ", ".join(sorted(signatures)) in titles(plan)[MIRROR][0]


@pytest.mark.parametrize("plan", [drbd.plan_proof, drbd.plan_metadata])
def test_a_disk_that_cannot_be_read_is_not_taken_for_an_empty_one(plan: Any) -> None:
    states = {**bare(), PROD: with_device(pristine(PROD), "/dev/vdb", readable=False)}
    with pytest.raises(StepFailed, match="dock-prod: /dev/vdb cannot be read"):
        plan(topology(), observed(states))


@pytest.mark.parametrize("plan", [drbd.plan_proof, drbd.plan_metadata])
def test_a_disk_that_is_not_there_is_named(plan: Any) -> None:
    states = {**bare(), PROD: with_facts(pristine(PROD), devices=())}
    with pytest.raises(StepFailed, match="dock-prod: there is no block device /dev/vdb"):
        plan(topology(), observed(states))


@pytest.mark.parametrize("metadata", [None, "/dev/vdc"])
@pytest.mark.parametrize("generation", [JUST_CREATED, USED])
def test_metadata_that_is_there_is_never_made_anew(metadata: str | None, generation: str) -> None:
    """External metadata bears no signature that wipefs knows: made anew, the newest data would count as none."""
    cluster = topology(metadata=metadata)
    states = attached_nowhere(healthy(cluster), generation)
    assert drbd.plan_metadata(cluster, observed(states)) == {}


def test_a_leftover_of_drbd_that_is_not_understood_is_not_replaced() -> None:
    assert drbd.plan_metadata(topology(), observed(attached_nowhere(healthy()))) == {}


def test_external_metadata_leaves_the_disk_alone() -> None:
    cluster = topology(metadata="/dev/vdc")
    states = attached_nowhere(healthy(cluster))
    states[PROD] = with_device(states[PROD], "/dev/vdb", signatures=frozenset({"ext4"}))
    plan = drbd.plan_metadata(cluster, observed(states))
    assert titles(plan) == {host: ["create DRBD's metadata on /dev/vdc"] for host in PAIR}
    assert destroyed(plan) == set()


@pytest.mark.parametrize(("signatures", "doomed"), [({"ext4"}, {"dock-prod:/dev/vdb"}), (set(), set())])
def test_a_disk_whose_new_external_metadata_would_let_it_be_overwritten_must_be_named(
    signatures: set[str], doomed: set[str]
) -> None:
    """Created unnamed, the next boot would attach it beside a replica that was used, and DRBD copies over it."""
    cluster = topology(metadata="/dev/vdc")
    states = attached_nowhere(healthy(cluster), USED)
    states[PROD] = with_facts(states[PROD], generation="")
    states[PROD] = with_device(states[PROD], "/dev/vdb", signatures=frozenset(signatures))
    assert destroyed(drbd.plan_metadata(cluster, observed(states))) == doomed


# --- up


def test_the_resource_is_brought_up_now_and_at_boot() -> None:
    plan = drbd.plan_up(topology(), observed(bare()))
    line = f"systemctl daemon-reload; systemctl enable -- {places.UP}; systemctl start -- {places.UP}"
    assert titles(plan) == {host: [line] for host in PAIR}
    assert LOAD in drbd.plan_up(topology(), observed(bare(nine=True)))


def test_what_runs_is_brought_in_line_with_its_file() -> None:
    states = healthy()
    states[PROD] = replace(states[PROD], adjustments=("drbdsetup-84 disk-options 0 --c-max-rate=1k",))
    assert titles(drbd.plan_up(topology(), observed(states))) == {PROD: ["bring data in line with its file"]}


@pytest.mark.parametrize(("host", "other"), OTHER.items())
def test_data_that_drbd_would_overwrite_as_soon_as_they_connect_must_be_named(host: str, other: str) -> None:
    """Metadata that was just made loses against any other: drbd_uuid_compare(), rule 20."""
    if host == LOAD:
        return
    cluster = topology(metadata="/dev/vdc")
    states = attached_nowhere(healthy(cluster), USED)
    states[host] = with_facts(states[host], generation=JUST_CREATED)
    assert destroyed(drbd.plan_up(cluster, observed(states))) == set()
    states[host] = with_device(states[host], "/dev/vdb", signatures=frozenset({"xfs"}))
    assert destroyed(drbd.plan_up(cluster, observed(states))) == {f"{host}:/dev/vdb"}
    states[other] = with_facts(states[other], generation=JUST_CREATED)
    assert destroyed(drbd.plan_up(cluster, observed(states))) == set(), "both new: the first copy asks"


@pytest.mark.parametrize(("host", "role"), [(PROD, Role.PRIMARY), (MIRROR, Role.SECONDARY)])
def test_a_new_disk_under_a_replica_that_runs_without_one(host: str, role: Role) -> None:
    """The way of LINBIT's guide: create-md, attach; what lies on the new disk must be named."""
    states = healthy()
    lost = with_device(with_facts(states[host], generation=""), "/dev/vdb", signatures=frozenset({"xfs"}))
    attach = ("drbdsetup-84 attach 0 /dev/vdb /dev/vdb internal",)
    states[host] = replace(lost, resource=resource(role, Disk.DISKLESS), adjustments=attach)
    assert drbd.plan_proof(topology(), observed(states)) == {}
    assert destroyed(drbd.plan_metadata(topology(), observed(states))) == {f"{host}:/dev/vdb"}
    states[host] = with_device(
        with_facts(states[host], generation=JUST_CREATED), "/dev/vdb", signatures=frozenset({"xfs"})
    )
    plan = drbd.plan_up(topology(), observed(states))
    assert titles(plan) == {host: ["bring data in line with its file"]}
    assert destroyed(plan) == {f"{host}:/dev/vdb"}


# --- the first copy


def test_two_empty_disks_are_declared_equal() -> None:
    plan = drbd.plan_first_sync(topology(), observed(first_meeting(healthy(), "zeros", "zeros")))
    assert titles(plan) == {
        PROD: ["declare the two empty disks of data equal, without a first sync"],
        MIRROR: ["forget what was proven of the disk"],
    }
    assert any("new-current-uuid" in line for line in argvs(plan))
    assert not any("--force" in line for line in argvs(plan))


@pytest.mark.parametrize("proofs", [("zeros", ""), ("", "zeros"), ("zeros", "data"), ("data", "zeros"), ("", "")])
def test_with_one_proof_everything_is_copied_from_the_writer(proofs: tuple[str, str]) -> None:
    plan = drbd.plan_first_sync(topology(), observed(first_meeting(healthy(), *proofs)))
    assert titles(plan)[PROD] == ["promote data on dock-prod for the first time; everything is copied to dock-mirror"]
    assert not any("new-current-uuid" in line for line in argvs(plan))


def test_the_source_is_the_writer_that_the_record_names() -> None:
    plan = drbd.plan_first_sync(topology(), observed(first_meeting(healthy(), "", ""), records(MIRROR, 4)))
    assert "promote data on dock-mirror" in titles(plan)[MIRROR][0]


@pytest.mark.parametrize(("writer", "other"), [(PROD, MIRROR), (MIRROR, PROD)])
def test_what_lies_on_the_other_disk_must_be_named(writer: str, other: str) -> None:
    states = first_meeting(healthy(topology(metadata="/dev/vdc")), "", "")
    for host in PAIR:
        states[host] = with_device(states[host], "/dev/vdb", signatures=frozenset({"ext4"}))
    plan = drbd.plan_first_sync(topology(metadata="/dev/vdc"), observed(states, records(writer, 2)))
    assert destroyed(plan) == {f"{other}:/dev/vdb"}


@pytest.mark.parametrize("host", PAIR)
def test_no_side_is_forced_when_one_of_them_held_data_before(host: str) -> None:
    """A new disk at one, and a resync that never ended at the other: forced, the blank one would win."""
    states = first_meeting(healthy(), "zeros", "zeros")
    states[host] = with_facts(states[host], generation=USED)
    with pytest.raises(StepFailed, match=rf"{host} held data before: none of them is whole"):
        drbd.plan_first_sync(topology(), observed(states))


@pytest.mark.parametrize("disk", sorted(set(Disk) - {Disk.INCONSISTENT}))
@pytest.mark.parametrize("host", PAIR)
def test_any_other_disk_state_is_left_to_drbd(host: str, disk: Disk) -> None:
    states = first_meeting(healthy(), "zeros", "zeros")
    states[host] = replace(states[host], resource=resource(disk=disk, peer_disk=Disk.INCONSISTENT))
    assert drbd.plan_first_sync(topology(), observed(states)) == {}


@pytest.mark.parametrize("link", sorted(set(Link) - {Link.CONNECTED}))
def test_nobody_is_forced_without_a_connection(link: Link) -> None:
    states = first_meeting(healthy(), "zeros", "zeros")
    states[MIRROR] = replace(states[MIRROR], resource=resource(disk=Disk.INCONSISTENT, link=link))
    assert drbd.plan_first_sync(topology(), observed(states)) == {}


def every_state() -> Iterator[States]:
    """The pair in many states, the first meeting with its few proofs among them."""
    yield bare()
    yield healthy()
    yield healthy(writer=MIRROR)
    yield attached_nowhere(healthy(), USED)
    for disk in Disk:
        for role in Role:
            states = first_meeting(healthy(), "zeros", "")
            yield {**states, PROD: replace(states[PROD], resource=resource(role, disk, peer_disk=disk))}


def test_drbd_is_forced_nowhere_else() -> None:
    forced = []
    for states in every_state():
        for plan in PLANS:
            try:
                made: Plan = plan(topology(), observed(states))
            except (StepFailed, NotObserved):
                continue
            forced += [(plan, states) for line in argvs(made) if "primary --force" in line]
    assert {plan for plan, _ in forced} == {drbd.plan_first_sync}
    for _, states in forced:
        assert {states[host].disk for host in PAIR} == {Disk.INCONSISTENT}
        assert all(states[host].facts.fresh for host in PAIR)


@pytest.fixture
def stubs(tmp_path: Path) -> dict[str, str]:
    """A folder on PATH in which a drbdadm writes down what it was asked, and answers ``dstate`` out of $DISKS."""
    tool = tmp_path / "bin" / "drbdadm"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\nif [ "$1" = dstate ]; then echo "$DISKS"; else echo "$@" >>"$LOG"; fi\n')
    tool.chmod(0o755)
    return {"PATH": f"{tool.parent}:{os.environ['PATH']}", "LOG": str(tmp_path / "log"), "DISKS": ""}


@pytest.mark.parametrize("proofs", [("zeros", "zeros"), ("", "")])
@pytest.mark.parametrize(
    ("disks", "runs"),
    [
        ("Inconsistent/Inconsistent", True),
        ("Inconsistent/Diskless/Inconsistent", True),
        ("Inconsistent/UpToDate", False),
        ("UpToDate/Inconsistent", False),
        ("Inconsistent/DUnknown", False),
        ("", False),
    ],
)
def test_the_disks_are_looked_at_again_before_the_first_copy(
    stubs: dict[str, str], tmp_path: Path, proofs: tuple[str, str], disks: str, runs: bool
) -> None:
    plan = drbd.plan_first_sync(topology(), observed(first_meeting(healthy(), *proofs)))
    (change,) = plan[PROD]
    assert isinstance(change, Run)
    proof = tmp_path / "proof"
    proof.write_text("zeros")
    argv = [str(proof) if word == places.PROOF else word for word in change.argv]
    done = subprocess.run(argv, env={**stubs, "DISKS": disks}, capture_output=True, text=True, check=False)
    assert (done.returncode == 0, Path(stubs["LOG"]).exists()) == (runs, runs), done.stderr
    assert not proof.exists()


# --- promotion, file system, mount


def synced(states: States) -> States:
    """Both UpToDate and Secondary, nothing was ever mounted."""
    met = first_meeting(states, "", "")
    up = resource(peer_role=Role.SECONDARY)
    return {**met, **{host: replace(with_facts(met[host], generation=USED), resource=up) for host in PAIR}}


def test_the_writer_is_promoted_once_before_there_is_a_file_system() -> None:
    assert titles(drbd.plan_promotion(topology(), observed(synced(healthy())))) == {PROD: ["promote data"]}
    assert argvs(drbd.plan_promotion(topology(), observed(synced(healthy())))) == ["drbdadm primary data"]


@pytest.mark.parametrize("host", PAIR)
def test_nobody_is_promoted_in_doubt_or_alone(host: str) -> None:
    states = synced(healthy())
    for broken in (
        replace(states[host], doubt="resources[0].role: Primary, Secondary"),
        replace(states[host], resource=resource(link=Link.CONNECTING)),
        replace(states[host], resource=resource(peer=None)),
    ):
        with pytest.raises(StepFailed, match=f"{host}: nobody is promoted while"):
            drbd.plan_promotion(topology(), observed({**states, host: broken}))


def test_nobody_is_promoted_beside_a_primary_or_after_the_first_time() -> None:
    states = synced(healthy())
    primary = replace(states[MIRROR], resource=resource(Role.PRIMARY))
    assert drbd.plan_promotion(topology(), observed({**states, MIRROR: primary})) == {}
    begun = replace(states[PROD], storage=unit(places.STORAGE, "waiting"))
    assert drbd.plan_promotion(topology(), observed({**states, PROD: begun})) == {}


def primary(**device: Any) -> States:
    states = synced(healthy())
    states[PROD] = replace(states[PROD], resource=resource(Role.PRIMARY, peer_role=Role.SECONDARY))
    states[PROD] = with_device(states[PROD], "/dev/drbd0", **{"readable": True, "signatures": frozenset(), **device})
    return states


def test_a_file_system_is_made_where_nothing_lies() -> None:
    assert titles(drbd.plan_file_system(topology(), observed(primary()))) == {PROD: ["make ext4 on /dev/drbd0"]}


def test_a_storage_that_was_in_use_and_shows_no_file_system_is_not_made_anew_unnamed() -> None:
    states = primary()
    states[MIRROR] = replace(states[MIRROR], storage=unit(places.STORAGE, "waiting"))
    plan = drbd.plan_file_system(topology(), observed(states))
    assert destroyed(plan) == {"dock-prod:/dev/drbd0"}
    assert "was in use: fsck.ext4 may mend" in titles(plan)[PROD][0]


@pytest.mark.parametrize("device", [{"readable": False}, {"signatures": frozenset({"xfs"})}])
def test_a_device_that_holds_something_or_cannot_be_read_gets_none(device: dict[str, Any]) -> None:
    assert drbd.plan_file_system(topology(), observed(primary(**device))) == {}


def test_a_secondary_gets_no_file_system() -> None:
    states = synced(healthy())
    states[PROD] = with_device(states[PROD], "/dev/drbd0", readable=True)
    assert drbd.plan_file_system(topology(), observed(states)) == {}


@pytest.mark.parametrize(
    ("wipefs", "dd", "made"),
    [
        ("true", "true", True),
        ("echo 0x438 ext4", "true", False),
        ("false", "true", False),
        ("true", "false", False),
    ],
)
def test_the_device_is_looked_at_again_before_the_file_system_is_made(
    tmp_path: Path, wipefs: str, dd: str, made: bool
) -> None:
    for name, body in (("wipefs", wipefs), ("dd", dd), ("mkfs.ext4", f"touch {tmp_path}/made")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (change,) = drbd.plan_file_system(topology(), observed(primary()))[PROD]
    assert isinstance(change, Run)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert (subprocess.run(change.argv, env=env, check=False).returncode == 0) is made
    assert (tmp_path / "made").exists() is made


def test_the_writer_begins_and_both_decide_at_boot() -> None:
    plan = titles(drbd.plan_storage(topology(), observed(primary(signatures=frozenset({"ext4"})))))
    enable = f"systemctl daemon-reload; systemctl enable -- {places.STORAGE}"
    assert plan == {PROD: [enable, f"start {places.STORAGE}"], MIRROR: [enable]}


@pytest.mark.parametrize("active", ["waiting", "inactive", "failed", "active"])
def test_a_unit_that_runs_without_the_storage_is_begun_anew(active: str) -> None:
    states = synced(healthy())
    changes = storage.start_storage(replace(states[PROD], storage=unit(places.STORAGE, active)))
    commands = [change.commands()[0].argv[2] for change in changes]
    begin = f"systemctl start --no-block {places.STORAGE}"
    assert commands == {
        "waiting": [],
        "active": [f"systemctl stop {places.STORAGE} && {begin}"],
    }.get(active, [begin])
