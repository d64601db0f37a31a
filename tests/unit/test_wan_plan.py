"""runbooks/wan_plan.py as a person runs it, without any host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def plan(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "runbooks" / "wan_plan.py"), "--inventory", "lab", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_inventory_alone_is_enough() -> None:
    run = plan("--offline", "--size", "100G")
    assert (run.returncode, run.stderr) == (0, "")
    for part in (
        "sndbuf-size 512k;",
        "initial sync of 100.0 GiB: 6.0 h at 80% of the line, 4.8 h with all of it",
        "a burst of 10.0 GiB: dock-mirror is at most 512.0 KiB (0.084 s) behind",
        "after an outage of 8.0 h: 4.0 KiB to 3.4 GiB are sent again",
        "wan: {mbit: 50, rtt_ms: 30, share: 0.8, crash_resync_min: 1}",
        "everything is as it should be",
    ):
        assert part in run.stdout


def test_options_go_before_the_inventory_and_advice_ends_with_1() -> None:
    run = plan("--offline", "--size", "2T", "--mbit", "10", "--rtt-ms", "600", "--share", "0.8", "--write-mbit", "4")
    assert run.returncode == 1
    assert "wan: {mbit: 10, rtt_ms: 600, share: 0.8, crash_resync_min: 1}" in run.stdout
    assert "the initial sync takes days" in run.stdout


def test_json_holds_numbers_settings_and_findings() -> None:
    run = plan("--offline", "--size", "2T", "--json")
    document = json.loads(run.stdout)
    costs = {row["name"]: row["value"] for row in document["tables"]["costs"]}
    assert float(costs["initial_sync_line_s"]) == pytest.approx(2 * 1024**4 / 6.25e6, rel=0.001)
    assert costs["disaster_most_bytes"] == "524288"
    assert {"section": "disk", "name": "c-max-rate", "value": "4882k", "reason": "80% of 50 Mbit/s"} in document[
        "tables"
    ]["settings"]
    assert [finding["fault"] for finding in document["steps"][0]["findings"]] == ["the initial sync takes days"]
    assert document["exit_code"] == run.returncode == 1


def test_the_way_by_disk_is_printed_with_the_names_of_the_inventory() -> None:
    run = plan("--seed")
    assert run.returncode == 0
    assert "drbdsetup new-current-uuid --clear-bitmap 0" in run.stdout
    assert "dd if=/dev/vdb of=/dev/TRAVEL" in run.stdout


def test_the_way_by_disk_has_the_node_ids_of_the_resource_file() -> None:
    lines = (ROOT / "tests" / "data" / "drbd" / "lab_9.res").read_text().splitlines()
    at = {line.split()[1]: lines[number + 1] for number, line in enumerate(lines) if line.startswith("    on dock-")}
    assert at["dock-load"] == "        node-id 2;"
    assert (at["dock-prod"], at["dock-mirror"]) == ("        node-id 1;", "        node-id 0;")
    run = plan("--seed")
    assert "the metadata still says node 1; make it node 0" in run.stdout
    assert "-e 's/node-id 1/node-id 0/' -e 's/^peer.1. /peer-NEW /' -e 's/^peer.0. /peer[1] /'" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--measure", "--json"), "Give --yes"),
        (("--measure", "--offline"), "cannot measure"),
        (("--share", "1.5"), "1.5 is not between"),
        (("--mbit", "nan"), "nan is not between"),
        (("--rtt-ms", "quick"), "invalid number value"),
        (("--size", "many"), "'many' is no size such as 500G"),
    ],
)
def test_what_does_not_fit_is_wrong_usage(arguments: tuple[str, ...], said: str) -> None:
    run = plan(*arguments)
    assert run.returncode == 2
    assert said in run.stdout + run.stderr
