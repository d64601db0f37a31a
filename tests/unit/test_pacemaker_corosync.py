"""Particular cases of Corosync's and SBD's outputs."""

from __future__ import annotations

import pytest

from dockyard.errors import ParseError
from dockyard.standing import Level
from tasks.pacemaker.corosync import (
    Answering,
    NodeLink,
    RingStatus,
    links_standing,
    quorum_standing,
    read_links,
    read_quorum,
)
from tasks.pacemaker.sbd import Message, read_slots, standing
from tests.parsers.samples import Sample, samples_of


def sample(template: str, part: str) -> Sample:
    return next(one for one in samples_of(template) if part in one.path.stem)


QUORATE = sample("corosync_quorumtool", "011_healthy__dock-prod").text
LINKS = sample("corosync_cfgtool", "011_healthy__dock-prod").text


def test_without_quorum_everything_is_blocked() -> None:
    lost = sample("corosync_quorumtool", "052_partition_minority")
    state = read_quorum(lost.text, exit_code=lost.exit_code)
    assert (state.quorate, len(state.members), lost.exit_code) == (False, 1, 2)
    assert quorum_standing(state) == {"quorum": Level.FAILED, "node dock-load": Level.HEALTHY}


def test_fewer_votes_than_expected_are_no_healthy_quorum() -> None:
    state = read_quorum(sample("corosync_quorumtool", "005_forming_two__dock-prod").text)
    assert quorum_standing(state)["quorum"] is Level.DEGRADED


def test_a_quorum_device_that_does_not_vote_is_a_reservation() -> None:
    state = read_quorum(sample("corosync_quorumtool", "101_qdevice_not_voting").text)
    assert state.device
    assert (state.device.name, state.device.votes, state.device.all_votes) == ("Qdevice", 0, 1)
    levels = quorum_standing(state)
    assert (levels["quorum device"], levels["node dock-prod"]) == (Level.DEGRADED, Level.DEGRADED)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("Quorate:          Yes", "Quorate:          No", "is quorate and is not"),
        ("Quorum:           2  ", "Quorum:           2 Activity blocked", "contradicts"),
        ("Nodes:            3", "Nodes:            4", "another number of nodes"),
        (" (local)", "", "local one"),
        ("         2          1", "         1          1", "twice"),
        ("Flags:            Quorate ", "Flags:            Quorate Sulking ", "no Flag that we know"),
        ("Flags:            Quorate ", "Flags:            Quorate Quorate ", "repeats a flag"),
    ],
)
def test_contradictions_in_quorum_are_refused(old: str, new: str, why: str) -> None:
    assert old in QUORATE
    with pytest.raises(ParseError, match=why):
        read_quorum(QUORATE.replace(old, new, 1))


def test_the_exit_code_may_not_contradict() -> None:
    with pytest.raises(ParseError, match="exit code"):
        read_quorum(QUORATE, exit_code=2)


@pytest.mark.parametrize("said", ["Cannot initialize CMAP service\n", "Cannot initialize QUORUM service\n"])
def test_a_stopped_corosync_is_a_state(said: str) -> None:
    assert read_quorum("", stderr=said, exit_code=1).answering is Answering.NO
    assert read_quorum(said, exit_code=1).answering is Answering.NO
    assert quorum_standing(read_quorum("", stderr=said)) == {"quorum": Level.FAILED}
    with pytest.raises(ParseError):
        read_quorum("", stderr="Cannot initialize coffee service\n", exit_code=1)


def test_links_without_their_last_line_end_prove_nothing() -> None:
    assert set(links_standing(read_links(LINKS.rstrip("\n"))).values()) == {Level.UNKNOWN}
    assert links_standing(read_links(LINKS))["link 0 node 2"] is Level.HEALTHY


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("1:\tlocalhost", "1:\tconnected by string", "no NodeLink that we know"),
        ("1:\tlocalhost", "7:\tlocalhost", "localhost is not node 1"),
        ("3:\tconnected", "2:\tdisconnected", "node twice"),
        ("\taddr\t= 10.10.0.1\n", "", "no address"),
        ("\tstatus:\n", "", "one status"),
        ("LINK ID 0 udp\n", "LINK ID 0 udp\n\taddr\t= 10.10.0.1\n\tstatus\t= OK\nLINK ID 0 udp\n", "link twice"),
    ],
)
def test_contradictions_in_links_are_refused(old: str, new: str, why: str) -> None:
    assert old in LINKS
    with pytest.raises(ParseError, match=why):
        read_links(LINKS.replace(old, new, 1))


def test_numbers_of_early_knet_versions_say_the_same() -> None:
    first, second = read_links(sample("corosync_cfgtool", "105_positions").text).links
    assert first.by_position
    assert set(first.nodes.values()) == {NodeLink.CONNECTED}
    assert second.nodes == {0: NodeLink.CONNECTED_NOT_ENABLED, 1: NodeLink.CONNECTED}


def test_ok_proves_nothing() -> None:
    state = read_links(sample("corosync_cfgtool", "104_udpu").text)
    assert state.links[0].status is RingStatus.OK
    assert links_standing(state)["link 0"] is Level.UNKNOWN


def test_messages_for_nodes() -> None:
    text = sample("sbd_list", "102_messages_two_disks").text
    state = read_slots(text, devices=("/dev/vdd", "/dev/vde"))
    assert [slot.message for slot in state.disks[0]] == [Message.CLEAR, Message.TEST, Message.RESET]
    assert standing(state)["disk 0 dock-load"] is Level.FAILED
    with pytest.raises(ParseError, match="more than could be read"):
        read_slots(text, devices=("/dev/vdd",))
    with pytest.raises(ParseError, match="no Message that we know"):
        read_slots("0\tdock-prod\tdance\tdock-load\n")
    with pytest.raises(ParseError, match="second slot"):
        read_slots("0\tdock-prod\tclear\t\n1\tdock-prod\tclear\t\n")


def test_what_sbd_says_otherwise_leaves_the_list_incomplete() -> None:
    slots = "0\tdock-prod\tclear\t\n"
    assert read_slots(slots).complete
    assert not read_slots(slots, stderr="sbd: warning: something new\n").complete
    assert not read_slots(slots, exit_code=1).complete
    assert read_slots(slots, stderr="== disk /dev/vde unreadable!\n", exit_code=1).unreadable == ("/dev/vde",)
