"""The private keys of whoever runs this: which there are, and which have a passphrase, so that only an agent helps."""

from __future__ import annotations

import base64
import binascii
import shlex
from pathlib import Path

from dockyard.errors import AuthenticationFailed
from dockyard.topology import Host

_OPEN = b"openssh-key-v1\0\0\0\0\4none"
"""How a key without a passphrase begins: a magic word, and the name of its cipher (OpenSSH, PROTOCOL.key)."""


def key_files(host: Host) -> list[Path]:
    """The configured key, else the default ones as ssh(1) looks for them, without types that need OpenSSH itself."""
    if host.ssh.key_file:
        return [host.ssh.key_file]
    names = ("id_ed25519", "id_ecdsa", "id_rsa")
    return [path for path in (Path.home() / ".ssh" / name for name in names) if path.is_file()]


def has_passphrase(path: Path) -> bool:
    """Whether nobody can use the key without a passphrase; False for what is no key that we understand.

    Raises:
        OSError: it cannot be read.
    """
    text = path.read_text(encoding="ascii", errors="replace")
    begin, _, rest = text.partition("-----BEGIN OPENSSH PRIVATE KEY-----")
    if not rest:
        return "ENCRYPTED" in begin
    try:
        return not base64.b64decode(rest.partition("-----")[0]).startswith(_OPEN)
    except binascii.Error:
        return False


def login_refused(host: Host, said: str) -> AuthenticationFailed:
    """The error for a host that took none of our keys."""
    locked = [path for path in key_files(host) if _is_locked(path)]
    agent = f"With its passphrase only an agent can use the key: ssh-add {shlex.join(map(str, locked))}. Else: "
    return AuthenticationFailed(
        host.name,
        f"{host.hostname} port {host.port} accepts none of our keys for {host.username}: {said}",
        advice=f"{agent if locked else ''}ssh-copy-id -p {host.port} {host.username}@{host.hostname}, "
        "or set ssh.key_file in the inventory",
    )


def _is_locked(path: Path) -> bool:
    try:
        return has_passphrase(path)
    except OSError:
        return False
