"""Measure a sweep of N hosts, nine commands each, against plain parallel ssh, Ansible and pyinfra.

Whole processes are timed, Python's start and imports included; the tools take turns, so that a busy moment of the
machine hits all of them, and the median counts. See bench/README.md for how to read the numbers.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.farm import COMMANDS, PORT, Farm, plant, served  # noqa: E402
from bench.wire import between  # noqa: E402

BASE = "ssh"
GOALS = {(5, 0): 1.6, (5, 30): 1.1, (50, 0): 0.8, (200, 0): 0.8}
"""Dockyard's time over that of plain ssh, at most, by hosts and round trip in ms."""

AT_LEAST = {"ansible": 20.0, "pyinfra": 3.0}
"""How many times slower than Dockyard these have to be, at 5 hosts."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool, and how it is called for a farm. ``rounds`` limits how often it takes part (the slow ones)."""

    name: str
    argv: Callable[[Farm], list[str]]
    rounds: int = 99
    most_hosts: int = 999


def ssh_argv(farm: Farm) -> list[str]:
    """One ssh a host, all at once, nine commands in one exec, with the quickest key exchange that OpenSSH has."""
    options = [
        "KexAlgorithms=curve25519-sha256",
        "HostKeyAlgorithms=ssh-ed25519",
        f"UserKnownHostsFile={farm.known_hosts}",
    ]
    options += ["BatchMode=yes", "IdentitiesOnly=yes", "LogLevel=ERROR"]
    ssh = ["ssh", "-F", "none", "-i", str(farm.identity), "-p", str(PORT)]
    ssh += [word for option in options for word in ("-o", option)]
    commands = "; ".join(shlex.join(argv) for argv in farm.commands)
    lines = [
        f'{shlex.join([*ssh, address, commands])} >/dev/null 2>&1 & all="$all $!"' for address in farm.hosts.values()
    ]
    lines.append('for one in $all; do wait "$one"; [ $? = 3 ] || exit 1; done')  # 3: what the last command returns
    script = farm.folder / "parallel_ssh.sh"
    script.write_text("\n".join([*lines, ""]))
    return ["sh", str(script)]


def dockyard_argv(farm: Farm) -> list[str]:
    return [sys.executable, str(ROOT / "bench" / "dockyard_sweep.py"), str(farm.folder)]


def ansible_argv(farm: Farm) -> list[str]:
    return [
        "ansible-playbook",
        "-i",
        f"{farm.folder}/ansible.ini",
        "-f",
        f"{len(farm.hosts)}",
        f"{farm.folder}/playbook.yaml",
    ]


def pyinfra_argv(farm: Farm) -> list[str]:
    argv = ["pyinfra", "-y", "--parallel", f"{len(farm.hosts)}"]
    return [*argv, f"{farm.folder}/pyinfra_hosts.py", f"{farm.folder}/pyinfra_deploy.py"]


PEERS = (
    Peer(BASE, ssh_argv),
    Peer("dockyard", dockyard_argv),
    Peer("pyinfra", pyinfra_argv, rounds=3),
    Peer("ansible", ansible_argv, rounds=2, most_hosts=5),
)


@contextmanager
def loopback(count: int) -> Iterator[Farm]:
    """N servers on addresses of loopback."""
    with tempfile.TemporaryDirectory(prefix="dockyard-bench-") as folder:
        farm = plant(Path(folder), [f"127.77.{number // 250}.{number % 250 + 1}" for number in range(count)])
        with served(farm):
            yield farm


@contextmanager
def behind_wire(count: int, rtt_s: float) -> Iterator[Farm]:
    """N servers behind a wire that delays every packet. This process can never leave its namespace again."""
    with tempfile.TemporaryDirectory(prefix="dockyard-bench-") as folder, ExitStack() as stack:
        addresses = [f"10.98.{number // 250}.{number % 250 + 1}" for number in range(count)]
        farm = plant(Path(folder), addresses)
        serving = served(farm)
        # The servers start on the far side, where nobody can be asked whether they answer before the wire is there.
        pid = between(addresses, "10.98.0.0/16", rtt_s, on_far_side=lambda: stack.enter_context(serving))
        try:
            yield farm
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def timed(argv: list[str], farm: Farm) -> float | None:
    """Seconds of one whole process; None when it failed."""
    environment = {**os.environ, "ANSIBLE_LOCALHOST_WARNING": "0", "ANSIBLE_HOME": str(farm.folder / "ansible")}
    started = time.monotonic()
    ran = subprocess.run(argv, capture_output=True, cwd=farm.folder, env=environment, check=False)
    taken = time.monotonic() - started
    if ran.returncode:
        print(f"    {Path(argv[0]).name} failed: {(ran.stderr or ran.stdout).decode(errors='replace').strip()[-300:]}")
        return None
    return taken


def measured(farm: Farm, peers: list[Peer], rounds: int) -> dict[str, list[float]]:
    """Seconds by peer; the first round warms caches up and is thrown away."""
    calls = {peer.name: peer.argv(farm) for peer in peers}
    found: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for number in range(rounds + 1):
        for peer in peers:
            taken = timed(calls[peer.name], farm) if number <= peer.rounds else None
            if taken is not None and number:
                found[peer.name].append(taken)
    return {name: times for name, times in found.items() if times}


def shown(found: dict[str, list[float]], count: int, rtt_ms: int) -> None:
    """Print medians and ratios, and how they stand to the goals."""
    medians = {name: statistics.median(times) for name, times in found.items()}
    print(f"\n{count} hosts, {rtt_ms} ms round trip, {COMMANDS} commands a host")
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        times = found[name]
        ratio = f"{median / medians[BASE]:6.2f} x {BASE}" if BASE in medians else ""
        print(f"  {name:10} {median:7.2f} s  ({min(times):.2f} to {max(times):.2f}, {len(times)} runs) {ratio}")
    goal, ours = GOALS.get((count, rtt_ms)), medians.get("dockyard")
    if ours and goal and BASE in medians:
        print(f"  goal: at most {goal} x {BASE}: {_verdict(ours / medians[BASE] <= goal)}")
    for name, factor in AT_LEAST.items():
        if ours and count == 5 and not rtt_ms and name in medians:
            slower = medians[name] / ours
            print(f"  goal: {name} at least {factor:g} x dockyard: {slower:.1f}, {_verdict(slower >= factor)}")


def _verdict(reached: bool) -> str:
    return "reached" if reached else "MISSED"


def run_case(count: int, rtt_ms: int, rounds: int, only: list[str]) -> None:
    """Measure one number of hosts at one round-trip time."""
    peers = [peer for peer in PEERS if count <= peer.most_hosts and (not only or peer.name in only)]
    with behind_wire(count, rtt_ms / 1000) if rtt_ms else loopback(count) as farm:
        peers = [peer for peer in peers if shutil.which(peer.argv(farm)[0])]
        print(subprocess.run(dockyard_argv(farm), capture_output=True, text=True, check=False).stdout.strip())
        shown(measured(farm, peers, rounds), count, rtt_ms)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--hosts", type=int, nargs="+", default=[5, 50, 200], help="numbers of hosts")
    options.add_argument("--rtt", type=int, nargs="+", default=[0, 30], help="round trips in ms (not 0: needs root)")
    options.add_argument("--rounds", type=int, default=5, help="how often each tool runs")
    options.add_argument("--only", nargs="+", default=[], choices=[peer.name for peer in PEERS])
    arguments = options.parse_args()
    missing = [name for name in ("ansible-playbook", "pyinfra") if not shutil.which(name)]
    if missing:
        print(f"not on PATH, left out: {', '.join(missing)} (`make bench` installs them)")
    for count in arguments.hosts:
        for rtt_ms in arguments.rtt if count == 5 else [0]:
            pid = os.fork()  # a case behind the wire cannot come back from its namespace
            if not pid:
                run_case(count, rtt_ms, arguments.rounds, arguments.only)
                sys.stdout.flush()
                os._exit(0)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
