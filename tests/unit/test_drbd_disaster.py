"""Giving the storage away when the writer is gone: refused on any doubt, and on evidence and a typed phrase else."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dockyard.errors import AuthenticationFailed, ParseError, Unreachable
from dockyard.observe import Observed
from tasks import drbd
from tasks.drbd import places, witness
from tasks.drbd.state import Disk, Link, Role, Said
from tasks.drbd.witness import WITNESS, Witness, read_witness
from tasks.drbd.writer import WRITER
from tests.unit.replicas import (
    LOAD,
    MIRROR,
    PROD,
    SINCE,
    UNITS,
    healthy,
    observed,
    records,
    resource,
    titles,
    topology,
    unit,
    users,
)

GONE = Unreachable(PROD, "no answer from 10.0.0.2 port 22 within 10 s")


def silent(**parts: Any) -> Witness:
    return replace(Witness(answers={PROD: False}, silent_s={PROD: 240}, lost_s=130), **parts)


def seen(
    prod: object = GONE, mirror: dict[str, Any] | None = None, witnesses: dict[str, object] | None = None, **record: Any
) -> Observed:
    """The writer is gone, the copy on dock-mirror is good and alone; parts of that replaced."""
    states: dict[str, Any] = healthy()
    link = (mirror or {}).pop("link", Link.CONNECTING)
    kib = (mirror or {}).pop("kib", 0)
    alone = resource(Role.SECONDARY, (mirror or {}).pop("disk", Disk.UP_TO_DATE), link=link, out_of_sync_kib=kib)
    votes = replace(alone.volumes[0], quorum=(mirror or {}).pop("quorum", Said.UNSAID))
    states[MIRROR] = replace(states[MIRROR], resource=replace(alone, volumes=(votes,)), **(mirror or {}))
    states[PROD] = prod
    copies: dict[str, object] = {**records(**record), PROD: GONE}
    base = observed(states, copies)
    looks = {
        LOAD: silent(answers={PROD: False, MIRROR: True}, lost_s=None),
        MIRROR: silent(),
        PROD: GONE,
        **(witnesses or {}),
    }
    return base.merged(Observed({host: {WITNESS.name: look} for host, look in looks.items()}))


def restored_arbitrator() -> Observed:
    """Its record is older than the copy on the replica that is left."""
    return seen(generation=4).merged(Observed({LOAD: {WRITER.name: records(MIRROR, 3)[LOAD]}}))


def faults(view: Observed) -> list[str]:
    return [f"{one.host}: {one.fault}" for one in drbd.check_gone(topology(), view, to=MIRROR)]


def test_a_writer_that_nobody_sees_and_a_good_copy_are_no_obstacle() -> None:
    assert faults(seen()) == []


@pytest.mark.parametrize(
    ("view", "fault"),
    [
        (lambda: seen(prod=healthy()[PROD]), "dock-prod: is not gone: it answers this machine"),
        (
            lambda: seen(prod=Unreachable(PROD, "late", answered=True)),
            "dock-prod: is not gone: it answers this machine",
        ),
        (
            lambda: seen(witnesses={LOAD: silent(answers={PROD: False, MIRROR: False})}),
            "dock-load: cannot witness: it does not see dock-mirror either",
        ),
        (lambda: seen(mirror={"link": Link.CONNECTED}), "dock-prod: is not gone: dock-mirror is connected to it"),
        (lambda: seen(mirror={"link": Link.STAND_ALONE}), "dock-mirror: it gave the connection up before"),
        (lambda: seen(prod=AuthenticationFailed(PROD, "no key")), "dock-prod: is not gone: it answers this machine"),
        (lambda: seen(witnesses={LOAD: silent(answers={PROD: True})}), "dock-prod: is not gone: dock-load sees it"),
        (lambda: seen(witnesses={MIRROR: silent(answers={PROD: True})}), "dock-prod: is not gone: dock-mirror sees it"),
        (lambda: seen(witnesses={LOAD: Unreachable(LOAD, "gone")}), "dock-load: could not be looked at"),
        (
            lambda: seen(mirror={"disk": Disk.INCONSISTENT}),
            "dock-mirror: its copy is Inconsistent: promoting it would bring back old or torn data",
        ),
        (
            lambda: seen(mirror={"disk": Disk.OUTDATED}),
            "dock-mirror: its copy is Outdated: promoting it would bring back old or torn data",
        ),
        (lambda: seen(mirror={"quorum": Said.NO}), "dock-mirror: it has no quorum: DRBD refuses to promote it"),
        (lambda: seen(mirror={"doubt": "role: Primary, Secondary"}), "dock-mirror: two readings of DRBD differ"),
        (lambda: seen(writer="dock-dash"), "dock-mirror: the arbitrator names dock-dash since"),
        (restored_arbitrator, "dock-load: who may write is not certain"),
    ],
)
def test_any_doubt_refuses(view: Any, fault: str) -> None:
    assert any(one.startswith(fault) for one in faults(view())), faults(view())


def test_the_page_shows_evidence_and_price_and_its_phrase_the_time() -> None:
    page = drbd.preflight(topology(), seen(), to=MIRROR)
    text = "\n".join(page.lines)
    for words in (
        "no answer from 10.0.0.2",
        "dock-load does not see it (last handshake 240 s ago)",
        "lost its connection 130 s ago",
        "dock-prod since 2026-01-02T03:04:05Z, generation 1",
        "up to 512 KiB",
        "split brain",
    ):
        assert words in text, text
    assert page.phrase == "give data to dock-mirror and lose the last 4 min"


def test_the_page_names_what_is_known_to_differ() -> None:
    view = seen(mirror={"kib": 12})
    assert "12 KiB on dock-mirror are known to differ" in "\n".join(drbd.preflight(topology(), view, to=MIRROR).lines)
    assert "differ" not in "\n".join(drbd.preflight(topology(), seen(), to=MIRROR).lines)
    promoted = resource(Role.PRIMARY, Disk.UP_TO_DATE, link=Link.CONNECTING, out_of_sync_kib=12)
    alone = replace(view.of(drbd.DRBD, MIRROR), resource=promoted)
    writes = Observed({MIRROR: {drbd.LIVE.name: alone, drbd.DRBD.name: alone}})
    assert "differ" not in "\n".join(drbd.preflight(topology(), view.merged(writes), to=MIRROR).lines), (
        "a run that was cut off after the promotion: what it counts it wrote itself"
    )


def test_a_handshake_says_nothing_of_since_when_nothing_was_replicated() -> None:
    view = seen(witnesses={MIRROR: silent(lost_s=None)})
    assert drbd.preflight(topology(), view, to=MIRROR).phrase == "give data to dock-mirror and lose an unknown time"


def test_the_record_moves_on_at_the_arbitrator_and_then_here_alone() -> None:
    plan = drbd.plan_new_writer_alone(topology(), seen(), to=MIRROR, since=SINCE)
    title = "name dock-mirror as the writer (generation 3)"
    assert titles(plan) == {LOAD: [title]}
    named = seen().merged(Observed({LOAD: {WRITER.name: records(MIRROR, 3)[LOAD]}}))
    assert faults(named) == [], "a run that was cut off here goes on"
    assert titles(drbd.plan_new_writer_alone(topology(), named, to=MIRROR, since="later")) == {}
    assert titles(drbd.plan_told_alone(topology(), named, to=MIRROR)) == {MIRROR: [title]}
    again = drbd.plan_new_writer_alone(topology(), seen(writer=MIRROR, generation=2), to=MIRROR, since="later")
    assert titles(again) == {}


def test_promotion_is_never_forced_and_not_repeated() -> None:
    plan = drbd.plan_promote_alone(topology(), seen(), to=MIRROR)
    argvs = [command.argv for change in plan[MIRROR] for command in change.commands()]
    assert ("drbdadm", "primary", "data") in argvs
    assert not any("--force" in argv for argv in argvs)
    states: dict[str, Any] = healthy(writer=MIRROR)
    done = replace(states[MIRROR], storage=unit(places.STORAGE, "active"))
    assert titles(drbd.plan_promote_alone(topology(), observed({**states, MIRROR: done}), to=MIRROR)) == {}


@pytest.mark.parametrize(("token", "marks"), [(0, True), (1, True), (2, False), (3, True)])
def test_what_goes_on_is_marked_before_anything_starts(token: int, marks: bool) -> None:
    view = observed(healthy(writer=MIRROR), records(MIRROR, 2), {MIRROR: replace(users()[MIRROR], token=token)})
    (changes,) = titles(drbd.plan_start_alone(topology(), view, to=MIRROR)).values()
    assert changes == [
        *(["write the token 2 into /srv/data/.dockyard-token"] if marks else []),
        *(f"start {name}" for name in reversed(UNITS)),
    ]


PRINTED = "ping|dock-prod|1\nhandshake|dock-prod|900\nlost||870\nnow||1000\n"


def test_what_a_witness_printed_is_read() -> None:
    assert read_witness(PRINTED) == Witness(answers={PROD: False}, silent_s={PROD: 100}, lost_s=130)
    assert read_witness("ping|dock-prod|0\nhandshake|dock-prod|0\nnow||1000\n") == Witness(
        answers={PROD: True}, silent_s={}, lost_s=None
    )


@pytest.mark.parametrize(
    "text", ["", PRINTED.replace("now||1000\n", ""), PRINTED + "ping|dock-prod|maybe\n", "ping|dock-prod|2\nnow||9\n"]
)
def test_a_witness_that_is_cut_off_or_says_something_new_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        read_witness(text)


@pytest.mark.parametrize(("host", "searches"), [(LOAD, False), (MIRROR, True)])
def test_the_probe_says_what_ping_wireguard_and_the_kernel_say(tmp_path: Path, host: str, searches: bool) -> None:
    dump = "me\\tpub\\t51820\\toff\\npeer\\t(none)\\t10.99.0.12:51820\\t10.20.0.2/32\\t1700000000\\t1\\t2\\toff\\n"
    for name, body in {
        "ping": "case $* in *10.20.0.2*) exit 1 ;; esac",
        "wg": f"printf '{dump}'",
        "journalctl": 'echo "1700000050.123 dock-load kernel: drbd data: conn( Connected -> NetworkFailure )"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (command,) = witness.WITNESS.probes(topology(), topology().host(host))
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = subprocess.run(command.argv, capture_output=True, text=True, check=True, env=env)
    found = read_witness(ran.stdout)
    assert found.answers == {PROD: False, (MIRROR if host == LOAD else LOAD): True}
    assert set(found.silent_s) == {PROD}
    assert (found.lost_s is not None) == searches, "only replicas have DRBD's lines in their log"
