"""Commands on a machine, over OpenSSH's own client: the lab must not depend on the code that it is there to test."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from lab.errors import LabError, MachineTimeout
from lab.machines import MachineSpec
from lab.paths import LabPaths
from lab.seed import USER


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command on a machine ended.

    Output is UTF-8, other bytes are surrogate escapes. ssh's own failure is exit code 255.
    """

    exit_code: int
    stdout: str
    stderr: str


def ssh_arguments(spec: MachineSpec, paths: LabPaths, *, connect_timeout_s: int = 10) -> list[str]:
    """Return argv that logs in to a machine; a command can be added at its end."""
    options = {
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": str(paths.known_hosts),
        "GlobalKnownHostsFile": "none",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": str(connect_timeout_s),
        "LogLevel": "ERROR",
    }
    flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-F", "none", "-i", str(paths.key_file), *flags, "-p", str(spec.ssh_port), f"{USER}@127.0.0.1"]


def as_root(command: str, spec: MachineSpec, paths: LabPaths) -> tuple[str, bytes]:
    """Return the command line that runs `command` under sudo, and its stdin (the password, where it is asked for)."""
    quoted = command.replace("'", "'\\''")
    if spec.sudo_password:
        return f"sudo -S -p '' sh -c '{quoted}'", paths.sudo_password_file.read_bytes() + b"\n"
    return f"sudo -n sh -c '{quoted}'", b""


def run(
    spec: MachineSpec, paths: LabPaths, command: str, *, sudo: bool = False, given: bytes = b"", timeout_s: float = 60.0
) -> Completed:
    """Run a shell command line on a machine; raises MachineTimeout when it takes longer than `timeout_s`.

    `given` is its standard input, and cannot go with `sudo`.
    """
    if sudo:
        command, given = as_root(command, spec, paths)
    argv = [*ssh_arguments(spec, paths), "--", command]
    try:
        done = subprocess.run(argv, input=given, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise MachineTimeout(f"{spec.name}: no end after {timeout_s:.0f} s: {command}") from error
    except FileNotFoundError as error:
        raise LabError("the ssh client is not installed", advice="sudo apt-get install openssh-client") from error
    return Completed(
        done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode(errors="surrogateescape")
    )
