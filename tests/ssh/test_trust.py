"""runbooks/trust.py as a person runs it, against a server of this test."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from dockyard.topology import Transport
from tests.ssh.sshd import Sshd, fingerprint, free_port, make_key

ROOT = Path(__file__).parents[2]
HOSTS = """\
dock-test:
  hostname: 127.0.0.1
  port: {port}
  groups: [home]
  data: {{roles: [k3s-server], wireguard: {{address: 10.20.0.1, lan: 10.77.0.1}}}}
dock-gone:
  hostname: 127.0.0.1
  port: {gone}
  groups: [home]
  data: {{roles: [arbitrator], wireguard: {{address: 10.20.0.2, lan: 10.77.0.2}}}}
"""
DEFAULTS = """\
username: nobody-logs-in
data:
  cluster:
    {{name: test, domain: test.internal, arbitrator: dock-gone, services: {{}}, wireguard: {{network: 10.20.0.0/24}}}}
  ssh: {{transport: {lane}, connect_timeout_s: 5, known_hosts: {known_hosts}, sudo: nopasswd}}
"""


@dataclass(frozen=True, slots=True)
class Trusting:
    """A server that nobody knows yet, and an inventory with it and with a host that is not there."""

    server: Sshd
    inventory: Path

    def __call__(self, *arguments: str, typed: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run trust.py; ``typed`` is what a person types at a terminal, None means that there is none."""
        argv = [sys.executable, str(ROOT / "runbooks/trust.py"), "--inventory", str(self.inventory), *arguments]
        if typed is None:
            return subprocess.run(
                argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False
            )
        ours, theirs = pty.openpty()
        try:
            os.write(ours, typed.encode())
            return subprocess.run(argv, capture_output=True, text=True, stdin=theirs, timeout=60, check=False)
        finally:
            os.close(ours)
            os.close(theirs)

    @property
    def pinned(self) -> str:
        return self.server.known_hosts.read_text() if self.server.known_hosts.exists() else ""


@pytest.fixture
def trusting(server: Sshd, lane: Transport, tmp_path: Path) -> Trusting:
    folder = tmp_path / "inventory"
    folder.mkdir()
    (folder / "hosts.yaml").write_text(HOSTS.format(port=server.port, gone=free_port()))
    (folder / "groups.yaml").write_text("home: {data: {site: home}}\n")
    (folder / "defaults.yaml").write_text(DEFAULTS.format(lane=lane, known_hosts=server.known_hosts))
    server.known_hosts.unlink()
    return Trusting(server, folder)


def test_without_a_terminal_nothing_is_pinned(trusting: Trusting) -> None:
    ran = trusting("dock-test")
    assert ran.returncode == 4, ran.stdout + ran.stderr
    assert fingerprint(trusting.server.host_keys["ed25519"]) in ran.stdout
    assert not trusting.pinned


@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("n\n", 4), ("\n", 4), ("\x04", 4)])
def test_a_person_decides(trusting: Trusting, typed: str, code: int) -> None:
    ran = trusting("dock-test", typed=typed)
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert bool(trusting.pinned) == (code == 0)


def test_what_was_pinned_is_what_ssh_accepts(trusting: Trusting) -> None:
    assert trusting("dock-test", "--yes").returncode == 0
    server = trusting.server
    options = ["-F", "none", "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-i", str(server.identity)]
    known = ["-o", f"UserKnownHostsFile={server.known_hosts}", "-p", f"{server.port}"]
    assert subprocess.run(["ssh", *options, *known, "127.0.0.1", "true"], check=False).returncode == 0
    before = trusting.pinned
    assert trusting("dock-test").returncode == 0
    assert trusting.pinned == before


def test_a_changed_key_needs_the_name_of_the_host(trusting: Trusting) -> None:
    trusting("dock-test", "--yes")
    before = trusting.pinned
    trusting.server.stop()
    make_key(trusting.server.host_keys["ed25519"])
    trusting.server.start()
    for arguments, typed in ((("--yes",), None), ((), "y\n"), ((), "dock-gone\n")):
        ran = trusting("dock-test", *arguments, typed=typed)
        assert ran.returncode == 3, ran.stdout
        assert "CHANGED" in ran.stdout
        assert trusting.pinned == before
    assert trusting("dock-test", typed="dock-test\n").returncode == 0
    assert trusting.pinned != before
    assert trusting("dock-test").returncode == 0


def test_a_host_that_is_not_there_does_not_hide_the_others(trusting: Trusting) -> None:
    ran = trusting("--yes")
    assert ran.returncode == 3
    assert "dock-gone" in ran.stdout
    assert f"[127.0.0.1]:{trusting.server.port}" in trusting.pinned


def test_nobody_is_logged_in_anywhere(trusting: Trusting) -> None:
    trusting("--yes")
    assert "nobody-logs-in" not in trusting.server.log


def test_an_unknown_host_is_wrong_usage(trusting: Trusting) -> None:
    ran = trusting("dock-nosuch")
    assert ran.returncode == 2
    assert "dock-test" in ran.stdout + ran.stderr
