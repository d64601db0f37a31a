"""What makes the five machines differ: host name, addresses, ssh keys, sudo. Each gets it as a tar at first boot."""

from __future__ import annotations

import io
import secrets
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.machines import MACHINES, MachineSpec
from lab.paths import LabPaths

USER = "dockyard"
USER_ID = 1000
NAT_RULES = "etc/dockyard-lab/nat.nft"


@dataclass(frozen=True, slots=True)
class SeedFile:
    """A file in the seed; `link_to` makes it a symbolic link instead."""

    content: str
    mode: int = 0o644
    owner: int = 0
    link_to: str = ""


def ensure_identity(paths: LabPaths) -> None:
    """Make the login key, the host keys, `known_hosts` and the sudo password where they are missing."""
    _ensure_key(paths.key_file, f"{USER}@lab")
    for spec in MACHINES:
        folder = paths.identity / spec.name
        folder.mkdir(mode=0o700, exist_ok=True)
        _ensure_key(folder / "ssh_host_ed25519_key", f"root@{spec.name}")
        _ensure_secret(folder / "machine-id", secrets.token_hex(16))
    _ensure_secret(paths.sudo_password_file, secrets.token_urlsafe(12))
    keys = {spec.name: (paths.identity / spec.name / "ssh_host_ed25519_key.pub").read_text() for spec in MACHINES}
    paths.known_hosts.write_text(known_hosts(keys))


def known_hosts(public_keys: Mapping[str, str]) -> str:
    """`known_hosts` for the forwarded ports; `public_keys`: machine name -> content of its `.pub` file."""
    ports = {spec.name: spec.ssh_port for spec in MACHINES}
    return "".join(f"[127.0.0.1]:{ports[name]} {' '.join(key.split()[:2])}\n" for name, key in public_keys.items())


def seed_of(spec: MachineSpec, paths: LabPaths) -> bytes:
    """Return the tar file for one machine; the same keys give the same bytes."""
    identity = paths.identity / spec.name
    files = _system_files(spec, (identity / "machine-id").read_text())
    files |= {
        "etc/ssh/ssh_host_ed25519_key": SeedFile((identity / "ssh_host_ed25519_key").read_text(), 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": SeedFile((identity / "ssh_host_ed25519_key.pub").read_text()),
        f"home/{USER}/.ssh/authorized_keys": SeedFile(paths.key_file.with_suffix(".pub").read_text(), 0o600, USER_ID),
    }
    if spec.sudo_password:
        password = paths.sudo_password_file.read_text()
        files["var/lib/dockyard-lab/password"] = SeedFile(f"{USER}:{password}\n", 0o600)
    return pack(files)


def nat_rules(spec: MachineSpec) -> str:
    """Nftables rules of a machine behind NAT: nothing new comes in on eth1 but from its own site; answers do."""
    neighbours = [str(other.cluster_address.ip) for other in MACHINES if other.site == spec.site and other != spec]
    return (
        "table inet dockyard_lab_nat {\n"
        "    chain input {\n"
        "        type filter hook input priority -10; policy accept;\n"
        f'        iifname "eth1" ip saddr != {{ {", ".join(neighbours)} }} ct state new counter drop\n'
        "    }\n"
        "}\n"
    )


def pack(files: Mapping[str, SeedFile]) -> bytes:
    """Tar `files` (path without leading slash -> file), reproducibly."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        folder = tarfile.TarInfo(f"home/{USER}/.ssh")
        folder.type, folder.mode, folder.uid, folder.gid = tarfile.DIRTYPE, 0o700, USER_ID, USER_ID
        tar.addfile(folder)
        for path, file in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.mode, entry.uid, entry.gid = file.mode, file.owner, file.owner
            content = file.content.encode()
            if file.link_to:
                entry.type, entry.linkname = tarfile.SYMTYPE, file.link_to
            else:
                entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _system_files(spec: MachineSpec, machine_id: str) -> dict[str, SeedFile]:
    files = {
        "etc/hostname": SeedFile(f"{spec.name}\n"),
        "etc/machine-id": SeedFile(f"{machine_id}\n", 0o444),
        "etc/hosts": SeedFile(_HOSTS.format(name=spec.name)),
        "etc/network/interfaces": SeedFile(_INTERFACES.format(cluster=spec.cluster_address)),
        f"etc/sudoers.d/{USER}": SeedFile(
            f"{USER} ALL=(ALL:ALL) {'' if spec.sudo_password else 'NOPASSWD: '}ALL\n", 0o440
        ),
    }
    if spec.behind_nat:
        unit = "etc/systemd/system/dockyard-lab-nat.service"
        files[NAT_RULES] = SeedFile(nat_rules(spec))
        files[unit] = SeedFile(_NAT_UNIT)
        files["etc/systemd/system/multi-user.target.wants/dockyard-lab-nat.service"] = SeedFile("", link_to=f"/{unit}")
    return files


def _ensure_key(path: Path, comment: str) -> None:
    if path.exists():
        return
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    try:
        result = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise LabError("ssh-keygen is not installed", advice="sudo apt-get install openssh-client") from error
    if result.returncode != 0:
        raise LabError(f"ssh-keygen could not make {path}: {result.stderr.strip()}")


def _ensure_secret(path: Path, value: str) -> None:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(value)


_HOSTS = """\
127.0.0.1\tlocalhost
127.0.1.1\t{name}

# The following lines are desirable for IPv6 capable hosts
::1     localhost ip6-localhost ip6-loopback
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
"""

_INTERFACES = """\
auto lo
iface lo inet loopback

# Management: ssh from the host of the lab
auto eth0
iface eth0 inet static
    address 10.0.2.15/24

# Cluster segment
auto eth1
iface eth1 inet static
    address {cluster}
"""

_NAT_UNIT = f"""\
[Unit]
Description=This lab machine stands behind NAT
DefaultDependencies=no
Before=network-pre.target shutdown.target
Wants=network-pre.target
After=systemd-modules-load.service
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f /{NAT_RULES}

[Install]
WantedBy=multi-user.target
"""
