"""The page of health in a real browser: it fits a telephone, and it is dark where that is wanted."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import pytest

from dockyard.findings import Cause, Finding
from dockyard.standing import Level
from dockyard.status_page import status_page
from tests.unit.meshes import topology

PHONE_PX = 390

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here; ./setup.sh installs it")


def page() -> str:
    finding = Finding(
        cause=Cause.MESH,
        host="dock-prod",
        fault="dock-mirror does not answer through the mesh",
        evidence="small ping 0 of 3 answered; endpoint 198.51.100.3:51820, planned 198.51.100.3:51820 " * 3,
        advice="Does UDP get from dock-prod to 198.51.100.3:51820?",
    )
    rows = [{"host": host, **{f"column {n}": "a value" for n in range(8)}} for host in topology().hosts]
    links = {
        frozenset({"dock-prod", "dock-mirror"}): Level.FAILED,
        frozenset({"dock-prod", "dock-edge"}): Level.HEALTHY,
    }
    when = datetime(2026, 3, 1, tzinfo=UTC)
    return status_page(topology(), when, [finding], {"hosts": rows}, writer="dock-prod", links=links)


def looked_at(page: str, folder: Path, script: str, *options: str) -> str:
    """What ``script``, an expression over ``seen`` (the window of the page on a telephone), finds."""
    frame = f'<iframe id="f" width="{PHONE_PX}" height="844" srcdoc="{escape(page)}"></iframe><p id="found"></p>'
    ask = f"const seen = f.contentWindow; found.textContent = 'found:' + ({script}) + ':'"
    file = folder / "frame.html"
    file.write_text(f"<!doctype html>{frame}<script>f.onload = () => {{ {ask} }}</script>")
    done = subprocess.run(
        [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=5000",
            *options,
            "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    found = re.search(r"found:(.*?):<", done.stdout)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    return found[1]


def test_it_fits_a_telephone(tmp_path: Path) -> None:
    width = looked_at(page(), tmp_path, "seen.document.documentElement.scrollWidth")
    assert int(width) <= PHONE_PX


def test_something_too_wide_would_be_noticed(tmp_path: Path) -> None:
    wide = page().replace("<main>", '<main><div style="width: 900px">x</div>')
    assert int(looked_at(wide, tmp_path, "seen.document.documentElement.scrollWidth")) > PHONE_PX


@pytest.mark.parametrize(("scheme", "light"), [("1", True), ("0", False)])
def test_it_is_dark_where_that_is_wanted(tmp_path: Path, scheme: str, light: bool) -> None:
    option = f"--blink-settings=preferredColorScheme={scheme}"
    colour = looked_at(page(), tmp_path, "seen.getComputedStyle(seen.document.body).backgroundColor", option)
    brightness = sum(int(part) for part in re.findall(r"\d+", colour)[:3])
    assert (brightness > 600) is light, colour
