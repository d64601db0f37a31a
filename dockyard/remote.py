"""The only door to hosts: commands in, answers out, one exec a call.

::

    outputs = run(task, [Command("links", ("ip", "-j", "link")), Command("uptime", ("uptime",))])
    outputs.text("links")

A command that fails is an answer like any other; `Outputs.text` raises when somebody wants to use it.
`run` itself raises only `RemoteError`: no connection, no sudo, no frame.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from nornir.core import Nornir
from nornir.core.configuration import Config
from nornir.core.inventory import ConnectionOptions
from nornir.core.inventory import Host as NornirHost
from nornir.core.plugins.connections import ConnectionPlugin, ConnectionPluginRegister
from nornir.core.task import Task

from dockyard.errors import (
    Busy,
    CommandFailed,
    CommandTimeout,
    FramingError,
    RemoteError,
    SudoRefused,
    ToolMissing,
    Unreachable,
)
from dockyard.exchange import Connection, Exchange, Stopped
from dockyard.framing import LOCK, Answer, Batch, Command, Completed, Ending, Request, request, was_refused
from dockyard.host_keys import HostKey
from dockyard.sudo import password_for, refused, remember_refusal
from dockyard.topology import Host, Sudo, Topology, Transport

__all__ = ["Command", "Completed", "Outputs", "close_all", "connect_ahead", "execs", "prepare", "run", "shown_key"]

log = logging.getLogger(__name__)

GRACE_S = 60.0
"""Added to the time limits of a batch before the controller gives up: sudo's check of a password takes seconds on a
busy machine. A host that is gone is noticed long before (`dockyard.connections.QUIET_S`)."""

_NOT_FOUND = 127

execs: Counter[str] = Counter()
"""How many execs each host (by name) has seen from this process."""

stopping = threading.Event()
"""Set when this process was asked to stop: from then on no exclusive batch is sent any more."""

_opening_guard = threading.Lock()
_importing = threading.Lock()


@dataclass(slots=True)
class _Attempts:
    """Who connects to a host holds ``lock``; how the last attempt that failed did, and when (``time.monotonic()``)."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    failure: RemoteError | None = None
    failed_at: float = 0.0


_opening: dict[str, _Attempts] = {}


class Outputs(Mapping[str, Completed]):
    """The answers of one host by command name; ``sent_at`` and ``received_at`` are ``time.time()`` of the controller.

    A command that was not run because an earlier one failed (``vital``) is absent.
    """

    def __init__(
        self,
        host: str,
        completed: Sequence[Completed],
        commands: Sequence[Command] = (),
        *,
        sent_at: float = 0.0,
        received_at: float = 0.0,
    ) -> None:
        self.host = host
        self.sent_at = sent_at
        self.received_at = received_at
        self._completed = {answer.name: answer for answer in completed}
        self._commands = {command.name: command for command in commands}

    def __getitem__(self, name: str) -> Completed:
        return self._completed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._completed)

    def __len__(self) -> int:
        return len(self._completed)

    def __repr__(self) -> str:
        return f"Outputs({self.host!r}, {list(self._completed)})"

    def text(self, name: str) -> str:
        """Standard output of a command that ended as its caller accepts.

        Raises:
            ToolMissing: exit code 127. CommandTimeout: stopped at its time limit. CommandFailed: any other exit code.
            KeyError: it was not run.
        """
        answer = self._completed[name]
        command = self._commands.get(name)
        if not answer.timed_out and answer.exit_code in (command.accepts if command else {0}):
            return answer.stdout
        raise self._failure(answer, command)

    def _failure(self, answer: Completed, command: Command | None) -> CommandFailed:
        arguments = (self.host, answer.argv, answer.exit_code, answer.stderr)
        if answer.timed_out:
            limit = f"It was stopped after {command.timeout_s:g} s." if command else ""
            return CommandTimeout(*arguments, advice=limit)
        if answer.exit_code == _NOT_FOUND:
            return ToolMissing(*arguments, advice=f"Is the package that holds {answer.argv[0]} installed?")
        return CommandFailed(*arguments)


def run(task: Task, commands: Sequence[Command], *, exclusive: bool = False, settled: bool = False) -> Outputs:
    """Run ``commands`` as root on the task's host, in one exec, in order.

    Args:
        task: the task of one host, from Nornir.
        commands: what to run; their names are the keys of the answer.
        exclusive: hold the host's lock (`LOCK`) for the whole batch, and let it run to its end even when this
            process dies; a second one waits up to 30 s.
        settled: wait as long for an exclusive batch that still runs, of a run that died perhaps, before the first one.

    Raises:
        Unreachable, HostKeyError, AuthenticationFailed: no connection, or it was lost.
        SudoRefused: connected, but not root.
        FramingError: the shell on the host ended early; ``missing`` names the command that was running.
        Busy: another batch holds the lock.
    """
    host = _target(task)
    batch = Batch(tuple(commands), exclusive=exclusive, settled=settled)
    wrapped = _request(host, batch)
    connection = _connected(task.host, host, task.nornir.config)
    if exclusive and stopping.is_set():
        raise Unreachable(host.name, "nothing was sent, as this run was interrupted")
    execs[host.name] += 1
    sent_at = time.time()
    exchange = connection.exchange(wrapped, batch.end, batch.limit_s + GRACE_S)
    received_at = time.time()
    log.debug("%s: %d commands, %.3f s, %s", host.name, len(commands), received_at - sent_at, exchange.stopped)
    if exchange.stopped in {Stopped.LOST, Stopped.LATE}:
        _close(task.host, _plugin(host))
    completed = _answers(host, batch, exchange)
    return Outputs(host.name, completed, commands, sent_at=sent_at, received_at=received_at)


def close_all(nornir: Nornir) -> None:
    """Close every connection of every host; what cannot be closed any more is gone anyway."""
    for host in nornir.inventory.hosts.values():
        for name in list(host.connections):
            _close(host, name)


def connect_ahead(nornir: Nornir, hosts: Iterable[str]) -> None:
    """Begin to connect to ``hosts`` in the background, while something else is done.

    The first `run` on each waits for its connection, or gets the error of the attempt that it waited for. One that
    OpenSSH makes with its first batch (``transport: system``) is not made earlier.
    """
    topology: Topology = nornir.inventory.defaults.data["topology"]
    for name in hosts:
        arguments = (nornir.inventory.hosts[name], topology.host(name), nornir.config)
        threading.Thread(target=_connect_quietly, args=arguments, name=f"connect {name}", daemon=True).start()


def _connect_quietly(nornir_host: NornirHost, host: Host, config: Config) -> None:
    with contextlib.suppress(Exception):  # whoever needs the connection meets it, too, and says it
        _connected(nornir_host, host, config)


def prepare(nornir: Nornir) -> None:
    """Let stock nornir-netmiko and nornir-scrapli tasks use Dockyard's connections, before any `run`."""
    topology: Topology = nornir.inventory.defaults.data["topology"]
    for name, host in nornir.inventory.hosts.items():
        _prepare(host, topology.host(name))


def _prepare(nornir_host: NornirHost, host: Host) -> None:
    name = _plugin(host)
    plugin = _load(name)
    if ConnectionPluginRegister.available.get(name) is not plugin:
        ConnectionPluginRegister.available.pop(name, None)  # the stock plugin of that name
        ConnectionPluginRegister.register(name, plugin)
    nornir_host.connection_options[name] = ConnectionOptions(extras={"target": host})


def _load(name: str) -> type[ConnectionPlugin]:
    """The plugin; its libraries (a quarter of a second) are imported when the first host needs them."""
    with _importing:
        if name == "scrapli":
            return cast(type[ConnectionPlugin], importlib.import_module("dockyard.openssh").ScrapliConnection)
        _import_paramiko()
        return cast(type[ConnectionPlugin], importlib.import_module("dockyard.connections").NetmikoConnection)


def _import_paramiko() -> None:
    """Import paramiko without invoke, half of its import time, which it has only for ``Match exec`` in ssh_config."""
    if not {"paramiko", "invoke"} & sys.modules.keys():
        sys.modules["invoke"] = None  # type: ignore[assignment]  # makes `import invoke` an ImportError, which it expects
        try:
            importlib.import_module("paramiko")
        finally:
            del sys.modules["invoke"]


def shown_key(task: Task) -> HostKey:
    """The host key that the task's host shows, the way its connection would see it; nothing is authenticated.

    Raises:
        Unreachable: it shows none.
    """
    host = _target(task)
    module = "openssh" if host.ssh.transport is Transport.SYSTEM else "connections"
    return cast(HostKey, importlib.import_module(f"dockyard.{module}").shown_key(host))


def _target(task: Task) -> Host:
    topology: Topology = task.host.defaults.data["topology"]
    return topology.host(task.host.name)


def _plugin(host: Host) -> str:
    return "scrapli" if host.ssh.transport is Transport.SYSTEM else "netmiko"


def _request(host: Host, batch: Batch) -> Request:
    password = password_for(host) if host.ssh.sudo is Sudo.PASSWORD else None
    return request(batch, host.ssh.sudo, password=password)


def _connected(nornir_host: NornirHost, host: Host, config: Config) -> Connection:
    """The open connection of a host; a dead one is replaced. Threads of one host (lease, sweep) share it.

    One that waited while another tried in vain gets that failure: an unreachable host costs its time limit once.
    """
    asked_at = time.monotonic()
    with _opening_guard:
        opening = _opening.setdefault(host.name, _Attempts())
    with opening.lock:
        if opening.failure and opening.failed_at > asked_at:
            raise opening.failure
        try:
            return _open(nornir_host, host, config)
        except RemoteError as error:
            opening.failure, opening.failed_at = error, time.monotonic()
            raise


def _open(nornir_host: NornirHost, host: Host, config: Config) -> Connection:
    name = _plugin(host)
    plugin = nornir_host.connections.get(name)
    if plugin is not None and not cast(Connection, plugin.connection).is_usable():
        _close(nornir_host, name)
    if name not in nornir_host.connections:
        _prepare(nornir_host, host)
    return cast(Connection, nornir_host.get_connection(name, config))


def _close(host: NornirHost, name: str) -> None:
    try:
        host.close_connection(name)
    except Exception as error:  # noqa: BLE001  # a broken connection may fail in any way when it is closed
        log.debug("%s: closing %s: %r", host.name, name, error)


def _answers(host: Host, batch: Batch, exchange: Exchange) -> Sequence[Completed]:
    answer = batch.read(exchange.stdout, exchange.stderr)
    match answer.ending:
        case Ending.COMPLETE:
            return answer.completed
        case Ending.LOCKED:
            raise Busy(
                host.name,
                "another batch is still running on this host",
                advice=f"Run again when it has ended; `fuser -v {LOCK}` on {host.name} shows it.",
            )
        case Ending.SILENT if exchange.stopped is Stopped.CLOSED:
            raise _no_shell(host, batch, exchange)
    raise _no_end(host, exchange, answer)


def _no_shell(host: Host, batch: Batch, exchange: Exchange) -> RemoteError:
    """Why our shell never started: sudo, or a login shell that does not run commands."""
    said = (exchange.stdout + exchange.stderr).decode("utf-8", "replace").strip() or "(it said nothing)"
    if "must have a tty" in said:
        return SudoRefused(
            host.name,
            f"sudo wants a terminal, and there is none: {said}",
            advice=f"On the host, as root: visudo -f /etc/sudoers.d/dockyard, with the line "
            f"'Defaults:{host.username} !requiretty' (sudoers(5)).",
        )
    if was_refused(batch, exchange.stdout):
        remember_refusal(host)
        return refused(host, exchange.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2])
    if "sudo" in said:
        return SudoRefused(
            host.name,
            f"sudo does not work for {host.username}: {said}",
            advice=f"The inventory says ssh.sudo: {host.ssh.sudo.value}. Try on the host: sudo -n true",
        )
    return FramingError(host.name, f"the login shell of {host.username} did not start ours: {said}", missing="")


def _no_end(host: Host, exchange: Exchange, answer: Answer) -> RemoteError:
    name = answer.missing.name if answer.missing else ""
    during = f"while `{name}` was running" if answer.ending is Ending.BROKEN and name else "before the first command"
    advice = "What was done on the host is not known: look again before you change anything."
    if exchange.stopped is Stopped.LOST:
        return Unreachable(host.name, f"the connection was lost {during}", advice=advice, answered=True)
    if exchange.stopped is Stopped.LATE:
        return Unreachable(host.name, f"no answer in time {during}", advice=advice, answered=True)
    said = answer.said[-400:] or "(nothing on standard error)"
    return FramingError(host.name, f"the shell on the host ended {during}: {said}", missing=name, advice=advice)
