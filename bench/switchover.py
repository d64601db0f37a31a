"""Time a planned switchover on the lab against a shell script that types the same commands over ssh.

The script is what an exact person would have in a drawer: it looks at both sides, types what `runbooks/failover.py`
sends (the commands are taken from the same plans), looks again before it goes on, waits for the mount and reads the
token. One connection a host (OpenSSH's ControlMaster), no thinking. Whole processes are timed, from start to end; the
two take turns, each goes both ways in each round. The lab must stand at a finished phase 2.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dockyard.caller import this_run  # noqa: E402
from dockyard.change import Change  # noqa: E402
from dockyard.cluster import load  # noqa: E402
from lab import Lab  # noqa: E402
from lab.machines import spec_of  # noqa: E402
from lab.paths import LabPaths  # noqa: E402
from lab.ssh import ssh_arguments  # noqa: E402
from tasks.drbd import other_of, places  # noqa: E402
from tasks.drbd.switch import DEMOTE, wait_for_mount, write_token  # noqa: E402
from tasks.drbd.writer import Record, read_record, write_record  # noqa: E402

GOAL = 1.3
"""Dockyard's time over that of the shell script, at most."""


def ssh(host: str, folder: Path) -> str:
    """How the script reaches a machine: over the one connection that it keeps."""
    paths = LabPaths.of_user()
    argv = ssh_arguments(spec_of(host), paths)
    shared = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath={folder}/%p"]
    return shlex.join([*argv[:-1], *shared, argv[-1]])


def typed(host: str, command: str, folder: Path) -> str:
    return f"{ssh(host, folder)} {shlex.quote('sudo -n sh -c ' + shlex.quote(command))}"


def command_of(change: Change) -> str:
    (command,) = change.commands()
    return shlex.join(command.argv)


def script(to: str, record: Record, folder: Path) -> str:
    """The shell script for a switch to ``to``, when ``record`` is the present one."""
    _, topology = load("lab")
    replication = topology.cluster.drbd
    assert replication
    old, judge = other_of(topology, to), topology.cluster.arbitrator
    new = Record(writer=to, generation=record.generation + 1, since=this_run())
    name, token = replication.resource, f"{replication.mount}/{places.TOKEN}"
    in_sync = f'drbdadm status {name}; [ "$(drbdadm dstate {name})" = UpToDate/UpToDate ]'
    handed_over = f'{in_sync}; [ "$(drbdadm role {name})" = Secondary/Secondary ]'
    lines = [
        (judge, f"cat {places.WRITER}"),
        *((host, in_sync) for host in (old, to)),
        (old, command_of(write_token(replication, new.generation))),
        (old, command_of(DEMOTE)),
        *((host, handed_over) for host in (to, old)),
        *((host, command_of(write_record(new))) for host in (judge, old, to)),
        (to, f"systemctl start {places.STORAGE}"),
        (to, command_of(wait_for_mount(replication))),
        (to, f'drbdadm role {name}; mountpoint {replication.mount}; [ "$(cat {token})" = {new.generation} ]'),
    ]
    opened = [f'{ssh(host, folder)} true & all="$all $!"' for host in (judge, old, to)]
    closed = [f"{ssh(host, folder)} -O exit 2>/dev/null" for host in (judge, old, to)]
    steps = [typed(host, command, folder) for host, command in lines]
    return "\n".join(["set -eu; all=", *opened, 'for one in $all; do wait "$one"; done', *steps, *closed, ""])


def by_shell(to: str, record: Record) -> float:
    with tempfile.TemporaryDirectory(prefix="dockyard-bench-") as folder:
        path = Path(folder) / "switch.sh"
        path.write_text(script(to, record, Path(folder)))
        return timed(["sh", str(path)])


def by_dockyard(to: str) -> float:
    return timed([sys.executable, str(ROOT / "runbooks" / "failover.py"), "--inventory", "lab", "--to", to, "--yes"])


def timed(argv: list[str]) -> float:
    """Seconds of one whole process; exits when it failed."""
    started = time.monotonic()
    ran = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    taken = time.monotonic() - started
    if ran.returncode:
        sys.exit(f"{argv[:2]} failed:\n{ran.stdout}{ran.stderr}")
    return taken


def measured(lab: Lab, rounds: int) -> dict[str, list[float]]:
    """Seconds by tool: in each round each goes to the other side and back, in changing order."""
    found: dict[str, list[float]] = {"shell": [], "dockyard": []}
    for number in range(2 * rounds):
        for tool in ("dockyard", "shell") if number % 2 == 0 else ("shell", "dockyard"):
            record = read_record(lab["dock-load"].succeed(f"cat {places.WRITER}"))
            to = "dock-prod" if record.writer == "dock-mirror" else "dock-mirror"
            found[tool].append(by_shell(to, record) if tool == "shell" else by_dockyard(to))
            print(f"  {tool:9} to {to:11} {found[tool][-1]:6.2f} s", flush=True)
    return found


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3, help="how often each goes there and back")
    arguments = options.parse_args()
    with Lab() as lab:
        found = measured(lab, arguments.rounds)
    for tool, times in found.items():
        shown = f"median {statistics.median(times):.2f} s, {min(times):.2f} to {max(times):.2f}"
        print(f"{tool:9} {shown}, {len(times)} switches")
    ratio = statistics.median(found["dockyard"]) / statistics.median(found["shell"])
    print(f"dockyard / shell: {ratio:.2f}, goal at most {GOAL}: {'reached' if ratio <= GOAL else 'MISSED'}")
    return 0 if ratio <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
