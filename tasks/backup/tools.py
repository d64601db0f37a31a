"""What a backup needs to be installed: Debian's restic, and what the script calls."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dockyard.change import Plan, install
from dockyard.findings import Cause, Finding
from dockyard.observe import Domain, Observed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Topology
from dockyard.unseen import unseen
from tasks.backup.finding import finding

PACKAGES = {
    "restic": "restic",
    "ssh": "openssh-client",
    "openssl": "openssl",
    "fsfreeze": "util-linux",
    "unshare": "util-linux",
}
"""Commands, and the Debian packages that hold them."""

LEAST = (0, 17)
"""The first version of restic that says by its exit code whether password, lock or repository is at fault."""

_PROBE = "backup tools"
_ASK = f"""\
for tool in {" ".join(PACKAGES)}; do command -v "$tool" >/dev/null || echo "missing $tool"; done
restic version 2>/dev/null || true"""


@dataclass(frozen=True, slots=True)
class Tools:
    """The missing ones of `PACKAGES`, and what `restic version` prints ("" without restic)."""

    missing: frozenset[str]
    version: str

    @property
    def release(self) -> str:
        """The number of restic's version alone; "" without restic."""
        return self.version.removeprefix("restic ").split(" ")[0]


def _probes(_topology: Topology, _host: Host) -> Sequence[Command]:
    return [Command(_PROBE, ("sh", "-c", _ASK))]


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> Tools:
    lines = outputs.text(_PROBE).splitlines()
    missing = frozenset(line.split()[1] for line in lines if line.startswith("missing "))
    return Tools(missing, next((line for line in lines if line.startswith("restic ")), ""))


def carries_replica(topology: Topology, host: Host) -> bool:
    """Whether ``host`` may have the storage mounted, and so has to be able to back it up."""
    return topology.cluster.backup is not None and topology.cluster.drbd is not None and host.drbd is not None


TOOLS = Domain("backup tools", _probes, _read, carries_replica)


def plan_tools(_topology: Topology, observed: Observed) -> Plan:
    """Install what is missing."""
    missing = {host: tools.missing for host, tools in observed.seen(TOOLS).items() if tools.missing}
    return {host: [install(sorted({PACKAGES[tool] for tool in lacking}))] for host, lacking in missing.items()}


def check_tools(_topology: Topology, observed: Observed) -> list[Finding]:
    """Restic is new enough to say what went wrong."""
    return [*unseen(observed, TOOLS, Cause.BACKUP), *_old(observed)]


def _old(observed: Observed) -> Iterator[Finding]:
    for host, tools in observed.seen(TOOLS).items():
        found = re.match(r"restic (\d+)\.(\d+)", tools.version)
        if not found or (int(found[1]), int(found[2])) < LEAST:
            fault = f"restic is older than {LEAST[0]}.{LEAST[1]}"
            advice = "Debian 13 has a newer one; on Debian 12 put restic's own binary into /usr/local/bin"
            yield finding(host, fault, tools.version or "restic version prints nothing", advice)
