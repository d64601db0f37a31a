"""Text and XML of one moment say the same, in everything that the text with its options shows."""

from __future__ import annotations

import pytest

from dockyard.standing import Level
from tasks.pacemaker.agreement import comparable
from tasks.pacemaker.cluster import Answer, Daemons, Flag, Management, NodeKind, NodeState, Role, Section
from tasks.pacemaker.crm_mon import read
from tasks.pacemaker.crm_mon_xml import read_xml
from tasks.pacemaker.standing import standing
from tests.parsers.samples import Sample, samples_of

PAIRS = [pytest.param(sample, id=str(sample)) for sample in samples_of("crm_mon") if sample.machine is not None]


@pytest.mark.parametrize("sample", PAIRS)
def test_both_forms_agree_in_all_that_the_text_shows(sample: Sample) -> None:
    text = read(sample.text, stderr=sample.stderr, exit_code=sample.exit_code)
    machine = read_xml(sample.machine or "", exit_code=sample.exit_code)
    assert comparable(text, text.shown) == comparable(machine, text.shown)


@pytest.mark.parametrize("sample", PAIRS)
def test_the_xml_never_stands_lower_than_the_text_where_the_text_proves_something(sample: Sample) -> None:
    text = standing(read(sample.text, stderr=sample.stderr, exit_code=sample.exit_code))
    machine = standing(read_xml(sample.machine or "", exit_code=sample.exit_code))
    assert {
        name: level for name, level in text.items() if level is Level.HEALTHY and machine.get(name) is not Level.HEALTHY
    } == {}


def document(*, request: str = "crm_mon -1 --output-as=xml", options: str = "", nodes: str = "", rest: str = "") -> str:
    return f"""<pacemaker-result api-version="2.38" request="{request}">
  <summary>
    <stack type="corosync" pacemakerd-state="running"/>
    <current_dc present="true" version="3.0.0" name="n1" id="1" with_quorum="true" mixed_version="false"/>
    <nodes_configured number="{nodes.count("<node ")}"/>
    <resources_configured number="{rest.count("<resource ")}" disabled="0" blocked="0"/>
    <cluster_options stonith-enabled="true" symmetric-cluster="true" no-quorum-policy="stop" {options}/>
  </summary>
  <nodes>{nodes}</nodes>
  {rest}
  <status code="0" message="OK"/>
</pacemaker-result>
"""


def node(name: str, **said: str) -> str:
    known = {"online": "true", "standby": "false", "standby_onfail": "false", "maintenance": "false"}
    known |= {"pending": "false", "unclean": "false", "resources_running": "0", "type": "member"}
    return f"<node name='{name}' id='1' " + " ".join(f"{key}='{value}'" for key, value in (known | said).items()) + "/>"


def resource(name: str, role: str, nodes: str = "", **said: str) -> str:
    flags = {"active": "true" if nodes else "false", "orphaned": "false", "blocked": "false", "managed": "true"}
    flags |= {"failed": "false", "failure_ignored": "false", "nodes_running_on": str(len(nodes.split()))} | said
    named = "".join(f"<node name='{one}' id='1' cached='true'/>" for one in nodes.split())
    written = " ".join(f"{key}='{value}'" for key, value in flags.items())
    return f"<resource id='{name}' resource_agent='ocf:pacemaker:Dummy' role='{role}' {written}>{named}</resource>"


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ({"unclean": "true", "standby": "true"}, NodeState.UNCLEAN_ONLINE),
        ({"unclean": "true", "online": "false", "pending": "true"}, NodeState.UNCLEAN_PENDING),
        ({"unclean": "true", "online": "false"}, NodeState.UNCLEAN_OFFLINE),
        ({"pending": "true"}, NodeState.PENDING),
        ({"standby": "true", "standby_onfail": "true"}, NodeState.STANDBY_ON_FAIL),
        ({"standby": "true", "standby_onfail": "true", "online": "false"}, NodeState.OFFLINE_STANDBY),
        ({"standby": "true", "resources_running": "2"}, NodeState.STANDBY_ACTIVE),
        ({"maintenance": "true"}, NodeState.MAINTENANCE),
        ({"maintenance": "true", "online": "false"}, NodeState.OFFLINE_MAINTENANCE),
        ({"online": "false"}, NodeState.OFFLINE),
    ],
)
def test_a_node_has_the_state_that_the_text_would_print(said: dict[str, str], state: NodeState) -> None:
    assert read_xml(document(nodes=node("n1", **said))).nodes[0].state is state


def test_guests_are_known_by_their_resource() -> None:
    guest = node("vm", type="remote", id_as_resource="vm-resource")
    cluster = read_xml(document(nodes=node("far", type="remote") + guest))
    assert [one.kind for one in cluster.nodes] == [NodeKind.REMOTE, NodeKind.GUEST]


def test_a_healthy_document_proves_that_nothing_failed() -> None:
    cluster = read_xml(document(nodes=node("n1"), options='maintenance-mode="false"'))
    levels = standing(cluster)
    assert cluster.management is Management.ENABLED
    assert (levels["failed actions"], levels["fencing"]) == (Level.HEALTHY, Level.HEALTHY)


@pytest.mark.parametrize("option", ["--exclude=failures", "--node=n1", "--resource=app", "-1D", "-U failures"])
def test_a_document_that_was_limited_proves_nothing(option: str) -> None:
    cluster = read_xml(document(nodes=node("n1"), request=f"crm_mon --output-as=xml {option}"))
    assert cluster.limited
    assert standing(cluster) == {}


def test_a_resource_on_an_unclean_node_is_marked_as_in_the_text() -> None:
    nodes = node("n1") + node("n2", unclean="true", online="false")
    text = f"<resources>{resource('app', 'Started', 'n2')}</resources>"
    found = read_xml(document(nodes=nodes, rest=text)).resources[0]
    assert found.flags == {Flag.UNCLEAN}


def test_the_older_dialect_has_other_words() -> None:
    ms = resource("ms", "Slave", "n1", target_role="Slave")
    clone = f"<clone id='c' multi_state='true' unique='false' managed='true' failed='false'>{ms}</clone>"
    found = read_xml(document(nodes=node("n1"), rest=f"<resources>{clone}</resources>")).resources[0]
    assert (found.role, set(found.flags)) == (Role.UNPROMOTED, {Flag.TARGET_UNPROMOTED})


def test_without_the_cib_only_the_daemons_are_known() -> None:
    cluster = read_xml("""<pacemaker-result api-version="2.38" request="crm_mon -1 --output-as=xml">
  <pacemakerd sys_from="pacemakerd" state="wait_for_ping" last_updated="2026-11-23 08:48:45Z"/>
  <status code="0" message="OK"/>
</pacemaker-result>""")
    assert (cluster.answer, cluster.daemons) == (Answer.DAEMONS_ONLY, Daemons.WAIT_FOR_PING)


def test_the_part_that_a_text_shows_decides_what_is_compared() -> None:
    nodes, text = node("n1"), f"<resources>{resource('app', 'Stopped')}</resources>"
    cluster = read_xml(document(nodes=nodes, rest=text))
    assert comparable(cluster, frozenset({Section.RESOURCES})).resources == ()
    assert len(comparable(cluster, frozenset({Section.RESOURCES, Section.INACTIVE})).resources) == 1
