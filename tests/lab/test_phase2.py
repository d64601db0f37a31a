"""Two copies of the data and one writer, through the scripts that a person types. In this order."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import Lab
from tests.lab.conftest import ROOT, Runbooks, replace_in

PAIR = ("dock-prod", "dock-mirror")
WRITE = r"""[Unit]
Description=A writer that says only what is on the disk
[Service]
ExecStart=/usr/bin/python3 /usr/local/bin/numbered /srv/data/records /var/tmp/acknowledged
[Install]
WantedBy=multi-user.target
"""
NUMBERED = r"""
import os, sys, time
records, acknowledged = open(sys.argv[1], "a+"), open(sys.argv[2], "a")
records.seek(0)
number = sum(1 for _ in records)
while True:
    number += 1
    records.write(f"{number}\n"); records.flush(); os.fsync(records.fileno())
    acknowledged.write(f"{number}\n"); acknowledged.flush()
    time.sleep(0.02)
"""


@pytest.fixture
def with_writer(replicated: Lab, inventory: Path) -> Path:
    """An inventory whose storage is used by a unit that writes numbered records; it is put on both machines."""
    for host in PAIR:
        machine = replicated[host]
        machine.succeed(f"cat >/usr/local/bin/numbered <<'END'\n{NUMBERED}\nEND", sudo=True)
        machine.succeed(
            f"cat >/etc/systemd/system/numbered.service <<'END'\n{WRITE}END\nsystemctl daemon-reload", sudo=True
        )
    replace_in(inventory / "defaults.yaml", "mount: /srv/data", "mount: /srv/data\n      units: [numbered.service]")
    return inventory


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


def test_a_switch_and_back_under_a_writer_loses_no_record(
    replicated: Lab, runbooks: Runbooks, with_writer: Path
) -> None:
    replicated["dock-prod"].succeed("systemctl start numbered", sudo=True)
    for source, target in (PAIR, PAIR[::-1]):
        replicated[source].wait_until_succeeds("test -s /var/tmp/acknowledged", sudo=True)
        runbooks.succeed("failover", "--to", target, "--yes", "--inventory", str(with_writer))
        acknowledged = replicated[source].succeed(
            "tail -n 1 /var/tmp/acknowledged; rm /var/tmp/acknowledged", sudo=True
        )
        records = replicated[target].succeed("cat /srv/data/records", sudo=True).split()
        assert [int(record) for record in records] == list(range(1, len(records) + 1))
        assert int(acknowledged) <= len(records)
        replicated[target].succeed("systemctl is-active numbered")
        replicated[source].fail("mountpoint -q /srv/data")
    again = runbooks.succeed("failover", "--to", "dock-prod", "--yes", "--json", "--inventory", str(with_writer))
    assert again.changes == {}
    replicated["dock-prod"].succeed("systemctl stop numbered", sudo=True)
    assert runbooks.succeed("health", "--json").faults == []


@pytest.mark.drill
def test_after_a_power_cut_the_writer_waits_for_its_copy(replicated: Lab, runbooks: Runbooks) -> None:
    prod = replicated["dock-prod"]
    prod.succeed("echo kept >/srv/data/kept && sync /srv/data/kept", sudo=True)
    prod.crash()
    replicated["dock-mirror"].wait_until_succeeds("! drbdadm cstate data | grep -q Connected", sudo=True)
    replicated.cut("dock-prod", "dock-mirror")
    prod.start()
    prod.wait_until_succeeds("/usr/local/lib/dockyard/drbd-storage why | grep 'no connection'", sudo=True)
    assert prod.succeed("drbdadm role data", sudo=True).startswith("Secondary")
    health = runbooks.run("health", "--json")
    assert any("nobody is Primary" in fault for fault in health.faults), str(health)
    replicated.heal()
    prod.wait_until_succeeds("grep kept /srv/data/kept", timeout_s=400, sudo=True)
    _wait_until_healthy(runbooks)


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

    prod.succeed("systemctl start numbered", sudo=True)
    prod.wait_until_succeeds("test -s /var/tmp/acknowledged", sudo=True)
    prod.crash()
    mirror.wait_until_succeeds("! drbdadm cstate data | grep -q Connected", sudo=True)
    silent = runbooks.run("failover", "--to", "dock-mirror", "--disaster", "--yes", *where)
    assert silent.exit_code == 4, str(silent)
    assert mirror.succeed("drbdadm role data", sudo=True).startswith("Secondary")

    exit_code, shown = _typed_at_a_terminal(runbooks, "failover", "--to", "dock-mirror", "--disaster", "--yes", *where)
    assert exit_code == 0, shown
    records = [int(record) for record in mirror.succeed("cat /srv/data/records", sudo=True).split()]
    assert records == list(range(1, len(records) + 1))
    mirror.succeed("systemctl is-active numbered")

    prod.start()
    prod.wait_until_succeeds("drbdadm dstate data | grep -qx UpToDate/UpToDate", sudo=True, timeout_s=400)
    assert prod.succeed("drbdadm role data", sudo=True) == "Secondary/Primary\n"
    runbooks.succeed("phase2_drbd", "--yes", *where)
    runbooks.succeed("failover", "--to", "dock-prod", "--yes", *where)
    prod.succeed("systemctl stop numbered", sudo=True)
    records = [int(record) for record in prod.succeed("cat /srv/data/records", sudo=True).split()]
    assert records == list(range(1, len(records) + 1))
    _wait_until_healthy(runbooks)


def _typed_at_a_terminal(runbooks: Runbooks, name: str, *arguments: str) -> tuple[int, str]:
    """Run at a terminal, and type what the run asks for: the line before its prompt."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, str(ROOT / "runbooks" / f"{name}.py"), *arguments],
        stdin=theirs,
        stdout=subprocess.PIPE,
        text=True,
        env=runbooks.environment(),
    ) as process:
        assert process.stdout is not None
        shown = ""
        while not shown.endswith("\n> ") and (character := process.stdout.read(1)):
            shown += character
        os.write(ours, shown.splitlines()[-2].encode() + b"\n")
        shown += process.stdout.read()
    os.close(ours)
    os.close(theirs)
    return process.returncode, shown


def _wait_until_healthy(runbooks: Runbooks, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while (health := runbooks.run("health", "--json")).faults:
        assert time.monotonic() < deadline, str(health)
