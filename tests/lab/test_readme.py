"""What the README tells people to type."""

from __future__ import annotations

import re
import subprocess
import sys

from lab import Lab
from tests.lab.conftest import ROOT


def test_the_example_to_explore_with_prints_every_direction(meshed: Lab) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    shown = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True, cwd=ROOT)
    lines = shown.stdout.splitlines()
    assert len(lines) == 20
    assert all(line.endswith(" []") for line in lines), shown.stdout
