"""Opening a cluster, in a process of its own: pytest's log handlers would hide what a person sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FAILS = """
import logging
from dockyard.cluster import open_cluster
def fail(task):
    raise ValueError
with open_cluster("lab") as (nornir, _):
    nornir.run(task=fail, on_failed=True)
logging.getLogger("paramiko.transport").error("Error reading SSH protocol banner")
"""


def test_no_library_writes_tracebacks_beside_the_errors_that_we_report() -> None:
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", FAILS], cwd=root, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")
