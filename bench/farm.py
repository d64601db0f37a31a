"""Many SSH servers on one machine: real sshd, real keys, an inventory for each tool. Nothing leaves the machine.

sshd(8) listens on at most 16 addresses, so N hosts are N addresses on as few servers as that allows. The login shell's
start-up file is not what is measured: SHLVL keeps bash from reading ~/.bashrc when sshd starts it.
"""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ADDRESSES_A_SERVER = 16
PORT = 22600

COMMANDS = 9
"""As in a sweep of health.py: eight that print what such tools print, one that fails with a message."""


@dataclass(frozen=True, slots=True)
class Farm:
    """``hosts`` maps names to addresses; all listen on `PORT` and take the key ``identity``."""

    folder: Path
    hosts: dict[str, str]

    @property
    def identity(self) -> Path:
        return self.folder / "identity"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def commands(self) -> list[list[str]]:
        """The nine commands, as argv."""
        cats = [["cat", str(self.folder / f"output{number}")] for number in range(COMMANDS - 1)]
        return [*cats, ["sh", "-c", "echo not running >&2; exit 3"]]


def plant(folder: Path, addresses: Sequence[str]) -> Farm:
    """Write keys, outputs and inventories into ``folder``."""
    farm = Farm(folder, {f"host{number}": address for number, address in enumerate(addresses, 1)})
    for name in ("identity", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    kind, blob, *_ = (folder / "host_key.pub").read_text().split()
    farm.known_hosts.write_text("".join(f"[{address}]:{PORT} {kind} {blob}\n" for address in addresses))
    for number in range(COMMANDS - 1):
        line = f"probe {number}: state UP mtu 1420 qdisc noqueue group default\n"
        (folder / f"output{number}").write_text(line * (number * 15 + 1))  # 60 bytes to 6 kB
    _write_inventories(farm)
    return farm


@contextmanager
def served(farm: Farm) -> Iterator[None]:
    """Run the servers, and end them."""
    addresses = list(farm.hosts.values())
    groups = [addresses[at : at + ADDRESSES_A_SERVER] for at in range(0, len(addresses), ADDRESSES_A_SERVER)]
    servers = [_start(farm, number, group) for number, group in enumerate(groups)]
    try:
        for address in addresses:
            _wait_for(address)
        ended = [server for server in servers if server.poll() is not None]
        if ended:
            raise RuntimeError(f"sshd ended: {(farm.folder / 'sshd.log').read_text()}")
        yield
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait()


def _start(farm: Farm, number: int, addresses: Sequence[str]) -> subprocess.Popen[bytes]:
    config = farm.folder / f"sshd_config{number}"
    lines = [f"ListenAddress {address}" for address in addresses]
    lines += [f"Port {PORT}", f"HostKey {farm.folder / 'host_key'}", f"AuthorizedKeysFile {farm.identity}.pub"]
    lines += ["StrictModes no", "UsePAM no", "PasswordAuthentication no", "PermitRootLogin yes", "PidFile none"]
    lines += ["MaxStartups 1000:30:2000", "MaxSessions 100", "LogLevel ERROR", "SetEnv SHLVL=2", "PrintMotd no"]
    lines += ["PerSourceMaxStartups none", "Subsystem sftp internal-sftp"]
    config.write_text("\n".join(lines) + "\n")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's place for privilege separation (sshd(8))
    return subprocess.Popen(
        [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", config], stderr=subprocess.DEVNULL
    )


def _wait_for(address: str, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((address, PORT), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _write_inventories(farm: Farm) -> None:
    user = getpass.getuser()
    hosts = "".join(
        f"{name}:\n  hostname: {address}\n  port: {PORT}\n  groups: [here]\n  data:\n    roles: [{_role(number)}]\n"
        f"    wireguard: {{address: 10.20.{number // 250}.{number % 250 + 1}, lan: {address}}}\n"
        for number, (name, address) in enumerate(farm.hosts.items())
    )
    inventory = farm.folder / "inventory"
    inventory.mkdir()
    (inventory / "hosts.yaml").write_text(hosts)
    (inventory / "groups.yaml").write_text("here:\n  data:\n    site: here\n")
    (inventory / "defaults.yaml").write_text(
        f"username: {user}\ndata:\n"
        "  cluster:\n    name: bench\n    domain: bench.internal\n    arbitrator: host2\n    services: {}\n"
        "    wireguard: {network: 10.20.0.0/16}\n"
        f"  ssh: {{transport: netmiko, key_file: {farm.identity}, known_hosts: {farm.known_hosts}, sudo: root}}\n"
    )
    _write_ansible(farm, user)
    _write_pyinfra(farm, user)


def _role(number: int) -> str:
    return {0: "k3s-server", 1: "arbitrator"}.get(number, "ollama")


def _write_ansible(farm: Farm, user: str) -> None:
    ssh = f"-o UserKnownHostsFile={farm.known_hosts}"
    lines = [f"{name} ansible_host={address}" for name, address in farm.hosts.items()]
    lines += [
        "[all:vars]",
        f"ansible_port={PORT}",
        f"ansible_user={user}",
        "ansible_python_interpreter=/usr/bin/python3",
    ]
    lines += [f"ansible_ssh_private_key_file={farm.identity}", f"ansible_ssh_common_args='{ssh}'"]
    (farm.folder / "ansible.ini").write_text("\n".join(lines) + "\n")
    tasks = "".join(
        f"    - command: {{argv: {argv!r}}}\n      changed_when: false\n      failed_when: false\n"
        for argv in farm.commands
    )
    (farm.folder / "playbook.yaml").write_text(f"- hosts: all\n  gather_facts: false\n  tasks:\n{tasks}")


def _write_pyinfra(farm: Farm, user: str) -> None:
    data = {
        "ssh_port": PORT,
        "ssh_user": user,
        "ssh_key": str(farm.identity),
        "ssh_known_hosts_file": str(farm.known_hosts),
    }
    hosts = [(name, {**data, "ssh_hostname": address}) for name, address in farm.hosts.items()]
    (farm.folder / "pyinfra_hosts.py").write_text(f"hosts = {hosts!r}\n")
    lines = [f"server.shell(commands=[{' '.join(argv)!r}])" for argv in farm.commands[:-1]]
    lines.append("server.shell(commands=['(echo not running >&2; exit 3) || true'])")
    (farm.folder / "pyinfra_deploy.py").write_text("from pyinfra.operations import server\n" + "\n".join(lines) + "\n")
