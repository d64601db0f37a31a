"""What only DRBD 9 does: the arbitrator votes, and who has no quorum does not write. Skipped with 8.4."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import Lab
from tests.lab.conftest import Runbooks, typed_at_a_terminal, wait_until_healthy
from tests.lab.drbd import needs_drbd_9, wait_until_alike, wait_until_apart
from tests.lab.numbered import acknowledged, records

WHY = "/usr/local/lib/dockyard/drbd-storage why"


@pytest.fixture(autouse=True)
def nine(lab: Lab) -> None:
    needs_drbd_9(lab["dock-prod"])


def test_the_arbitrator_votes_and_health_misses_it(replicated: Lab, runbooks: Runbooks) -> None:
    load = replicated["dock-load"]
    assert "disk:Diskless client:yes" in load.succeed("drbdadm status data", sudo=True)
    load.succeed("systemctl stop dockyard-drbd", sudo=True)
    (fault,) = runbooks.run("health", "--json").faults
    wanted = "dock-load: the tie-breaker of data is not connected to dock-prod and dock-mirror"
    assert fault.startswith(wanted), fault
    load.succeed("systemctl start dockyard-drbd", sudo=True)
    wait_until_healthy(runbooks)


def test_a_writer_without_quorum_stops_and_goes_on_when_told(
    replicated: Lab, runbooks: Runbooks, with_writer: Path
) -> None:
    prod, where = replicated["dock-prod"], ("--inventory", str(with_writer))
    prod.wait_until_succeeds("test -s /var/tmp/acknowledged", sudo=True)
    replicated.cut("dock-prod", "dock-mirror")
    replicated.cut("dock-prod", "dock-load")
    prod.wait_until_succeeds("drbdadm status data | grep -q quorum:no", sudo=True)
    prod.wait_until_succeeds("! systemctl is-active numbered", sudo=True)
    health = runbooks.run("health", "--json", *where)
    assert any(one.startswith("dock-prod: data has no quorum here: all that is written") for one in health.faults)
    refused = runbooks.run("failover", "--to", "dock-mirror", "--disaster", *where)
    assert refused.exit_code == 1, str(refused)
    assert "dock-prod: is not gone: it answers this machine" in refused.stdout

    replicated.heal()
    wait_until_alike(prod)
    prod.succeed("systemctl restart dockyard-storage", sudo=True)
    prod.wait_until_succeeds("systemctl is-active numbered", sudo=True)
    wait_until_healthy(runbooks)
    assert acknowledged(prod) <= records(prod)


@pytest.mark.drill
def test_an_old_writer_that_has_not_heard_of_the_failover_does_not_begin_by_itself(
    replicated: Lab, runbooks: Runbooks
) -> None:
    """It is in sync and keeps quorum by the tie-breaker, when the new writer goes down: its record is an old one."""
    prod, mirror = replicated["dock-prod"], replicated["dock-mirror"]
    prod.crash()
    wait_until_apart(mirror, "dock-prod")
    exit_code, shown = typed_at_a_terminal(runbooks, "failover", "--to", "dock-mirror", "--disaster", "--yes")
    assert exit_code == 0, shown
    prod.start()
    wait_until_alike(prod, timeout_s=400)
    assert "writer=dock-prod" in prod.succeed("cat /var/lib/dockyard/writer")

    mirror.crash()
    wait_until_apart(prod, "dock-mirror")
    assert "quorum:no" not in prod.succeed("drbdadm status data", sudo=True)
    prod.wait_until_succeeds(f"{WHY} | grep -x 'the other replica is not connected and UpToDate'", sudo=True)
    prod.wait_until_succeeds("journalctl -b -u dockyard-storage | grep 'waiting: the other replica is'", sudo=True)
    assert prod.succeed("drbdadm role data", sudo=True) == "Secondary\n"

    exit_code, shown = typed_at_a_terminal(runbooks, "failover", "--to", "dock-prod", "--disaster", "--yes")
    assert exit_code == 0, shown
    prod.succeed("mountpoint -q /srv/data")
    prod.crash()
    prod.start()
    prod.wait_until_succeeds(f"{WHY} | grep -x 'there is no quorum'", sudo=True)
    again = runbooks.run("failover", "--to", "dock-prod", "--disaster", "--yes")
    assert again.exit_code == 1, str(again)
    assert "dock-prod: it has no quorum: DRBD refuses to promote it" in again.stdout, str(again)
