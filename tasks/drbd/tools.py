"""What DRBD needs to be installed. Looked at before anything else, because the other probes need these tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dockyard.change import Plan, install
from dockyard.observe import Domain, Observed
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs
from dockyard.topology import FileSystem, Host, Topology
from tasks.drbd.facts import SAY_MODULE

PACKAGES = {
    "drbdadm": "drbd-utils",
    "openssl": "openssl",
    "lsattr": "e2fsprogs",
    "wipefs": "util-linux",
    "dmsetup": "dmsetup",
}
"""Commands, and the Debian packages that hold them."""

FILE_SYSTEMS = {FileSystem.EXT4: {"mkfs.ext4": "e2fsprogs"}, FileSystem.XFS: {"mkfs.xfs": "xfsprogs"}}
"""What makes each file system, in the same form."""

_PROBE = "drbd tools"
_SCRIPT = """\
for tool in {tools}; do command -v "$tool" >/dev/null || printf 'missing||%s\\n' "$tool"; done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The commands of `packages` that a host lacks, and the version of its DRBD module (``""``: none)."""

    missing: frozenset[str]
    module: str


def packages(topology: Topology, host: Host) -> dict[str, str]:
    """The commands that ``host`` needs, and the Debian packages that hold them; a tie-breaker makes no file system."""
    drbd = topology.cluster.drbd
    return PACKAGES | (FILE_SYSTEMS[drbd.filesystem] if drbd and host.drbd else {})


def _probes(topology: Topology, host: Host) -> Sequence[Command]:
    return [Command(_PROBE, ("sh", "-c", _SCRIPT.format(tools=" ".join(packages(topology, host))) + SAY_MODULE))]


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> Tools:
    rows = Printed(_PROBE, outputs.text(_PROBE)).rows("drbd_facts")
    return Tools(
        missing=frozenset(row["value"] for row in rows if row["kind"] == "missing"),
        module=next((row["value"] for row in rows if row["kind"] in {"loaded", "available"}), ""),
    )


TOOLS = Domain(_PROBE, _probes, _read)


def plan_tools(topology: Topology, observed: Observed) -> Plan:
    """Install what is missing on the replicas, and with DRBD 9 on the arbitrator, which is the tie-breaker then."""
    seen = observed.seen(TOOLS)
    nine = any(tools.module.startswith("9.") for host, tools in seen.items() if topology.host(host).drbd)
    needing = {host.name for host in topology.hosts.values() if host.drbd}
    needing |= {topology.cluster.arbitrator} if nine else set()
    lacking = {host: tools.missing for host, tools in seen.items() if tools.missing and host in needing}
    known = {host: packages(topology, topology.host(host)) for host in lacking}
    return {host: [install(sorted({known[host][tool] for tool in missing}))] for host, missing in lacking.items()}
