"""The folder of the sockets that ssh(1) shares."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dockyard import openssh

LONGEST = 103
"""What fits into a socket's address on macOS (104 bytes with the final NUL); Linux takes 107 (unix(7))."""

TEMPORARY = 17
"""ssh(1) binds the socket under its name, a dot and 16 letters first."""


def test_the_path_of_a_socket_fits_wherever_the_temporary_folder_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("T" * 60)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    openssh._folder.cache_clear()
    try:
        folder = openssh._folder()
    finally:
        openssh._folder.cache_clear()
    hashed = "0" * 40  # %C
    assert len(f"{folder}/{hashed}") + TEMPORARY <= LONGEST
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
