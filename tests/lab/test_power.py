"""Both sites lose their power at once, and come back one by one, in either order or not at all."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from lab import Lab
from tests.lab.conftest import Runbooks, typed_at_a_terminal, wait_until_healthy
from tests.lab.numbered import PAIR, UNIT, acknowledged, records

PROD, MIRROR = PAIR
WHY = "/usr/local/lib/dockyard/drbd-storage why"

pytestmark = pytest.mark.drill


@pytest.fixture
def written(replicated: Lab, with_writer: Path) -> int:
    """Records that were acknowledged before both replicas lost their power."""
    replicated[PROD].wait_until_succeeds("test $(tail -n 1 /var/tmp/acknowledged) -gt 50", sudo=True)
    sure = acknowledged(replicated[PROD])
    for host in PAIR:
        replicated[host].crash()
    return sure


def assert_waits(lab: Lab, host: str, reason: str) -> None:
    """The host is up, says why it does not write, and does not."""
    lab[host].start()
    lab[host].wait_until_succeeds(f"{WHY} | grep -F {shlex.quote(reason)}", sudo=True)
    assert lab[host].succeed("drbdadm role data", sudo=True).startswith("Secondary/")
    lab[host].fail("mountpoint -q /srv/data")
    lab[host].fail(f"systemctl -q is-active {UNIT}")


def assert_served(lab: Lab, runbooks: Runbooks, written: int) -> None:
    """The recorded writer writes again, by itself, and nothing that was acknowledged is lost."""
    lab[PROD].wait_until_succeeds(f"systemctl -q is-active {UNIT}", timeout_s=400)
    assert records(lab[PROD]) >= written
    lab[MIRROR].fail("mountpoint -q /srv/data")
    wait_until_healthy(runbooks)


def test_the_writer_alone_waits_and_serves_when_the_other_is_back(
    replicated: Lab, runbooks: Runbooks, written: int
) -> None:
    assert_waits(replicated, PROD, "no connection to the other replica")
    faults = runbooks.run("health", "--json").faults
    assert any("nobody is Primary" in fault for fault in faults), faults
    replicated[MIRROR].start()
    assert_served(replicated, runbooks, written)


def test_the_other_alone_waits_and_the_writer_serves_when_it_is_back(
    replicated: Lab, runbooks: Runbooks, written: int
) -> None:
    assert_waits(replicated, MIRROR, "names 'dock-prod' as the writer")
    replicated[PROD].start()
    assert_served(replicated, runbooks, written)


def test_the_other_alone_takes_over_by_its_phrase(
    replicated: Lab, runbooks: Runbooks, written: int, with_writer: Path
) -> None:
    where = ("--inventory", str(with_writer))
    assert_waits(replicated, MIRROR, "names 'dock-prod' as the writer")
    exit_code, shown = typed_at_a_terminal(runbooks, "failover", "--to", MIRROR, "--disaster", "--yes", *where)
    assert exit_code == 0, shown
    assert records(replicated[MIRROR]) > 0
    replicated[MIRROR].succeed(f"systemctl -q is-active {UNIT}")
    assert_waits(replicated, PROD, "the replicas are being brought in line (SyncTarget)")
    replicated[PROD].wait_until_succeeds("drbdadm dstate data | grep -qx UpToDate/UpToDate", sudo=True, timeout_s=400)
    runbooks.succeed("phase2_drbd", "--yes", *where)
    runbooks.succeed("failover", "--to", PROD, "--yes", *where)
    records(replicated[PROD])
    wait_until_healthy(runbooks)
