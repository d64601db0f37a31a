"""The wg-quick(8) file of a laptop, which its owner carries there. Pure.

It holds no secret: the private key is made on the laptop. A preshared key would be one, and nothing but the owner's
hands could bring it there.
"""

from __future__ import annotations

from dataclasses import dataclass

from dockyard.errors import StepFailed, UsageError
from dockyard.observe import Observed
from dockyard.rendering import render
from dockyard.topology import Endpoint, Host, Laptop, Topology
from tasks.wireguard.state import WIREGUARD
from tasks.wireguard.wanted import laptop_peers, peer_differences
from tasks.wireguard.way_back import refuse_pending

KEEPALIVE_S = 25
"""What wg(8) recommends behind NAT, where laptops are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Called:
    """A host that a laptop calls."""

    name: str
    public_key: str
    address: str
    endpoint: Endpoint


def laptop_named(topology: Topology, name: str) -> Laptop:
    """The laptop called ``name``; raises UsageError with the names that exist."""
    try:
        return topology.laptops[name]
    except KeyError:
        known = ", ".join(topology.laptops) or "none"
        advice = f"Laptops stand in cluster.wireguard.laptops (inventory/defaults.yaml); there: {known}"
        raise UsageError(f"there is no laptop {name!r}", advice=advice) from None


def laptop_file(topology: Topology, observed: Observed, name: str) -> str:
    """The file of the laptop ``name``, with every host that has a public endpoint.

    Raises:
        UsageError: there is no such laptop.
        NotObserved: a host could not be looked at.
        StepFailed: a host has no key yet, or a key rotation is not settled.
    """
    laptop = laptop_named(topology, name)
    refuse_pending(observed)
    called = [_called(topology, observed, host) for host in topology.hosts.values() if host.wireguard.endpoint]
    reached, dns = {one.name for one in called}, topology.dns_host
    return render(
        "laptop.conf",
        cluster=topology.cluster.name,
        name=name,
        address=laptop.address,
        public_key=laptop.public_key,
        mtu=topology.cluster.wireguard.mtu,
        domain=topology.cluster.domain,
        dns_host=dns.name if dns else "",
        dns=dns.wireguard.address if dns and dns.name in reached else "",
        peers=called,
        keepalive_s=KEEPALIVE_S,
        behind_nat=[host for host in topology.hosts if host not in reached],
        strangers=[one.name for one in called if not _knows(topology, observed, one.name, name)],
    )


def _called(topology: Topology, observed: Observed, host: Host) -> _Called:
    key = observed.of(WIREGUARD, host.name).public_key
    if not key:
        raise StepFailed(f"{host.name} has no key yet", advice="python runbooks/phase1_baseline.py makes it.")
    endpoint = Endpoint.parse(host.wireguard.endpoint or "", topology.cluster.wireguard.port)
    return _Called(name=host.name, public_key=key, address=str(host.wireguard.address), endpoint=endpoint)


def _knows(topology: Topology, observed: Observed, host: str, name: str) -> bool:
    """Whether the laptop is a peer of the running interface of ``host``, as it should be."""
    state = observed.of(WIREGUARD, host)
    (wanted,) = [peer for peer in laptop_peers(topology) if peer.name == name]
    return state.interface is not None and not peer_differences(wanted, state)
