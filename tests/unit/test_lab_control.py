"""The process that owns the lab, seen from the one that started it."""

from __future__ import annotations

import subprocess

from lab.control import Owner


def test_an_owner_that_was_stopped_leaves_nothing_open() -> None:
    owner = Owner(subprocess.Popen(["cat"], stdin=subprocess.PIPE))
    owner.stop()
    assert owner.process.returncode is not None
    assert owner.process.stdin is not None
    assert owner.process.stdin.closed
