"""Hosts that need OpenSSH itself: ProxyJump, certificates, hardware keys, ``~/.ssh/config`` (``transport: system``).

nornir-scrapli's ``system`` transport builds the ssh(1) command line, and runs interactive dialogues on it: its tasks
(``send_command``, ``send_interactive``) work on the connection, the first one opens the shell. But that transport lives
on a local pseudo-terminal, where no output arrives as it was sent (measured, docs/transport.md). Batches therefore run
the same command line over plain pipes. Both share one authenticated connection (ControlMaster, ssh_config(5)); it is
closed with the plugin, or by itself `PERSIST_S` after its last use when this process was killed.
"""

from __future__ import annotations

import atexit
import os
import re
import selectors
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

from nornir_scrapli.connection import ScrapliCore
from scrapli.driver import GenericDriver

from dockyard.errors import HostKeyError, RemoteError, Unreachable
from dockyard.exchange import Exchange, Stopped
from dockyard.framing import Request
from dockyard.host_keys import HostKey, KnownHosts, name_in_file, read_known_hosts, refusal
from dockyard.login_keys import login_refused
from dockyard.topology import Host

PERSIST_S = 60
ALIVE_S = 15
"""Seconds between two questions whether a quiet host is still there; after two without an answer it is gone."""

_FAILED = 255
"""What ssh(1) returns for its own errors."""


class OpenSshHost(GenericDriver):
    """scrapli's driver over a shared OpenSSH connection; its shell opens with the first use of ``channel``."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._shell: Any = None
        self._opening = threading.local()
        super().__init__(
            host=host.hostname,
            port=host.port,
            auth_username=host.username,
            auth_private_key=str(host.ssh.key_file or ""),
            auth_strict_key=True,
            ssh_config_file=True,
            transport="system",
            timeout_socket=host.ssh.connect_timeout_s,
            timeout_transport=ALIVE_S,
            transport_options={"open_cmd": _options(host)},
        )
        self.transport._build_open_cmd()  # noqa: SLF001  # its command line, before its pseudo-terminal

    @property
    def channel(self) -> Any:
        """The channel of scrapli to the interactive shell."""
        if not getattr(self._opening, "now", False) and not self.transport.isalive():
            self._opening.now = True
            try:
                self.open()
            finally:
                self._opening.now = False
        return self._shell

    @channel.setter
    def channel(self, shell: Any) -> None:
        self._shell = shell

    def is_usable(self) -> bool:
        return True  # ssh connects again by itself when the shared connection is gone

    def exchange(self, request: Request, end: bytes, limit_s: float) -> Exchange:
        """One batch over pipes, see `dockyard.exchange.Connection`. The first one connects.

        Raises:
            Unreachable, HostKeyError, AuthenticationFailed
        """
        started = time.monotonic()
        with subprocess.Popen(
            [*self.transport.open_cmd, "-T", request.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as ssh:
            try:
                pipes = _Pipes(ssh, request.stdin, end)
                stopped = pipes.run(started + limit_s + self._host.ssh.connect_timeout_s)
            finally:
                ssh.kill()
        if stopped is Stopped.LOST and not pipes.stdout:
            raise _translated(self._host, pipes.stderr.decode("utf-8", "replace"))
        return Exchange(bytes(pipes.stdout), bytes(pipes.stderr), stopped)

    def leave(self) -> None:
        """Close the shell, when there is one, and the shared connection."""
        if self.transport.isalive():
            self.close()
        subprocess.run([*self.transport.open_cmd, "-O", "exit"], capture_output=True, timeout=10, check=False)


class ScrapliConnection(ScrapliCore):
    """The ``scrapli`` plugin. ``extras["target"]`` is the typed `Host`; the other parameters come from it.

    Opening it costs nothing: ssh(1) connects with the first batch, so that a sweep needs one session a host.
    """

    connection: OpenSshHost

    def open(self, *_: Any, extras: dict[str, Any] | None = None, **__: Any) -> None:
        self.connection = OpenSshHost((extras or {})["target"])

    def close(self) -> None:
        self.connection.leave()


class _Pipes:
    """The three pipes of one ssh process, served at once."""

    def __init__(self, ssh: subprocess.Popen[bytes], stdin: bytes, end: bytes) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._ssh = ssh
        self._end = end
        self._unsent = memoryview(stdin)
        self._selector = selectors.DefaultSelector()
        self._watch(ssh.stdout, selectors.EVENT_READ)
        self._watch(ssh.stderr, selectors.EVENT_READ)
        self._watch(ssh.stdin, selectors.EVENT_WRITE)

    def _watch(self, pipe: IO[bytes] | None, event: int) -> None:
        assert pipe is not None
        os.set_blocking(pipe.fileno(), False)
        self._selector.register(pipe, event)

    def run(self, deadline: float) -> Stopped:
        with self._selector:
            while time.monotonic() < deadline:
                for key, _ in self._selector.select(min(1.0, max(0.0, deadline - time.monotonic()))):
                    self._serve(key.fileobj)
                if self._end in self.stdout[-(1 << 21) :] and self._end in self.stderr[-(1 << 21) :]:
                    return Stopped.DONE
                if self._ssh.poll() is not None and not self._readable():
                    return Stopped.LOST if self._ssh.returncode == _FAILED else Stopped.CLOSED
        return Stopped.LATE

    def _readable(self) -> bool:
        return any(key.events & selectors.EVENT_READ for key, _ in self._selector.select(0))

    def _serve(self, pipe: Any) -> None:
        if pipe is self._ssh.stdin:
            self._send(pipe)
            return
        data = os.read(pipe.fileno(), 1 << 20)
        (self.stdout if pipe is self._ssh.stdout else self.stderr).extend(data)
        if not data:
            self._selector.unregister(pipe)

    def _send(self, pipe: Any) -> None:
        try:
            self._unsent = self._unsent[os.write(pipe.fileno(), self._unsent[: 1 << 16]) :]
        except BrokenPipeError:
            self._unsent = memoryview(b"")
        if not self._unsent:
            self._selector.unregister(pipe)
            pipe.close()


_BASE = {"BatchMode": "yes", "StrictHostKeyChecking": "yes", "LogLevel": "ERROR"}
_ALGORITHMS = {"ssh-rsa": "rsa-sha2-512,rsa-sha2-256"}


def _options(host: Host) -> list[str]:
    """What Dockyard asks of ssh(1) beyond scrapli's own options. The first value given wins (ssh_config(5))."""
    return _arguments(
        {
            **_BASE,
            "UserKnownHostsFile": str(host.ssh.known_hosts),
            "ServerAliveCountMax": "2",
            "ControlMaster": "auto",
            "ControlPersist": f"{PERSIST_S}",
            "ControlPath": f"{_folder()}/%C",
        }
    )


def _arguments(options: Mapping[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


@cache
def _folder() -> Path:
    """A folder of this process for the sockets, mode 0700.

    Not in ``$TMPDIR``: with macOS's the path of a socket has more than the 104 bytes that fit there (Linux: 108).
    """
    folder = tempfile.mkdtemp(prefix="dockyard-", dir="/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def shown_key(host: Host) -> HostKey:
    """The host key that ssh(1) sees, jump hosts and all, of a type that we know where it has one.

    ssh gives it to KnownHostsCommand (ssh_config(5), OpenSSH 8.5), which knows no key, so nothing is authenticated.

    Raises:
        Unreachable: it shows none.
    """
    known = read_known_hosts(host.ssh.known_hosts).keys_of(name_in_file(host.hostname, host.port))
    with tempfile.TemporaryDirectory(prefix="dockyard-") as folder:
        noted = Path(folder, "shown")
        options = {
            **_BASE,
            "KnownHostsCommand": f'/bin/sh -c "echo x %t %K >>{noted}"',
            "UserKnownHostsFile": "none",
            "GlobalKnownHostsFile": "none",
            "ControlPath": "none",
            "ConnectTimeout": f"{max(1, round(host.ssh.connect_timeout_s))}",
        }
        if known:
            options["HostKeyAlgorithms"] = "^" + ",".join(_ALGORITHMS.get(key.type, key.type) for key in known)
        argv = ["ssh", "-T", "-p", str(host.port), "-l", host.username, *_arguments(options), host.hostname, "true"]
        ssh = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        lines = KnownHosts.parse(noted.read_text()).lines if noted.exists() else ()
    if not lines:
        raise _translated(host, ssh.stderr.decode("utf-8", "replace"))
    return lines[-1].key


def _translated(host: Host, said: str) -> RemoteError:
    """The error that ssh(1) describes on standard error."""
    last = said.strip().splitlines()[-1] if said.strip() else "ssh said nothing"
    if "Host key verification failed" in said or "REMOTE HOST IDENTIFICATION HAS CHANGED" in said:
        return _refused_key(host, said)
    if re.search(r"Permission denied \(|Too many authentication failures", said):
        return login_refused(host, last)
    return Unreachable(host.name, f"no SSH connection to {host.hostname} port {host.port}: {last}")


def _refused_key(host: Host, said: str) -> RemoteError:
    try:
        error = refusal(host, read_known_hosts(host.ssh.known_hosts), shown_key(host))
    except RemoteError as failed:
        return failed
    if error is not None:
        return error
    # Ours is known; another machine on the way (a jump host) is not.
    advice = "Is it the key of a jump host? Pin it with: ssh JUMPHOST"
    return HostKeyError(host.name, said.strip(), fingerprint="", advice=advice)
