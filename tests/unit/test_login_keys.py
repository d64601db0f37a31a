"""Which private keys have a passphrase; ssh-keygen(1) makes them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dockyard.login_keys import has_passphrase


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen")
@pytest.mark.parametrize("passphrase", ["", "secret"])
@pytest.mark.parametrize("form", [("ed25519",), ("ecdsa", "-m", "PKCS8"), ("rsa", "-m", "PEM")])
def test_a_passphrase_is_seen_in_every_form(form: tuple[str, ...], passphrase: str, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", *form, "-N", passphrase, "-f", key], check=True)
    assert has_passphrase(key) is bool(passphrase)


@pytest.mark.parametrize("content", [b"", b"no key", b"\xff\0", b"-----BEGIN OPENSSH PRIVATE KEY-----\na\n-----END"])
def test_what_is_no_key_has_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content)
    assert not has_passphrase(tmp_path / "key")
