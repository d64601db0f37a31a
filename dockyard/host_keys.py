"""Which host keys we know: OpenSSH's ``known_hosts`` (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). No network here.

paramiko's own reader fails on ``@revoked`` and ``@cert-authority`` lines and knows no patterns, so the file is read
here: plain and hashed names, ``[host]:port``, patterns with ``*``, ``?`` and ``!``, and revoked keys. Host
*certificates* are not verified on this way (paramiko cannot): a host that has only a ``@cert-authority`` line needs
``transport: system``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from dockyard.errors import HostKeyError
from dockyard.topology import Host

_PORT = 22


@dataclass(frozen=True, slots=True, order=True)
class HostKey:
    """A public key: ``type`` as ``ssh-ed25519``, ``blob`` as it goes over the wire (RFC 4253, 6.6)."""

    type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` prints it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    def line(self, name: str) -> str:
        return f"{name} {self.type} {base64.b64encode(self.blob).decode()}"


class Trust(StrEnum):
    """What the file says about a key that a host shows."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    """No key of this host is known (or only an authority for certificates)."""
    CHANGED = "CHANGED"
    """Another key of this host is known."""
    REVOKED = "REVOKED"


@dataclass(frozen=True, slots=True)
class _Line:
    marker: str
    names: tuple[str, ...]
    key: HostKey


@dataclass(frozen=True, slots=True)
class KnownHosts:
    """The lines of one ``known_hosts`` file; those that are not understood are no key of any host."""

    lines: tuple[_Line, ...] = ()

    @classmethod
    def parse(cls, text: str) -> KnownHosts:
        return cls(tuple(line for line in map(_line, text.splitlines()) if line is not None))

    def keys_of(self, name: str) -> tuple[HostKey, ...]:
        """The keys that are good for ``name`` (see `name_in_file`), in file order, without the revoked ones."""
        mine = [line for line in self.lines if _matches(line.names, name)]
        revoked = {line.key for line in mine if line.marker == "@revoked"}
        return tuple(line.key for line in mine if not line.marker and line.key not in revoked)

    def trust_of(self, name: str, key: HostKey) -> Trust:
        if any(line.marker == "@revoked" and line.key == key and _matches(line.names, name) for line in self.lines):
            return Trust.REVOKED
        known = self.keys_of(name)
        if not known:
            return Trust.UNKNOWN
        return Trust.KNOWN if key in known else Trust.CHANGED

    def has_authority(self, name: str) -> bool:
        return any(line.marker == "@cert-authority" and _matches(line.names, name) for line in self.lines)


def name_in_file(hostname: str, port: int) -> str:
    """How ssh(1) writes a host into the file: ``host``, or ``[host]:port`` when the port is not 22."""
    return hostname.lower() if port == _PORT else f"[{hostname.lower()}]:{port}"


def read_known_hosts(path: Path) -> KnownHosts:
    """The file, parsed once per process and version; a missing file knows no key.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        seen = path.stat()
    except FileNotFoundError:
        return KnownHosts()
    return _read(path, seen.st_mtime_ns, seen.st_size)


@lru_cache(maxsize=16)
def _read(path: Path, _mtime_ns: int, _size: int) -> KnownHosts:
    return KnownHosts.parse(path.read_text("utf-8", "surrogateescape"))


def refusal(host: Host, known: KnownHosts, shown: HostKey) -> HostKeyError | None:
    """The error for a key that must not be trusted, or None."""
    name = name_in_file(host.hostname, host.port)
    trust = known.trust_of(name, shown)
    if trust is Trust.KNOWN:
        return None
    what = f"{shown.type} {shown.fingerprint} ({name}, known_hosts file {host.ssh.known_hosts})"
    pin = f"python runbooks/trust.py {host.name}"
    if trust is Trust.UNKNOWN:
        hint = " Its authority is known, too: `transport: system` can use that." if known.has_authority(name) else ""
        return HostKeyError(
            host.name,
            f"the host key is unknown: {what}",
            fingerprint=shown.fingerprint,
            advice=f"Compare it on the host (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then: {pin}{hint}",
        )
    expected = ", ".join(key.fingerprint for key in known.keys_of(name)) or "none, it is revoked"
    return HostKeyError(
        host.name,
        f"THE HOST KEY {'IS REVOKED' if trust is Trust.REVOKED else 'HAS CHANGED'}: {what}; expected {expected}",
        fingerprint=shown.fingerprint,
        advice=f"Somebody may sit in between; nothing was sent. Only when the host was really reinstalled: {pin}",
    )


def replace_keys(path: Path, name: str, keys: Iterable[HostKey]) -> None:
    """Make ``keys`` the plain keys of ``name``: other plain lines for exactly this name go, everything else stays.

    Written beside the file with mode 0600 and renamed over it, so that no moment has half a file.

    Raises:
        OSError: it cannot be written.
    """
    path = path.resolve()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = path.read_text("utf-8", "surrogateescape") if path.exists() else ""
    kept = [line for line in (_without(line, name) for line in before.splitlines()) if line is not None]
    text = "\n".join([*kept, *(key.line(name) for key in keys)]) + "\n"
    descriptor, temporary = tempfile.mkstemp(prefix=".known_hosts.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _without(text: str, name: str) -> str | None:
    """The line without ``name``; None when nothing is left of it. Patterns and marked lines stay as they are."""
    line = _line(text)
    if line is None or line.marker or not any(_same(known, name) for known in line.names):
        return text
    rest = [known for known in line.names if not _same(known, name)]
    return " ".join([",".join(rest), *text.split()[1:]]) if rest else None


def _line(text: str) -> _Line | None:
    fields = text.split()
    marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
    if len(fields) < 3 or fields[0].startswith("#"):
        return None
    try:
        blob = base64.b64decode(fields[2], validate=True)
    except binascii.Error:
        return None
    return _Line(marker, tuple(fields[0].split(",")), HostKey(fields[1], blob))


def _matches(names: tuple[str, ...], name: str) -> bool:
    """True when one pattern fits and none that begins with ``!`` does (sshd(8))."""
    if any(pattern.startswith("!") and _fits(pattern[1:], name) for pattern in names):
        return False
    return any(_fits(pattern, name) for pattern in names if not pattern.startswith("!"))


def _fits(pattern: str, name: str) -> bool:
    if _same(pattern, name):
        return True
    if "*" not in pattern and "?" not in pattern:
        return False
    # Only * and ? are special; fnmatch would read [host]:port as a set of characters.
    return fnmatchcase(name, pattern.lower().replace("[", "[[]"))


def _same(pattern: str, name: str) -> bool:
    if not pattern.startswith("|1|"):
        return pattern.lower() == name
    try:
        salt, digest = (base64.b64decode(part) for part in pattern.split("|")[2:4])
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest)
