"""What must not be there: a foreign DRBD, Pacemaker, guests beside the workers; what the inventory gives is fine."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace

import pytest

from dockyard.errors import ParseError, Unreachable
from dockyard.findings import Cause, Finding
from dockyard.observe import Observed
from dockyard.topology import Topology
from tasks import bounds
from tasks.bounds import AUTOMATIC, BOUNDS, GUESTS, NODES, Bounds, Part, read_bounds
from tests.unit.meshes import HOSTS, topology

LAB = topology()
PLAIN = replace(LAB, cluster=replace(LAB.cluster, drbd=None))
ABSENT, RUNS, NEXT_BOOT = (
    Part(active="inactive", enabled=""),
    Part(active="active", enabled="disabled"),
    Part(active="inactive", enabled="enabled"),
)


def state(*, devices: tuple[str, ...] = (), resources: tuple[str, ...] = (), **parts: Part) -> Bounds:
    """A host with nothing on it but ``parts`` (``k3s_agent``), DRBD devices and resources."""
    named = {f"{name.replace('_', '-')}.service": part for name, part in parts.items()}
    absent = dict.fromkeys((*AUTOMATIC, *GUESTS, *NODES), ABSENT)
    return Bounds(parts={**absent, **named}, devices=devices, resources=resources)


def seen(**states: object) -> Observed:
    found: Mapping[str, object] = dict.fromkeys(HOSTS, state()) | {
        host.replace("_", "-"): one for host, one in states.items()
    }
    return Observed({host: {BOUNDS.name: one} for host, one in found.items()})


def plain(cluster: Topology, **states: object) -> list[Finding]:
    return bounds.check_plain(cluster, seen(**states))


def apart(cluster: Topology, **states: object) -> list[str]:
    return [f"{one.host}: {one.fault} ({one.evidence})" for one in bounds.check_apart(cluster, seen(**states))]


PHASE_2 = state(devices=("drbd0",), resources=("data",))


def test_a_plain_cluster_is_plain() -> None:
    assert plain(PLAIN) == plain(LAB) == []
    assert apart(PLAIN) == apart(LAB) == []


def test_phase_1_can_be_repeated_after_phase_2() -> None:
    assert plain(LAB, dock_prod=PHASE_2, dock_mirror=PHASE_2, dock_load=PHASE_2) == []


def test_drbd_in_use_is_refused_while_the_inventory_has_no_phase_2() -> None:
    (finding,) = plain(PLAIN, dock_prod=PHASE_2)
    assert (finding.cause, finding.host) == (Cause.DRBD, "dock-prod")
    assert finding.evidence == "/dev/drbd0 is up; /etc/drbd.d defines data"
    (finding,) = plain(PLAIN, dock_prod=state(resources=("data",)))
    assert finding.evidence == "/etc/drbd.d defines data"


@pytest.mark.parametrize(
    ("host", "found", "evidence"),
    [
        ("dock_prod", state(devices=("drbd0", "drbd7"), resources=("data",)), "/dev/drbd7 is up"),
        ("dock_prod", state(devices=("drbd0",), resources=("data", "vm")), "/etc/drbd.d defines vm"),
        ("dock_edge", PHASE_2, "/dev/drbd0 is up; /etc/drbd.d defines data"),
        ("dock_dash", state(devices=("drbd0",)), "/dev/drbd0 is up"),
    ],
)
def test_a_resource_that_is_not_the_inventorys_is_refused(host: str, found: Bounds, evidence: str) -> None:
    (finding,) = plain(LAB, **{host: found})
    assert finding.evidence == evidence


@pytest.mark.parametrize("part", [RUNS, NEXT_BOOT, Part(active="activating", enabled="")])
def test_pacemaker_that_runs_or_will_is_refused(part: Part) -> None:
    (finding,) = plain(LAB, dock_mirror=state(corosync=part, pacemaker=part))
    assert finding.cause is Cause.PACEMAKER
    assert finding.evidence.count(str(part)) == 2


@pytest.mark.parametrize("enabled", ["disabled", "masked", "static", ""])
def test_pacemaker_that_is_only_installed_is_no_fault(enabled: str) -> None:
    assert plain(LAB, dock_mirror=state(pacemaker=Part(active="inactive", enabled=enabled))) == []
    assert plain(LAB, dock_mirror=state(pacemaker=Part(active="failed", enabled=enabled))) == []


def test_who_was_not_seen_is_not_taken_for_plain() -> None:
    (finding,) = plain(LAB, dock_load=Unreachable("dock-load", "no route"))
    assert finding.unseen


def test_guests_belong_into_their_corner() -> None:
    assert apart(LAB, dock_edge=state(ollama=RUNS, libvirtd=NEXT_BOOT)) == []
    assert apart(LAB, dock_mirror=state(ollama=RUNS, virtqemud=NEXT_BOOT)) == [
        "dock-mirror: Ollama is beside K3s, a replica or the arbitrator (ollama.service is active, disabled)",
        "dock-mirror: libvirt is beside K3s, a replica or the arbitrator (virtqemud.service is inactive, enabled)",
    ]


def test_k3s_is_only_where_the_inventory_says() -> None:
    right = {"dock_load": state(k3s=RUNS), "dock_prod": state(k3s_agent=RUNS), "dock_mirror": state(k3s_agent=RUNS)}
    assert apart(LAB, **right) == []
    assert apart(LAB, dock_edge=state(k3s_agent=RUNS), dock_dash=state(k3s=NEXT_BOOT)) == [
        "dock-dash: k3s.service is on a host without the role k3s-server (k3s.service is inactive, enabled)",
        "dock-edge: k3s-agent.service is on a host without the role k3s-worker (k3s-agent.service is active, disabled)",
    ]


def test_a_peer_in_the_corner_is_refused() -> None:
    peer = state(corosync=RUNS, devices=("drbd0",))
    assert [one.cause for one in plain(LAB, dock_edge=peer)] == [Cause.DRBD, Cause.PACEMAKER]


SHOWN = "".join(f"Id={unit}\nActiveState=inactive\nUnitFileState=\n\n" for unit in (*AUTOMATIC, *GUESTS, *NODES))


def test_what_the_probe_prints_is_read() -> None:
    runs = "Id=k3s.service\nActiveState=active\nUnitFileState=enabled"
    text = SHOWN.replace("Id=k3s.service\nActiveState=inactive\nUnitFileState=", runs)
    read = read_bounds(f"{text}device|drbd0\nresource|data\nresource|vm\n")
    assert read == state(k3s=Part(active="active", enabled="enabled"), devices=("drbd0",), resources=("data", "vm"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        SHOWN.replace("Id=k3s.service", "Id=other.service"),
        f"{SHOWN}device|sda\n",
        f"{SHOWN}Names=a\n",
        f"{SHOWN}resource|\n",
    ],
)
def test_what_is_not_known_is_no_empty_state(text: str) -> None:
    with pytest.raises(ParseError):
        read_bounds(text)


def test_the_names_of_resources_are_found_however_they_are_written(tmp_path: object) -> None:
    folder = f"{tmp_path}/drbd.d"
    script = bounds._ASK.partition("\n")[2].replace("/etc/drbd.d", folder).replace("/sys/block", folder)
    written = 'resource data {\n  on a {}\n}\n\tresource "vm-1" {}\n# resource none {}\nresource\tx{\n'
    make = f"mkdir {folder}; printf '%s' '{written}' >{folder}/a.res; mkdir {folder}/drbd3"
    subprocess.run(["sh", "-c", make], check=True)
    ran = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "device|drbd3\nresource|data\nresource|vm-1\nresource|x\n"
    subprocess.run(["rm", "-r", folder], check=True)
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == ""
