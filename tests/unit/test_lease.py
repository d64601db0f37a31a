from __future__ import annotations

import os

import pytest

from dockyard.lease import Holder, _this_process

REFUSAL = """\
now=1000
run=0b5d
owner=ada@laptop
process=machine/boot/4242/77
purpose=phase1_baseline
since=940
expires=1060
"""


def test_the_refusal_of_the_arbitrator_tells_who_and_for_how_long() -> None:
    assert Holder.of(REFUSAL) == Holder(
        run="0b5d",
        owner="ada@laptop",
        process="machine/boot/4242/77",
        purpose="phase1_baseline",
        age_s=60,
        expires_in_s=60,
    )


def held_by(process: str) -> Holder:
    return Holder.of(REFUSAL.replace("machine/boot/4242/77", process))


@pytest.mark.parametrize(
    ("machine", "boot", "pid", "started", "gone"),
    [
        (None, None, None, None, False),
        ("another machine", None, None, None, False),
        (None, "an earlier boot", None, None, True),
        (None, None, None, "a reused pid", True),
        (None, None, "4194305", None, True),
    ],
    ids=["alive", "elsewhere", "rebooted", "pid reused", "dead"],
)
def test_a_holder_is_gone_only_when_this_machine_can_see_it(
    machine: str | None, boot: str | None, pid: str | None, started: str | None, gone: bool
) -> None:
    here = _this_process()
    fields = [new or old for new, old in zip((machine, boot, pid, started), here.split("/"), strict=True)]
    assert held_by("/".join(fields)).is_gone(here) is gone


def test_the_process_is_named_by_its_pid_and_start() -> None:
    assert _this_process().split("/")[2] == str(os.getpid())
