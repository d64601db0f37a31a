"""One run at a time changes the cluster: a lease on the arbitrator, with owner and expiry.

The lease is a small file on the arbitrator, changed only under a lock of its own (a batch that changes the host holds
another one, for longer than a renewal can wait) and judged by that host's uptime, so two laptops with wrong clocks
still agree, and a clock that is set ends nothing. It is renewed while the run lives. A run that was killed leaves a
lease that ends by itself after `TTL_S` (counted anew when the arbitrator boots); the same machine may take it over at
once, because it can see that the old process is gone.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nornir.core import Nornir
from nornir.core.task import Result, Task

from dockyard.caller import whoever
from dockyard.clock import elapsed_s
from dockyard.errors import CommandFailed, DockyardError, LeaseHeld, StepFailed, Unreachable
from dockyard.remote import Command, run

PATH = "/var/lib/dockyard/lease"
TTL_S = 120
RENEW_EVERY_S = 30
_HELD = 75

_HEAD = """\
set -eu; path={path}
exec 8>>/run/dockyard.lease.lock; flock -w 10 8 || {{ echo "somebody else is asking for the lease" >&2; exit 1; }}
said() {{ sed -n "s/^$1=//p" "$path"; }}
read -r now rest </proc/uptime; now=${{now%.*}}
boot=$(cat /proc/sys/kernel/random/boot_id)
holder=; expires=0
if [ -e "$path" ]; then
  holder=$(said run); since=$(said since); expires=$(said expires)
  case ${{since:-x}}${{expires:-x}} in *[!0-9]*) since=0 expires=0 ;; esac
  [ "$(said boot)" = "$boot" ] && [ "$expires" -le $((now + {ttl})) ] || {{ since=0; expires={ttl}; }}
fi
"""
_WRITE = """\
printf '%s\\n' run={run} owner={owner} process={process} purpose={purpose} boot="$boot" since="$since" \\
  expires=$((now + {ttl})) >"$path.new"
sync -- "$path.new"; mv -f -- "$path.new" "$path\""""
_TAKE = (
    _HEAD
    + """\
if [ -n "$holder" ] && [ "$holder" != {replaces} ] && [ "$expires" -gt "$now" ]; then
  cat -- "$path"; printf '%s\\n' '' now="$now" since="$since" expires="$expires"; exit 75
fi
install -d -m 0755 -- "$(dirname -- "$path")"; since=$now
"""
    + _WRITE
)
_RENEW = (
    _HEAD
    + """\
[ "$holder" = {run} ] || {{ echo "somebody else took it"; exit 75; }}
"""
    + _WRITE
)
_RELEASE = _HEAD + """[ "$holder" != {run} ] || rm -f -- "$path\""""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds the lease: ``process`` is ``<machine>/<boot id>/<pid>/<start time>`` of the controller.

    ``machine`` is its machine id and the inode of its pid namespace: a container cannot see who lives outside it.
    """

    run: str
    owner: str
    process: str
    purpose: str
    age_s: int
    expires_in_s: int

    @classmethod
    def of(cls, text: str) -> Holder:
        """The holder, from what the arbitrator printed when it refused."""
        lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        now = int(lines["now"])
        return cls(
            run=lines["run"],
            owner=lines["owner"],
            process=lines["process"],
            purpose=lines["purpose"],
            age_s=now - int(lines["since"]),
            expires_in_s=int(lines["expires"]) - now,
        )

    def is_gone(self, here: str, owner: str) -> bool:
        """True when the holder was started by ``owner`` on this very machine and its process is no more."""
        machine, boot, pid, started = self.process.split("/")
        our_machine, our_boot, _, _ = here.split("/")
        if (machine, self.owner) != (our_machine, owner):
            return False
        return boot != our_boot or not _is_alive(int(pid), started)


_WITHOUT = (
    "Without {host} nothing is changed: bring it back. Is the writer gone, too, and nobody can wait? "
    'Then by hand: "Disaster without {host}" on the page that python runbooks/document.py writes (with DRBD 8.4 only: '
    "with 9 a replica alone has no quorum)"
)


class Lease:
    """The right to change the cluster; a context manager that takes, renews and gives back the lease.

    Raises (on entry):
        LeaseHeld: another run holds it; the message says who, for how long, and when it ends by itself.
        RemoteError: the arbitrator cannot be asked. Then nobody may change anything; the advice says what to do.
    """

    def __init__(self, nornir: Nornir, arbitrator: str, purpose: str) -> None:
        self._nornir = nornir.filter(name=arbitrator)
        self._arbitrator = arbitrator
        self._purpose = purpose
        self._run = uuid.uuid4().hex
        self._granted_at = 0.0
        self._lost = False
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        try:
            holder = self._take()
        except Unreachable as error:
            error.advice = error.advice or _WITHOUT.format(host=self._arbitrator)
            raise
        if holder is not None and holder.is_gone(_this_process(), whoever()):
            holder = self._take(replaces=holder.run)
        if holder is not None:
            raise LeaseHeld(
                f"{holder.owner} is changing the cluster ({holder.purpose}, for {holder.age_s} s)",
                advice=f"Wait for that run to end. If it was killed, its lease on {self._arbitrator} "
                f"ends by itself in {holder.expires_in_s} s.",
            )
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._keeper.join(timeout=RENEW_EVERY_S)
        with contextlib.suppress(DockyardError):  # what cannot be given back ends by itself
            self._ask(self._filled(_RELEASE))

    def hold(self) -> None:
        """Make sure, before a change, that the lease is still ours.

        One that the arbitrator granted or renewed less than `RENEW_EVERY_S` ago cannot have run out; else it is asked.

        Raises:
            StepFailed: another run has it, or had it in between.
            RemoteError: the arbitrator cannot be asked.
        """
        is_young = elapsed_s() - self._granted_at < RENEW_EVERY_S
        if self._lost or not (is_young or self._renew()):
            raise StepFailed(
                f"the lease on {self._arbitrator} was lost to another run",
                advice="Nothing more was changed. Look at what the other run did, then run again.",
            )

    def _keep(self) -> None:
        while not self._stop.wait(RENEW_EVERY_S):
            with contextlib.suppress(DockyardError):  # tried again in time; `hold` asks before every change
                self._renew()

    def _take(self, replaces: str = "-") -> Holder | None:
        asked_at = elapsed_s()
        refused = self._ask(self._filled(_TAKE, replaces=shlex.quote(replaces)))
        if refused:
            return Holder.of(refused)
        self._granted_at = asked_at
        return None

    def _renew(self) -> bool:
        """Whether the lease is still ours; one that was lost is not taken again, as others may have changed things."""
        asked_at = elapsed_s()
        self._lost = bool(self._ask(self._filled(_RENEW))) or self._lost
        if not self._lost:
            self._granted_at = asked_at
        return not self._lost

    def _filled(self, script: str, **more: str) -> str:
        return script.format(
            path=PATH,
            run=self._run,
            owner=shlex.quote(whoever()),
            process=shlex.quote(_this_process()),
            purpose=shlex.quote(self._purpose),
            ttl=TTL_S,
            **more,
        )

    def _ask(self, script: str) -> str:
        answer = self._nornir.run(task=_ask, script=script, on_failed=True)[self._arbitrator]
        if answer.exception is not None:
            raise answer.exception
        return str(answer[0].result)


def _ask(task: Task, script: str) -> Result:
    """Run one script; ``result`` is what it printed when it refused, else empty."""
    command = Command(name="lease", argv=("sh", "-c", script), accepts=frozenset({0, _HELD}))
    completed = run(task, [command])["lease"]
    if completed.exit_code not in command.accepts:
        raise CommandFailed(task.host.name, ("lease",), completed.exit_code, completed.stderr)
    return Result(host=task.host, result=completed.stdout if completed.exit_code == _HELD else "")


def _is_alive(pid: int, started: str) -> bool:
    """Whether the process still is; one that may not be looked at (proc(5), hidepid) counts as alive."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _start_time(pid) in {started, ""}


def _this_process() -> str:
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # a controller without /proc
        namespace = 0
    machine = f"{_first_line('/etc/machine-id') or socket.gethostname()}:{namespace}"
    return f"{machine}/{_first_line('/proc/sys/kernel/random/boot_id')}/{os.getpid()}/{_start_time(os.getpid())}"


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """Field 22 of /proc/PID/stat (proc_pid_stat(5)), so that a reused pid is not taken for the old process."""
    stat = _first_line(f"/proc/{pid}/stat")
    return stat.rpartition(")")[2].split()[19] if stat else ""
