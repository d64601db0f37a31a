"""Opening a cluster; what a person sees of it in a process of its own: pytest's log handlers would hide it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nornir import InitNornir
from nornir.core.exceptions import PluginNotRegistered

from dockyard import cluster
from dockyard.errors import InventoryError
from dockyard.topology import folder_of

FAILS = """
import logging
from dockyard.cluster import open_cluster
def fail(task):
    raise ValueError
with open_cluster("lab") as (nornir, _):
    nornir.run(task=fail, on_failed=True)
logging.getLogger("paramiko.transport").error("Error reading SSH protocol banner")
"""


ROOT = Path(__file__).parents[2]


def test_who_follows_nornirs_habit_gets_the_same_inventory_and_its_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder_of("lab"), tmp_path / "inventory")
    monkeypatch.chdir(tmp_path)
    usual = InitNornir(config_file=str(cluster.CONFIG))
    assert usual.inventory.defaults.data["topology"] == cluster.load("lab")[1]
    hosts = tmp_path / "inventory" / "hosts.yaml"
    hosts.write_text(hosts.read_text().replace("10.20.0.2", "10.20.0.3"))
    with pytest.raises(InventoryError, match="has the same"):
        InitNornir(config_file=str(cluster.CONFIG))


def test_runbooks_take_the_plugin_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "config.yaml"
    other.write_text((ROOT / "config.yaml").read_text().replace("plugin: dockyard", "plugin: nobodys"))
    monkeypatch.setattr(cluster, "CONFIG", other)
    with pytest.raises(PluginNotRegistered, match="nobodys"):
        cluster.load("lab")


def test_no_library_writes_tracebacks_beside_the_errors_that_we_report() -> None:
    ran = subprocess.run([sys.executable, "-c", FAILS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")
