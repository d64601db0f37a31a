"""A change is data: what would be done on one host, how it looks as a diff, and the commands that do it.

Plans are made of these; `apply` sends the changes of one host in order, in one exec, and stops at the first failure.
"""

from __future__ import annotations

import difflib
import hashlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from nornir.core.task import Result, Task

from dockyard.errors import CommandFailed, StepFailed
from dockyard.files import FileState
from dockyard.remote import Command, Outputs, run
from dockyard.secret import Secret


class Change(Protocol):
    """One step on one host."""

    @property
    def title(self) -> str:
        """What it does, in the imperative: ``write /etc/hosts``."""

    @property
    def provisional(self) -> bool:
        """True when it holds a placeholder for something that an earlier step makes; never applied as it is."""

    @property
    def destroys(self) -> str:
        """What is lost by it, or ``""``."""

    def diff(self) -> str:
        """A unified diff, or the command, for a person to read. Never a secret."""

    def commands(self) -> Sequence[Command]:
        """What is run on the host, in order."""


Plan = Mapping[str, Sequence[Change]]
"""The changes by host name; hosts without changes are absent or have an empty sequence."""


def filled(plan: Plan) -> Plan:
    """The plan without the hosts that have nothing to do."""
    return {host: changes for host, changes in plan.items() if changes}


def joined(*plans: Plan) -> Plan:
    """The plans one after the other, without the hosts that have nothing to do."""
    hosts = dict.fromkeys(host for plan in plans for host in plan)
    return filled({host: [change for plan in plans for change in plan.get(host, ())] for host in hosts})


Probes = Callable[[str], Sequence[Command]]
"""From a host's name to the commands that observe it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteFile:
    """Replace one file atomically: written beside it, checked, given mode and owner, then renamed over it.

    ``validate`` is a command that must succeed before the rename; ``{}`` in it stands for the new file, which has
    the final base name (``wg-quick strip`` and others insist on it) in a directory of its own. What it prints is told
    when it fails: never a secret.
    ``prepare`` is such a command, too: it runs before and may change the file (put a secret of the host in).
    A file that is no longer as it was seen is left alone (exit code 75). The write ends with fsync of file and
    directory. Symbolic links are followed, so that the link stays.
    """

    path: str
    content: str | Secret
    seen: FileState
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    validate: tuple[str, ...] = ()
    prepare: tuple[str, ...] = ()
    provisional: bool = False
    destroys: str = ""

    @property
    def title(self) -> str:
        return f"write {self.path}"

    def needed(self) -> bool:
        wanted = (_revealed(self.content), self.mode, self.owner, self.group)
        seen = (self.seen.content, self.seen.mode, self.seen.owner, self.seen.group)
        return not self.seen.exists or wanted != seen

    def diff(self) -> str:
        if isinstance(self.content, Secret):
            return f"{self.title} (content hidden, mode {self.mode:04o})"
        lines = difflib.unified_diff(
            self.seen.content.splitlines(),
            self.content.splitlines(),
            fromfile=self.path if self.seen.exists else "/dev/null",
            tofile=self.path,
            lineterm="",
        )
        return "\n".join(list(lines) or [f"{self.path}: {self._attributes()}"])

    def _attributes(self) -> str:
        def shown(mode: int, owner: str, group: str) -> str:
            return f"{mode:04o} {owner}:{group}"

        before = shown(self.seen.mode, self.seen.owner, self.seen.group)
        return f"{before} becomes {shown(self.mode, self.owner, self.group)}" if self.seen.exists else "new, empty"

    def commands(self) -> Sequence[Command]:
        data = _revealed(self.content).encode("utf-8", "surrogateescape")
        script = _WRITE.format(
            path=shlex.quote(self.path),
            digest=hashlib.sha256(data).hexdigest(),
            seen=self.seen.digest,
            owner=shlex.quote(f"{self.owner}:{self.group}"),
            mode=f"{self.mode:04o}",
            prepare=_on_new_file(self.prepare),
            validate=_on_new_file(self.validate),
        )
        content: bytes | Secret = self.content if isinstance(self.content, Secret) else data
        return [Command(name=self.title, argv=("sh", "-c", script), stdin=content, timeout_s=60)]


def _on_new_file(argv: Sequence[str]) -> str:
    return " ".join('"$new"' if word == "{}" else shlex.quote(word) for word in argv) or ":"


_WRITE = """\
set -eu; umask 077
path=$(readlink -m -- {path}); folder=$(dirname -- "$path")
[ -d "$folder" ] || install -d -m 0755 -- "$folder"
rm -rf -- "$folder"/.dockyard.??????
temporary=$(mktemp -d -- "$folder/.dockyard.XXXXXX"); trap 'rm -rf -- "$temporary"' EXIT
trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM
new=$temporary/$(basename -- "$path")
cat >"$new"
set -- $(sha256sum <"$new"); [ "$1" = {digest} ] || {{ echo "the content arrived incomplete" >&2; exit 74; }}
{prepare} >/dev/null
chown -- {owner} "$new"; chmod -- {mode} "$new"
said=$({validate}) || {{ code=$?; printf '%s\\n' "$said" >&2; exit "$code"; }}
seen={seen}
if [ -n "$seen" ]; then
  set -- absent; [ ! -e "$path" ] || set -- $(sha256sum <"$path")
  [ "$1" = "$seen" ] || {{ echo "somebody else changed it in the meantime; it was left alone" >&2; exit 75; }}
fi
sync -- "$new"; mv -f -T -- "$new" "$path"; sync -- "$folder\""""


def write_file(change: WriteFile) -> list[Change]:
    """``[change]``, or nothing when the file already is as wanted."""
    return [change] if change.needed() else []


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveFile:
    """Remove one file (never a directory)."""

    path: str
    seen: FileState
    provisional: bool = False
    destroys: str = ""

    @property
    def title(self) -> str:
        return f"remove {self.path}"

    def diff(self) -> str:
        lines = self.seen.content.splitlines()
        if not lines:
            return f"--- {self.path}\n+++ /dev/null"
        return "\n".join(difflib.unified_diff(lines, [], fromfile=self.path, tofile="/dev/null", lineterm=""))

    def commands(self) -> Sequence[Command]:
        return [Command(name=self.title, argv=("rm", "-f", "--", self.path))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Run one command as root. ``title`` says in the imperative what it is for; ``stdin`` never shows in a diff."""

    title: str
    argv: tuple[str, ...]
    stdin: bytes | Secret = b""
    timeout_s: float = 60.0
    accepts: frozenset[int] = field(default_factory=lambda: frozenset({0}))
    destroys: str = ""
    provisional: bool = False

    def diff(self) -> str:
        return f"# {self.title}\n$ {shlex.join(self.argv)}"

    def commands(self) -> Sequence[Command]:
        return [
            Command(name=self.title, argv=self.argv, stdin=self.stdin, timeout_s=self.timeout_s, accepts=self.accepts)
        ]


_INSTALL = """\
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
tries=24
until said=$(apt-get update -q 2>&1 >/dev/null) || [ $tries = 0 ]; do
  case $said in *"Could not get lock"*) tries=$((tries - 1)); sleep 5 ;; *) break ;; esac
done
[ -z "$said" ] || printf '%s\\n' "$said" >&2
apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 \\
  -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -- "$@\""""
"""A fresh machine updates itself. ``DPkg::Lock::Timeout`` waits for dpkg's locks alone: with the lists locked,
`apt-get update` ends at once (apt 2.6.1), so it is tried again for as long. Lists that cannot be read (somebody's
broken source) are not in the way of the packages; what was said of them comes before what the installation says.
Ubuntu's needrestart(1) is kept from restarting services."""


def install(packages: Sequence[str]) -> Run:
    """Install Debian packages with apt-get(8), without asking and without what they only recommend."""
    title = f"install {', '.join(packages)}"
    return Run(title=title, argv=("sh", "-c", _INSTALL, "install", *packages), timeout_s=600 + 2 * 120)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitState:
    """What systemd says of a unit: ``ActiveState``, ``UnitFileState`` and ``SubState`` (systemctl(1))."""

    name: str
    loaded: bool
    active: str
    enabled: str
    sub: str = ""

    @property
    def is_active(self) -> bool:
        return self.active == "active"

    @property
    def is_enabled(self) -> bool:
        return self.enabled in {"enabled", "static", "alias", "indirect", "generated"}

    @classmethod
    def of(cls, outputs: Outputs, name: str) -> UnitState:
        """The state that `unit_probe(name)` recorded."""
        lines = dict(line.split("=", 1) for line in outputs.text(_unit(name)).splitlines() if "=" in line)
        return cls(
            name=name,
            loaded=lines.get("LoadState") == "loaded",
            active=lines.get("ActiveState", "unknown"),
            enabled=lines.get("UnitFileState", ""),
            sub=lines.get("SubState", ""),
        )


def unit_probe(name: str) -> Command:
    """Probe for `UnitState.of`. systemctl(1) show answers 0 for unknown units too (``LoadState=not-found``)."""
    return Command(
        name=_unit(name),
        argv=("systemctl", "show", "--property=LoadState,ActiveState,SubState,UnitFileState", "--", name),
    )


def _unit(name: str) -> str:
    return f"unit:{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Bring a systemd unit into a state; ``None`` leaves that side alone. ``restart`` restarts it in any case."""

    name: str
    seen: UnitState
    enabled: bool | None = None
    active: bool | None = None
    restart: bool = False
    reload_manager: bool = False
    provisional: bool = False
    destroys: str = ""

    @property
    def title(self) -> str:
        return "; ".join(" ".join(argv) for argv in self._argvs())

    def needed(self) -> bool:
        return bool(self._argvs())

    def diff(self) -> str:
        return "\n".join(f"$ {shlex.join(argv)}" for argv in self._argvs())

    def commands(self) -> Sequence[Command]:
        return [Command(name=" ".join(argv), argv=argv, timeout_s=120) for argv in self._argvs()]

    def _argvs(self) -> list[tuple[str, ...]]:
        argvs: list[tuple[str, ...]] = []
        if self.enabled is not None and self.enabled != self.seen.is_enabled:
            argvs.append(("systemctl", "enable" if self.enabled else "disable", "--", self.name))
        if self.restart:
            argvs.append(("systemctl", "restart", "--", self.name))
        elif self.active and not self.seen.is_active:
            argvs.append(("systemctl", "start", "--", self.name))
        elif self.active is False and self.seen.active not in {"inactive", "failed"}:  # also one that is only starting
            argvs.append(("systemctl", "stop", "--", self.name))
        if self.reload_manager and argvs:
            argvs.insert(0, ("systemctl", "daemon-reload"))
        return argvs


def unit(change: Unit) -> list[Change]:
    """``[change]``, or nothing when the unit already is as wanted."""
    return [change] if change.needed() else []


def apply(task: Task, plan: Plan, probes_of: Probes = lambda _: ()) -> Result:
    """Carry out the changes of one host in one exec, then answer the probes of ``probes_of(host)`` in the same exec.

    Returns:
        Result with ``changed``, ``diff`` and ``result`` (the `Outputs`, answers of the probes among them) set.

    Raises:
        StepFailed: a change failed; the message names it, with command, exit code and standard error.
        RemoteError: the host could not be talked to.
    """
    changes = plan[task.host.name]
    if any(change.provisional for change in changes):
        raise StepFailed(f"{task.host.name}: the plan still holds placeholders; nothing was sent")
    commands = _numbered(changes)
    outputs = run(task, [*(command for command, _ in commands), *probes_of(task.host.name)], exclusive=True)
    for command, change in commands:
        _succeeded(task.host.name, outputs, command, change)
    return Result(host=task.host, result=outputs, changed=True, diff="\n".join(c.diff() for c in changes))


def _numbered(changes: Sequence[Change]) -> list[tuple[Command, Change]]:
    pairs = [(command, change) for change in changes for command in change.commands()]
    return [
        (replace(command, name=f"change {number} of {len(pairs)}: {command.name}", vital=True), change)
        for number, (command, change) in enumerate(pairs, 1)
    ]


def _succeeded(host: str, outputs: Outputs, command: Command, change: Change) -> None:
    try:
        outputs.text(command.name)
    except CommandFailed as error:
        said = error.stderr.strip() or "(nothing on standard error)"
        raise StepFailed(
            f"{host}: {command.name} failed with exit code {error.returned}: {said}",
            advice=f"What came before it on {host} is done, nothing after it was tried. "
            f"Mend the cause and run again. It was: {change.diff().splitlines()[0]}",
        ) from error


def _revealed(content: str | Secret) -> str:
    return content.reveal() if isinstance(content, Secret) else content
