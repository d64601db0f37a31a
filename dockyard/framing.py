"""Many commands in one POSIX shell script, and their answers apart again, byte for byte. Pure: nothing here talks.

The script is one compound command: a shell that receives only its beginning (the link broke) runs nothing at all.
Each command runs in a subshell of its own with an own time limit (timeout(1)) and closed standard input. After it,
a frame that starts with a random word goes to both streams, so whatever a command prints stays its own:
no final newline, NUL, a line that looks like a prompt. What a login shell prints before the first frame is ignored.
`systemctl enable` is kept from telling the SysV scripts, too (SYSTEMCTL_SKIP_SYSV, systemd's docs/ENVIRONMENT.md):
every unit of ours is a native one, and update-rc.d reads all units again (6.5 of 11 s measured on an emulated machine).
"""

from __future__ import annotations

import base64
import os
import re
import shlex
from dataclasses import dataclass, field
from enum import StrEnum

from dockyard.secret import Secret
from dockyard.topology import Sudo

LOCK = "/run/dockyard.lock"
LOCK_WAIT_S = 30
KILL_AFTER_S = 2
TIMED_OUT = 124
"""What timeout(1) returns for a command that it stopped."""

EXEC_LIMIT = 16_000
"""Bytes of base64 that still go into the exec string: half of what an SSH packet has to carry (RFC 4253, 6.1)."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a batch.

    ``name`` is the key of its answer; ``timeout_s`` its own limit on the host, in seconds; ``accepts`` the exit codes
    that are no failure; ``stdin`` what it reads (empty: end of file at once). When a ``vital`` command fails, nothing
    that follows it in its batch is run.
    """

    name: str
    argv: tuple[str, ...]
    timeout_s: float = 20.0
    accepts: frozenset[int] = frozenset({0})
    stdin: bytes | Secret = b""
    vital: bool = False


@dataclass(frozen=True, slots=True)
class Completed:
    """One answer. Text is UTF-8 with surrogate escapes: ``stdout.encode("utf-8", "surrogateescape")`` gives the bytes.

    ``timed_out`` tells our time limit from a command that returns 124 by itself. ``duration_s`` is measured on the
    host, in steps of 10 ms. The outputs are left out of ``repr``, as they may be secret.
    """

    name: str
    argv: tuple[str, ...]
    exit_code: int
    stdout: str = field(repr=False)
    stderr: str = field(repr=False)
    duration_s: float
    timed_out: bool = False


class Ending(StrEnum):
    """How a batch ended."""

    COMPLETE = "complete"
    LOCKED = "locked"
    """Nothing was run: another batch holds the lock of this host."""
    BROKEN = "broken"
    """No last frame came: the shell went away, or the link."""
    SILENT = "silent"
    """Not even the first frame came: our shell never started."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a batch answered: the completed commands in order, and the first one that has no frame (or None).

    ``said`` is what standard error holds after the last frame: the reason of a shell that ended early.
    """

    ending: Ending
    completed: tuple[Completed, ...]
    missing: Command | None = None
    said: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Commands with the random word that frames their answers.

    ``exclusive`` holds the lock of the host to its end; ``settled`` waits until nobody holds it, and leaves it at once:
    a look that outlives its run must not keep the next one from changing anything.
    """

    commands: tuple[Command, ...]
    exclusive: bool = False
    settled: bool = False
    nonce: str = field(default_factory=lambda: os.urandom(12).hex())

    def __post_init__(self) -> None:
        names = [command.name for command in self.commands]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two commands of one batch have the same name: {', '.join(twice)}")
        if any("\0" in word for command in self.commands for word in command.argv):
            raise ValueError("an argument holds a NUL byte")

    @property
    def end(self) -> bytes:
        """The last bytes of a finished batch, on each of the two streams."""
        return f"\n{self.nonce} end\n".encode()

    @property
    def limit_s(self) -> float:
        """The longest that this batch can take on the host, in seconds."""
        commands = sum(command.timeout_s + KILL_AFTER_S for command in self.commands)
        return commands + (LOCK_WAIT_S if self._lock else 0)

    @property
    def _lock(self) -> str:
        if not (self.exclusive or self.settled):
            return ""
        how, then = ("-x", "") if self.exclusive else ("-s", "exec 9>&-\n")
        return _LOCK.format(path=LOCK, how=how, wait_s=LOCK_WAIT_S) + then

    @property
    def reads_stdin(self) -> bool:
        return any(command.stdin for command in self.commands)

    def script(self) -> bytes:
        """The POSIX sh script: `_HEAD`, one block a command, `_TAIL`."""
        steps = [step for number, command in enumerate(self.commands) for step in self._step(number, command)]
        head = _HEAD.format(nonce=self.nonce, lock=self._lock)
        tail = _TAIL_RELAYED if self.exclusive else _TAIL
        return "".join([head, *steps, tail]).encode("utf-8", "surrogateescape")

    def _step(self, number: int, command: Command) -> list[str]:
        words = ("timeout", "-k", f"{KILL_AFTER_S}", f"{command.timeout_s:g}", *command.argv)
        accepts = "|".join(str(code) for code in sorted(command.accepts)) or "none"
        stop = f"case $rc in {accepts}) ;; *) finish; return ;; esac\n" if command.vital else ""
        return ["now; began=$now\n", _fed(shlex.join(words), command.stdin), f"frame {number} $?\n", stop]

    def read(self, stdout: bytes, stderr: bytes) -> Answer:
        """Take the two streams apart. Bytes after the last frame (a daemon that still talks) are left out."""
        out, err = self._frames(stdout), self._frames(stderr)
        if out is None or err is None:
            return Answer(Ending.SILENT, (), next(iter(self.commands), None))
        if any(frame.label == "locked" for frame in out):
            return Answer(Ending.LOCKED, ())
        pairs = zip(_numbered(out), _numbered(err), strict=False)  # one may lack its last frame
        completed = tuple(self._completed(mine, theirs) for mine, theirs in pairs)
        if any(frame.label == "end" for frame in out):
            return Answer(Ending.COMPLETE, completed)
        said = stderr.rpartition(b"\n%s " % self.nonce.encode())[2].partition(b"\n")[2].decode("utf-8", "replace")
        return Answer(Ending.BROKEN, completed, next(iter(self.commands[len(completed) :]), None), said.strip())

    def _frames(self, stream: bytes) -> list[_Frame] | None:
        """The frames of one stream, each with what came before it; None before the first of all."""
        parts = re.split(rb"\n%s ([^\n]*)\n" % self.nonce.encode(), stream)
        if "begin" not in (label.decode() for label in parts[1::2]):
            return None
        return [
            _Frame(label.decode().split(" ")[0], tuple(label.decode().split(" ")[1:]), content)
            for content, label in zip(parts[0::2], parts[1::2], strict=False)
        ]

    def _completed(self, out: _Frame, err: _Frame) -> Completed:
        command = self.commands[int(out.label)]
        code, began, ended = out.fields
        duration_s = max(0.0, float(ended) - float(began))
        timed_out = int(code) in {TIMED_OUT, 128 + 9} and duration_s >= command.timeout_s - 0.02
        return Completed(
            name=command.name,
            argv=command.argv,
            exit_code=TIMED_OUT if timed_out else int(code),
            stdout=out.content.decode("utf-8", "surrogateescape"),
            stderr=err.content.decode("utf-8", "surrogateescape"),
            duration_s=duration_s,
            timed_out=timed_out,
        )


@dataclass(frozen=True, slots=True)
class _Frame:
    label: str
    fields: tuple[str, ...]
    content: bytes


def _numbered(frames: list[_Frame]) -> list[_Frame]:
    return [frame for frame in frames if frame.label.isdigit()]


_HEAD = r"""batch() {{
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export SYSTEMCTL_SKIP_SYSV=1
umask 022
cd /
now() {{ {{ read -r now rest </proc/uptime; }} 2>/dev/null || now=$(date +%s); }}
frame() {{
  rc=$2; now
  printf '\n{nonce} %s %s %s %s\n' "$1" "$rc" "$began" "$now"
  printf '\n{nonce} %s\n' "$1" >&2
}}
mark() {{ printf '\n{nonce} %s\n' "$1"; printf '\n{nonce} %s\n' "$1" >&2; }}
finish() {{ mark end; }}
mark begin
{lock}"""

_LOCK = """exec 9>>{path}
flock {how} -w {wait_s} 9 || {{ mark locked; finish; return; }}
"""

_TAIL = """finish
}
batch
exit 0
"""

_TAIL_RELAYED = """finish
}
relay() { cat; cat >/dev/null; }
{ { batch 2>&3 3>&- 4>&- | relay >&4 3>&- 4>&-; } 3>&1 | relay >&2 4>&-; } 4>&1
exit 0
"""
"""A batch that changes things must not be torn apart by a controller that dies: the first `cat` of a relay may end of
SIGPIPE, the second one swallows the rest, and the commands run to their end (a half-run apt-get helps nobody)."""


def _fed(line: str, stdin: bytes | Secret) -> str:
    """One command line with its input; descriptor 9 (the lock) is not left to a daemon that it may start."""
    data = stdin.reveal().encode("utf-8", "surrogateescape") if isinstance(stdin, Secret) else stdin
    if not data:
        return f"( {line} ) </dev/null 9>&-\n"
    encoded = base64.encodebytes(data).decode()
    return f"( base64 -d 2>/dev/null | {line} ) 9>&- <<'END'\n{encoded}END\n"


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """What goes over the wire: the exec string, which the user's login shell reads (any shell), and standard input."""

    command: str
    stdin: bytes


def request(batch: Batch, sudo: Sudo, *, password: Secret | None = None) -> Request:
    """Wrap a batch for one exec.

    A small script travels in the exec string (about 1.6 round trips less than over standard input), base64 encoded, so
    that no login shell (sh, fish, csh ...) finds anything to interpret and no process list shows the frames.
    With input, a password or above `EXEC_LIMIT` it travels over standard input.
    """
    script = batch.script()
    if sudo is Sudo.PASSWORD:
        return _with_password(batch, script, password or Secret(""))
    shell = "/bin/sh" if sudo is Sudo.ROOT else "sudo -n /bin/sh"
    if batch.reads_stdin or len(script) * 4 // 3 > EXEC_LIMIT:
        return Request(f"exec {shell}", script)
    return Request(f"exec /bin/sh -c 'echo {base64.b64encode(script).decode()} | base64 -d | {shell}'", b"")


def _with_password(batch: Batch, script: bytes, password: Secret) -> Request:
    """The password is tried once, alone on sudo's standard input, before anything else is sent to sudo.

    sudo(8) takes every further line of its input for another guess, so the second sudo runs only after the first one
    said yes; it reads the password again only where credentials are not cached, hence the word that ends the skipping.
    """
    outer = _ASK.format(nonce=batch.nonce)
    command = f"exec /bin/sh -c 'eval \"$(echo {base64.b64encode(outer.encode()).decode()} | base64 -d)\"'"
    return Request(command, password.reveal().encode() + b"\n" + script)


_ASK = r"""export LC_ALL=C
IFS= read -r password
printf '%s\n' "$password" | sudo -S -p '' -v || {{ printf '\n{nonce} refused\n'; exit 1; }}
{{ printf '%s\n{nonce}\n' "$password"; cat; }} | sudo -S -p '' /bin/sh -c '
while IFS= read -r line; do [ "$line" = {nonce} ] && exec /bin/sh; done'
"""


def was_refused(batch: Batch, stdout: bytes) -> bool:
    """True when the first sudo said no to the password."""
    return f"\n{batch.nonce} refused\n".encode() in stdout
