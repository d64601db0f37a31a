"""Split brain made on purpose: seen in one sweep, shown from both sides, ended either way, the victim's files kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import Lab
from lab.driver import Machine
from tests.lab.conftest import Ran, Runbooks, typed_at_a_terminal, wait_until_healthy
from tests.lab.numbered import PAIR, UNIT, acknowledged, records

KEPT = "/var/lib/dockyard/kept"


def write_apart(lab: Lab) -> None:
    """Cut the replicas off from each other, and write on both: on dock-mirror somebody promoted by hand."""
    prod, mirror = (lab[host] for host in PAIR)
    prod.succeed("echo common >/srv/data/common && sync /srv/data/common", sudo=True)
    mirror.wait_until_succeeds("grep -q 'oos:0$' /proc/drbd", sudo=True)
    lab.cut(*PAIR)
    for machine in (prod, mirror):
        machine.wait_until_succeeds("! drbdadm cstate data | grep -q Connected", sudo=True)
    prod.succeed("echo home >/srv/data/of-prod && echo home >>/srv/data/common && sync /srv/data/*", sudo=True)
    mirror.succeed("drbdadm primary data && mount /dev/drbd0 /srv/data", sudo=True)
    mirror.succeed("echo dc >/srv/data/of-mirror && echo dc >>/srv/data/common && sync /srv/data/*", sudo=True)


def meet(lab: Lab) -> None:
    """Heal the line, and wait until DRBD has seen that the histories went apart."""
    lab.heal()
    for host in PAIR:
        lab[host].wait_until_succeeds("drbdadm cstate data | grep -E 'StandAlone|WFConnection'", sudo=True)
    lab["dock-mirror"].wait_until_succeeds(
        "journalctl -k --grep 'Split-Brain detected' --quiet | grep -q . && drbdadm cstate data | grep -q StandAlone",
        sudo=True,
    )


def kept(machine: Machine) -> list[str]:
    """The files of the one copy that a machine keeps; its checksum must be right."""
    machine.succeed(f"cd {KEPT} && sha256sum --check --quiet *.sha256", sudo=True)
    return machine.succeed(f"tar -tzf {KEPT}/data-*-files.tar.gz", sudo=True).split()


def end(runbooks: Runbooks, victim: str, *arguments: str) -> str:
    """End the history of ``victim``, typing the phrase."""
    exit_code, shown = typed_at_a_terminal(runbooks, "split_brain", "--victim", victim, "--yes", *arguments)
    assert exit_code == 0, shown
    return shown


def assert_shown(shown: Ran) -> None:
    assert shown.exit_code == 1, str(shown)
    assert shown.faults == ["dock-prod: split brain: both were written without the other"]
    rows = {row[""]: row for row in shown.document["tables"]["side by side"]}
    assert rows["written since generation"]["dock-prod"] == rows["written since generation"]["dock-mirror"]
    assert all(rows["the other one lacks"][host] not in {"-", "0 B"} for host in PAIR)
    files = {(row["host"], row["file"]) for row in shown.document["tables"]["newest files"]}
    assert {("dock-prod", "of-prod"), ("dock-mirror", "of-mirror"), ("dock-mirror", "common")} <= files


@pytest.mark.drill
def test_a_split_brain_is_seen_in_one_sweep_and_ended_with_the_victims_files_kept(
    replicated: Lab, runbooks: Runbooks
) -> None:
    write_apart(replicated)
    meet(replicated)
    health = runbooks.run("health", "--json")
    assert any("StandAlone" in fault for fault in health.faults), str(health)
    assert "runbooks/split_brain.py" in str(health)
    assert_shown(runbooks.run("split_brain", "--json"))

    end(runbooks, "dock-mirror")
    assert {"of-mirror", "common"} <= set(kept(replicated["dock-mirror"]))
    replicated["dock-prod"].succeed("grep home /srv/data/of-prod && ! test -e /srv/data/of-mirror", sudo=True)
    assert replicated["dock-mirror"].succeed("drbdadm role data", sudo=True) == "Secondary/Primary\n"
    wait_until_healthy(runbooks)


@pytest.mark.drill
def test_the_other_way_round_the_one_that_nobody_named_goes_on(
    replicated: Lab, runbooks: Runbooks, with_writer: Path
) -> None:
    prod, mirror = (replicated[host] for host in PAIR)
    where = ("--inventory", str(with_writer))
    prod.wait_until_succeeds("test -s /var/tmp/acknowledged", sudo=True)
    prod.succeed(f"systemctl stop {UNIT}", sudo=True)
    write_apart(replicated)
    prod.succeed(f"systemctl start {UNIT}", sudo=True)
    meet(replicated)
    silent = runbooks.run("split_brain", "--victim", "dock-prod", "--yes", *where)
    assert silent.exit_code == 4, str(silent)
    prod.succeed(f"grep home /srv/data/of-prod && systemctl is-active {UNIT}")
    shown = end(runbooks, "dock-prod", "--keep", "image", *where)
    assert f"{UNIT} stopped" in shown
    assert "dock-mirror is named instead" in shown
    prod.succeed(f"cd {KEPT} && sha256sum --check --quiet data-*-disk.img.gz.sha256", sudo=True)
    mirror.succeed(
        f"test -e /srv/data/of-mirror && ! test -e /srv/data/of-prod && systemctl is-active {UNIT}", sudo=True
    )
    assert mirror.succeed("drbdadm role data", sudo=True) == "Primary/Secondary\n"
    records(mirror)
    wait_until_healthy(runbooks)
    again = runbooks.succeed("split_brain", "--victim", "dock-prod", "--keep", "image", "--yes", "--json", *where)
    assert again.changes == {}
    runbooks.succeed("failback", "--yes", *where)
    assert prod.succeed("drbdadm role data", sudo=True) == "Primary/Secondary\n"
    prod.succeed("grep dc /srv/data/of-mirror", sudo=True)


HIDDEN_S = 200
HIDE = f"""\
set -e
systemd-run --quiet --on-active={HIDDEN_S} nft delete table inet hidden
nft add table inet hidden
nft add chain inet hidden input '{{ type filter hook input priority -10; }}'
nft add rule inet hidden input tcp dport 22 drop"""
"""Nobody gets a login any more, until a timer on the machine itself undoes it."""


@pytest.mark.drill
def test_a_writer_that_lives_on_unseen_loses_nothing_unnamed(
    replicated: Lab, runbooks: Runbooks, with_writer: Path
) -> None:
    prod, mirror = (replicated[host] for host in PAIR)
    where = ("--inventory", str(with_writer))
    prod.wait_until_succeeds("test -s /var/tmp/acknowledged", sudo=True)
    replicated.cut("home", "dc")
    mirror.wait_until_succeeds("! drbdadm cstate data | grep -q Connected", sudo=True)
    seen = runbooks.run("failover", "--to", "dock-mirror", "--disaster", *where)
    assert seen.exit_code == 1, str(seen)
    assert "dock-prod: is not gone: it answers this machine" in seen.stdout

    prod.succeed(HIDE, sudo=True)
    silent = runbooks.run("failover", "--to", "dock-mirror", "--disaster", "--yes", *where)
    assert silent.exit_code == 4, str(silent)
    exit_code, shown = typed_at_a_terminal(runbooks, "failover", "--to", "dock-mirror", "--disaster", "--yes", *where)
    assert exit_code == 0, shown
    mirror.succeed(f"systemctl is-active {UNIT}")

    prod.wait_until_succeeds("true", timeout_s=HIDDEN_S + 60)
    assert prod.succeed("drbdadm role data", sudo=True).startswith("Primary")
    health = runbooks.run("health", "--json")
    assert any("Primary on two hosts" in fault for fault in health.faults), str(health)
    meet(replicated)
    stopped = runbooks.run("failback", "--yes", *where)
    assert stopped.exit_code == 1, str(stopped)
    assert "runbooks/split_brain.py" in stopped.stdout
    assert prod.succeed("drbdadm role data", sudo=True).startswith("Secondary")
    alone = acknowledged(prod)
    end(runbooks, "dock-prod", *where)
    assert "records" in kept(prod)
    archived = prod.succeed(f"tar -xOzf {KEPT}/data-*-files.tar.gz records | tail -n 1", sudo=True)
    assert int(archived) >= alone
    records(mirror)
    mirror.succeed(f"systemctl is-active {UNIT}")
    wait_until_healthy(runbooks)
