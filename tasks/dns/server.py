"""The DNS server: dnsmasq in a unit of our own, bound to the mesh.

Debian's package ``dnsmasq`` starts one on all addresses the moment it is installed, reads /etc/hosts (where Debian's
127.0.1.1 stands), and makes itself the host's own resolver where resolvconf is (its systemd-helper, start-resolvconf).
Ours needs ``dnsmasq-base`` only, the program without all of that, and leaves another dnsmasq (libvirt's) alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dockyard.change import Change, Plan, WriteFile, filled, install
from dockyard.errors import UsageError
from dockyard.files import FileState, read_file
from dockyard.observe import Domain, Observed
from dockyard.remote import Command, Outputs
from dockyard.rendering import render
from dockyard.service import ServiceState, mark_of, plan_service, service_probe
from dockyard.topology import Host, Topology

CONFIG = "/etc/dockyard-dns.conf"
UNIT = "dockyard-dns.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
PACKAGE = "dnsmasq-base"
POD_BRIDGE = "cni0"
"""The bridge of K3s's flannel: a pod on the DNS host asks through it (docs.k3s.io/networking)."""

_VALIDATE = {CONFIG: ("dnsmasq", "--test", "-C", "{}"), UNIT_FILE: ()}
"""Not ``--conf-file``: that takes its argument only with ``=``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsState:
    """The server as it is on its host; not ``installed``: there is no dnsmasq."""

    installed: bool
    files: Mapping[str, FileState]
    service: ServiceState


def _probes(_topology: Topology, _host: Host) -> Sequence[Command]:
    there = Command("dnsmasq", ("sh", "-c", "command -v dnsmasq"), accepts=frozenset({0, 127, 1}))
    return [there, *(read_file(path) for path in _VALIDATE), service_probe(UNIT)]


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> DnsState:
    return DnsState(
        installed=bool(outputs.text("dnsmasq").strip()),
        files={path: FileState.of(outputs, path) for path in _VALIDATE},
        service=ServiceState.of(outputs, UNIT),
    )


DNS = Domain("DNS server", _probes, _read, lambda topology, host: topology.dns_host == host)


def texts(topology: Topology) -> tuple[dict[str, str], str]:
    """The content of both files by path, and their mark."""
    server = _server(topology)
    config = render(
        "dnsmasq.conf",
        interfaces=[topology.cluster.wireguard.interface, *([POD_BRIDGE] if server.is_k3s_node else [])],
        domain=topology.cluster.domain,
        upstream=topology.cluster.dns.upstream if topology.cluster.dns else (),
        records=[(topology.fqdn(name), name, address) for name, address in topology.addresses()],
    )
    mark = mark_of(config, _unit(topology, ""))
    return {CONFIG: config, UNIT_FILE: _unit(topology, mark)}, mark


def _unit(topology: Topology, mark: str) -> str:
    interface = topology.cluster.wireguard.interface
    return render("dockyard-dns.service", name=topology.cluster.name, interface=interface, config=CONFIG, mark=mark)


def plan_tools(_topology: Topology, observed: Observed) -> Plan:
    """Install dnsmasq without its service."""
    return {host: [install([PACKAGE])] for host, state in observed.seen(DNS).items() if not state.installed}


def plan_server(topology: Topology, observed: Observed) -> Plan:
    """Write configuration and unit, and let the server run with them, now and at boot."""
    return filled({host: _changes(topology, state) for host, state in observed.seen(DNS).items()})


def _changes(topology: Topology, state: DnsState) -> list[Change]:
    wanted, mark = texts(topology)
    files = [
        WriteFile(path=path, content=text, seen=state.files[path], validate=_VALIDATE[path])
        for path, text in wanted.items()
    ]
    return plan_service(state.service, files, mark)


def coredns_custom(topology: Topology, labels: Mapping[str, str]) -> str:
    """The manifest, with ``labels``, by which K3s's CoreDNS asks our server for the cluster's domain, for pods.

    K3s imports every ``*.server`` of the ConfigMap ``coredns-custom`` as a server block of its own
    (docs.k3s.io/networking/networking-services, CoreDNS custom configuration imports).

    Raises:
        UsageError: the inventory has no ``cluster.dns``.
    """
    server, marked = _server(topology).wireguard.address, json.dumps(labels)
    return render("coredns-custom.yaml", domain=topology.cluster.domain, server=server, labels=marked)


def _server(topology: Topology) -> Host:
    if topology.dns_host is None:
        raise UsageError("no host answers by DNS", advice="Give one: cluster.dns in the inventory (docs/services.md)")
    return topology.dns_host
