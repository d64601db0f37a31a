"""Opening a cluster: Nornir with the owner's inventory, checked, and connections that are closed whatever happens."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nornir.core import Nornir
from nornir.core.configuration import Config
from nornir.core.state import GlobalState
from nornir.init_nornir import load_inventory, load_runner

from dockyard.remote import close_all
from dockyard.topology import Topology, folder_of

CONFIG = Path(__file__).parent.parent / "config.yaml"

for library in ("nornir", "paramiko"):
    logging.getLogger(library).addHandler(logging.NullHandler())  # no tracebacks beside the errors that are reported


def load(inventory: str | None = None) -> tuple[Nornir, Topology]:
    """Nornir and the typed cluster for an inventory (``lab``, a folder, or None for the owner's).

    The topology also lies in ``nornir.inventory.defaults.data["topology"]``: every filtered view shares it.

    Not through ``InitNornir``: it imports every connection plugin that is installed, scrapli among them (0.15 s).

    Raises:
        InventoryError: every mistake in it.
    """
    config = Config.from_file(str(CONFIG))
    config.logging.configure()
    config.inventory.options["folder"] = str(folder_of(inventory))
    nornir = Nornir(inventory=load_inventory(config), runner=load_runner(config), config=config, data=GlobalState())
    topology: Topology = nornir.inventory.defaults.data["topology"]
    return nornir, topology


@contextmanager
def open_cluster(inventory: str | None = None) -> Iterator[tuple[Nornir, Topology]]:
    """`load`, and at the end close every connection that was opened."""
    nornir, topology = load(inventory)
    try:
        yield nornir, topology
    finally:
        close_all(nornir)
