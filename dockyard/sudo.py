"""Where the password for sudo comes from: a file, the environment, or the terminal. It is kept in memory only."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from dockyard.errors import SudoRefused
from dockyard.secret import Secret
from dockyard.topology import Host, Sudo

VARIABLE = "DOCKYARD_SUDO_PASSWORD"

_asking = threading.Lock()
_typed: dict[str, Secret] = {}
_refused: set[str] = set()


def ask_before(hosts: Iterable[Host]) -> None:
    """Ask for the password now, when one of ``hosts`` will need it, and not in the middle of a sweep.

    Raises:
        SudoRefused: one is needed and there is nobody to ask.
    """
    for host in hosts:
        if host.ssh.sudo is Sudo.PASSWORD:
            password_for(host)


def password_for(host: Host) -> Secret:
    """``ssh.sudo_password_file``, else the environment, else what was typed at the terminal (asked once per process).

    Raises:
        SudoRefused: there is none, its file is open to others, or this host has already said no to it.
    """
    if host.name in _refused:
        raise refused(host, "it was wrong before, and is not tried again in this run")
    if host.ssh.sudo_password_file is not None:
        return _from_file(host, host.ssh.sudo_password_file)
    if VARIABLE in os.environ:
        return Secret(os.environ[VARIABLE])
    return _from_terminal(host)


def remember_refusal(host: Host) -> None:
    """Never send a wrong password twice: some hosts lock the account after a few (pam_faillock(8))."""
    _refused.add(host.name)


def refused(host: Host, why: str) -> SudoRefused:
    """The error for a host that does not take the password."""
    if host.ssh.sudo_password_file:
        advice = f"It came from {host.ssh.sudo_password_file}."
    else:
        advice = f"{VARIABLE}, or what was typed, serves all hosts. Where {host.name} has a password of its own: "
        advice += "ssh.sudo_password_file at this host in hosts.yaml."
    return SudoRefused(host.name, f"sudo refuses the password: {why}", advice=advice)


def _from_file(host: Host, path: Path) -> Secret:
    try:
        if path.stat().st_mode & 0o077:
            raise SudoRefused(host.name, f"{path} can be read by others; nothing was sent", advice=f"chmod 600 {path}")
        return Secret(path.read_text(encoding="utf-8").rstrip("\r\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise SudoRefused(host.name, f"the file with the sudo password cannot be read: {error}") from error


def _from_terminal(host: Host) -> Secret:
    with _asking:
        if "" not in _typed:
            if not sys.stdin.isatty():
                raise SudoRefused(
                    host.name,
                    "sudo needs a password and there is no terminal to ask for it",
                    advice=f"Set {VARIABLE}, or ssh.sudo_password_file in the inventory, or give "
                    f"{host.username} the right without one (sudoers(5), NOPASSWD) and set ssh.sudo: nopasswd.",
                )
            import getpass

            _typed[""] = Secret(getpass.getpass(f"Password of {host.username} for sudo on the hosts: "))
        return _typed[""]
