"""The notebook runs from its first cell to its last, against the lab."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab import Lab
from tests.lab.conftest import HOSTS, ROOT


def test_every_cell_of_the_notebook_runs(replicated: Lab, tmp_path: Path) -> None:
    executed = tmp_path / "executed.ipynb"
    own = dict.fromkeys(("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "MPLCONFIGDIR"), str(tmp_path))
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("jupyter-execute")),
            str(ROOT / "notebooks" / "explore.ipynb"),
            f"--output={executed.with_suffix('')}",
            "--timeout=300",
        ],
        env={**os.environ, "DOCKYARD_INVENTORY": "lab", "PYTHONPATH": str(ROOT), **own},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    cells = json.loads(executed.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert all(host in _text(outputs) for host in HOSTS)


def _text(outputs: list[dict[str, Any]]) -> str:
    plain = ("".join(output.get("data", {}).get("text/plain", output.get("text", ""))) for output in outputs)
    return "\n".join(plain)
