"""Two copies of the data and one writer, through the scripts that a person types. In this order."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import Lab
from tests.lab.conftest import Runbooks, typed_at_a_terminal, wait_until_healthy
from tests.lab.drbd import wait_until_alike, wait_until_apart
from tests.lab.numbered import PAIR, acknowledged, records


@pytest.mark.drill
def test_a_dry_run_changes_nothing_and_hides_the_secret(meshed: Lab, runbooks: Runbooks) -> None:
    dry = runbooks.succeed("phase2_drbd", "--dry-run")
    for line in (
        "+    on dock-mirror {",
        '+        shared-secret "(hidden)";',
        "make the secret /etc/drbd.d/data.secret",
    ):
        assert line in dry.stdout, str(dry)
    for host in PAIR:
        meshed[host].succeed("test ! -e /etc/drbd.d/data.res")


def test_from_two_bare_disks_to_one_mounted_storage(replicated: Lab, runbooks: Runbooks) -> None:
    health = runbooks.succeed("health", "--json")
    assert health.faults == []
    roles = {row["replica"]: (row["role"], row["disk"], row["mounted"]) for row in health.document["tables"]["storage"]}
    assert roles == {"dock-prod": ("Primary", "UpToDate", "yes"), "dock-mirror": ("Secondary", "UpToDate", "no")}
    assert runbooks.succeed("phase2_drbd", "--yes", "--json").changes == {}
    secrets = {replicated[host].succeed("cat /etc/drbd.d/data.secret", sudo=True) for host in PAIR}
    journals = list((runbooks.state / "dockyard" / "journal").glob("*phase2*"))
    assert journals
    (secret,) = secrets
    assert not any(secret.strip() in path.read_text() for path in journals)


def test_nobody_writes_on_the_other_side_or_under_the_mount_point(replicated: Lab) -> None:
    mirror = replicated["dock-mirror"]
    mirror.fail("mount /dev/drbd0 /mnt", sudo=True)
    mirror.fail("mountpoint -q /mnt")
    mirror.fail("touch /srv/data/file", sudo=True)


@pytest.mark.parametrize("times", [1, pytest.param(3, marks=pytest.mark.drill)])
def test_a_switch_and_back_under_a_writer_loses_no_record(
    replicated: Lab, runbooks: Runbooks, with_writer: Path, times: int
) -> None:
    for source, target in times * (PAIR, PAIR[::-1]):
        runbooks.succeed("failover", "--to", target, "--yes", "--inventory", str(with_writer))
        assert 0 < acknowledged(replicated[source]) <= records(replicated[target])
        replicated[target].succeed("systemctl is-active numbered")
        replicated[source].fail("mountpoint -q /srv/data")
    again = runbooks.succeed("failover", "--to", "dock-prod", "--yes", "--json", "--inventory", str(with_writer))
    assert again.changes == {}
    replicated["dock-mirror"].fail("systemctl start numbered", sudo=True)
    replicated["dock-prod"].succeed("systemctl stop dockyard-storage && ! systemctl is-active numbered", sudo=True)
    runbooks.succeed("failover", "--to", "dock-prod", "--yes", "--inventory", str(with_writer))
    assert runbooks.succeed("health", "--json").faults == []


@pytest.mark.drill
def test_after_a_power_cut_the_writer_waits_for_its_copy(replicated: Lab, runbooks: Runbooks) -> None:
    prod = replicated["dock-prod"]
    prod.succeed("echo kept >/srv/data/kept && sync /srv/data/kept", sudo=True)
    prod.crash()
    wait_until_apart(replicated["dock-mirror"], "dock-prod")
    replicated.cut("dock-prod", "dock-mirror")
    prod.start()
    prod.wait_until_succeeds("/usr/local/lib/dockyard/drbd-storage why | grep -E 'no (connection|quorum)'", sudo=True)
    assert prod.succeed("drbdadm role data", sudo=True).startswith("Secondary")
    health = runbooks.run("health", "--json")
    assert any("nobody is Primary" in fault for fault in health.faults), str(health)
    replicated.heal()
    prod.wait_until_succeeds("grep kept /srv/data/kept", timeout_s=400, sudo=True)
    wait_until_healthy(runbooks)


@pytest.mark.drill
def test_a_disaster_is_refused_while_the_writer_lives_and_then_needs_the_phrase(
    replicated: Lab, runbooks: Runbooks, with_writer: Path
) -> None:
    prod, mirror = replicated["dock-prod"], replicated["dock-mirror"]
    where = ("--inventory", str(with_writer))
    alive = runbooks.run("failover", "--to", "dock-mirror", "--disaster", *where)
    assert alive.exit_code == 1, str(alive)
    assert "dock-prod: is not gone: it answers this machine" in alive.stdout
    assert "dock-prod: is not gone: dock-load sees it" in alive.stdout

    prod.wait_until_succeeds("test -s /var/tmp/acknowledged", sudo=True)
    prod.crash()
    wait_until_apart(mirror, "dock-prod")
    silent = runbooks.run("failover", "--to", "dock-mirror", "--disaster", "--yes", *where)
    assert silent.exit_code == 4, str(silent)
    assert mirror.succeed("drbdadm role data", sudo=True).startswith("Secondary")

    exit_code, shown = typed_at_a_terminal(runbooks, "failover", "--to", "dock-mirror", "--disaster", "--yes", *where)
    assert exit_code == 0, shown
    records(mirror)
    mirror.succeed("systemctl is-active numbered")

    prod.start()
    wait_until_alike(prod, timeout_s=400)
    assert prod.succeed("drbdadm role data", sudo=True).startswith("Secondary")
    (copy,) = prod.succeed("ls /var/lib/dockyard/kept/data-returned-*-files.tar.gz", sudo=True).split()
    assert "records" in prod.succeed(f"tar -tzf {copy}", sudo=True).split()
    back = runbooks.succeed("failback", "--yes", *where)
    assert copy in back.stdout
    records(prod)
    wait_until_healthy(runbooks)
