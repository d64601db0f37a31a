"""The replication drill on real machines: a cut that heals by itself, proof of both copies, and a block that rotted."""

from __future__ import annotations

import os
import signal

import pytest

from lab import Lab
from tests.lab.conftest import Runbooks, wait_until_healthy
from tests.lab.drbd import wait_until_alike
from tests.lab.numbered import PAIR

DRILL = ("--cut", "30", "--rate", "512K")


def nothing_left(lab: Lab) -> None:
    for host in PAIR:
        lab[host].succeed(
            "! ls /run/dockyard-drill /srv/data/.dockyard-drill && ! systemctl -q is-active dockyard-drill"
            " && ! nft list tables | grep dockyard",
            sudo=True,
        )


@pytest.mark.drill
def test_a_drill_proves_both_copies_and_leaves_nothing(replicated: Lab, runbooks: Runbooks) -> None:
    dry = runbooks.succeed("replication_drill", "--dry-run", *DRILL)
    assert "cut dock-mirror off from dock-prod for DRBD alone; the kernel undoes it after 30 s" in dry.stdout
    nothing_left(replicated)
    ran = runbooks.succeed("replication_drill", "--yes", "--json", *DRILL)
    states = [row["replication"] for row in ran.document["tables"]["How far the Secondary was behind"]]
    assert states[0] == states[-1] == "Established"
    assert "Connecting" in states
    facts = {row["what"]: row["value"] for row in ran.document["tables"]["Result"]}
    assert facts["primary"] == "dock-prod"
    assert int(facts["files"]) >= 60
    assert int(facts["written_bytes"]) == int(facts["files"]) * 512 * 1024
    assert (facts["files_wrong_on_primary"], facts["files_wrong_on_secondary"]) == ("0", "0")
    assert (facts["verified"], facts["differing_kib"]) == ("True", "0")
    assert float(facts["behind_connected_most_s"]) < float(facts["behind_most_s"])
    assert 15 < float(facts["behind_most_s"]) < 120
    assert 4 * 1024**2 < int(facts["behind_most_bytes"]) <= int(facts["written_bytes"])
    evidence = replicated["dock-load"].succeed("tail -n 1 /var/lib/dockyard/evidence/replication-drill.jsonl")
    assert '"passed":true' in evidence
    nothing_left(replicated)
    assert runbooks.succeed("health", "--json").faults == []


@pytest.mark.drill
def test_a_drill_whose_controller_died_heals_by_itself_and_is_cleared(replicated: Lab, runbooks: Runbooks) -> None:
    prod, mirror = replicated["dock-prod"], replicated["dock-mirror"]
    with runbooks.start("replication_drill", "--yes", "--no-verify", *DRILL) as process:
        mirror.wait_until_succeeds("nft list tables | grep dockyard_drill", sudo=True, timeout_s=180)
        os.kill(process.pid, signal.SIGKILL)
    mirror.wait_until_succeeds("! drbdadm cstate data | grep -q Connected", sudo=True)
    mirror.succeed("ping -c 1 -w 5 10.20.0.2")  # DRBD alone is cut
    prod.wait_until_succeeds("drbdadm dstate data | grep -qx UpToDate/UpToDate", sudo=True, timeout_s=180)
    prod.succeed("test -d /srv/data/.dockyard-drill", sudo=True)
    cleared = runbooks.succeed("replication_drill", "--clear", "--yes", "--json")
    assert set(cleared.changes) == set(PAIR), str(cleared)
    nothing_left(replicated)
    wait_until_healthy(runbooks)


def rot(lab: Lab, host: str) -> int:
    """4 KiB of a file that both replicas hold become zeros on the disk of ``host``, under DRBD; returns where."""
    prod = lab["dock-prod"]
    prod.succeed("head -c 65536 /dev/urandom >/srv/data/kept && sync /srv/data/kept", sudo=True)
    first = prod.succeed(
        "filefrag -v /srv/data/kept | sed -n 's/^ *0: .* \\([0-9]*\\)\\.\\. .*/\\1/p'", sudo=True
    ).split()[-1]
    block = int(prod.succeed("stat -f -c %S /srv/data"))
    offset = -(-int(first) * block // 4096) * 4096  # DRBD's own blocks; those of a small ext4 are smaller
    lab[host].succeed(
        f"head -c 4096 /dev/zero | dd of=/dev/vdb bs=4096 oflag=direct,seek_bytes seek={offset} conv=notrunc", sudo=True
    )
    return offset


def compare(lab: Lab, host: str) -> None:
    lab[host].succeed("systemctl start dockyard-verify", sudo=True, timeout_s=900)


@pytest.mark.drill
def test_a_block_that_rotted_is_found_named_and_mended(replicated: Lab, runbooks: Runbooks) -> None:
    prod, mirror = replicated["dock-prod"], replicated["dock-mirror"]
    for host in PAIR:
        replicated[host].succeed("systemctl is-active dockyard-verify.timer")
    mirror.succeed("systemctl start dockyard-verify && ! test -e /var/lib/dockyard/verify.json", sudo=True)
    offset = rot(replicated, "dock-mirror")
    assert runbooks.succeed("health", "--json").faults == []  # nobody can know it yet

    compare(replicated, "dock-prod")
    found = runbooks.run("health", "--json")
    told = [
        finding
        for step in found.document["steps"]
        for finding in step["findings"]
        if finding["fault"] == "the last comparison found 4 KiB of data that differ between the replicas"
    ]
    assert len(told) == 1, str(found)
    assert f"start={offset // 512}, size=8" in told[0]["evidence"]
    assert "drbdadm disconnect data; drbdadm connect data" in told[0]["advice"]

    mirror.succeed("drbdadm disconnect data; drbdadm connect data", sudo=True)
    prod.wait_until_succeeds("grep -A 1 cs:Connected /proc/drbd | grep 'oos:0$'", sudo=True)
    mended = runbooks.run("health", "--json")
    assert [fault for fault in mended.faults if "they were copied anew since" in fault] == mended.faults != []
    compare(replicated, "dock-prod")
    assert runbooks.succeed("health", "--json").faults == []


@pytest.mark.drill
def test_a_block_that_rotted_on_the_writers_disk_is_mended_from_the_other_side(
    replicated: Lab, runbooks: Runbooks
) -> None:
    prod, mirror = replicated["dock-prod"], replicated["dock-mirror"]
    rot(replicated, "dock-prod")
    good = prod.succeed("sha256sum /srv/data/kept", sudo=True)  # from the page cache
    compare(replicated, "dock-prod")
    refused = runbooks.run("failover", "--to", "dock-mirror", "--yes")
    assert refused.exit_code == 1, str(refused)
    assert "not all has arrived" in refused.stdout
    prod.succeed("mountpoint -q /srv/data")

    prod.succeed("drbdadm detach data", sudo=True)
    runbooks.succeed("failover", "--to", "dock-mirror", "--yes")
    assert mirror.succeed("sha256sum /srv/data/kept", sudo=True) == good
    prod.succeed("drbdadm attach data", sudo=True)
    wait_until_alike(mirror, timeout_s=400)
    compare(replicated, "dock-mirror")
    wait_until_healthy(runbooks)
