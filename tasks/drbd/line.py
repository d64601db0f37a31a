"""The line between the two replicas, looked at: round trips and disks by `LINE`, its rate by `measure`.

`measure` loads the line. The receiving side listens on its mesh address only, takes connections of the other replica
only, and is a transient unit that systemd ends by itself after `SINK_S` more seconds, whatever became of us.
The receiver counts, after a warm-up in which TCP finds the rate, and sends its count back as the acknowledgement.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nornir.core import Nornir
from nornir.core.task import Result, Task

from dockyard.errors import DockyardError, RemoteError, UsageError
from dockyard.observe import Domain
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs, run
from dockyard.topology import Host, Role, Topology

PINGS = 10
SINK = "dockyard-wan-sink.service"
SINK_S = 30
PORT = 7799
_CONNECT_S = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class LineState:
    """What one replica sees. ``rtt_ms`` is the mean of the answered pings, None when none was answered.

    ``size_bytes`` is the size of its disk; ``written_bytes`` what was written to it since it booted ``up_s`` seconds
    ago. None: the inventory names no disk, or it is not there.
    """

    sent: int
    received: int
    rtt_ms: float | None
    size_bytes: int | None
    written_bytes: int | None
    up_s: float | None

    @property
    def write_mbit(self) -> float | None:
        """The mean rate of writing since boot, in 10^6 bits a second."""
        if self.written_bytes is None or not self.up_s:
            return None
        return self.written_bytes * 8 / 1e6 / self.up_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What a receiver counted after the warm-up."""

    received_bytes: int
    seconds: float

    @property
    def mbit(self) -> float:
        return self.received_bytes * 8 / 1e6 / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The most that one measurement may take; whichever comes first."""

    count_bytes: int = 64 * 1024**2
    seconds: float = 8.0

    def warm_up_s(self, rtt_ms: float) -> float:
        """Eight round trips, in which TCP doubles from 14 KiB to 3.6 MiB in flight; an eighth to a half of all."""
        return min(self.seconds / 2, max(self.seconds / 8, 8 * rtt_ms / 1000))


def replicas(topology: Topology) -> tuple[Host, Host]:
    """The hosts with the roles drbd-primary and drbd-secondary; raises UsageError when one is missing."""
    found = [topology.with_role(role) for role in (Role.DRBD_PRIMARY, Role.DRBD_SECONDARY)]
    if not all(found):
        raise UsageError(
            "the inventory has no two replicas",
            advice="Give one host the role drbd-primary and one drbd-secondary in hosts.yaml.",
        )
    return found[0][0], found[1][0]


_DISK = r"""disk={disk}
[ -b "$disk" ] || exit 0
printf 'size|%s\n' "$(blockdev --getsize64 "$disk")"
name=$(basename "$(readlink -f "$disk")")
read -r _ _ _ _ _ _ sectors _ <"/sys/class/block/$name/stat" || exit 0
read -r up _ </proc/uptime
printf 'written|%s\nup|%s\n' "$((sectors * 512))" "$up"
"""


def probes(topology: Topology, host: Host) -> Sequence[Command]:
    """Ten pings in 2 s to the other replica, and a look at the disk."""
    peer = next(one for one in replicas(topology) if one.name != host.name)
    ping = ("ping", "-n", "-c", f"{PINGS}", "-i", "0.2", "-w", "6", str(peer.wireguard.address))
    asked = [Command("line ping", ping, accepts=frozenset({0, 1}))]
    if host.drbd:
        script = _DISK.format(disk=shlex.quote(host.drbd.disk))
        asked.append(Command("line disk", ("sh", "-c", script), timeout_s=10))
    return asked


def read(_topology: Topology, host: Host, outputs: Outputs) -> LineState:
    """Raises CommandFailed or ParseError."""
    return read_line(outputs.text("line ping"), outputs.text("line disk") if host.drbd else "")


LINE = Domain("line", probes, read)


def read_line(ping: str, disk: str) -> LineState:
    """What ping(8) and the script about the disk printed; raises ParseError."""
    rows = {row["kind"]: row for text in (ping, disk) for row in Printed("line", text).rows("drbd_line")}
    if "packets" not in rows:
        raise Printed("ping", ping).error(0, "holds no count of packets")
    facts = {kind: int(rows[kind]["amount"]) for kind in ("size", "written") if kind in rows}
    return LineState(
        sent=int(rows["packets"]["sent"]),
        received=int(rows["packets"]["received"]),
        rtt_ms=float(rows["rtt"]["rtt_ms"]) if "rtt" in rows else None,
        size_bytes=facts.get("size"),
        written_bytes=facts.get("written"),
        up_s=float(rows["up"]["seconds"] or rows["up"]["amount"]) if "up" in rows else None,
    )


def read_rate(text: str) -> Rate:
    """The two counts of dd(1): of the warm-up, and of the rest, which is the one that counts if it lasted 50 ms.

    Raises:
        ParseError: something else, or nothing arrived.
    """
    printed = Printed("dd", text)
    rows = {row["kind"]: row for row in printed.rows("drbd_line")}
    if not {"first", "rest"} <= rows.keys():
        raise printed.error(0, "holds no two counts of bytes")
    first, rest = ((int(rows[kind]["amount"]), float(rows[kind]["seconds"])) for kind in ("first", "rest"))
    count, seconds = rest if rest[1] >= 0.05 and rest[0] else (first[0] + rest[0], first[1] + rest[1])
    if not count or seconds <= 0:
        raise printed.error(0, "says that nothing arrived")
    return Rate(received_bytes=count, seconds=seconds)


_RECEIVE = r"""export LC_ALL=C
part() {
  said=$(timeout --foreground -s INT "$1" dd of=/dev/null bs=4k count="$2" iflag=fullblock,count_bytes 2>&1 | tail -n 1)
  [ -n "$said" ] || said="0 bytes copied, 0 s, 0 B/s"
  echo "$said"
}
first=$(part "$1" "$2")
rest=$(part "$3" "$4")
printf 'first %s\nrest %s\n' "$first" "$rest"
exec timeout 2 cat >/dev/null
"""
"""In the foreground timeout(1) signals dd once: a second time, to the group, would end it while it says its count.
Without any ``${...}``, which systemd would take for a variable of its own (systemd.service(5), command lines)."""

_SEND = r"""for try in 1 2 3 4 5 6 7 8 9 10; do
  { exec 3<>"/dev/tcp/$1/$2"; } 2>/dev/null && break
  [ "$try" -lt 10 ] || { echo "no connection to $1 port $2" >&2; exit 7; }
  sleep 0.3
done
head -c "$3" /dev/zero >&3 2>/dev/null &
IFS= read -r -t "$4" first <&3 && IFS= read -r -t 5 rest <&3
code=$?
kill "$!" 2>/dev/null
[ "$code" -eq 0 ] || { echo "no acknowledgement within $4 s" >&2; exit 8; }
printf '%s\n%s\n' "$first" "$rest"
"""


def sink_command(own: Host, peer: Host, port: int, bounds: Bounds, warm_s: float) -> Command:
    """Start the receiver on ``own``: for ``peer`` alone, on the mesh address alone, as nobody, and not for long."""
    warm_bytes = bounds.count_bytes // 8
    counts = (f"{warm_s:g}", f"{warm_bytes}", f"{bounds.seconds - warm_s:g}", f"{bounds.count_bytes - warm_bytes}")
    limits = (
        "DynamicUser=yes",
        f"RuntimeMaxSec={bounds.seconds + SINK_S:g}",
        f"IPAddressAllow={peer.wireguard.address}",
        "IPAddressDeny=any",
    )
    unit = ("systemd-run", "--quiet", "--collect", f"--unit={SINK}", *(f"--property={limit}" for limit in limits))
    listener = ("systemd-socket-activate", "--accept", "--inetd", f"--listen={own.wireguard.address}:{port}")
    return Command("sink", (*unit, *listener, "sh", "-c", _RECEIVE, "receive", *counts))


def send_command(target: Host, port: int, bounds: Bounds) -> Command:
    """Send zeros to ``target`` until it acknowledges what it counted; the mesh encrypts, so nothing compresses them."""
    patience_s = bounds.seconds + 5
    arguments = (str(target.wireguard.address), f"{port}", f"{bounds.count_bytes}", f"{patience_s:g}")
    return Command("send", ("bash", "-c", _SEND, "send", *arguments), timeout_s=patience_s + _CONNECT_S)


def listen(task: Task, command: Command) -> Result:
    """Start the receiver; raises RemoteError when one is there already."""
    answer = run(task, [command])["sink"]
    if answer.exit_code:
        raise RemoteError(
            task.host.name,
            f"the receiver did not start: {answer.stderr.strip()}",
            advice=f"Somebody measures at the moment, or did until a minute ago. `systemctl stop {SINK}` ends it.",
        )
    return Result(host=task.host)


def send(task: Task, command: Command, target: str) -> Result:
    """Send, and return the `Rate` that the receiver counted.

    Raises:
        RemoteError: no connection through the mesh, or no acknowledgement. ParseError: an odd one.
    """
    outputs = run(task, [command])
    answer = outputs["send"]
    if answer.exit_code in {7, 8} or answer.timed_out:
        raise RemoteError(
            task.host.name,
            f"nothing measured towards {target}: {answer.stderr.strip() or 'no answer in time'}",
            advice="Does a firewall close the port inside the mesh? Try another one with --port; "
            "python runbooks/health.py looks at the mesh.",
        )
    return Result(host=task.host, result=read_rate(outputs.text("send")))


def hush(task: Task) -> Result:
    """Stop the receiver, if it is there."""
    run(task, [Command("stop", ("systemctl", "stop", SINK), accepts=frozenset({0, 5}))])
    return Result(host=task.host)


def measure(nornir: Nornir, source: Host, target: Host, *, port: int, bounds: Bounds, rtt_ms: float) -> Rate:
    """The rate from ``source`` to ``target`` through the mesh.

    Raises:
        DockyardError: it could not be measured; our receiver is stopped all the same.
    """
    sink = sink_command(target, source, port, bounds, bounds.warm_up_s(rtt_ms))
    _on(nornir, target, listen, command=sink)  # not in the try: a receiver that is there already is somebody else's
    try:
        found = _on(nornir, source, send, command=send_command(target, port, bounds), target=target.name)
    finally:
        with suppress(RemoteError):  # else systemd ends it (RuntimeMaxSec); what happened before is what counts
            _on(nornir, target, hush)
    if not isinstance(found, Rate):
        raise DockyardError(f"{source.name}: nothing was measured")
    return found


def _on(nornir: Nornir, host: Host, work: Callable[..., Result], **arguments: Any) -> object:
    answer = nornir.filter(name=host.name).run(task=_caught, work=work, on_failed=True, **arguments)[host.name]
    if answer.exception is not None:
        raise answer.exception
    return answer[0].result


def _caught(task: Task, work: Callable[..., Result], **arguments: Any) -> Result:
    """``work``, with an error that it raises on purpose in its result: Nornir would log the traceback of any other."""
    try:
        return work(task, **arguments)
    except DockyardError as error:
        return Result(host=task.host, exception=error, failed=True)
