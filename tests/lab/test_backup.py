"""Backups to the lab's NAS, by the scripts that a person types: made on one replica, restored on the other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lab import Lab
from lab.nas import PATH, ROOT, Nas
from tests.lab.conftest import Memory, Runbooks, go_back, prove_connection, replace_in, typed_at_a_terminal
from tests.lab.numbered import PAIR, UNIT, acknowledged, install, records

PASSWORD = "/etc/dockyard/backup/password"
SCRIPT = "/usr/local/lib/dockyard/backup"
AS_UNIT = "INVOCATION_ID=of-a-test"
"""In the way of systemd: by hand, the script refuses to run."""
CHECKPOINT = "test-backup"
PAPERS = """\
cd /srv/data && mkdir -p papers/2026 && head -c 3000000 /dev/urandom >papers/2026/scan.pdf
printf 'one\\n' >papers/letter; printf x >"papers/$(printf 'two\\nlines')"; sync"""

Where = tuple[str, str]


def set_up(lab: Lab, runbooks: Runbooks, inventory: Path) -> Where:
    """Backups, as a person sets them up: the run stops until the NAS knows the replicas' keys. Tells runbooks where."""
    nas = Nas(lab["dock-edge"])
    nas.start()
    where = described(nas, inventory)
    stopped = runbooks.run("backup", "--yes", *where)
    keys = set(re.findall(r"restrict (ssh-ed25519 \S+ backup of dockyard-lab from dock-\w+)", stopped.stdout))
    assert (stopped.exit_code, len(keys)) == (1, 2), str(stopped)
    nas.let_in(sorted(keys))
    made = runbooks.succeed("backup", "--yes", "--from", "The NAS lets both", *where)
    assert f"sudo cat {PASSWORD}" in made.stdout
    return where


def described(nas: Nas, inventory: Path) -> Where:
    replace_in(inventory / "defaults.yaml", "    drbd:\n", f"{nas.inventory}    drbd:\n")
    return "--inventory", str(inventory)


@pytest.fixture
def where(lab: Lab, runbooks: Runbooks, memory: Memory, inventory: Path, request: pytest.FixtureRequest) -> Where:
    """A unit writes numbered records into the storage, beside papers; backups are set up, and one was made."""
    memory.built = ""
    if "backup" in memory.saved:
        go_back(lab, CHECKPOINT)
        prove_connection(lab["dock-prod"], lab["dock-mirror"])
        replace_in(inventory / "defaults.yaml", "mount: /srv/data", f"mount: /srv/data\n      units: [{UNIT}]")
        return described(Nas(lab["dock-edge"]), inventory)
    where = set_up(lab, runbooks, request.getfixturevalue("with_writer"))
    lab["dock-prod"].succeed(PAPERS, sudo=True)
    saved(runbooks, where, "dock-prod")
    lab.save(CHECKPOINT)
    memory.saved.add("backup")
    return where


def saved(runbooks: Runbooks, where: Where, host: str) -> None:
    """A backup is made, now, on ``host``."""
    ran = runbooks.succeed("backup", "--now", "--yes", *where)
    assert re.search(rf"Snapshot \w{{8}} of {host}: \d+ files.*, while the units that use", ran.stdout), str(ran)


@pytest.mark.drill
def test_what_was_saved_before_a_failover_is_restored_after_it(lab: Lab, runbooks: Runbooks, where: Where) -> None:
    runbooks.succeed("failover", "--to", "dock-mirror", "--yes", *where)
    drill = runbooks.succeed("restore_drill", "--yes", *where)
    assert re.search(r"On dock-mirror: 4 of 4 files are equal to what was saved \([\d.]+ MiB\)", drill.stdout)
    kept = json.loads(lab["dock-load"].succeed("cat /var/lib/dockyard/evidence/restore-drill.jsonl"))
    assert (kept["kind"], kept["passed"], kept["facts"]["equal"]) == ("restore-drill", True, 4)
    lab["dock-mirror"].succeed("rmdir /var/lib/dockyard-restore", sudo=True)  # nothing is left in it
    (secret,) = {lab[host].succeed(f"cat {PASSWORD}", sudo=True).strip() for host in PAIR}
    journals = list((runbooks.state / "dockyard" / "journal").glob("*.jsonl"))
    assert journals
    assert not any(secret in path.read_text() for path in journals)


def failed(runbooks: Runbooks, where: Where, reason: str) -> None:
    """A backup now fails for that reason, and health says the same and nothing else."""
    ran = runbooks.run("backup", "--now", "--yes", *where)
    assert ran.exit_code == 1, str(ran)
    assert f"the backup failed: {reason}" in ran.stdout, str(ran)
    health = runbooks.run("health", "--json", *where)
    assert health.faults == [f"dock-prod: the last backup failed: {reason}"], str(health)


@pytest.mark.drill
def test_a_wrong_password_a_full_nas_and_none_are_named_and_nothing_else_breaks(
    lab: Lab, runbooks: Runbooks, where: Where
) -> None:
    nas, prod = Nas(lab["dock-edge"]), lab["dock-prod"]
    for host in PAIR:
        lab[host].succeed(f"cp -p {PASSWORD} /root/right && echo wrong >{PASSWORD}", sudo=True)
    failed(runbooks, where, "the password is wrong for this repository")
    for host in PAIR:
        lab[host].succeed(f"cp -p /root/right {PASSWORD}", sudo=True)
    nas.fill()
    failed(runbooks, where, "the NAS is full")
    nas.make_room()
    nas.stop()
    failed(runbooks, where, "the NAS cannot be reached")
    drill = runbooks.run("restore_drill", "--yes", *where)
    assert drill.exit_code == 1
    assert "the repository cannot be read: unreachable" in drill.stdout
    nas.start()
    prod.succeed(f"systemctl is-active {UNIT}")
    assert 0 < acknowledged(prod) <= records(prod)
    saved(runbooks, where, "dock-prod")
    assert runbooks.succeed("health", "--json", *where).faults == []


@pytest.mark.drill
def test_a_switchover_stops_a_backup_at_work(lab: Lab, runbooks: Runbooks, where: Where) -> None:
    prod, mirror = (lab[host] for host in PAIR)
    prod.succeed("head -c 30000000 /dev/urandom >/srv/data/film && sync", sudo=True)
    prod.succeed("systemctl start --no-block dockyard-backup", sudo=True)
    prod.wait_until_succeeds("grep -q backup /run/dockyard-backup/run/stage", sudo=True)
    prod.fail(f"systemctl is-active {UNIT}")
    runbooks.succeed("failover", "--to", "dock-mirror", "--yes", *where)
    mirror.succeed(f"systemctl is-active {UNIT}")
    assert 0 < acknowledged(prod) <= records(mirror)
    health = runbooks.run("health", "--json", *where)
    assert health.faults == ["dock-prod: the last backup failed: it was stopped"], str(health)
    saved(runbooks, where, "dock-mirror")
    assert runbooks.succeed("health", "--json", *where).faults == []


@pytest.mark.drill
def test_the_lock_of_a_writer_that_died_ends_and_not_before_its_time(
    lab: Lab, runbooks: Runbooks, where: Where
) -> None:
    prod, mirror = (lab[host] for host in PAIR)
    prod.succeed("systemctl start --no-block dockyard-backup-check", sudo=True)
    lab["dock-edge"].wait_until_succeeds(f"ls {ROOT}{PATH}/dockyard-lab/locks | grep -q .", sudo=True)
    prod.crash()
    mirror.wait_until_succeeds("! drbdadm cstate data | grep -q Connected", sudo=True)
    exit_code, shown = typed_at_a_terminal(runbooks, "failover", "--to", "dock-mirror", "--disaster", "--yes", *where)
    assert exit_code == 0, shown
    mirror.fail(f"PATIENCE_S=0 {AS_UNIT} {SCRIPT} run", sudo=True, timeout_s=120)
    assert "already locked" in mirror.succeed("cat /run/dockyard-backup/run/said", sudo=True)
    mirror.succeed(f"systemctl is-active {UNIT} && {SCRIPT} release run && date -s '+31 minutes'", sudo=True)
    ran = runbooks.run("backup", "--now", "--yes", *where)
    assert ran.exit_code == 3, str(ran)  # dock-prod was left out
    assert "It was saved" in ran.stdout
    assert "stage|done" in mirror.succeed("cat /var/lib/dockyard/backup/last-good", sudo=True)


@pytest.mark.drill
def test_after_a_failover_the_new_writer_goes_on_in_the_same_repository(
    lab: Lab, runbooks: Runbooks, where: Where
) -> None:
    assert runbooks.succeed("backup", "--yes", "--json", *where).changes == {}
    runbooks.succeed("failover", "--to", "dock-mirror", "--yes", *where)
    assert "not the writer" in lab["dock-prod"].succeed(f"{AS_UNIT} {SCRIPT} run", sudo=True)
    saved(runbooks, where, "dock-mirror")
    before, after = json.loads(lab["dock-mirror"].succeed(f"{SCRIPT} restic snapshots --json", sudo=True))
    assert (before["hostname"], after["hostname"]) == ("dockyard-lab", "dockyard-lab")
    assert after["parent"] == before["id"]
    lab["dock-mirror"].succeed("systemctl start dockyard-backup-check", sudo=True, timeout_s=120)
    drill = runbooks.succeed("restore_drill", "--on", "dock-prod", "--yes", *where)
    assert "On dock-prod: 4 of 4 files are equal to what was saved" in drill.stdout
    assert runbooks.succeed("health", "--json", *where).faults == []


@pytest.mark.drill
def test_on_a_logical_volume_the_units_are_away_for_a_moment_only(
    meshed: Lab, runbooks: Runbooks, memory: Memory, inventory: Path
) -> None:
    memory.built = ""
    replace_in(inventory / "defaults.yaml", "mount: /srv/data", f"mount: /srv/data\n      units: [{UNIT}]")
    (inventory / "hosts.yaml").write_text((inventory / "hosts.yaml").read_text().replace("/dev/vdb", "/dev/vg0/data"))
    for host in PAIR:
        meshed[host].succeed("vgcreate -q vg0 /dev/vdb && lvcreate -q -L 300M -n data vg0", sudo=True)
    install(meshed)
    runbooks.succeed("phase2_drbd", "--yes", "--inventory", str(inventory))
    prod = meshed["dock-prod"]
    where = set_up(meshed, runbooks, inventory)
    prod.succeed(f"{PAPERS} && systemctl start {UNIT}", sudo=True)
    ran = runbooks.succeed("backup", "--now", "--yes", *where)
    took = re.search(r"in (\d+) s, from an LVM snapshot", ran.stdout)
    assert took, str(ran)
    prod.succeed(f"systemctl is-active {UNIT} && ! lvs vg0/dockyard-backup", sudo=True)
    moments = prod.succeed(
        f"systemctl show --value -p InactiveEnterTimestampMonotonic -p ActiveEnterTimestampMonotonic {UNIT}"
    )
    stopped, started = sorted(map(int, moments.split()))
    assert 0 < (started - stopped) / 1e6 < int(took[1]) / 2
    assert 0 < acknowledged(prod) <= records(prod)
    drill = runbooks.succeed("restore_drill", "--yes", *where)
    assert "files are equal to what was saved" in drill.stdout
    assert runbooks.succeed("health", "--json", *where).faults == []
