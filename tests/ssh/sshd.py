"""Real OpenSSH servers on loopback, run by the test as the current user, and tasks that talk to them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from nornir.core import Nornir
from nornir.core.configuration import Config
from nornir.core.inventory import Defaults, Groups, Hosts, Inventory
from nornir.core.inventory import Host as NornirHost
from nornir.core.task import Result, Task
from nornir.plugins.runners import ThreadedRunner

from dockyard.remote import Command, Outputs, run
from dockyard.topology import Cluster, Host, Mesh, Peer, Ssh, Sudo, Topology, Transport

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


def wait_until(true: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    """Wait for a state, with a deadline."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    """A new key pair; an existing one is replaced."""
    for old in (path, path.with_suffix(".pub")):
        old.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", path], check=True)
    return path


def fingerprint(key: Path) -> str:
    listed = subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, text=True, check=True)
    return listed.stdout.split()[1]


class Sshd:
    """One server. ``log`` is what it said at level VERBOSE."""

    def __init__(self, folder: Path, *, host_keys: Sequence[str] = ("ed25519",), options: Sequence[str] = ()) -> None:
        self.folder = folder
        self.port = free_port()
        self.identity = make_key(folder / "identity")
        self.host_keys = {kind: make_key(folder / f"host_{kind}", kind) for kind in host_keys}
        self.known_hosts = folder / "known_hosts"
        self._options = tuple(options)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        self.pin()

    def pin(self, *kinds: str) -> None:
        """Write the public host keys (all, or these types) into ``known_hosts``."""
        lines = []
        for kind in kinds or self.host_keys:
            name, blob, *_ = self.host_keys[kind].with_suffix(".pub").read_text().split()
            lines.append(f"[127.0.0.1]:{self.port} {name} {blob}\n")
        self.known_hosts.write_text("".join(lines))

    def start(self) -> None:
        config = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            *(f"HostKey {key}" for key in self.host_keys.values()),
            f"AuthorizedKeysFile {self.identity.with_suffix('.pub')}",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "PermitRootLogin yes",
            f"PidFile {self.folder / 'pid'}",
            "LogLevel VERBOSE",
            *self._options,
        ]
        (self.folder / "sshd_config").write_text("\n".join(config) + "\n")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its place for privilege separation (sshd(8))
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", self.folder / "sshd_config"], stderr=log)
        wait_until(self._answers, f"sshd on port {self.port}: {self.log}")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def sessions(self) -> list[int]:
        """The processes that serve a connection."""
        assert self._process is not None
        listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        parents = {int(pid): int(ppid) for pid, ppid in (line.split() for line in listed.splitlines())}
        return [pid for pid, ppid in parents.items() if ppid == self._process.pid]

    def cut_sessions(self) -> None:
        """Kill what serves the connections; the server itself goes on."""
        for pid in self.sessions():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def cut_sessions_when(self, true: Callable[[], bool]) -> None:
        wait_until(true, "the moment to cut")
        self.cut_sessions()

    def stop(self) -> None:
        if self._process is not None:
            self.cut_sessions()
            self._process.kill()
            self._process.wait()
            self._process = None


@dataclass(frozen=True, slots=True)
class Asking:
    """One host of a Nornir of its own, and commands for it."""

    nornir: Nornir
    host: Host

    def __call__(self, *commands: Command, **options: bool) -> Outputs:
        """`dockyard.remote.run`; what it raises is raised here."""
        self.nornir.data.reset_failed_hosts()
        answer = self.nornir.run(task=_run, commands=commands, options=options, on_failed=True)[self.host.name]
        if answer.exception is not None:
            raise answer.exception
        outputs: Outputs = answer[0].result
        return outputs


def _run(task: Task, commands: Sequence[Command], options: dict[str, bool]) -> Result:
    return Result(host=task.host, result=run(task, commands, **options))


def nornir_of(*hosts: Host) -> Nornir:
    """A Nornir over these hosts, with a topology, as `dockyard.cluster` would make it."""
    cluster = Cluster("test", "test.internal", hosts[0].name, {}, Mesh(IPv4Network("10.99.0.0/24")))
    defaults = Defaults(data={"topology": Topology(cluster, {host.name: host for host in hosts})})
    known = {host.name: NornirHost(name=host.name, hostname=host.hostname, defaults=defaults) for host in hosts}
    inventory = Inventory(hosts=Hosts(known), groups=Groups(), defaults=defaults)
    return Nornir(inventory=inventory, runner=ThreadedRunner(num_workers=len(hosts)), config=Config())


def host_at(server: Sshd, lane: Transport, **ssh: object) -> Host:
    """The typed host for a server; ``ssh`` replaces fields of its `Ssh`."""
    login = Ssh(lane, 8.0, server.identity, server.known_hosts, Sudo.ROOT)
    peer = Peer(IPv4Address("10.99.0.1"))
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    login = replace(login, **ssh)  # type: ignore[arg-type]  # each test names fitting fields
    return Host("dock-test", "127.0.0.1", user, "home", frozenset(), peer, login, server.port)


Opening = Callable[..., Asking]
