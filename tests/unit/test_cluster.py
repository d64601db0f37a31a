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
from dockyard.topology import folder_of, load_inventory

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
    monkeypatch.delenv("DOCKYARD_INVENTORY", raising=False)
    monkeypatch.chdir(ROOT)
    usual = InitNornir(config_file="config.yaml")
    assert Path(usual.config.inventory.options["folder"]).resolve() == folder_of()
    assert usual.inventory.dict() == load_inventory(folder_of()).dict()
    shutil.copytree(folder_of("lab"), tmp_path / "inventory")
    (tmp_path / "inventory" / "hosts.yaml").write_text("dock-prod: []\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InventoryError, match="dock-prod"):
        InitNornir(config_file=str(ROOT / "config.yaml"))


def test_runbooks_take_the_plugin_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "config.yaml"
    other.write_text((ROOT / "config.yaml").read_text().replace("plugin: dockyard", "plugin: nobodys"))
    monkeypatch.setattr(cluster, "CONFIG", other)
    with pytest.raises(PluginNotRegistered, match="nobodys"):
        cluster.load("lab")


def test_no_library_writes_tracebacks_beside_the_errors_that_we_report() -> None:
    ran = subprocess.run([sys.executable, "-c", FAILS], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")
