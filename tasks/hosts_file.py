"""Names: a managed block in /etc/hosts with every host and service on its mesh address, the same on all hosts.

The block stands between two marker lines; everything else in the file stays as it is, byte for byte. Names must not
depend on a DNS server, as the cluster has to come up without one. Format: hosts(5), the full name first.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dockyard.change import Plan, WriteFile
from dockyard.errors import DockyardError, StepFailed
from dockyard.files import FileState, read_file
from dockyard.findings import Cause, Finding
from dockyard.observe import Domain, Observed
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Topology
from dockyard.unseen import unseen

PATH = "/etc/hosts"
BEGIN = "# BEGIN DOCKYARD"
END = "# END DOCKYARD"
_NOTE = "(written by Dockyard from the inventory; changes in this block are overwritten)"


class BrokenBlock(DockyardError):
    """The markers in a file are not exactly one BEGIN before one END; where our block is would be a guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamesState:
    """``file`` is /etc/hosts, ``addresses`` what each name resolves to on this host (getaddrinfo, IPv4, in order)."""

    file: FileState
    addresses: Mapping[str, tuple[str, ...]]


LOOKUP_S = 30
"""Limit for all names together, in seconds; all are asked at once. A loaded machine of the lab needed 15 s for 18."""

_STOPPED = 124
"""What timeout(1) returns."""

_PROBE = r"""export RES_OPTIONS='timeout:1 attempts:1'
lookup() {{
  found=$(getent ahostsv4 "$1"); rc=$?; addresses=
  while read -r address kind rest; do
    [ "$kind" != STREAM ] || addresses="$addresses $address"
  done <<END
$found
END
  printf '%s|%s|%s\n' "$1" "$rc" "$addresses"
}}
for name in {names}; do lookup "$name" & done; wait
"""


def names(topology: Topology) -> dict[str, str]:
    """Every name that must resolve, short and full, with its mesh address."""
    found: dict[str, str] = {}
    for name, address in topology.addresses():
        found |= {name: str(address), topology.fqdn(name): str(address)}
    return found


def probes(topology: Topology, _host: Host) -> Sequence[Command]:
    """Two commands: the file, and every name at once."""
    script = _PROBE.format(names=shlex.join(names(topology)))
    lookups = ("timeout", str(LOOKUP_S), "sh", "-c", script)
    return [read_file(PATH), Command("names", lookups, accepts=frozenset({0, _STOPPED}), timeout_s=2 * LOOKUP_S)]


def read(topology: Topology, _host: Host, outputs: Outputs) -> NamesState:
    """Raises CommandFailed or ParseError."""
    rows = Printed("getent ahostsv4", outputs.text("names")).rows("getent_names")
    answers = {row["name"]: tuple(dict.fromkeys(row["addresses"].split())) for row in rows}
    late = dict.fromkeys(names(topology), (f"not found out within {LOOKUP_S} s",))
    return NamesState(file=FileState.of(outputs, PATH), addresses=late | answers)


NAMES = Domain("names", probes, read)


def block(topology: Topology) -> str:
    """The managed block with both marker lines: a line per host, then a line per service."""
    lines = [f"{address} {topology.fqdn(name)} {name}" for name, address in topology.addresses()]
    return "\n".join([f"{BEGIN} {_NOTE}", *lines, END, ""])


def replaced(content: str, new: str) -> str:
    """``content`` with its managed block replaced by ``new``, or with ``new`` at its end when there is none.

    Only a missing newline at the end of a file without a block is added, as the block needs a line of its own.

    Raises:
        BrokenBlock: the markers do not come exactly once each and in order.
    """
    span = _span(content)
    if span is None:
        return content + ("\n" if content and not content.endswith("\n") else "") + new
    return content[: span[0]] + new + content[span[1] :]


def _span(content: str) -> tuple[int, int] | None:
    """Where the managed block begins and ends, as offsets; None without markers."""
    begins: list[tuple[int, int]] = []
    ends: list[tuple[int, int]] = []
    offset = 0
    for number, line in enumerate(content.split("\n"), 1):
        marker = line.strip()
        if marker == BEGIN or marker.startswith(f"{BEGIN} "):
            begins.append((offset, number))
        elif marker == END or marker.startswith(f"{END} "):
            ends.append((min(offset + len(line) + 1, len(content)), number))
        offset += len(line) + 1
    if not begins and not ends:
        return None
    if len(begins) != 1 or len(ends) != 1 or begins[0][1] > ends[0][1]:
        raise BrokenBlock(_broken([n for _, n in begins], [n for _, n in ends]))
    return begins[0][0], ends[0][0]


def _broken(begins: Sequence[int], ends: Sequence[int]) -> str:
    def at(numbers: Sequence[int]) -> str:
        return f"on line {', '.join(map(str, numbers))}" if numbers else "nowhere"

    return f"'{BEGIN}' stands {at(begins)}, '{END}' {at(ends)}; there must be one of each, in this order"


def plan_hosts_file(topology: Topology, observed: Observed) -> Plan:
    """Bring the managed block of every seen host in line.

    Raises:
        StepFailed: on some host the markers are broken; nothing is written anywhere.
    """
    states = observed.seen(NAMES)
    broken = {host: reason for host, state in states.items() if (reason := _reason(state))}
    if broken:
        raise StepFailed(
            "\n".join(f"{host}: {PATH}: {reason}" for host, reason in broken.items()),
            advice=f"Nothing was written on any host. Edit {PATH} there by hand: "
            "remove all markers and what was between them.",
        )
    changes = {host: _wanted(topology, state) for host, state in states.items()}
    return {host: [change] for host, change in changes.items() if change.needed()}


def _wanted(topology: Topology, state: NamesState) -> WriteFile:
    return WriteFile(path=PATH, content=replaced(state.file.content, block(topology)), seen=state.file)


def _reason(state: NamesState) -> str:
    try:
        _span(state.file.content)
    except BrokenBlock as error:
        return str(error)
    return ""


def check_names(topology: Topology, observed: Observed) -> list[Finding]:
    """Every name resolves to its mesh address, and to nothing else, on every host, now and after the next boot.

    That a host also knows its own name by another address is no fault of mesh and names: Debian's installer writes
    ``127.0.1.1`` or its static address, and nothing of ours finds its own host by name.
    """
    found = unseen(observed, NAMES, Cause.NAMES)
    for host, state in observed.seen(NAMES).items():
        wrong = _wrong(topology, host, state)
        blamed = {name: lines for name in wrong if (lines := _to_blame(state, name, names(topology)[name]))}
        found += _written_at_boot(host, state)
        found += _foreign_lines(host, {name: wrong[name] for name in blamed}, blamed)
        found += _not_as_planned(topology, host, state, [text for name, text in wrong.items() if name not in blamed])
    return found


def _wrong(topology: Topology, host: str, state: NamesState) -> dict[str, str]:
    """What is wrong with which name."""
    own = {host, topology.fqdn(host)}
    faults = {}
    for name, wanted in names(topology).items():
        seen = state.addresses.get(name, ())
        if set(seen) != {wanted} and not (name in own and wanted in seen):
            faults[name] = f"{name} is {', '.join(seen) or 'unknown'} instead of {wanted}"
    return faults


@dataclass(frozen=True, slots=True)
class Line:
    """One line with an address, as hosts(5) has it: ``names`` in lower case, as they are compared that way."""

    number: int
    address: str
    names: frozenset[str]
    text: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.text}"


def lines_outside(content: str) -> list[Line]:
    """The lines of a hosts file that are not in the managed block; none where the markers are broken."""
    try:
        begin, end = _span(content) or (len(content), len(content))
    except BrokenBlock:
        return []
    kept = content[:begin] + "\n" * content[begin:end].count("\n") + content[end:]
    found = []
    for number, line in enumerate(kept.split("\n"), 1):
        address, *called = line.partition("#")[0].split() or [""]
        if address:
            found.append(Line(number, address, frozenset(map(str.lower, called)), " ".join([address, *called])))
    return found


_LOOPBACK = {"::1": "127.0.0.1"}
"""glibc answers ``127.0.0.1`` where a name stands behind ``::1`` and an IPv4 address is asked for."""


def _to_blame(state: NamesState, name: str, wanted: str) -> list[Line]:
    """The lines outside the block that give ``name`` another address, one that it was seen with."""
    addresses = set(state.addresses.get(name, ())) - {wanted}
    return [
        line
        for line in lines_outside(state.file.content)
        if name in line.names and _LOOPBACK.get(line.address, line.address) in addresses
    ]


def _foreign_lines(host: str, wrong: Mapping[str, str], blamed: Mapping[str, Sequence[Line]]) -> list[Finding]:
    """One finding for what somebody else wrote about our names; Dockyard leaves all of it as it is."""
    if not blamed:
        return []
    lines = sorted({line.number: line for some in blamed.values() for line in some}.items())
    these = "this line" if len(lines) == 1 else "these lines"
    finding = Finding(
        cause=Cause.NAMES,
        host=host,
        fault=f"{PATH} gives names of the mesh other addresses",
        evidence=f"{'; '.join(str(line) for _, line in lines)}; so {_short(list(wrong.values()))}",
        advice=f"On {host}, remove {these} from {PATH} (or the name from it): Dockyard leaves alone what is not in its "
        f"block. Then try: getent ahostsv4 {next(iter(wrong))}",
    )
    return [finding]


_MANAGED = "'manage_etc_hosts' as True"
_BOOT_ADVICE = """\
Switch that off (docs/services.md, Names, has more, if the names are gone again after a reboot). On {host}, as root: \
echo manage_etc_hosts: false >/etc/cloud/cloud.cfg.d/99-dockyard.cfg; sed -i /manage_etc_hosts/d {path}"""


def _written_at_boot(host: str, state: NamesState) -> list[Finding]:
    """cloud-init's header: it renders the file from a template at every boot (cc_update_etc_hosts)."""
    lines = enumerate(state.file.content.split("\n"), 1)
    return [
        Finding(
            cause=Cause.NAMES,
            host=host,
            fault=f"cloud-init writes {PATH} anew at every boot, without the names",
            evidence=f"line {number}: {line}",
            advice=_BOOT_ADVICE.format(host=host, path=PATH),
        )
        for number, line in lines
        if line.startswith("#") and _MANAGED in line
    ][:1]


def _not_as_planned(topology: Topology, host: str, state: NamesState, wrong: Sequence[str]) -> list[Finding]:
    evidence = [*_file_faults(topology, state), *([_short(wrong)] if wrong else [])]
    if not evidence:
        return []
    finding = Finding(
        cause=Cause.NAMES,
        host=host,
        fault=f"names do not resolve as planned ({PATH})",
        evidence="; ".join(evidence),
        advice=f"python runbooks/phase1_baseline.py mends it; then try: getent ahostsv4 {_first(topology)}",
    )
    return [finding]


def _first(topology: Topology) -> str:
    return next(iter(topology.hosts))


def _file_faults(topology: Topology, state: NamesState) -> list[str]:
    reason = _reason(state)
    if reason:
        return [reason]
    wanted = replaced(state.file.content, block(topology))
    diff = list(difflib.unified_diff(state.file.content.splitlines(), wanted.splitlines(), lineterm="", n=0))
    lines = [line for line in diff[2:] if not line.startswith("@@")]
    if not lines:
        return []
    more = f" and {len(lines) - 2} lines more" if len(lines) > 2 else ""
    return [f"the managed block differs: {' '.join(lines[:2])}{more}"]


def _short(faults: Sequence[str]) -> str:
    more = f"; and {len(faults) - 3} names more" if len(faults) > 3 else ""
    return "; ".join(faults[:3]) + more
