"""What DRBD needs to be installed. Looked at before anything else, because the other probes need these tools."""

from __future__ import annotations

from collections.abc import Sequence

from dockyard.change import Plan, install
from dockyard.observe import Domain, Observed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Topology

PACKAGES = {"drbdadm": "drbd-utils", "openssl": "openssl", "lsattr": "e2fsprogs", "wipefs": "util-linux"}
"""Commands, and the Debian packages that hold them."""


def _probes(_topology: Topology, _host: Host) -> Sequence[Command]:
    script = f'for tool in {" ".join(PACKAGES)}; do command -v "$tool" >/dev/null || echo "$tool"; done'
    return [Command("drbd tools", ("sh", "-c", script))]


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> frozenset[str]:
    return frozenset(outputs.text("drbd tools").split())


TOOLS = Domain("drbd tools", _probes, _read)
"""The missing ones of `PACKAGES`."""


def plan_tools(topology: Topology, observed: Observed) -> Plan:
    """Install what is missing on the hosts that carry a replica; a tie-breaker needs it only with DRBD 9, see docs."""
    lacking = {host: missing for host, missing in observed.seen(TOOLS).items() if missing and topology.host(host).drbd}
    return {host: [install(sorted({PACKAGES[tool] for tool in missing}))] for host, missing in lacking.items()}
