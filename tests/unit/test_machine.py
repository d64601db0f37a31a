"""Clock, room and tools."""

from __future__ import annotations

from typing import Any

import pytest

from dockyard.errors import ParseError
from dockyard.findings import Cause
from dockyard.observe import Observed
from dockyard.remote import Completed, Outputs
from tasks import machine
from tasks.machine import MACHINE, FileSystem, MachineState, Offset
from tests.unit.meshes import topology

ANSWER = """\
clock|1795421500.250000000
kernel|6.12.94+deb13-cloud-amd64
uptime|3472.11 4785.92
missing|wg
missing|wg-quick
Filesystem     1024-blocks    Used Available Capacity Mounted on
/dev/vda           4046560 1843220   2000000      48% /
/dev/mapper/vg one   95054   95000         0     100% /etc
"""


def outputs(
    text: str = ANSWER, sent_at: float = 0.0, received_at: float = 0.0, before: float = 0.0, after: float = 0.0
) -> Outputs:
    def answer(name: str, stdout: str, duration_s: float) -> Completed:
        return Completed(name=name, argv=("sh",), exit_code=0, stdout=stdout, stderr="", duration_s=duration_s)

    answers = [answer("earlier", "", before), answer("machine", text, 0.01), answer("later", "", after)]
    return Outputs("dock-dash", answers, sent_at=sent_at, received_at=received_at)


def read(**given: Any) -> MachineState:
    return MACHINE.read(topology(), topology().host("dock-dash"), outputs(**given))


def test_the_answers_of_a_host_are_read() -> None:
    state = read()
    assert (state.kernel, state.uptime_s, state.missing) == ("6.12.94+deb13-cloud-amd64", 3472.11, ("wg", "wg-quick"))
    assert state.file_systems == (
        FileSystem(mount="/", size=4046560 * 1024, free=2000000 * 1024),
        FileSystem(mount="/etc", size=95054 * 1024, free=0),
    )


def test_an_unknown_line_is_an_error() -> None:
    with pytest.raises(ParseError, match="line 9"):
        read(text=ANSWER + "df: /etc: Input/output error\n")


@pytest.mark.parametrize(
    ("times", "least", "most"),
    [
        ({"sent_at": 1795421500.0, "received_at": 1795421500.5}, -0.25, 0.25),
        ({"sent_at": 1795421497.0, "received_at": 1795421502.0, "before": 3.02, "after": 1.52}, -0.25, 0.25),
        ({"sent_at": 1795421510.0, "received_at": 1795421510.5}, -10.25, -9.75),
    ],
)
def test_the_time_of_the_other_commands_narrows_what_one_reading_proves(
    times: dict[str, float], least: float, most: float
) -> None:
    clock = read(**times).clock
    assert (round(clock.least, 3), round(clock.most, 3)) == (least, most)


@pytest.mark.parametrize(
    ("least", "most", "proven"),
    [(-0.25, 0.25, 0.0), (-9.0, 9.0, 0.0), (0.9, 1.4, 0.9), (1.1, 1.4, 1.1), (-3.0, -2.0, 2.0)],
)
def test_only_what_is_proven_counts(least: float, most: float, proven: float) -> None:
    assert Offset(least=least, most=most).proven_s == proven


def state(least: float = -0.1, most: float = 0.1, free: int = 50, missing: tuple[str, ...] = ()) -> MachineState:
    root = FileSystem(mount="/", size=100 * 2**20, free=free * 2**20)
    clock = Offset(least=least, most=most)
    return MachineState(clock=clock, kernel="6.12", uptime_s=1.0, file_systems=(root,), missing=missing)


def seen(*states: MachineState) -> Observed:
    return Observed({name: {MACHINE.name: state} for name, state in zip(topology().hosts, states, strict=False)})


def test_healthy_machines_have_no_findings() -> None:
    assert machine.check_machine(topology(), seen(state(), state(), state())) == []
    assert machine.plan_tools(topology(), seen(state())) == {}


def test_a_clock_that_is_proven_to_be_off_is_a_finding_with_seconds() -> None:
    (finding,) = machine.check_machine(topology(), seen(state(), state(-62.0, -61.5), state(-30.0, 30.0)))
    assert (finding.cause, finding.host) == (Cause.MACHINE, "dock-prod")
    assert finding.evidence.startswith("61.75 s behind (known to 0.25 s)")


def test_when_all_hosts_agree_our_own_clock_is_suspected() -> None:
    ours = machine.check_machine(topology(), seen(state(5.0, 5.4), state(5.1, 5.3)))
    assert all("look at the clock of this machine first" in finding.advice for finding in ours)
    theirs = machine.check_machine(topology(), seen(state(5.0, 5.4), state(-5.1, -4.9)))
    assert not any("this machine first" in finding.advice for finding in theirs)


def test_two_clocks_that_disagree_are_one_finding_although_neither_is_off_against_ours() -> None:
    (finding,) = machine.check_machine(topology(), seen(state(0.85, 0.95), state(), state(-0.95, -0.85)))
    assert (finding.cause, finding.host, finding.subject) == (Cause.MACHINE, "dock-dash", "dock-mirror")
    assert finding.fault == "the clock is more than 1 s ahead of the one of dock-mirror"
    assert finding.evidence.startswith("at least 1.70 s; ")
    assert "dock-dash is 0.90 s ahead (known to 0.05 s), dock-mirror is 0.90 s behind" in finding.evidence


@pytest.mark.parametrize(
    "others",
    [
        [state(0.4, 0.9), state(-0.9, -0.4)],
        [state(0.9, 1.9), state(-1.9, 0.1)],
    ],
)
def test_clocks_that_may_agree_are_no_finding(others: list[MachineState]) -> None:
    assert machine.check_machine(topology(), seen(*others)) == []


def test_a_clock_that_is_off_is_not_compared_again_with_every_other_one() -> None:
    found = machine.check_machine(topology(), seen(state(), state(-0.9, -0.8), state(5.0, 5.1)))
    assert [(finding.host, finding.subject) for finding in found] == [("dock-mirror", "")]


def test_a_full_file_system_is_a_finding() -> None:
    (finding,) = machine.check_machine(topology(), seen(state(free=4)))
    assert finding.evidence == "4 MiB of 100 MiB are free (4.0%)"
    assert machine.check_machine(topology(), seen(state(free=5))) == []


def test_missing_tools_are_named_and_their_packages_installed() -> None:
    found = seen(state(missing=("wg", "wg-quick", "ping")))
    (finding,) = machine.check_machine(topology(), found)
    assert finding.fault == "wg, wg-quick, ping is not installed"
    (change,) = machine.plan_tools(topology(), found)["dock-dash"]
    assert change.title == "install iputils-ping, wireguard-tools"
    assert change.commands()[0].argv[-2:] == ("iputils-ping", "wireguard-tools")
