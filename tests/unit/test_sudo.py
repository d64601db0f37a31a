"""What is said when sudo does not take the password that serves all hosts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dockyard.sudo import refused
from dockyard.topology import Sudo
from tests.unit.conftest import topology_of_three

HOST = topology_of_three().host("dock-prod")


def test_a_host_with_another_password_gets_a_file_of_its_own() -> None:
    assert "ssh.sudo_password_file" in refused(HOST, "Sorry, try again.").advice


def test_a_wrong_file_is_named() -> None:
    ssh = replace(HOST.ssh, sudo=Sudo.PASSWORD, sudo_password_file=Path("/p"))
    assert refused(replace(HOST, ssh=ssh), "Sorry, try again.").advice == "It came from /p."
