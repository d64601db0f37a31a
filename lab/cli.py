"""Command line of the lab.

Exit codes: 0 done, 1 the lab could not do it, 2 wrong usage, 130 interrupted; `ssh` gives the command's own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab import ssh
from lab.driver import Lab
from lab.errors import LabError
from lab.machines import MACHINES, SITES, spec_of

_HOSTS = [spec.name for spec in MACHINES]
_RATE_UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9, "bit": 1.0}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    options = _parser().parse_args(argv)
    verb: Callable[[Lab, argparse.Namespace], int] = options.verb
    try:
        return verb(Lab(say=_progress), options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def rate(text: str) -> float:
    """`20mbit`, `500kbit`, `1gbit` or bits a second -> bits a second; 0 means no limit."""
    for unit, factor in _RATE_UNITS.items():
        if text.lower().endswith(unit):
            return float(text[: -len(unit)]) * factor
    return float(text)


def share(text: str) -> float:
    """`0.5%` or `0.005` -> 0.005."""
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def checkpoint(text: str) -> str:
    """A name that QEMU's monitor takes as one word."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", text):
        raise argparse.ArgumentTypeError("a name is lower-case letters, digits and dashes, and begins with a letter")
    return text


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _up(lab: Lab, options: argparse.Namespace) -> int:
    began = time.monotonic()
    lab.up(options.modules, options.k3s)
    print(f"five machines ready after {time.monotonic() - began:.1f} s; try: python -m lab status")
    return 0


def _down(lab: Lab, _: argparse.Namespace) -> int:
    lab.down()
    return 0


def _status(lab: Lab, options: argparse.Namespace) -> int:
    status = lab.status()
    if options.json:
        print(json.dumps(status, indent=2))
        return 0
    print(f"{'machine':<12} {'site':<5} {'state':<8} {'ssh':<16} {'cluster':<11} process")
    for name, machine in status["machines"].items():
        port = f"127.0.0.1:{machine['ssh_port']}"
        columns = f"{name:<12} {machine['site']:<5} {machine['state']:<8} {port:<16} {machine['cluster_address']:<11}"
        print(columns, machine["process_id"] or "-")
    print("modules: " + (status["modules"] or "Debian's"))
    print(f"k3s: {lab.k3s}")
    print("saved: " + (", ".join(status["checkpoints"]) or "nothing"))
    print("cuts: " + (", ".join(" x ".join(pair) for pair in status["cuts"]) or "none"))
    _print_wan(status["wan"])
    return 0


def _ssh(lab: Lab, options: argparse.Namespace) -> int:
    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    argv = ssh.ssh_arguments(spec_of(options.host), lab.paths)
    if words:
        argv += ["--", words[0] if len(words) == 1 else shlex.join(words)]
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606 (an argv list, and the terminal is handed over)


def _crash(lab: Lab, options: argparse.Namespace) -> int:
    lab[options.host].crash()
    return 0


def _start(lab: Lab, options: argparse.Namespace) -> int:
    lab[options.host].start()
    return 0


def _reset(lab: Lab, options: argparse.Namespace) -> int:
    lab.reset(*options.hosts)
    return 0


def _save(lab: Lab, options: argparse.Namespace) -> int:
    lab.save(options.name)
    return 0


def _back(lab: Lab, options: argparse.Namespace) -> int:
    lab.back(options.name)
    return 0


def _clocks(lab: Lab, options: argparse.Namespace) -> int:
    for name, offset in lab.clocks(correct=options.set).items():
        print(f"{name:<12} {offset:+.3f} s")
    return 0


def _cut(lab: Lab, options: argparse.Namespace) -> int:
    lab.cut(options.first, options.second)
    return 0


def _heal(lab: Lab, options: argparse.Namespace) -> int:
    if options.first and not options.second:
        raise LabError("heal takes two machines or sites, or nothing for all cuts")
    lab.heal(options.first, options.second)
    return 0


def _wan(lab: Lab, options: argparse.Namespace) -> int:
    given = {
        "rtt_s": options.rtt_ms and options.rtt_ms / 1000,
        "jitter_s": options.jitter_ms and options.jitter_ms / 1000,
        "loss": options.loss,
        "rate_bit_s": options.rate,
        "queue_s": options.queue_ms and options.queue_ms / 1000,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if (changes or options.default) and not options.second:
        raise LabError("a change of the WAN needs two sites", advice="python -m lab wan home dc --rtt-ms 80")
    if options.default:
        _print_wan(lab.wan_default(options.first, options.second))
    else:
        _print_wan(lab.wan(options.first or "", options.second or "", **changes))
    return 0


def _logs(lab: Lab, options: argparse.Namespace) -> int:
    machine = lab[options.host]
    sys.stdout.write(machine.journal() if options.journal else machine.console())
    return 0


def _evidence(lab: Lab, options: argparse.Namespace) -> int:
    lab.keep_evidence(options.folder)
    print(f"consoles and journals are in {options.folder}")
    return 0


def _print_wan(table: list[dict[str, Any]]) -> None:
    print(f"{'sites':<14} {'rtt':>8} {'jitter':>8} {'loss':>7} {'rate':>12} {'queue':>7}")
    for row in table:
        limit = f"{row['rate_bit_s'] / 1e6:g} Mbit/s" if row["rate_bit_s"] else "-"
        times = [f"{row[name] * 1000:g} ms" for name in ("rtt_s", "jitter_s", "queue_s")]
        print(
            f"{' - '.join(row['sites']):<14} {times[0]:>8} {times[1]:>8} {row['loss']:>7.2%} {limit:>12} {times[2]:>7}"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lab", description=__doc__ and "Five machines under QEMU that stand in for the real hosts."
    )
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    def add(name: str, verb: Verb, text: str) -> argparse.ArgumentParser:
        command = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(verb=verb)
        return command

    _add_lab(add)
    _add_machines(add)
    for name, verb, text in _CHECKPOINTS:
        add(name, verb, text).add_argument("name", metavar="NAME", type=checkpoint)
    for name, verb, text in _CABLES:
        _add_places(add(name, verb, text), required=name == "cut")
    _add_wan(add("wan", _wan, "show or change what happens to traffic between two sites"))
    _add_looks(add)
    return parser


Verb = Callable[[Lab, argparse.Namespace], int]
Add = Callable[[str, Verb, str], argparse.ArgumentParser]


def _add_lab(add: Add) -> None:
    text = "start the lab: build image and snapshot if there are none, restore the machines, leave them running"
    command = add("up", _up, text)
    command.add_argument(
        "--k3s",
        type=Path,
        metavar="FILE",
        help="a real binary of K3s for amd64; without it phase 1 installs a stand-in, which says so wherever it shows",
    )
    command.add_argument(
        "--modules",
        type=Path,
        metavar="DIR",
        help="kernel modules (*.ko, *.ko.xz) that take the place of Debian's, such as DRBD 9, and packages (*.deb)",
    )
    add("down", _down, "stop all machines; what they changed is thrown away")
    command = add("status", _status, "show machines, cuts and the WAN")
    command.add_argument("--json", action="store_true", help="as JSON")


def _add_machines(add: Add) -> None:
    command = add("ssh", _ssh, "log in to a machine, or run a command there")
    command.add_argument("host", choices=_HOSTS)
    words = "one word is a shell command line, several are its words"
    command.add_argument("command", nargs=argparse.REMAINDER, help=words)
    add("crash", _crash, "cut the power of a machine").add_argument("host", choices=_HOSTS)
    add("start", _start, "boot a machine that is off from its disks").add_argument("host", choices=_HOSTS)
    command = add("reset", _reset, "put machines back to the pristine snapshot; without names all, and the network too")
    command.add_argument("hosts", nargs="*", metavar="HOST")


def _add_looks(add: Add) -> None:
    command = add("clocks", _clocks, "show how far the machines' clocks are from the host's")
    command.add_argument("--set", action="store_true", help="set them first (done at every start and reset anyway)")
    command = add("logs", _logs, "show the serial console of a machine")
    command.add_argument("host", choices=_HOSTS)
    command.add_argument("--journal", action="store_true", help="its journal instead, over ssh")
    command = add("evidence", _evidence, "copy consoles and journals of all machines to a folder")
    command.add_argument("folder", type=Path)


_CHECKPOINTS = (
    ("save", _save, "keep all machines as they are now, under a name, until the lab is stopped or reset"),
    ("back", _back, "put all machines back to what was saved under a name, and heal the network"),
)
_CABLES = (
    ("cut", _cut, "drop all cluster traffic between two machines or sites, both ways; ssh to the machines stays"),
    ("heal", _heal, "undo the cut between two machines or sites, or all cuts"),
)


def _add_places(command: argparse.ArgumentParser, *, required: bool) -> None:
    many = None if required else "?"
    places = f"a machine ({', '.join(_HOSTS)}) or a site ({', '.join(SITES)})"
    command.add_argument("first", metavar="A", nargs=many, help=places)
    command.add_argument("second", metavar="B", nargs=many, help="likewise")


def _add_wan(command: argparse.ArgumentParser) -> None:
    command.add_argument("first", nargs="?", choices=SITES, metavar="A", help=f"a site ({', '.join(SITES)})")
    command.add_argument("second", nargs="?", choices=SITES, metavar="B", help="another site")
    command.add_argument("--rtt-ms", type=float, help="added round-trip time, half of it each way")
    command.add_argument("--jitter-ms", type=float, help="each packet up to this much later")
    command.add_argument("--loss", type=share, help="share of packets dropped in each direction: 0.5%% or 0.005")
    command.add_argument("--rate", type=rate, help="bottleneck in each direction: 20mbit, 500kbit; 0 for none")
    command.add_argument("--queue-ms", type=float, help="longest wait at the bottleneck before packets are dropped")
    command.add_argument("--default", action="store_true", help="back to the default of this pair")
