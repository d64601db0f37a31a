"""What the text of `crm_mon` means, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockyard.errors import ParseError
from dockyard.standing import Level
from tasks.pacemaker.cluster import Answer, Cluster, Daemons, Flag, Quorum, Resource, Role, Section
from tasks.pacemaker.crm_mon import read
from tasks.pacemaker.crm_mon_events import milliseconds
from tasks.pacemaker.standing import standing

SUMMARY = """Cluster Summary:
  * Stack: corosync (Pacemaker is running)
  * Current DC: n1 (version 3.0.0-3.0.0) - partition with quorum
  * Last updated: Mon Nov 23 08:56:05 2026 on n1
  * Last change:  Mon Nov 23 08:55:16 2026 by root via root on n1
  * 2 nodes configured
  * {instances} resource instances configured

Node List:
  * Online: [ n1 n2 ]

"""
OLD = """Stack: corosync
Current DC: n1 (version 1.1.23-1.el7) - partition with quorum

2 nodes configured
{instances} resources configured

"""


def new(resources: str, *, instances: int = 1) -> Cluster:
    return read(SUMMARY.format(instances=instances) + "Full List of Resources:\n" + resources)


def one(state: str) -> Resource:
    return new(f"  * app\t(ocf:pacemaker:Dummy):\t {state}\n").resources[0]


@pytest.mark.parametrize(
    ("state", "role", "nodes", "flags"),
    [
        ("Started n1", Role.STARTED, ("n1",), set()),
        ("Master n1 (unmanaged)", Role.PROMOTED, ("n1",), {Flag.UNMANAGED}),
        ("FAILED Promoted n1 (blocked)", Role.PROMOTED, ("n1",), {Flag.FAILED, Flag.BLOCKED}),
        ("FAILED Slave n1", Role.NOT_SAID, ("n1",), {Flag.FAILED}),
        ("FAILED n1 (disabled, blocked)", Role.NOT_SAID, ("n1",), {Flag.FAILED, Flag.DISABLED, Flag.BLOCKED}),
        ("FAILED (blocked) [ n1 n2 ]", Role.NOT_SAID, ("n1", "n2"), {Flag.FAILED, Flag.BLOCKED}),
        ("FAILED (blocked)[ n1 n2 ]", Role.NOT_SAID, ("n1", "n2"), {Flag.FAILED, Flag.BLOCKED}),
        ("Started n1 (unmanaged) FAILED", Role.NOT_SAID, ("n1",), {Flag.FAILED, Flag.UNMANAGED}),
        ("ORPHANED Started n1 (maintenance)", Role.STARTED, ("n1",), {Flag.ORPHANED, Flag.MAINTENANCE}),
        ("(target-role:Stopped) Started n1", Role.STARTED, ("n1",), {Flag.DISABLED}),
        ("Starting n1 (Monitoring)", Role.STARTING, ("n1",), {Flag.MONITORING}),
        ("Stopped (disabled, failure ignored)", Role.STOPPED, (), {Flag.DISABLED, Flag.FAILURE_IGNORED}),
        ("Stopped n2 (LOCKED)", Role.STOPPED, ("n2",), {Flag.LOCKED}),
        ("Slave n1 (UNCLEAN, target-role:slave)", Role.UNPROMOTED, ("n1",), {Flag.UNCLEAN, Flag.TARGET_UNPROMOTED}),
    ],
)
def test_role_node_and_flags(state: str, role: Role, nodes: tuple[str, ...], flags: set[Flag]) -> None:
    found = one(state)
    assert (found.role, found.nodes, set(found.flags)) == (role, nodes, flags)


def test_a_failed_probe_is_no_description_and_the_other_way_round() -> None:
    assert one("Stopped (Not installed) (disabled)").probe == "Not installed"
    described = one("Stopped (the main (and only) database)")
    assert (described.probe, described.description) == ("", "the main (and only) database")


@pytest.mark.parametrize(
    "state",
    [
        "Sleeping n1",
        "Started n1 (disabled, sleepy)",
        "Started n1 (sleepy unmanaged)",
        "Started n1 n2",
        "Started n1 (UNCLEAN",
        "n1",
    ],
)
def test_an_unknown_word_is_refused(state: str) -> None:
    with pytest.raises(ParseError):
        one(state)


@pytest.mark.parametrize(
    "resources",
    [
        pytest.param("    * app\t(ocf:pacemaker:Dummy):\t Started n1\n", id="member without group"),
        pytest.param(
            "  * Clone Set: c [app]:\n    * b\t(ocf:pacemaker:Dummy):\t Started n1\n", id="stranger in a clone"
        ),
        pytest.param("  * Resource Group: g:\n    * Started: [ n1 ]\n", id="instances in a group"),
        pytest.param("  * Clone Set: c [app]:\n    * Started: [ n1 ]\n    * Started: [ n2 ]\n", id="two lists"),
        pytest.param("  * Clone Set: c [app] (promotable):\n    * Started: [ n1 ]\n", id="started, not unpromoted"),
        pytest.param("  * Clone Set: c [app]:\n    * Stopped: [ n1 ]\n    * Started: [ n2 ]\n", id="wrong order"),
        pytest.param("  * a\t(lsb:a):\t Started n1\n  * a\t(lsb:a):\t Started n2\n", id="twice"),
        pytest.param("  * Resource Group: g:\n  * a\t(lsb:a):\t Started n1\n", id="group without members"),
        pytest.param("  * Replica[0]\n", id="replica without bundle"),
    ],
)
def test_a_line_in_the_wrong_place_is_refused(resources: str) -> None:
    with pytest.raises(ParseError):
        new(resources)


@pytest.mark.parametrize(("instances", "complete"), [(3, True), (5, True), (4, False), (2, False)])
def test_a_full_list_has_as_many_instances_as_the_summary_counts(instances: int, complete: bool) -> None:
    """Two nodes list an instance of one primitive, or of a group of two: 2 + 1 or 4 + 1."""
    clone = "  * Clone Set: c [g]:\n    * Started: [ n1 n2 ]\n"
    found = new(f"{clone}  * app\t(ocf:pacemaker:Dummy):\t Started n1\n", instances=instances)
    assert found.complete is complete
    assert complete or standing(found) == {}


def test_a_missing_node_makes_it_incomplete_and_one_too_many_is_refused() -> None:
    text = SUMMARY.format(instances=0) + "Full List of Resources:\n  * No resources\n"
    assert read(text).complete
    assert not read(text.replace("n1 n2 ]", "n1 ]")).complete
    with pytest.raises(ParseError, match="lists 3 nodes, of 2"):
        read(text.replace("n1 n2 ]", "n1 n2 n3 ]"))


def test_old_lists_need_no_heading_and_tabs_stand_under_a_node() -> None:
    listed = read(OLD.format(instances=1) + "Online: [ n1 n2 ]\n\n app\t(ocf::pacemaker:Dummy):\tStarted n1\n")
    beside = read(
        OLD.format(instances=1) + "Node n1: online\n\tapp\t(ocf::pacemaker:Dummy):\tStarted\nNode n2: online\n"
    )
    assert [one.nodes for one in (*listed.resources, *beside.resources)] == [("n1",), ("n1",)]
    assert Section.BY_NODE in beside.shown - listed.shown


def test_a_misconfigured_clone_of_1_1_has_masters_and_started_instances() -> None:
    clone = " Clone Set: c [drbd]\n     Masters: [ n1 ]\n     Started: [ n2 ]\n"
    found = read(OLD.format(instances=2) + "Online: [ n1 n2 ]\n\nFull list of resources:\n\n" + clone)
    assert [(one.role, one.nodes) for one in found.resources] == [(Role.PROMOTED, ("n1",)), (Role.STARTED, ("n2",))]


def test_half_a_banner_is_refused() -> None:
    with pytest.raises(ParseError, match="banner"):
        read(SUMMARY.format(instances=0).replace("Node List", "  *** Resource management is DISABLED ***\n\nNode List"))


@pytest.mark.parametrize(
    ("text", "stderr", "exit_code"),
    [
        ("", "crm_mon: Connection to cluster failed: Connection refused\n", 102),
        ("", "crm_mon: Error: cluster is not available on this node\n", 102),
        ("\nError: cluster is not available on this node\n", "", 102),
        ("\nConnection to cluster failed: Transport endpoint is not connected\n", "", 107),
        ("Connection to the cluster failed: Transport endpoint is not connected\n", "", 1),
    ],
)
def test_no_connection_is_a_state_of_its_own(text: str, stderr: str, exit_code: int) -> None:
    cluster = read(text, stderr=stderr, exit_code=exit_code)
    assert cluster.answer is Answer.NOT_CONNECTED
    assert "cluster" in cluster.message
    assert standing(cluster) == {"pacemaker": Level.FAILED}


def test_daemons_may_answer_before_the_cluster_does() -> None:
    cluster = read("Status of pacemakerd: 'Pacemaker daemons are starting' (last updated 2026-11-23 08:48:51Z)\n")
    assert (cluster.answer, cluster.daemons) == (Answer.DAEMONS_ONLY, Daemons.STARTING)


def test_an_option_that_does_not_exist_is_no_state() -> None:
    with pytest.raises(ParseError, match="Unknown option -s"):
        read("", stderr="crm_mon: Unknown option -s\n", exit_code=64)


def test_a_text_never_proves_that_nothing_failed() -> None:
    levels = standing(new("  * app\t(ocf:pacemaker:Dummy):\t Started n1\n"))
    assert (levels["failed actions"], levels.get("fencing")) == (Level.UNKNOWN, None)
    assert levels["resource app on n1"] is Level.HEALTHY


def test_without_a_dc_there_is_no_quorum() -> None:
    text = SUMMARY.format(instances=0).replace("n1 (version 3.0.0-3.0.0) - partition with quorum", "NONE")
    cluster = read(text + "Full List of Resources:\n  * No resources\n")
    assert (cluster.quorum, standing(cluster)["quorum"]) == (Quorum.NO_DC, Level.FAILED)


def test_under_an_unclean_node_nothing_is_proved_of_any_resource() -> None:
    nodes = "Node n1: UNCLEAN (offline)\n\tapp\t(ocf::pacemaker:Dummy):\tStarted\nNode n2: online\n"
    cluster = read(OLD.format(instances=2) + nodes + "\tother\t(ocf::pacemaker:Dummy):\tStarted\n")
    assert standing(cluster)["resource other on n2"] is Level.UNKNOWN


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10s", 10_000), ("1m30s", 90_000), ("4.005s", 4005), ("426ms", 426), ("1h0m1s", 3_601_000), ("", -1), ("x", -1)],
)
def test_durations_of_all_versions(text: str, expected: int) -> None:
    assert milliseconds(text) == expected


@settings(deadline=None)
@given(st.text(alphabet="0123456789 *:[]()'=,-\t\nnN1abcFAILEDStarted", max_size=300))
def test_no_other_exception_escapes(text: str) -> None:
    try:
        read(SUMMARY.format(instances="9" * 5000) + text, exit_code=102)
    except ParseError:
        return
