"""Particular cases of reading DRBD; all recorded outputs are in tests/samples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockyard.errors import ParseError
from dockyard.standing import Level
from tasks.drbd.events import read_events
from tasks.drbd.judgement import comparable, standing
from tasks.drbd.proc import read_proc
from tasks.drbd.state import Dialect, Disk, DrbdState, Link, Outcome, Peer, Replication, Resource, Said
from tasks.drbd.status import read_status
from tasks.drbd.status_json import read_status_json

HEALTHY = """r0 role:Secondary
  disk:UpToDate
  dock-mirror role:Secondary
    peer-disk:UpToDate

"""
OLD = """r0 role:Primary
  disk:UpToDate
  peer role:Secondary
    replication:Established peer-disk:UpToDate

"""
ALONE = "r0 role:Primary\n  disk:UpToDate\n\n"


def resource(text: str) -> Resource:
    (only,) = read_status(text).resources
    return only


def peer(text: str) -> Peer:
    (only,) = resource(text).peers
    return only


def test_what_the_short_text_leaves_out_is_filled_in() -> None:
    read = resource(HEALTHY)
    assert read.volumes[0].quorum is Said.YES
    assert read.peers[0].link is Link.CONNECTED
    assert read.peers[0].volumes[0].replication is Replication.ESTABLISHED


@pytest.mark.parametrize(
    ("text", "dialect"), [(HEALTHY, Dialect.V9), (OLD, Dialect.V84), (ALONE, Dialect.UNTOLD), ("", Dialect.UNTOLD)]
)
def test_which_generation_speaks(text: str, dialect: Dialect) -> None:
    assert read_status(text).dialect is dialect


def test_an_empty_line_stands_for_the_volume_of_a_connected_peer_that_nothing_is_known_of() -> None:
    text = "r0 role:Primary\n  disk:UpToDate\n  a role:Secondary\n\n  b role:Secondary\n    peer-disk:UpToDate\n\n"
    state = read_status(text)
    assert state.complete
    first, second = state.resources[0].peers
    assert (first.volumes[0].replication, first.volumes[0].disk) == (Replication.OFF, Disk.UNKNOWN)
    assert (second.volumes[0].replication, second.volumes[0].disk) == (Replication.ESTABLISHED, Disk.UP_TO_DATE)


def test_without_the_last_empty_line_nothing_is_believed() -> None:
    state = read_status(HEALTHY.removesuffix("\n"))
    assert not state.complete
    assert set(standing(state).values()) == {Level.UNKNOWN}


def test_a_resource_that_is_not_ended_before_the_next_makes_the_state_incomplete() -> None:
    assert not read_status(HEALTHY.removesuffix("\n") + HEALTHY.replace("r0", "r1")).complete


@pytest.mark.parametrize("percent", ["done:5.86", "done:5.86%"])
def test_done_with_and_without_a_percent_sign(percent: str) -> None:
    text = HEALTHY.replace("peer-disk:UpToDate", f"replication:SyncSource peer-disk:Inconsistent {percent}")
    progress = peer(text).volumes[0].progress
    assert progress is not None
    assert progress.percent == 5.86


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (HEALTHY.replace("disk:UpToDate\n  dock", "disk:Fine\n  dock"), "Disk that we know .*UpToDate"),
        (HEALTHY.replace("    peer-disk:UpToDate\n", "    peer-disk:UpToDate\n" * 2), "a volume of dock-mirror twice"),
        (HEALTHY + HEALTHY, "above it already"),
        (HEALTHY.replace("role:Secondary\n    peer", "connection:Connecting\n    peer"), "without replication"),
        (HEALTHY.replace("r0 ", "r0 shiny:yes "), "is not understood"),
        (HEALTHY.replace("r0 role:Secondary", "r0 role:Secondary role:Primary"), "for the second time"),
        ("  disk:UpToDate\n\n", "is not where it belongs"),
        (HEALTHY.replace("  disk:UpToDate\n", "  disk:UpToDate\n  volume:1 disk:UpToDate\n"), "not of every volume"),
        (HEALTHY.replace("disk:UpToDate\n  dock", "disk:UpToDate quorum:unsaid\n  dock"), "no Said"),
        (HEALTHY.replace("peer-disk:UpToDate", "peer-disk:UpToDate done:" + "9" * 400), "no number"),
    ],
)
def test_what_cannot_be_is_refused(broken: str, why: str) -> None:
    with pytest.raises(ParseError, match=why):
        read_status(broken)


@pytest.mark.parametrize(
    ("stderr", "exit_code", "outcome", "missing"),
    [
        ("no resources defined!\n", 1, Outcome.NO_RESOURCES_DEFINED, ()),
        ("r7: No such resource\n", 10, Outcome.NO_SUCH_RESOURCE, ("r7",)),
        ("'r7' not defined in your config (for this host).\n", 1, Outcome.NO_SUCH_RESOURCE, ("r7",)),
        ("Could not connect to 'drbd' generic netlink family\n", 20, Outcome.MODULE_NOT_LOADED, ()),
        ("drbd.d/r1.res:2: Parse error: 'on' expected\n", 10, Outcome.CONFIGURATION_REFUSED, ()),
        ("", 0, Outcome.NOTHING_CONFIGURED, ()),
    ],
)
def test_answers_without_a_resource(stderr: str, exit_code: int, outcome: Outcome, missing: tuple[str, ...]) -> None:
    state = read_status("", stderr=stderr, exit_code=exit_code)
    assert (state.outcome, state.missing) == (outcome, missing)


def test_an_unknown_reason_of_failure_is_refused() -> None:
    with pytest.raises(ParseError, match=r"exit code 5.*out of memory"):
        read_status("", stderr="out of memory", exit_code=5)


def test_resources_and_a_failure_that_nothing_explains_are_incomplete() -> None:
    assert not read_status(HEALTHY, exit_code=1).complete
    partly = read_status(HEALTHY, stderr="r1: No such resource\n", exit_code=10)
    assert partly.complete
    assert partly.missing == ("r1",)


def test_drbd_8_4_hides_a_peer_that_is_alone() -> None:
    assert resource(ALONE).peers == ()
    lines = [
        "exists resource name:r0 role:Primary suspended:no",
        "exists connection name:r0 peer-node-id:0 connection:StandAlone role:Unknown",
        "exists device name:r0 volume:0 minor:0 disk:UpToDate",
        "exists peer-device name:r0 peer-node-id:0 volume:0 replication:Off peer-disk:DUnknown resync-suspended:no",
        "exists -",
    ]
    events = read_events("\n".join(lines) + "\n")
    assert [peer.link for peer in events.resources[0].peers] == [Link.STAND_ALONE]
    assert comparable(events) == comparable(read_status(ALONE))


def test_events_without_the_last_line_are_incomplete() -> None:
    assert not read_events("exists resource name:r0 role:Primary suspended:no\n").complete
    assert read_events("exists -\n") == DrbdState(outcome=Outcome.NOTHING_CONFIGURED)


def test_events_of_a_change_are_refused() -> None:
    with pytest.raises(ParseError, match="is not understood"):
        read_events("change resource name:r0 role:Primary\n")


@pytest.mark.parametrize("text", ["[\n]\n\n", "[]"])
def test_an_empty_list_is_nothing_configured(text: str) -> None:
    assert read_status_json(text).outcome is Outcome.NOTHING_CONFIGURED


@pytest.mark.parametrize("text", ["", "{}", "[1]", "[" * 100_000, '[{"name": "r0"}]', "[" + "9" * 5000 + "]", "null"])
def test_json_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        read_status_json(text)


def test_proc_drbd_without_its_file_is_a_module_that_is_not_loaded() -> None:
    assert not read_proc("", stderr="cat: /proc/drbd: No such file or directory\n", exit_code=1).loaded
    with pytest.raises(ParseError):
        read_proc("")


@given(st.text() | st.text("r0 :dise\n-kUpToDaterolSncy%9٣\x00\x1c\u2028\ud800", max_size=80))
def test_whatever_comes_only_parse_errors_go_out(text: str) -> None:
    for read in (read_status, read_status_json, read_events, read_proc):
        try:
            read(text)
        except ParseError:
            continue
