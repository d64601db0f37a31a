"""The managed block: everything around it stays byte for byte, and where it stands is never a guess."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockyard.change import WriteFile
from dockyard.errors import StepFailed, Unreachable
from dockyard.files import FileState
from dockyard.findings import Cause
from dockyard.observe import Observed
from dockyard.remote import Completed, Outputs
from tasks import hosts_file
from tasks.hosts_file import NAMES, BrokenBlock, NamesState
from tests.unit.meshes import HOSTS, topology

BLOCK = hosts_file.block(topology())
DEBIAN = "127.0.0.1\tlocalhost\n127.0.1.1\tdock-prod\n\n::1     localhost ip6-localhost ip6-loopback\n"

foreign = st.text(alphabet=st.sampled_from("ab1.:# \t\r\n\x00é\udc80")).filter(lambda text: "DOCKYARD" not in text)


def test_the_block_has_every_host_and_service_once() -> None:
    assert BLOCK.splitlines()[1:-1] == [
        "10.20.0.1 dock-dash.dock.internal dock-dash",
        "10.20.0.2 dock-prod.dock.internal dock-prod",
        "10.20.0.3 dock-mirror.dock.internal dock-mirror",
        "10.20.0.4 dock-load.dock.internal dock-load",
        "10.20.0.5 dock-edge.dock.internal dock-edge",
        "10.20.0.2 opencloud.dock.internal opencloud",
        "10.20.0.1 grafana.dock.internal grafana",
        "10.20.0.1 prometheus.dock.internal prometheus",
        "10.20.0.5 ollama.dock.internal ollama",
    ]
    assert BLOCK.endswith("# END DOCKYARD\n")


@given(foreign)
def test_a_new_block_comes_last_and_leaves_the_rest(text: str) -> None:
    written = hosts_file.replaced(text, BLOCK)
    assert written.startswith(text)
    assert written.endswith(BLOCK)
    assert written[len(text) : -len(BLOCK)] == ("\n" if text and not text.endswith("\n") else "")


@given(foreign)
def test_writing_twice_changes_nothing(text: str) -> None:
    once = hosts_file.replaced(text, BLOCK)
    assert hosts_file.replaced(once, BLOCK) == once


@given(foreign, foreign, st.sampled_from(["\n", "\r\n", "  \n"]))
def test_an_old_block_is_replaced_where_it_stands(before: str, after: str, ending: str) -> None:
    before = before + "\n" if before else before
    old = f"# BEGIN DOCKYARD (an older note){ending}10.9.9.9 old{ending}# END DOCKYARD{ending}"
    assert hosts_file.replaced(before + old + after, BLOCK) == before + BLOCK + after


def test_a_block_at_the_very_end_without_newline_gets_one() -> None:
    assert hosts_file.replaced(f"a\n{BLOCK}"[:-1], BLOCK) == f"a\n{BLOCK}"


@given(st.lists(st.sampled_from(["# BEGIN DOCKYARD\n", "# END DOCKYARD\n", "10.0.0.1 a\n"]), max_size=6))
def test_anything_but_one_begin_before_one_end_is_refused(lines: list[str]) -> None:
    markers = [line for line in lines if "DOCKYARD" in line]
    text = "".join(lines)
    if markers in ([], ["# BEGIN DOCKYARD\n", "# END DOCKYARD\n"]):
        assert BLOCK in hosts_file.replaced(text, BLOCK)
    else:
        with pytest.raises(BrokenBlock, match="there must be one of each"):
            hosts_file.replaced(text, BLOCK)


def state(content: str, **addresses: str) -> NamesState:
    """A host whose file has ``content`` and where names resolve as planned, but for ``addresses`` (``_`` is ``-``)."""
    found: dict[str, tuple[str, ...]] = {name: (address,) for name, address in hosts_file.names(topology()).items()}
    found |= {name.replace("_", "-"): tuple(text.split()) for name, text in addresses.items()}
    file = FileState(path="/etc/hosts", kind="regular file", mode=0o644, owner="root", group="root", content=content)
    return NamesState(file=file, addresses=found)


def seen(**states: object) -> Observed:
    all_of_them = {host: state(DEBIAN + BLOCK) for host in HOSTS}
    mine = {host.replace("_", "-"): found for host, found in states.items()}
    return Observed({host: {NAMES.name: found} for host, found in {**all_of_them, **mine}.items()})


def test_hosts_with_the_right_block_need_nothing() -> None:
    assert hosts_file.plan_hosts_file(topology(), seen()) == {}
    assert hosts_file.check_names(topology(), seen()) == []


def test_the_block_is_added_with_everything_else_kept() -> None:
    plan = hosts_file.plan_hosts_file(topology(), seen(dock_load=state(DEBIAN)))
    assert list(plan) == ["dock-load"]
    (change,) = plan["dock-load"]
    assert isinstance(change, WriteFile)
    assert (change.content, change.mode, change.owner) == (DEBIAN + BLOCK, 0o644, "root")


def test_the_right_block_in_a_file_that_users_cannot_read_is_mended() -> None:
    hidden = state(DEBIAN + BLOCK)
    plan = hosts_file.plan_hosts_file(
        topology(), seen(dock_load=replace(hidden, file=replace(hidden.file, mode=0o600)))
    )
    assert "0600 root:root becomes 0644 root:root" in plan["dock-load"][0].diff()


def test_broken_markers_stop_the_step_on_all_hosts_and_are_a_finding() -> None:
    broken = seen(dock_load=state(BLOCK + DEBIAN + BLOCK), dock_dash=state(DEBIAN))
    with pytest.raises(StepFailed, match="dock-load: /etc/hosts: '# BEGIN DOCKYARD' stands on line 1, 16") as caught:
        hosts_file.plan_hosts_file(topology(), broken)
    assert "Nothing was written" in caught.value.advice
    findings = hosts_file.check_names(topology(), broken)
    assert [finding.host for finding in findings] == ["dock-dash", "dock-load"]
    assert "line 1, 16" in findings[1].evidence


def test_a_line_edited_by_hand_is_one_finding_with_the_line() -> None:
    edited = BLOCK.replace("10.20.0.1 dock-dash.dock.internal dock-dash", "10.20.0.99 dock-dash")
    found = {"dock_dash": "10.20.0.99", "dock_dash.dock.internal": ""}
    (finding,) = hosts_file.check_names(topology(), seen(dock_mirror=state(DEBIAN + edited, **found)))
    assert (finding.cause, finding.host) == (Cause.NAMES, "dock-mirror")
    assert "-10.20.0.99 dock-dash" in finding.evidence
    assert "dock-dash is 10.20.0.99 instead of 10.20.0.1" in finding.evidence
    assert "dock-dash.dock.internal is unknown instead of 10.20.0.1" in finding.evidence


def test_a_second_address_from_elsewhere_is_a_finding_although_the_block_is_right() -> None:
    other = state(f"192.168.1.9  opencloud # the old one\n{BLOCK}", opencloud="192.168.1.9 10.20.0.2")
    (finding,) = hosts_file.check_names(topology(), seen(dock_edge=other))
    assert finding.evidence == (
        "line 1: 192.168.1.9 opencloud; so opencloud is 192.168.1.9, 10.20.0.2 instead of 10.20.0.2"
    )
    assert finding.advice.startswith("On dock-edge, remove this line from /etc/hosts (or the name from it)")
    assert "phase1_baseline.py" not in finding.advice


def test_a_line_below_the_block_and_in_capitals_counts_too() -> None:
    other = state(f"{DEBIAN}{BLOCK}\n192.168.1.12\tnas DOCK-prod\n", dock_prod="10.20.0.2 192.168.1.12")
    (finding,) = hosts_file.check_names(topology(), seen(dock_edge=other))
    assert finding.evidence.startswith("line 17: 192.168.1.12 nas DOCK-prod; so dock-prod is 10.20.0.2, 192.168.1.12 ")


def test_an_address_that_stands_in_no_line_is_not_blamed_on_one() -> None:
    other = state(f"192.168.1.9 opencloud\n{BLOCK}", opencloud="unknown")
    (finding,) = hosts_file.check_names(topology(), seen(dock_edge=other))
    assert finding.fault == "names do not resolve as planned (/etc/hosts)"


@pytest.mark.parametrize("addresses", ["127.0.1.1 10.20.0.2", "203.0.113.5 10.20.0.2", "10.20.0.2 192.168.1.12"])
def test_a_host_may_know_itself_by_other_addresses_too(addresses: str) -> None:
    """Debian's installer writes 127.0.1.1, or the static address; glibc answers with all lines, in their order."""
    first = f"{addresses.split(maxsplit=1)[0]} dock-prod.example dock-prod\n"
    own = state(first + BLOCK, dock_prod=addresses)
    assert hosts_file.check_names(topology(), seen(dock_prod=own)) == []


def test_a_host_must_know_its_own_address_in_the_mesh() -> None:
    own = state(f"203.0.113.5 dock-prod.example dock-prod\n{BLOCK}", dock_prod="203.0.113.5")
    (finding,) = hosts_file.check_names(topology(), seen(dock_prod=own))
    assert finding.evidence.startswith("line 1: 203.0.113.5 dock-prod.example dock-prod; so dock-prod is 203.0.113.5 ")


def test_the_loopback_address_of_another_host_is_a_fault() -> None:
    wrong = state(DEBIAN + BLOCK, dock_prod="127.0.1.1 10.20.0.2")
    (finding,) = hosts_file.check_names(topology(), seen(dock_load=wrong))
    assert (finding.host, finding.evidence.split(";")[0]) == ("dock-load", "line 2: 127.0.1.1 dock-prod")


CLOUD = """\
# Your system has configured 'manage_etc_hosts' as True.
# As a result, if you wish for changes to this file to persist
# then you will need to either
# a.) make changes to the master file in /etc/cloud/templates/hosts.debian.tmpl
# b.) change or remove the value of 'manage_etc_hosts' in
#     /etc/cloud/cloud.cfg or cloud-config from user-data
#
127.0.1.1 dock-load.example dock-load
"""
"""The head of /etc/hosts as cloud-init writes it; from cloud-init's templates/hosts.debian.tmpl."""


def test_names_that_cloud_init_takes_away_at_every_boot_are_a_finding_and_are_written() -> None:
    cloud = seen(dock_load=state(CLOUD + BLOCK))
    (finding,) = hosts_file.check_names(topology(), cloud)
    assert finding.fault == "cloud-init writes /etc/hosts anew at every boot, without the names"
    assert finding.evidence == "line 1: # Your system has configured 'manage_etc_hosts' as True."
    assert "echo manage_etc_hosts: false >/etc/cloud/cloud.cfg.d/99-dockyard.cfg" in finding.advice
    assert hosts_file.plan_hosts_file(topology(), cloud) == {}
    assert list(hosts_file.plan_hosts_file(topology(), seen(dock_load=state(CLOUD)))) == ["dock-load"]


def test_typing_the_advice_ends_the_finding(tmp_path: Path) -> None:
    (finding,) = hosts_file.check_names(topology(), seen(dock_load=state(CLOUD + BLOCK)))
    (tmp_path / "hosts").write_text(CLOUD + BLOCK)
    script = (
        finding.advice.partition(" as root: ")[2]
        .replace("/etc/cloud/cloud.cfg.d", str(tmp_path))
        .replace("/etc/hosts", str(tmp_path / "hosts"))
    )
    subprocess.run(["sh", "-ec", script], check=True)
    assert (tmp_path / "99-dockyard.cfg").read_text() == "manage_etc_hosts: false\n"
    assert hosts_file.check_names(topology(), seen(dock_load=state((tmp_path / "hosts").read_text()))) == []


def test_an_unseen_host_is_a_finding() -> None:
    (finding,) = hosts_file.check_names(topology(), seen(dock_edge=Unreachable("dock-edge", "no route")))
    assert (finding.unseen, finding.evidence) == (True, "no route")


def test_the_answers_of_a_host_are_read() -> None:
    host = topology().host("dock-prod")
    answers = {
        "names": "dock-prod|0| 127.0.1.1 10.20.0.2 10.20.0.2\ndock-dash|2|\n",
        "file:/etc/hosts": "absent\n",
    }
    completed = [
        Completed(name=name, argv=("sh",), exit_code=0, stdout=text, stderr="", duration_s=0.1)
        for name, text in answers.items()
    ]
    read = NAMES.read(topology(), host, Outputs("dock-prod", completed, NAMES.probes(topology(), host)))
    assert read.addresses["dock-prod"] == ("127.0.1.1", "10.20.0.2")
    assert read.addresses["dock-dash"] == ()
    assert read.addresses["dock-load"] == ("not found out within 30 s",), "what was not printed in time is not unknown"
    assert not read.file.exists


def test_names_that_answer_are_not_lost_beside_one_that_does_not(tmp_path: Path) -> None:
    getent = tmp_path / "getent"
    getent.write_text('#!/bin/sh\n[ "$2" != dock-load ] || exec sleep 60\necho "10.20.0.9 STREAM x"\n')
    getent.chmod(0o755)
    _, lookups = NAMES.probes(topology(), topology().host("dock-prod"))
    argv = ["timeout", "2", *lookups.argv[2:]]
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = subprocess.run(argv, env=path, capture_output=True, text=True, check=False)
    assert ran.returncode in lookups.accepts - {0}
    answered = {line.partition("|")[0]: line.partition("|")[2] for line in ran.stdout.splitlines()}
    assert answered == dict.fromkeys(hosts_file.names(topology()).keys() - {"dock-load"}, "0| 10.20.0.9")
