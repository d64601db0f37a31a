"""Check the inventory, and show what will be built from it.

Prints every mistake at once with its path. Without mistakes: the hosts, and for each pair who sends to which address.

Needs: the inventory, and nothing else. Opens no connection.
May destroy: nothing. Way back: none needed.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from dockyard.cli import parser
from dockyard.errors import InventoryError
from dockyard.topology import Host, Topology, folder_of, load_inventory, read_topology


def main() -> int:
    """Read the command line, check, print, and return the exit code."""
    arguments = parser(__doc__).parse_args()
    folder = folder_of(arguments.inventory)
    try:
        topology = read_topology(load_inventory(folder))
    except InventoryError as error:
        (print_mistakes_json if arguments.json else print_mistakes)(error)
        return error.exit_code
    if arguments.json:
        print(json.dumps(as_json(topology), indent=2))
    else:
        show(topology, Console(highlight=False, width=None if sys.stdout.isatty() else 160))
        print(f"No mistake in {folder}")
    return 0


def print_mistakes(error: InventoryError) -> None:
    """One line for each mistake, then how many there are and where to look."""
    for problem in error.problems:
        print(problem)
    count = len(error.problems)
    print(f"\n{count} mistake{'s' if count != 1 else ''} in the inventory. {error.advice}", file=sys.stderr)


def print_mistakes_json(error: InventoryError) -> None:
    """``{"ok": false, "problems": [{"path": ..., "message": ...}]}``."""
    problems = [{"path": problem.path, "message": problem.message} for problem in error.problems]
    print(json.dumps({"ok": False, "problems": problems}, indent=2))


def as_json(topology: Topology) -> dict[str, Any]:
    """Cluster, hosts, laptops (address by name), and ``directions`` as {source, target, endpoint, keepalive_s}."""
    return {
        "ok": True,
        "cluster": topology.cluster.name,
        "hosts": {name: _host_json(host) for name, host in topology.hosts.items()},
        "laptops": {name: str(laptop.address) for name, laptop in topology.laptops.items()},
        "directions": [
            {
                "source": source,
                "target": target,
                "endpoint": str(topology.endpoint(source, target) or "") or None,
                "keepalive_s": topology.keepalive_s(source, target),
            }
            for source, target in topology.directions()
        ],
    }


def _host_json(host: Host) -> dict[str, Any]:
    return {
        "site": host.site,
        "roles": sorted(host.roles),
        "login": f"{host.username}@{host.hostname}:{host.port}",
        "transport": host.ssh.transport,
        "address": str(host.wireguard.address),
    }


def show(topology: Topology, console: Console) -> None:
    """Two tables: the hosts, and the endpoints of every direction; then the laptops."""
    hosts = Table("host", "site", "mesh", "login", "ssh", "roles", title=topology.cluster.name, title_justify="left")
    for host in topology.hosts.values():
        facts = _host_json(host)
        hosts.add_row(
            host.name, host.site, facts["address"], facts["login"], host.ssh.transport, ", ".join(facts["roles"])
        )
    console.print(hosts)
    ways = Table("from \\ to", *topology.hosts, title="who sends to which address", title_justify="left")
    for source in topology.hosts:
        ways.add_row(source, *(_way(topology, source, target) for target in topology.hosts))
    console.print(ways)
    console.print(
        "waits: the target is behind NAT and begins itself. +N s: keepalive that holds the way through the NAT open."
    )
    for name, laptop in topology.laptops.items():
        console.print(f"laptop {name}: {laptop.address}, a peer of every host; python runbooks/laptop.py {name}")


def _way(topology: Topology, source: str, target: str) -> str:
    if source == target:
        return ""
    keepalive = topology.keepalive_s(source, target)
    way = str(topology.endpoint(source, target) or "waits")
    return f"{way} +{keepalive} s" if keepalive else way


if __name__ == "__main__":
    sys.exit(main())
