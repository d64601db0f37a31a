"""The machine under everything: clock, kernel, room on the file systems, and the tools that the other domains need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from dockyard.change import Plan, install
from dockyard.findings import Cause, Finding
from dockyard.observe import Domain, Observed
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Topology
from dockyard.unseen import unseen

CLOCK_LIMIT_S = 1.0
FREE_LIMIT = 0.05
DURATION_STEP_S = 0.02
"""Durations on the host come from /proc/uptime, in steps of 10 ms at both ends."""

TOOLS = {"wg": "wireguard-tools", "wg-quick": "wireguard-tools", "ip": "iproute2", "ping": "iputils-ping"}
"""Commands that phase 1 needs on every host, and the Debian packages that hold them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offset:
    """How far a clock is ahead of the controller's, in seconds: proven to lie between ``least`` and ``most``."""

    least: float
    most: float

    @property
    def proven_s(self) -> float:
        """The least distance from 0 that is proven; 0 when the clocks may agree."""
        return max(self.least, -self.most, 0.0)

    def ahead_of(self, other: Offset) -> float:
        """The least seconds by which this clock is proven to be ahead of ``other``; not above 0 when it may not be."""
        return self.least - other.most

    def __str__(self) -> str:
        middle = (self.least + self.most) / 2
        side = "ahead" if middle > 0 else "behind"
        return f"{abs(middle):.2f} s {side} (known to {(self.most - self.least) / 2:.2f} s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSystem:
    """Room on the file system that holds a path, in bytes."""

    mount: str
    size: int
    free: int

    @property
    def share(self) -> float:
        return self.free / self.size if self.size else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineState:
    """``clock`` as the offset from the controller; ``uptime_s`` in seconds; ``missing`` tools."""

    clock: Offset
    kernel: str
    uptime_s: float
    file_systems: tuple[FileSystem, ...]
    missing: tuple[str, ...]


_PROBE = f"""\
printf 'clock|%s\\n' "$(date +%s.%N)"
printf 'kernel|%s\\n' "$(uname -r)"
read -r uptime </proc/uptime; printf 'uptime|%s\\n' "$uptime"
for tool in {" ".join(TOOLS)}; do command -v "$tool" >/dev/null || printf 'missing|%s\\n' "$tool"; done
df -P -k / /etc /var"""


def probes(_topology: Topology, _host: Host) -> Sequence[Command]:
    """One command."""
    return [Command("machine", ("sh", "-c", _PROBE))]


def read(_topology: Topology, _host: Host, outputs: Outputs) -> MachineState:
    """Raises CommandFailed or ParseError."""
    rows = Printed("machine", outputs.text("machine")).rows("machine")
    facts = {key: row[key] for row in rows for key in ("clock", "kernel", "uptime_s") if row[key]}
    systems = {row["mount"]: _file_system(row) for row in rows if row["mount"]}
    return MachineState(
        clock=offset(float(facts["clock"]), outputs),
        kernel=facts["kernel"],
        uptime_s=float(facts["uptime_s"]),
        file_systems=tuple(systems.values()),
        missing=tuple(row["tool"] for row in rows if row["tool"]),
    )


MACHINE = Domain("machine", probes, read)


def _file_system(row: Mapping[str, str]) -> FileSystem:
    return FileSystem(mount=row["mount"], size=int(row["size_kib"]) * 1024, free=int(row["free_kib"]) * 1024)


def offset(clock: float, outputs: Outputs) -> Offset:
    """What one reading of a host's clock proves, in the middle of a batch.

    It was read after the batch was sent and before it was received (controller's clock), and the other commands of the
    batch took their time before and after it; the rest of the round trip is what we cannot know.
    """
    names = list(outputs)
    at = names.index("machine")
    before = sum(max(0.0, outputs[name].duration_s - DURATION_STEP_S) for name in names[:at])
    after = sum(max(0.0, outputs[name].duration_s - DURATION_STEP_S) for name in names[at + 1 :])
    return Offset(least=clock - (outputs.received_at - after), most=clock - (outputs.sent_at + before))


def plan_tools(_topology: Topology, observed: Observed) -> Plan:
    """Install the packages of missing tools with apt-get(8)."""
    missing = {host: state.missing for host, state in observed.seen(MACHINE).items() if state.missing}
    return {host: [install(sorted({TOOLS[tool] for tool in tools}))] for host, tools in missing.items()}


def check_machine(_topology: Topology, observed: Observed) -> list[Finding]:
    """Clocks within `CLOCK_LIMIT_S`, at least `FREE_LIMIT` of room where configuration is written, tools at hand."""
    states = observed.seen(MACHINE)
    hosts = [finding for host, state in states.items() for finding in (*_room(host, state), *_tools(host, state))]
    return [*unseen(observed, MACHINE, Cause.MACHINE), *_clocks(states), *hosts]


def _clocks(states: Mapping[str, MachineState]) -> list[Finding]:
    clocks = {host: state.clock for host, state in states.items()}
    wrong = {host: clock for host, clock in clocks.items() if clock.proven_s > CLOCK_LIMIT_S}
    right = {host: clock for host, clock in clocks.items() if host not in wrong}
    return [*_off(wrong, all_of_them=len(wrong) == len(clocks)), *_apart(right)]


def _off(wrong: Mapping[str, Offset], *, all_of_them: bool) -> list[Finding]:
    """Clocks that are off against this machine's."""
    ours = all_of_them and len(wrong) > 1 and _agree(list(wrong.values()))
    hint = "All hosts agree with one another: look at the clock of this machine first" if ours else ""
    return [
        Finding(
            cause=Cause.MACHINE,
            host=host,
            fault=f"the clock is off by more than {CLOCK_LIMIT_S:g} s",
            evidence=f"{clock}, measured against this machine",
            advice=hint or f"On {host}: timedatectl; chronyc tracking. Is a time service running there?",
        )
        for host, clock in wrong.items()
    ]


def _apart(clocks: Mapping[str, Offset]) -> list[Finding]:
    """Clocks none of which is off against this machine's, but which are proven to disagree: one finding, two hosts."""
    pairs = [
        (ahead, behind) for ahead, behind in permutations(clocks, 2) if _distance(clocks, ahead, behind) > CLOCK_LIMIT_S
    ]
    if not pairs:
        return []
    ahead, behind = max(pairs, key=lambda pair: _distance(clocks, *pair))
    more = f"; {len(pairs) - 1} other pairs are too far apart as well" if len(pairs) > 1 else ""
    return [
        Finding(
            cause=Cause.MACHINE,
            host=ahead,
            subject=behind,
            fault=f"the clock is more than {CLOCK_LIMIT_S:g} s ahead of the one of {behind}",
            evidence=f"at least {_distance(clocks, ahead, behind):.2f} s; against this machine {ahead} is "
            f"{clocks[ahead]}, {behind} is {clocks[behind]}{more}",
            advice=f"On both: timedatectl; chronyc tracking. Do {ahead} and {behind} use the same time servers?",
        )
    ]


def _distance(clocks: Mapping[str, Offset], ahead: str, behind: str) -> float:
    return clocks[ahead].ahead_of(clocks[behind])


def _agree(clocks: Sequence[Offset]) -> bool:
    """Whether all clocks may lie within the limit of one another."""
    return max(clock.least for clock in clocks) - min(clock.most for clock in clocks) <= CLOCK_LIMIT_S


def _room(host: str, state: MachineState) -> list[Finding]:
    return [
        Finding(
            cause=Cause.MACHINE,
            host=host,
            fault=f"the file system {system.mount} is nearly full",
            evidence=f"{system.free / 2**20:.0f} MiB of {system.size / 2**20:.0f} MiB are free ({system.share:.1%})",
            advice=f"On {host}: du -xh {system.mount} | sort -h | tail; journalctl --vacuum-size=100M",
        )
        for system in state.file_systems
        if system.share < FREE_LIMIT
    ]


def _tools(host: str, state: MachineState) -> list[Finding]:
    packages = sorted({TOOLS[tool] for tool in state.missing})
    if not packages:
        return []
    return [
        Finding(
            cause=Cause.MACHINE,
            host=host,
            fault=f"{', '.join(state.missing)} is not installed",
            evidence="command -v finds nothing",
            advice=f"python runbooks/phase1_baseline.py installs it; by hand: apt-get install {' '.join(packages)}",
        )
    ]
