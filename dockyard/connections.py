"""The two ways to a host, as Nornir connection plugins; `dockyard.remote` cannot tell them apart.

``netmiko`` (the default) is nornir-netmiko's connection without its interactive shell: an authenticated SSH transport
whose exec channels carry whole batches. Stock nornir-netmiko tasks work on it; the first one opens the shell.
``scrapli`` (``transport: system``) is OpenSSH itself under nornir-scrapli, see `dockyard.openssh`; it is imported when
the first host needs it.

netmiko's private names that this module relies on (pinned in pyproject.toml, held by tests/ssh): ``_build_ssh_client``,
``_open``, ``remote_conn_pre``.
"""

from __future__ import annotations

import select
import socket
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import paramiko
from netmiko.linux.linux_ssh import LinuxSSH
from nornir_netmiko.connections.netmiko import Netmiko

from dockyard.errors import AuthenticationFailed, RemoteError, Unreachable
from dockyard.exchange import Exchange, Stopped
from dockyard.framing import Request
from dockyard.host_keys import HostKey, KnownHosts, name_in_file, read_known_hosts, refusal
from dockyard.login_keys import has_passphrase, key_files, login_refused
from dockyard.tcp import connect_tcp, shut_at
from dockyard.topology import Host

QUIET_S = 15.0
"""After so long without a byte the host is asked whether it is still there."""

_READ_BYTES = 1 << 20
_NOTHING_TO_OFFER = "No authentication methods available"
"""What paramiko says when there is no key at all: none that can be read without a passphrase, none in the agent."""


class _Client(paramiko.SSHClient):
    """An SSH client that netmiko may "connect" again when it opens its shell: by then it is connected."""

    def connect(self, *arguments: Any, **options: Any) -> None:
        transport = self.get_transport()
        if transport is None or not transport.is_active():
            super().connect(*arguments, **options)


class _Verify(paramiko.MissingHostKeyPolicy):
    """Decides on every host key, before anything about us is sent. paramiko's own tables stay empty."""

    def __init__(self, host: Host, known: KnownHosts) -> None:
        self._host = host
        self._known = known

    def missing_host_key(self, _client: paramiko.SSHClient, _hostname: str, key: paramiko.PKey) -> None:
        shown = HostKey(key.get_name(), key.asbytes())
        error = refusal(self._host, self._known, shown)
        if error is not None:
            raise error


class LinuxHost(LinuxSSH):
    """netmiko's Linux connection over an SSH client that is already connected; its shell opens with the first use."""

    def __init__(self, host: Host, client: paramiko.SSHClient) -> None:
        self._host = host
        self._client = client
        super().__init__(
            host=host.hostname,
            port=host.port,
            username=host.username,
            device_type="linux",
            ssh_strict=True,
            conn_timeout=host.ssh.connect_timeout_s,
            auto_connect=False,
        )
        self.remote_conn_pre = client

    def read_channel(self) -> str:
        self._open_shell()
        return super().read_channel()

    def write_channel(self, out_data: str) -> None:
        self._open_shell()
        super().write_channel(out_data)

    def _open_shell(self) -> None:
        if self.remote_conn is None:
            self._open()

    def _build_ssh_client(self) -> paramiko.SSHClient:
        return self._client

    def cleanup(self, command: str = "exit") -> None:
        if self.remote_conn is not None:
            super().cleanup(command)

    def is_usable(self) -> bool:
        transport = self._client.get_transport()
        return transport is not None and transport.is_active()

    def exchange(self, request: Request, end: bytes, limit_s: float) -> Exchange:
        """See `dockyard.exchange.Connection`.

        Raises:
            Unreachable: no channel could be opened, or it broke before the answer began.
        """
        transport, opened = self._client.get_transport(), False
        try:
            if transport is None:
                raise EOFError
            channel = transport.open_session(timeout=self._host.ssh.connect_timeout_s)
            opened = True
            with channel:
                channel.settimeout(self._host.ssh.connect_timeout_s)
                channel.exec_command(request.command)
                channel.sendall(request.stdin)
                channel.shutdown_write()
                return _Reader(transport, channel, end).read(time.monotonic() + limit_s)
        except (paramiko.SSHException, EOFError, OSError) as error:
            said = f"the connection broke{'; what was done is not known' if opened else ''}: {_said(error)}"
            answered = opened or isinstance(error, paramiko.ChannelException)  # a "no" is an answer, too
            raise Unreachable(self._host.name, said, answered=answered) from error


class _Reader:
    """Both streams of one channel, drained at once."""

    def __init__(self, transport: paramiko.Transport, channel: paramiko.Channel, end: bytes) -> None:
        self._transport = transport
        self._channel = channel
        self._end = end
        self._stdout = bytearray()
        self._stderr = bytearray()

    def read(self, deadline: float) -> Exchange:
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        stopped = None
        while stopped is None:
            left_s = deadline - time.monotonic()
            if not poll.poll(max(0.0, min(QUIET_S, left_s)) * 1000):
                stopped = Stopped.LATE if left_s <= QUIET_S else self._alive()
            else:
                stopped = self._drain()
        return Exchange(bytes(self._stdout), bytes(self._stderr), stopped)

    def _drain(self) -> Stopped | None:
        closed = self._channel.eof_received or self._channel.closed  # asked first: what came before is read below
        while self._channel.recv_ready():
            self._stdout += self._channel.recv(_READ_BYTES)
        while self._channel.recv_stderr_ready():
            self._stderr += self._channel.recv_stderr(_READ_BYTES)
        if self._end in self._stdout[-2 * _READ_BYTES :] and self._end in self._stderr[-2 * _READ_BYTES :]:
            return Stopped.DONE
        if closed:
            return Stopped.CLOSED if self._transport.is_active() else Stopped.LOST
        return None

    def _alive(self) -> Stopped | None:
        """Ask a quiet host for one more channel: a hung machine whose TCP still answers does not open it."""
        try:
            self._transport.open_session(timeout=QUIET_S).close()
        except paramiko.ChannelException:
            return None  # "no" is an answer, too
        except (paramiko.SSHException, EOFError, OSError):
            return Stopped.LOST
        return None


class NetmikoConnection(Netmiko):  # type: ignore[misc]  # nornir-netmiko has no types
    """The ``netmiko`` plugin. ``extras["target"]`` is the typed `Host`; the other parameters come from it."""

    connection: LinuxHost

    def open(self, *_: Any, extras: dict[str, Any] | None = None, **__: Any) -> None:
        """Connect and authenticate within ``ssh.connect_timeout_s``.

        Raises:
            Unreachable, HostKeyError, AuthenticationFailed
        """
        host: Host = (extras or {})["target"]
        self.connection = LinuxHost(host, connect(host))


def connect(host: Host) -> paramiko.SSHClient:
    """An authenticated client, all of it (TCP, key exchange, authentication) within ``ssh.connect_timeout_s``."""
    known, identity = _known(host), _identity(host)
    client = _Client()
    client.set_missing_host_key_policy(_Verify(host, known))
    deadline = time.monotonic() + host.ssh.connect_timeout_s
    try:
        with shut_at(deadline, connect_tcp(host.hostname, host.port, deadline)) as link:
            client.connect(
                hostname=host.hostname,
                port=host.port,
                username=host.username,
                sock=link,
                transport_factory=_transport_factory(known.keys_of(name_in_file(host.hostname, host.port))),
                timeout=host.ssh.connect_timeout_s,
                banner_timeout=host.ssh.connect_timeout_s,
                auth_timeout=host.ssh.connect_timeout_s,
                channel_timeout=host.ssh.connect_timeout_s,
                **identity,
            )
    except Exception as error:
        greeted = _greeted(client)
        client.close()
        raise _translated(host, error, late=time.monotonic() >= deadline, greeted=greeted) from error
    return client


def _greeted(client: paramiko.SSHClient) -> bool:
    """Whether an SSH server said its version: then somebody lives there, however slow or unwilling."""
    transport = client.get_transport()
    return bool(transport and transport.remote_version)


def shown_key(host: Host) -> HostKey:
    """The host key that a host shows, of a type that we know where it has one; nothing is authenticated.

    Raises:
        Unreachable: it shows none.
    """
    known = _known(host).keys_of(name_in_file(host.hostname, host.port))
    deadline = time.monotonic() + host.ssh.connect_timeout_s
    try:
        with shut_at(deadline, connect_tcp(host.hostname, host.port, deadline)) as link:
            transport = _transport_factory(known)(link)
            try:
                transport.start_client(timeout=host.ssh.connect_timeout_s)
                key = transport.get_remote_server_key()
            finally:
                transport.close()
    except Exception as error:
        raise _translated(host, error, late=time.monotonic() >= deadline) from error
    return HostKey(key.get_name(), key.asbytes())


def _transport_factory(known: tuple[HostKey, ...]) -> Any:
    """Transports that ask for the types of host key that we know first, so that the host shows one we can verify."""

    def create(link: socket.socket, **options: Any) -> paramiko.Transport:
        transport = paramiko.Transport(link, **options)
        security = transport.get_security_options()
        security.key_types = sorted(security.key_types, key=lambda offered: _base_type(offered) not in types)
        return transport

    types = {key.type for key in known}
    return create


def _base_type(algorithm: str) -> str:
    """The key type that an algorithm name stands for: RSA keys sign as rsa-sha2-512 or rsa-sha2-256 (RFC 8332)."""
    return "ssh-rsa" if algorithm.startswith("rsa-sha2-") else algorithm


def _known(host: Host) -> KnownHosts:
    try:
        return read_known_hosts(host.ssh.known_hosts)
    except OSError as error:
        raise RemoteError(host.name, f"the known_hosts file cannot be read: {error}") from error


def _identity(host: Host) -> dict[str, Any]:
    """Which keys to offer: the configured one, else the only default one, else all that paramiko and the agent have."""
    paths = key_files(host)
    if len(paths) == 1:
        try:
            key = _private_key(paths[0])
        except OSError as error:
            raise AuthenticationFailed(host.name, f"the private key cannot be read: {error}") from error
        if key is not None:
            return {"pkey": key, "allow_agent": host.ssh.key_file is None, "look_for_keys": False}
    return {"allow_agent": True, "look_for_keys": host.ssh.key_file is None}


@lru_cache(maxsize=16)
def _private_key(path: Path) -> paramiko.PKey | None:
    """The key, read once per process; None when it has a passphrase (then the agent must hold it)."""
    if has_passphrase(path):
        return None
    try:
        return paramiko.PKey.from_path(path)
    except (paramiko.SSHException, ValueError, TypeError) as error:  # TypeError: cryptography's word for a passphrase
        raise OSError(f"{path} is not a private key that we understand: {error}") from error


def _translated(host: Host, error: Exception, *, late: bool, greeted: bool = False) -> RemoteError:
    """Errors of paramiko and of the system as ours; ``late`` means that our own deadline shut the socket."""
    where = f"{host.hostname} port {host.port}"
    if isinstance(error, RemoteError):
        return error
    if late or isinstance(error, TimeoutError):
        what = "no login" if greeted else "no answer"
        message = f"{what} from {where} within {host.ssh.connect_timeout_s:g} s"
        return Unreachable(host.name, message, answered=greeted)
    if isinstance(error, socket.gaierror):
        return Unreachable(host.name, f"the name {host.hostname} does not resolve: {error.strerror}")
    refused = isinstance(error, paramiko.AuthenticationException) and "saw EOF" not in str(error)
    if refused or _NOTHING_TO_OFFER in str(error):
        return login_refused(host, _said(error))
    return Unreachable(host.name, f"no SSH connection to {where}: {_said(error)}", answered=greeted)


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
