"""Two copies of the data and one writer, through the scripts that a person types. In this order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab import Lab
from tests.lab.conftest import Runbooks, typed_at_a_terminal, wait_until_healthy, wait_until_off
from tests.lab.drbd import out_of_sync_kib, wait_until_alike, wait_until_apart, wait_until_received
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


@pytest.mark.drill
def test_phase_1_must_be_healthy_first(meshed: Lab, runbooks: Runbooks) -> None:
    load = meshed["dock-load"]
    load.succeed("systemctl stop wg-quick@wg0", sudo=True)
    no_mesh = runbooks.run("phase2_drbd", "--yes", "--json")
    load.succeed("systemctl start wg-quick@wg0 && cp -p /etc/hosts /root/hosts", sudo=True)
    load.succeed("echo 192.0.2.9 dock-prod >>/etc/hosts", sudo=True)
    wrong_name = runbooks.run("phase2_drbd", "--yes", "--json")
    load.succeed("cp -p /root/hosts /etc/hosts", sudo=True)
    for refused, fault in ((no_mesh, "dock-load: wg0 "), (wrong_name, "dock-load: ")):
        assert refused.exit_code == 1, str(refused)
        assert refused.faults[0].startswith(fault)
        assert refused.changes == {}
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


@pytest.mark.drill
def test_three_switches_and_back_under_a_writer_lose_no_record(
    replicated: Lab, runbooks: Runbooks, with_writer: Path
) -> None:
    stays_dirty = "sysctl -q vm.dirty_expire_centisecs=90000 vm.dirty_writeback_centisecs=0"
    replicated["dock-prod"].succeed(f"{stays_dirty} && head -c 20000000 /dev/zero >/srv/data/ballast", sudo=True)
    for number, (source, target) in enumerate(3 * (PAIR, PAIR[::-1])):
        ran = runbooks.succeed("failover", "--to", target, "--yes", "--json", "--inventory", str(with_writer))
        assert ("flush /srv/data" in ran.changes[source]) == (number == 0), str(ran)
        assert 0 < acknowledged(replicated[source]) <= records(replicated[target])
        replicated[target].succeed("systemctl is-active numbered")
        replicated[source].fail("mountpoint -q /srv/data")
    again = runbooks.succeed("failover", "--to", "dock-prod", "--yes", "--json", "--inventory", str(with_writer))
    assert again.changes == {}
    replicated["dock-mirror"].fail("systemctl start numbered", sudo=True)
    replicated["dock-prod"].succeed("systemctl stop dockyard-storage && ! systemctl is-active numbered", sudo=True)
    runbooks.succeed("failover", "--to", "dock-prod", "--yes", "--inventory", str(with_writer))
    assert runbooks.succeed("health", "--json").faults == []


POD = "/var/lib/kubelet/pods/one/volumes/kubernetes.io~local-volume/data"
"""Where a kubelet binds a volume for a pod, in the namespace of the host."""

KUBEPODS = "/sys/fs/cgroup/kubepods/one"
"""Where systemd does not look: it does not end real pods at a shutdown either (runc: ``DefaultDependencies=no``)."""

COUNTS = f"n=0; while :; do n=$((n + 1)); echo $n >>{POD}/records; sync {POD}/records; done"
IN_A_POD = (
    f"mkdir -p {KUBEPODS}; setsid sh -c 'echo $$ >{KUBEPODS}/cgroup.procs; {COUNTS}' </dev/null >/dev/null 2>&1 &"
)


@pytest.mark.drill
def test_a_pod_keeps_the_storage_from_a_switch_and_ends_before_it_at_a_shutdown(
    replicated: Lab, runbooks: Runbooks
) -> None:
    prod, mirror = replicated["dock-prod"], replicated["dock-mirror"]
    prod.succeed(f"mkdir -p {POD} && mount --bind /srv/data {POD}; {IN_A_POD}", sudo=True)
    refused = runbooks.run("failover", "--to", "dock-mirror", "--yes")
    assert refused.exit_code == 1, str(refused)
    assert f"nothing was unmounted: {POD}" in refused.stdout
    assert "kubectl drain dock-prod" in refused.stdout
    prod.succeed(
        f"mountpoint -q /srv/data && systemctl is-active dockyard-storage && grep -q . {KUBEPODS}/cgroup.procs"
    )
    runbooks.succeed("failover", "--to", "dock-prod", "--yes")

    prod.run("systemctl poweroff", sudo=True)
    mirror.wait_until_succeeds("drbdadm cstate data | grep -v Connected", sudo=True, timeout_s=180)
    peer = mirror.succeed("dmesg | grep -o 'peer( [A-Za-z]* -> [A-Za-z]* )' | tail -n 2", sudo=True).splitlines()
    assert peer == ["peer( Primary -> Secondary )", "peer( Secondary -> Unknown )"], "demoted while the line was there"
    wait_until_off(prod)
    prod.start()
    wait_until_healthy(runbooks)
    runbooks.succeed("failover", "--to", "dock-mirror", "--yes")
    assert records(mirror) > 0


@pytest.mark.drill
def test_what_a_dead_line_swallowed_while_the_writer_let_go_is_not_given_away(
    replicated: Lab, runbooks: Runbooks, with_writer: Path
) -> None:
    prod, mirror = (replicated[host] for host in PAIR)
    where = ("--yes", "--inventory", str(with_writer))
    prod.wait_until_succeeds("test -s /var/tmp/acknowledged", sudo=True)
    with runbooks.start("failover", "--to", "dock-mirror", *where) as run:
        assert run.stdout is not None
        assert any("stop what uses the storage" in line for line in run.stdout)
        replicated.cut("dock-prod", "dock-mirror")
        prod.wait_until_succeeds("drbdadm role data | grep ^Secondary", sudo=True)
        wait_until_apart(prod, "dock-mirror")
        replicated.heal()
        wait_until_alike(prod)
        assert out_of_sync_kib(prod) > 0, "DRBD sends it by itself: then nothing is in vain"
        shown, _ = run.communicate()
    assert run.returncode == 1
    assert "failover.py --to dock-prod" in shown
    assert replicated["dock-load"].succeed("grep ^writer= /var/lib/dockyard/writer") == "writer=dock-prod\n"

    runbooks.succeed("failover", "--to", "dock-prod", *where)
    assert 0 < acknowledged(prod) <= records(prod)
    mirror.succeed("drbdadm disconnect data && drbdadm connect data", sudo=True)
    wait_until_alike(prod)
    assert out_of_sync_kib(prod) == 0
    wait_until_healthy(runbooks)
    runbooks.succeed("failover", "--to", "dock-mirror", *where)
    assert acknowledged(prod) <= records(mirror)


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


PARTS = 24
"""Files of 64 KiB: twice what the send buffer of this line holds."""


def newer_than_the_line(lab: Lab) -> tuple[int, int]:
    """The line carries less than is written, so that mirror is seconds behind: the last record that is there for sure,
    and the last one of all.
    """
    prod = lab["dock-prod"]
    prod.wait_until_succeeds("test -s /var/tmp/acknowledged", sudo=True)
    copied = acknowledged(prod)
    wait_until_received(prod, lab["dock-mirror"])
    lab.wan("home", "dc", rate_bit_s=1e6)
    write = "head -c 65536 /dev/urandom | dd of=/srv/data/part.$part conv=fsync status=none"
    all_parts = f"for part in $(seq {PARTS}); do {write}; done; tail -n 1 /var/tmp/acknowledged"
    return copied, int(prod.succeed(all_parts, sudo=True, timeout_s=120))


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

    copied, newest = newer_than_the_line(replicated)
    prod.crash()
    wait_until_apart(mirror, "dock-prod")
    silent = runbooks.run("failover", "--to", "dock-mirror", "--disaster", "--yes", *where)
    assert silent.exit_code == 4, str(silent)
    assert mirror.succeed("drbdadm role data", sudo=True).startswith("Secondary")

    exit_code, shown = typed_at_a_terminal(runbooks, "failover", "--to", "dock-mirror", "--disaster", "--yes", *where)
    assert exit_code == 0, shown
    mirror.wait_until_succeeds("test -s /var/tmp/acknowledged", sudo=True)
    survived = int(mirror.succeed("head -n 1 /var/tmp/acknowledged", sudo=True)) - 1
    parts = int(mirror.succeed("find /srv/data -name 'part.*' -size 64k | wc -l", sudo=True))
    waiting = re.search(r"up to (\d+) KiB", shown)
    assert waiting
    assert copied <= survived <= newest
    assert 0 < (PARTS - parts) * 64 + (newest - survived) * 4 <= int(waiting[1])
    records(mirror)
    mirror.succeed("systemctl is-active numbered")

    replicated.wan_default("home", "dc")
    prod.start()
    wait_until_alike(prod, timeout_s=400)
    assert prod.succeed("drbdadm role data", sudo=True).startswith("Secondary")
    (copy,) = prod.succeed("ls /var/lib/dockyard/kept/data-returned-*-files.tar.gz", sudo=True).split()
    assert "records" in prod.succeed(f"tar -tzf {copy}", sudo=True).split()
    back = runbooks.succeed("failback", "--yes", *where)
    assert copy in back.stdout
    records(prod)
    wait_until_healthy(runbooks)
