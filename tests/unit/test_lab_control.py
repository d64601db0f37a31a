"""The process that owns the lab, and the one that started it."""

from __future__ import annotations

import subprocess

import pytest

from lab.control import Owner
from lab.errors import LabError, MachineTimeout
from lab.supervisor import answering


def test_an_owner_that_was_stopped_leaves_nothing_open() -> None:
    owner = Owner(subprocess.Popen(["cat"], stdin=subprocess.PIPE))
    owner.stop()
    assert owner.process.returncode is not None
    assert owner.process.stdin is not None
    assert owner.process.stdin.closed


@pytest.mark.parametrize(
    ("outcomes", "raised", "tries"),
    [
        ([None], None, 1),
        ([MachineTimeout("dock-mirror: no answer"), None], None, 2),
        ([MachineTimeout("dock-mirror: no answer")] * 2, MachineTimeout, 2),
        ([LabError("dock-mirror: QEMU ended"), None], LabError, 1),
    ],
)
def test_a_machine_that_does_not_answer_is_loaded_once_more(
    outcomes: list[LabError | None], raised: type[LabError] | None, tries: int
) -> None:
    told: list[str] = []
    times: list[float] = []

    def load(timeout_s: float) -> None:
        times.append(timeout_s)
        if outcome := outcomes[len(times) - 1]:
            raise outcome

    if raised:
        with pytest.raises(raised):
            answering(load, told.append)
    else:
        answering(load, told.append)
    assert len(times) == tries
    assert times == sorted(set(times))
    assert told == ["dock-mirror: no answer; loading once more"] * (tries - 1)
