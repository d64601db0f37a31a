"""What DRBD needs to be installed. Looked at before anything else, because the other probes need these tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dockyard.change import Plan, install
from dockyard.observe import Domain, Observed
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Topology
from tasks.drbd.facts import SAY_MODULE

PACKAGES = {
    "drbdadm": "drbd-utils",
    "openssl": "openssl",
    "lsattr": "e2fsprogs",
    "wipefs": "util-linux",
    "dmsetup": "dmsetup",
}
"""Commands, and the Debian packages that hold them."""

_PROBE = "drbd tools"
_SCRIPT = f"""\
for tool in {" ".join(PACKAGES)}; do command -v "$tool" >/dev/null || printf 'missing||%s\\n' "$tool"; done
{SAY_MODULE}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The commands of `PACKAGES` that a host lacks, and the version of its DRBD module (``""``: none)."""

    missing: frozenset[str]
    module: str


def _probes(_topology: Topology, _host: Host) -> Sequence[Command]:
    return [Command(_PROBE, ("sh", "-c", _SCRIPT))]


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
    return {host: [install(sorted({PACKAGES[tool] for tool in missing}))] for host, missing in lacking.items()}
