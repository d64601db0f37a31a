"""The NAS of the lab: on dock-edge, an sshd of its own in the mesh that does nothing but SFTP, in a folder of 64 MiB.

It stands in for a Synology with SFTP switched on: a user without a shell, locked into a folder, with authorized_keys.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lab.driver import Machine

HOST = "dock-edge"
ADDRESS = "10.20.0.5"
PORT = 2222
USER = "nas"
PATH = "/backups"
ROOT = "/srv/nas"
UNIT = "dockyard-lab-nas.service"
SIZE_MIB = 64
QUIET = f"{(datetime.now(UTC) + timedelta(hours=12)):%H:%M}"
"""When the timer makes a backup, in the machines' time zone: far from any test that counts snapshots."""

_FOLDER = "/etc/dockyard-lab/nas"
_SSHD = f"""\
Port {PORT}
ListenAddress {ADDRESS}
HostKey {_FOLDER}/host_key
PidFile none
UsePAM no
AllowUsers {USER}
AuthorizedKeysFile {_FOLDER}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PerSourcePenalties no
Subsystem sftp internal-sftp
ForceCommand internal-sftp
ChrootDirectory {ROOT}
AllowTcpForwarding no
X11Forwarding no
"""
_UNIT = f"""\
[Unit]
Description=The NAS of the lab
[Service]
ExecStart=/usr/sbin/sshd -D -e -f {_FOLDER}/sshd_config
RuntimeDirectory=sshd
RuntimeDirectoryPreserve=yes
"""
_SET_UP = f"""\
set -eu
id -u {USER} >/dev/null 2>&1 || useradd --no-create-home --home-dir / --shell /usr/sbin/nologin --password '*' {USER}
install -d -m 0755 {_FOLDER} {ROOT} {ROOT}{PATH}
mountpoint -q {ROOT}{PATH} || mount -t tmpfs -o size={SIZE_MIB}m,mode=0700,uid={USER},gid={USER} tmpfs {ROOT}{PATH}
[ -e {_FOLDER}/host_key ] || ssh-keygen -q -t ed25519 -N '' -f {_FOLDER}/host_key
touch {_FOLDER}/authorized_keys
cat >{_FOLDER}/sshd_config <<'END'
{_SSHD}END
cat >/etc/systemd/system/{UNIT} <<'END'
{_UNIT}END
systemctl daemon-reload
systemctl start {UNIT}
"""


@dataclass(frozen=True, slots=True)
class Nas:
    """The NAS on ``machine`` (`HOST`), in a lab with a finished phase 1."""

    machine: Machine

    def start(self) -> None:
        """Set it up, or switch it on again; what it holds stays."""
        self._do(_SET_UP)
        self.machine.wait_until_succeeds(f"bash -c '</dev/tcp/{ADDRESS}/{PORT}'")

    def stop(self) -> None:
        """Switch it off, with all connections."""
        self._do(f"systemctl stop {UNIT}")

    @property
    def host_key(self) -> str:
        """Its public host key: type and key."""
        return " ".join(self.machine.succeed(f"cat {_FOLDER}/host_key.pub").split()[:2])

    def let_in(self, public_keys: Iterable[str]) -> None:
        """Add lines to its user's authorized_keys."""
        lines = "".join(f"{line}\n" for line in public_keys)
        self._do(f"printf %s {shlex.quote(lines)} >>{_FOLDER}/authorized_keys")

    def fill(self) -> None:
        """Leave no room on it at all."""
        self._do(
            f"dd if=/dev/zero of={ROOT}{PATH}/filler bs=64k status=none 2>/dev/null || test -s {ROOT}{PATH}/filler"
        )

    def make_room(self) -> None:
        """Undo `fill`."""
        self._do(f"rm -f {ROOT}{PATH}/filler")

    @property
    def inventory(self) -> str:
        """What cluster.backup has to say to use it, as YAML, indented for the lab's defaults.yaml."""
        return (
            "    backup:\n"
            f"      sftp: {{host: {ADDRESS}, port: {PORT}, user: {USER}, path: {PATH}/dockyard-lab, "
            f'host_key: "{self.host_key}"}}\n'
            f'      time: "{QUIET}"\n'
        )

    def _do(self, script: str) -> None:
        self.machine.succeed(script, sudo=True)
