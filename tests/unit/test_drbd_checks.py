"""What the checks say of a pair: nothing when it is healthy, each fault once, and that somebody was not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from dockyard.errors import ParseError, Unreachable
from dockyard.findings import Cause, Finding
from dockyard.observe import Domain, Observed
from tasks import drbd
from tasks.drbd import places, switch
from tasks.drbd.replica import ReplicaState
from tasks.drbd.state import Disk, Link, Replication, Role, Said
from tests.unit.replicas import (
    HOSTS,
    LOAD,
    MIRROR,
    OTHER,
    PAIR,
    PROD,
    healthy,
    observed,
    pristine,
    records,
    resource,
    topology,
    unit,
    with_facts,
)

States = dict[str, Any]
Break = Callable[[States], States]


def check(states: States, record: Any = None) -> list[Finding]:
    return drbd.check_drbd(topology(), observed(states, record))


def sent(seen: Observed, to: str = MIRROR) -> list[Finding]:
    return drbd.check_all_sent(topology(), seen, to=to)


def of(host: str, **parts: Any) -> Break:
    return lambda states: {**states, host: replace(states[host], **parts)}


def facts(host: str, **parts: Any) -> Break:
    return lambda states: {**states, host: with_facts(states[host], **parts)}


def both(*breaks: Break) -> Break:
    def apply(states: States) -> States:
        for one in breaks:
            states = one(states)
        return states

    return apply


@pytest.mark.parametrize("nine", [False, True])
@pytest.mark.parametrize("writer", PAIR)
def test_a_healthy_pair_has_no_findings(nine: bool, writer: str) -> None:
    seen = observed(healthy(nine=nine, writer=writer), records(writer, 2))
    assert drbd.check_drbd(topology(), seen) == []
    assert drbd.check_connected(topology(), seen) == []
    assert sent(seen, OTHER[writer]) == []
    assert drbd.in_use(topology(), seen) == list(PAIR)


def test_before_phase_2_there_is_nothing_to_say() -> None:
    states: States = {host: pristine(host) for host in HOSTS}
    seen = observed(states, records(""))
    assert (drbd.check_drbd(topology(), seen), drbd.in_use(topology(), seen)) == ([], [])
    without = replace(topology(), cluster=replace(topology().cluster, drbd=None))
    assert (drbd.check_drbd(without, observed(healthy())), drbd.in_use(without, observed(healthy()))) == ([], [])


ALONE = resource(Role.PRIMARY, peer=None)
FAULTS: dict[str, tuple[Break, list[tuple[str, str]]]] = {
    "two writers": (
        both(
            of(MIRROR, resource=resource(Role.PRIMARY, link=Link.STAND_ALONE)),
            of(PROD, resource=resource(Role.PRIMARY, link=Link.STAND_ALONE)),
            of(MIRROR, device="/dev/drbd0"),
            facts(MIRROR, on_mount="/dev/drbd0"),
        ),
        [(PROD, "Primary on two hosts"), (PROD, "StandAlone")],
    ),
    "split brain, as 8.4 shows it": (
        both(of(PROD, resource=ALONE), of(MIRROR, resource=resource(link=Link.CONNECTING))),
        [(PROD, "StandAlone")],
    ),
    "the line is cut": (
        both(
            of(PROD, resource=resource(Role.PRIMARY, link=Link.CONNECTING)),
            of(MIRROR, resource=resource(link=Link.CONNECTING)),
        ),
        [(PROD, "is not connected: nothing is replicated now")],
    ),
    "one side is down": (
        both(
            of(MIRROR, resource=None, up=unit(places.UP)),
            of(PROD, resource=resource(Role.PRIMARY, link=Link.CONNECTING)),
        ),
        [(MIRROR, "data is not up"), (PROD, "is not connected")],
    ),
    "a Secondary without a disk": (
        both(
            of(MIRROR, resource=resource(disk=Disk.DISKLESS, peer_role=Role.PRIMARY)),
            of(PROD, resource=resource(Role.PRIMARY, peer_disk=Disk.DISKLESS)),
        ),
        [(MIRROR, "data has no disk here")],
    ),
    "the Primary lost its disk": (
        of(PROD, resource=resource(Role.PRIMARY, Disk.DISKLESS)),
        [(PROD, "data has no disk here")],
    ),
    "a failed disk": (of(PROD, resource=resource(Role.PRIMARY, Disk.FAILED)), [(PROD, "data has no disk here")]),
    "a resync": (
        of(MIRROR, resource=resource(disk=Disk.INCONSISTENT, replication=Replication.SYNC_TARGET, out_of_sync_kib=7)),
        [(MIRROR, "is Inconsistent, not UpToDate")],
    ),
    "an outdated copy": (of(MIRROR, resource=resource(disk=Disk.OUTDATED)), [(MIRROR, "is Outdated, not UpToDate")]),
    "a difference that verify found": (
        of(MIRROR, resource=resource(out_of_sync_kib=12)),
        [(MIRROR, "12 KiB of data differ")],
    ),
    "another module for the next boot": (
        facts(PROD, available="9.2.16"),
        [(PROD, "the DRBD modules of the replicas do not fit")],
    ),
    "two readings that differ": (of(PROD, doubt="resources[0].role: ..."), [(PROD, "two readings of data differ")]),
    "nobody is Primary": (
        both(
            of(PROD, resource=resource(), storage=unit(places.STORAGE, "waiting")),
            facts(PROD, on_mount="", immutable=True),
        ),
        [(PROD, "nobody is Primary of data")],
    ),
    "not mounted": (facts(PROD, on_mount="", immutable=True), [(PROD, "is not mounted, though this is the Primary")]),
    "something else is mounted": (facts(PROD, on_mount="/dev/sdz1"), [(PROD, "something else is mounted")]),
    "something else is mounted on the Secondary": (
        facts(MIRROR, on_mount="/dev/sdz1"),
        [(MIRROR, "something else is mounted")],
    ),
    "an open mount point": (facts(MIRROR, immutable=False), [(MIRROR, "can be written into")]),
    "no module after an update of the kernel": (
        both(facts(MIRROR, loaded="", available=""), of(MIRROR, resource=None)),
        [(PROD, "the DRBD modules of the replicas do not fit"), (MIRROR, "data is not up")],
    ),
    "two generations of DRBD": (
        facts(MIRROR, loaded="9.2.16", available="9.2.16"),
        [(PROD, "the DRBD modules of the replicas do not fit")],
    ),
}


def without_quorum(host: str) -> Break:
    def apply(states: States) -> States:
        seen = states[host].resource
        volumes = (replace(seen.volumes[0], quorum=Said.NO),)
        peers = tuple(replace(peer, link=Link.CONNECTING, role=Role.UNKNOWN, volumes=()) for peer in seen.peers)
        return of(host, resource=replace(seen, volumes=volumes, peers=peers))(states)

    return apply


def test_who_lost_quorum_is_named_with_what_it_means() -> None:
    found = check(without_quorum(PROD)(healthy(nine=True)))
    assert [(one.host, one.fault.partition(":")[0]) for one in found] == [
        (PROD, "data is not connected"),
        (PROD, "data has no quorum here"),
        (LOAD, "the tie-breaker of data is not connected to dock-prod"),
    ]
    assert "all that is written fails" in found[1].fault
    assert "systemctl restart dockyard-storage" in found[1].advice


def test_a_missing_tie_breaker_is_named_while_all_else_is_well() -> None:
    states = healthy(nine=True)
    for host in PAIR:
        seen = states[host].resource
        assert seen
        states[host] = replace(states[host], resource=replace(seen, peers=seen.peers[:1]))
    (found,) = check(dict(states))
    assert (found.host, "is not connected to dock-prod and dock-mirror" in found.fault) == (LOAD, True)


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_said_once(name: str) -> None:
    damage, wanted = FAULTS[name]
    found = check(damage(healthy()))
    assert [(one.host, part) for one, (_, part) in zip(found, wanted, strict=True) if part in one.fault] == wanted
    for one in found:
        assert one.cause is Cause.DRBD
        assert one.advice
        assert one.evidence


@pytest.mark.parametrize(
    ("loaded", "kernel", "version", "named"),
    [
        ("9.2.16", "6.12.60", "8.4.11", True),
        ("9.2.16", "6.12.60", "", True),
        ("8.4.11", "6.12.60-cloud", "", True),
        ("9.2.16", "6.12.60", "9.3.0", False),
        ("9.2.16", "", "", False),
        ("", "6.12.60", "", False),
    ],
)
def test_a_kernel_that_would_boot_without_this_drbd_is_named_before(
    loaded: str, kernel: str, version: str, named: bool
) -> None:
    change = {"loaded": loaded, "next_kernel": kernel, "next_version": version}
    states = facts(PROD, **change)(healthy())
    found = drbd.check_next_boot(topology(), observed(states))
    assert [one.host for one in found] == [PROD] * named
    assert not [one for one in check(states) if "next boot" in one.fault], "no run waits for that"
    assert all(kernel in one.evidence for one in found)


def test_a_primary_that_is_not_named() -> None:
    found = check(healthy(), records(MIRROR, 2))
    assert [(one.host, "the arbitrator names another writer" in one.fault) for one in found] == [(PROD, True)]


@pytest.mark.parametrize(
    ("copy", "advice"),
    [
        (records(PROD, 1)[PROD], "brings it in line"),
        (records(PROD, 9)[PROD], "Find out who writes"),
        (records(MIRROR, 3)[PROD], "Find out who writes"),
    ],
)
def test_a_copy_that_differs(copy: Any, advice: str) -> None:
    (found,) = check(healthy(), {**records(PROD, 3), MIRROR: copy})
    assert (found.host, "the copy of who may write differs" in found.fault) == (MIRROR, True)
    assert advice in found.advice


def test_a_writer_that_returns_and_was_replaced_is_named_with_what_mends_it() -> None:
    (found,) = check(healthy(writer=MIRROR), {**records(MIRROR, 2), PROD: records(PROD, 1)[PROD]})
    assert (found.host, found.fault) == (PROD, "it was replaced as the writer and does not know it")
    assert "python runbooks/failback.py" in found.advice


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("error", [Unreachable("x", "no route"), ParseError("drbdsetup", 1, "?", "?")])
def test_who_cannot_be_seen_is_a_finding(host: str, error: Exception) -> None:
    found = check({**healthy(), host: error})
    assert [one.host for one in found if one.unseen] == [host]


def test_the_arbitrators_record_cannot_be_read() -> None:
    (found,) = check(healthy(), {**records(), LOAD: Unreachable(LOAD, "no route")})
    assert (found.host, found.unseen, found.fault) == (LOAD, True, "who may write could not be read")


def test_a_copy_that_cannot_be_read_is_no_copy_that_agrees() -> None:
    (found,) = check(healthy(), {**records(), MIRROR: ParseError("writer", 1, "wri", "wri")})
    assert (found.host, found.unseen, found.fault) == (MIRROR, True, "writer could not be read")


def test_advice_for_a_unit_that_is_active_does_something() -> None:
    (found,) = check(facts(PROD, on_mount="", immutable=True)(healthy()))
    assert "systemctl restart dockyard-storage" in found.advice


# --- before and during a switch


def ready(states: States, record: Any = None) -> list[Finding]:
    return drbd.check_ready(topology(), observed(states, record), to=MIRROR)


def test_a_healthy_pair_is_ready() -> None:
    assert ready(healthy()) == []


NOT_READY = {name: FAULTS[name] for name in (
    "two writers", "split brain, as 8.4 shows it", "the line is cut", "one side is down", "a Secondary without a disk",
    "two readings that differ", "two generations of DRBD",
)}  # fmt: skip


@pytest.mark.parametrize("name", NOT_READY)
def test_a_switch_does_not_begin_with_a_fault(name: str) -> None:
    assert ready(NOT_READY[name][0](healthy()))


@pytest.mark.parametrize("disk", [Disk.INCONSISTENT, Disk.OUTDATED, Disk.CONSISTENT, Disk.ATTACHING])
def test_a_copy_that_is_not_up_to_date_cannot_become_the_writer(disk: Disk) -> None:
    (found,) = ready(of(MIRROR, resource=resource(disk=disk))(healthy()))
    assert (found.host, found.fault) == (MIRROR, f"its copy is {disk}")


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        (records(""), "nobody was ever named as the writer"),
        ({**records(), MIRROR: records(MIRROR, 2)[MIRROR]}, "who may write is not certain"),
        ({**records(), LOAD: Unreachable(LOAD, "no route")}, "could not be looked at"),
    ],
)
def test_a_switch_does_not_begin_with_a_record_that_cannot_be_trusted(record: Any, fault: str) -> None:
    (found,) = ready(healthy(), record)
    assert (found.host, found.fault) == (LOAD, fault)


def test_a_writer_that_is_about_to_mount_is_waited_for() -> None:
    waits = both(of(PROD, storage=unit(places.STORAGE, "waiting"), resource=resource()), facts(PROD, on_mount=""))
    (found,) = ready(waits(healthy()))
    assert (found.host, "has not begun" in found.fault) == (PROD, True)


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ({"out_of_sync_kib": 4}, "not all has arrived: 4 KiB are out of sync"),
        ({"disk": Disk.INCONSISTENT}, "not both disks are UpToDate"),
    ],
)
def test_what_could_not_be_handed_over_stops_nothing(parts: dict[str, Any], fault: str) -> None:
    differs = of(PROD, resource=resource(Role.PRIMARY, parts.pop("disk", Disk.UP_TO_DATE), **parts))(healthy())
    (found,) = ready(differs)
    assert (found.host, found.fault) == (PROD, fault)


def test_a_writer_that_let_go_before_the_line_broke_is_told_how_to_go_on_alone() -> None:
    let_go = both(
        of(PROD, storage=unit(places.STORAGE, "inactive"), resource=resource(link=Link.CONNECTING)),
        facts(PROD, on_mount=""),
        of(MIRROR, resource=resource(link=Link.CONNECTING)),
    )(healthy())
    (found,) = [one for one in ready(let_go) if "nobody has it" in one.fault]
    assert (found.host, "drbdadm primary data && systemctl start" in found.advice) == (PROD, True)
    assert found in sent(observed(let_go))
    given_away = observed(let_go, records(PROD, 2))
    assert not any("nobody has it" in one.fault for one in drbd.check_ready(topology(), given_away, to=PROD))


def demoted(**parts: Any) -> States:
    """The named writer let go; ``parts`` are what the other side sees of it."""
    gone = resource(peer_role=Role.SECONDARY)
    return both(of(PROD, resource=gone), of(MIRROR, resource=resource(**parts)))(healthy())


def test_it_is_handed_over_when_the_new_writer_has_read_the_end_of_the_old_ones_role() -> None:
    """With protocol A nothing else tells of what waits in the send buffer: here nothing is pending or out of sync."""
    late = observed(demoted(peer_role=Role.PRIMARY))
    assert sent(late) == []
    (found,) = drbd.check_handed_over(topology(), late, to=MIRROR)
    assert (found.host, found.fault) == (MIRROR, "has not read the end of what the other side sends")
    assert drbd.check_handed_over(topology(), observed(demoted(peer_role=Role.SECONDARY)), to=MIRROR) == []


def test_a_side_that_took_the_storage_back_has_not_handed_it_over() -> None:
    """It let go, the new side read so, and it restarted before anybody else was named."""
    again = of(PROD, resource=resource(role=Role.PRIMARY, peer_role=Role.SECONDARY))
    (found,) = drbd.check_handed_over(topology(), observed(again(demoted(peer_role=Role.SECONDARY))), to=MIRROR)
    assert (found.host, found.fault) == (PROD, "is Primary")


def test_a_disk_that_failed_after_its_last_answer_is_seen_from_the_other_side() -> None:
    """DRBD counts what a peer without a disk will need; that must not excuse what the old writer never sent."""
    failed = of(PROD, resource=resource(peer_role=Role.SECONDARY, peer_disk=Disk.DISKLESS, out_of_sync_kib=8))
    seen = observed(failed(demoted(peer_role=Role.SECONDARY)))
    (found,) = drbd.check_handed_over(topology(), seen, to=MIRROR)
    assert (found.host, found.lasting) == (PROD, False)


def test_a_named_writer_does_not_wait_behind_one_that_took_the_storage_back() -> None:
    waits = of(MIRROR, storage=unit(places.STORAGE, "waiting"))(healthy())
    told = records(MIRROR, 2)
    assert drbd.plan_hold(topology(), observed(waits), to=MIRROR) == {}, "as a rule it waits, and names the other one"
    (hold,) = drbd.plan_hold(topology(), observed(waits, told), to=MIRROR)[MIRROR]
    assert hold.title == "stop dockyard-storage.service, which waits"
    gone = of(PROD, resource=resource())(waits)
    assert drbd.plan_hold(topology(), observed(gone, told), to=MIRROR) == {}


@pytest.mark.parametrize("domain", [drbd.beside(drbd.LIVE, MIRROR), drbd.beside(drbd.PARTING, MIRROR)])
def test_only_the_side_that_let_go_is_asked_again(domain: Domain[Any]) -> None:
    assert [host.name for host in topology().hosts.values() if domain.concerns(topology(), host)] == [PROD]


def test_what_the_side_that_let_go_says_now_replaces_what_it_said() -> None:
    live = drbd.beside(drbd.LIVE, MIRROR)
    assert live.name == drbd.LIVE.name, "what is seen of it replaces what was seen before"


def test_what_never_arrived_before_a_line_broke_is_not_waited_for_in_vain() -> None:
    """8.4 makes no new generation for a host that was demoted: both are UpToDate again, and nothing is sent."""
    lacks = of(PROD, resource=resource(peer_role=Role.SECONDARY, out_of_sync_kib=100))
    seen = observed(lacks(demoted(peer_role=Role.SECONDARY)))
    (found,) = drbd.check_handed_over(topology(), seen, to=MIRROR)
    assert (found.host, found.fault) == (PROD, "not all has arrived: 100 KiB are out of sync")
    assert found.lasting
    assert (
        "failover.py --to dock-prod; then `drbdadm disconnect data && drbdadm connect data` on dock-mirror"
        in found.advice
    )
    assert drbd.check_handed_over(topology(), seen, to=PROD) == [], "the writer has all of it, and goes on"
    assert sent(seen, PROD), "who waits for both to be alike, as failback does, waits"
    compared = of(
        PROD, resource=resource(peer_role=Role.SECONDARY, out_of_sync_kib=100, replication=Replication.VERIFY_S)
    )
    (passing,) = drbd.check_handed_over(topology(), observed(compared(demoted(peer_role=Role.SECONDARY))), to=MIRROR)
    assert not passing.lasting


@pytest.mark.parametrize("host", PAIR)
@pytest.mark.parametrize("parts", [{"out_of_sync_kib": 4}, {"disk": Disk.INCONSISTENT}, {"link": Link.CONNECTING}])
def test_not_all_was_sent(host: str, parts: dict[str, Any]) -> None:
    found = sent(observed(of(host, resource=resource(**parts))(healthy())))
    assert {one.host for one in found} == {host}


LOST = both(
    of(PROD, resource=resource(Role.PRIMARY, Disk.DISKLESS)),
    of(MIRROR, resource=resource(peer_role=Role.PRIMARY, peer_disk=Disk.DISKLESS, out_of_sync_kib=64)),
)
"""The Primary's disk died under a writer: what is written since counts as out of sync, and lies on the other side."""


def test_a_writer_without_a_disk_is_named_once_with_what_to_do() -> None:
    (found,) = check(LOST(healthy()))
    assert (found.host, "dock-mirror holds the only copy" in found.fault) == (PROD, True)
    assert found.advice.startswith("python runbooks/failover.py --to dock-mirror; then replace the disk")


def test_a_writer_that_lost_its_disk_hands_over_and_gets_nothing_back() -> None:
    seen = observed(LOST(healthy()))
    assert ready(LOST(healthy())) == []
    assert sent(seen) == []
    assert [one.host for one in drbd.check_ready(topology(), seen, to=PROD)] == [PROD]
    assert [one.host for one in drbd.check_connected(topology(), seen)] == [PROD], "phase 2 waits for the new disk"


@pytest.mark.parametrize("disk", [Disk.INCONSISTENT, Disk.OUTDATED, Disk.DISKLESS])
def test_a_writer_without_a_disk_hands_over_to_the_newest_data_only(disk: Disk) -> None:
    beside = resource(disk=disk, peer_role=Role.PRIMARY, peer_disk=Disk.DISKLESS)
    states = of(MIRROR, resource=beside)(LOST(healthy()))
    assert {one.host for one in ready(states)} == {MIRROR}
    assert {one.host for one in sent(observed(states))} == {MIRROR}


def test_a_writer_without_a_disk_and_without_the_line_has_nothing_to_hand_over() -> None:
    cut = of(PROD, resource=resource(Role.PRIMARY, Disk.DISKLESS, link=Link.CONNECTING))(LOST(healthy()))
    assert {one.host for one in ready(cut)} == {PROD}


@pytest.mark.parametrize(
    ("state", "promoted"),
    [
        (healthy(writer=MIRROR)[MIRROR], True),
        (healthy()[MIRROR], False),
        (with_facts(healthy(writer=MIRROR)[MIRROR], on_mount="/dev/sdz1"), False),
        (with_facts(healthy(writer=MIRROR)[MIRROR], on_mount=""), False),
        (Unreachable(MIRROR, "no route"), False),
    ],
)
def test_promoted_means_primary_and_mounted(state: ReplicaState | Exception, promoted: bool) -> None:
    seen = observed({**healthy(), MIRROR: state})
    assert (drbd.check_promoted(topology(), seen, to=MIRROR) == []) is promoted


@pytest.mark.parametrize(
    ("generation", "token", "found"),
    [(1, 0, True), (2, 2, True), (2, 3, True), (2, 0, False), (2, 1, False), (3, 2, False), (3, 9, False)],
)
def test_the_token_proves_that_nothing_was_lost(generation: int, token: int, found: bool) -> None:
    using = {host: switch.UsersState(units={}, token=token if host == MIRROR else 0) for host in PAIR}
    seen = observed(healthy(), records(MIRROR, generation), using)
    assert (partial(drbd.check_token, to=MIRROR)(topology(), seen) == []) is found
