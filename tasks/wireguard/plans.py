"""From what the mesh is to what it should be. Every plan is pure and empty when nothing is to be done.

In this order: `plan_keys`, `plan_preshared_keys`, `plan_interface`, `plan_running`. Each needs the one before, as
public keys are known only when they are made; a dry run on pristine hosts shows placeholders in their place.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Sequence
from itertools import combinations

from dockyard.change import Change, Plan, RemoveFile, Run, Unit, WriteFile, filled, unit
from dockyard.errors import StepFailed
from dockyard.files import FileState
from dockyard.observe import Observed
from dockyard.secret import Secret
from dockyard.topology import Topology
from tasks.wireguard import places
from tasks.wireguard.foreign import refuse_foreign
from tasks.wireguard.state import WIREGUARD, KeyFile, Link, WireguardState
from tasks.wireguard.wanted import (
    WantedPeer,
    address,
    differences,
    files,
    is_paired,
    name_of,
    unknown_peers,
    wanted_peers,
)
from tasks.wireguard.way_back import forget_left_over, refuse_pending

_GENERATE = """\
umask 077 && install -d -m 0700 /etc/wireguard &&
rm -f -- "$1.tmp" && wg genkey >"$1.tmp" && sync "$1.tmp" && ln "$1.tmp" "$1" && rm "$1.tmp\""""
"""ln(1) refuses to replace: a key that is there stays, whatever happens at the same time. What was cut off between ln
and rm left a second name of a key that is in use, so that name goes before anything is written to it."""

_CHECK = r"""wg-quick strip "$1" | grep -q '^\[Interface\]' || { echo "wg-quick strip finds nothing" >&2; exit 65; }"""


def plan_keys(topology: Topology, observed: Observed) -> Plan:
    """Make the missing private keys, each on its own host; one that is there is never replaced.

    Raises:
        StepFailed: on some host something is somebody else's (`foreign`), the key file holds no key, a key rotation
            is not settled, or a laptop has the key of a host. Nothing is done on any host then.
    """
    _refuse(topology, observed)
    _refuse_unusable(topology, observed)
    interface = topology.cluster.wireguard.interface
    return filled({host: _key_changes(interface, state) for host, state in observed.seen(WIREGUARD).items()})


def _refuse(topology: Topology, observed: Observed) -> None:
    """What stops all plans alike: a pending way back, what is somebody else's, and a key that two peers have."""
    refuse_pending(observed)
    refuse_foreign(topology, observed)
    _refuse_borrowed(topology, observed)


def _refuse_borrowed(topology: Topology, observed: Observed) -> None:
    """A peer is known by its key: whoever has the key of another one would take its place."""
    owners: dict[str, str] = {}
    for host, state in observed.seen(WIREGUARD).items():
        if state.public_key and owners.setdefault(state.public_key, host) != host:
            path = places.private_key(topology.cluster.wireguard.interface)
            raise StepFailed(
                f"{owners[state.public_key]} and {host} have the same private key: one is a copy of the other machine",
                advice=f"Nothing was done on any host. Move {path} away on the copy and run again: it gets a key.",
            )
    borrowed = {name: owners[one.public_key] for name, one in topology.laptops.items() if one.public_key in owners}
    if borrowed:
        raise StepFailed(
            "\n".join(f"the laptop {name} has the public key of {host}" for name, host in borrowed.items()),
            advice="Nothing was done on any host. Put the laptop's own key into cluster.wireguard.laptops "
            "(inventory/defaults.yaml): wg genkey on the laptop, and what wg pubkey makes of it.",
        )


def _refuse_unusable(topology: Topology, observed: Observed) -> None:
    path = places.private_key(topology.cluster.wireguard.interface)
    seen = observed.seen(WIREGUARD).items()
    unusable = [host for host, state in seen if state.key is not None and not state.key.public_key]
    if unusable:
        raise StepFailed(
            "\n".join(f"{host}: {path} is there but holds no WireGuard key" for host in unusable),
            advice=f"Nothing was done on any host. A key is never replaced: look at {path} on {', '.join(unusable)}; "
            "if it is worthless, move it away and run again.",
        )


def _key_changes(interface: str, state: WireguardState) -> list[Change]:
    path = places.private_key(interface)
    return [generate_key(path)] if state.key is None else _private(path, state.key)


def generate_key(path: str) -> Change:
    """Make a private key on the host itself, readable for root alone."""
    return Run(title=f"make the private key {path}", argv=("sh", "-c", _GENERATE, "generate", path))


def _private(path: str, seen: KeyFile) -> list[Change]:
    if seen.private:
        return []
    argv = ("sh", "-c", 'chown root:root -- "$1" && chmod 0600 -- "$1"', "private", path)
    return [Run(title=f"make {path} readable for root alone (it is {seen.mode:04o} {seen.owner})", argv=argv)]


def new_preshared_key() -> Secret:
    """256 random bits in base64, as `wg genpsk` makes them."""
    return Secret(base64.b64encode(secrets.token_bytes(32)).decode() + "\n")


def plan_preshared_keys(topology: Topology, observed: Observed, make: Callable[[], Secret] = new_preshared_key) -> Plan:
    """Give both ends of every pair that does not share a key yet (in files for root alone) a new one.

    The key is made here and goes to both hosts over ssh, so no secret is ever read back from a host. A run that was cut
    off between the two leaves a pair that does not match; the next run gives both a new one.

    Raises:
        NotObserved: a host could not be looked at. StepFailed: as `plan_keys`.
    """
    _refuse(topology, observed)
    interface = topology.cluster.wireguard.interface
    states = {host: observed.of(WIREGUARD, host) for host in topology.hosts}
    plan: dict[str, list[Change]] = {host: [] for host in topology.hosts}
    for one, other in combinations(topology.hosts, 2) if topology.cluster.wireguard.preshared_keys else ():
        if not is_paired(one, states[one], other, states[other]):
            secret = make()
            plan[one].append(_write_secret(places.preshared_key(interface, other), secret))
            plan[other].append(_write_secret(places.preshared_key(interface, one), secret))
    return filled(plan)


def _write_secret(path: str, secret: Secret) -> Change:
    return WriteFile(path=path, content=secret, seen=FileState(path=path), mode=0o600)


def _stale_keys(topology: Topology, host: str, state: WireguardState) -> list[Change]:
    """Keys shared with hosts that are no peers (any more). What our file never named is somebody else's, and kept."""
    mesh = topology.cluster.wireguard
    peers = {peer.name for peer in topology.peers_of(host)} if mesh.preshared_keys else set()
    before = state.files[places.config(mesh.interface)].content
    return [
        RemoveFile(path=path, seen=FileState(path=path))
        if f" {places.preshared_key('%i', name)}\n" in before
        else Run(title=f"move {path} aside, which is of no peer", argv=("mv", "-f", "--", path, f"{path}.old"))
        for name in sorted(set(state.preshared) - peers)
        for path in [places.preshared_key(mesh.interface, name)]
    ]


def plan_interface(topology: Topology, observed: Observed) -> Plan:
    """Write the interface files and what belongs to them. Nothing that runs is touched.

    Raises:
        NotObserved: a host could not be looked at, so that its peers' files cannot be made.
        StepFailed: a file has to change, and a name in it does not resolve on its host; something is somebody else's;
            or a key rotation is not settled. Nothing is written anywhere then.
    """
    _refuse(topology, observed)
    return filled({host: _interface_changes(topology, observed, host) for host in topology.hosts})


def _interface_changes(topology: Topology, observed: Observed, host: str) -> list[Change]:
    state = observed.of(WIREGUARD, host)
    peers = wanted_peers(topology, observed, host)
    written = _written(topology, host, state, peers)
    config = places.config(topology.cluster.wireguard.interface)
    _resolvable(host, state, peers if written else (), state.files[config].content)
    resolving = places.RESOLVE in state.files
    stale = _without_resolver(state) if state.timer.loaded and not resolving else []
    units = stale or any("/systemd/" in change.path for change in written)
    return [
        *written,
        *_stale_keys(topology, host, state),
        *stale,
        *(_daemon_reload() if units or state.reload_needed else []),
        *(unit(Unit(name=places.TIMER, seen=state.timer, enabled=True, active=True)) if resolving else []),
    ]


def _written(topology: Topology, host: str, state: WireguardState, peers: Sequence[WantedPeer]) -> list[WriteFile]:
    """The files that differ from what they should be."""
    config = places.config(topology.cluster.wireguard.interface)
    changes = [
        WriteFile(
            path=path,
            content=content,
            seen=state.files[path],
            mode=mode,
            validate=_VALIDATE.get(mode, ()),
            provisional=path == config and not all(peer.final for peer in peers),
        )
        for path, (content, mode) in files(topology, host, peers).items()
    ]
    return [change for change in changes if change.needed()]


CHECK_FILE = ("sh", "-c", _CHECK, "check", "{}")
"""Validates an interface file before it replaces the old one: wg-quick(8) reads it."""

_VALIDATE = {0o600: CHECK_FILE, 0o755: ("sh", "-n", "{}")}
"""By mode: the interface file is for root alone, programs are for all."""


def _resolvable(host: str, state: WireguardState, peers: Sequence[WantedPeer], before: str) -> None:
    """Every name that the interface file did not have ``before`` means something; one that it had may be away."""
    names = [peer.endpoint.host for peer in peers if peer.endpoint and peer.endpoint.is_name]
    new = [name for name in dict.fromkeys(names) if f" {name}:" not in before]
    unknown = [name for name in new if not state.resolved.get(name)]
    if unknown:
        raise StepFailed(
            "\n".join(f"{host}: the endpoint {name} does not resolve" for name in unknown),
            advice=f"Nothing was written. Mend the inventory or the DNS; on {host} try: getent ahosts {unknown[0]}",
        )


def _without_resolver(state: WireguardState) -> list[Change]:
    stopped = unit(Unit(name=places.TIMER, seen=state.timer, enabled=False, active=False))
    paths = (places.RESOLVE_TIMER, places.RESOLVE_SERVICE, places.RESOLVE)
    return [*stopped, *(RemoveFile(path=path, seen=FileState(path=path)) for path in paths)]


def _daemon_reload() -> list[Change]:
    return [Run(title="let systemd read its files again", argv=("systemctl", "daemon-reload"))]


def plan_running(topology: Topology, observed: Observed) -> Plan:
    """Bring the interfaces up, and those that run in line, without dropping a tunnel; then forget what a key rotation
    that was cut off left behind.

    Raises:
        NotObserved: a host could not be looked at. StepFailed: something is somebody else's, or a key rotation is not
            settled.
    """
    _refuse(topology, observed)
    return filled({host: _running_changes(topology, observed, host) for host in topology.hosts})


def _running_changes(topology: Topology, observed: Observed, host: str) -> list[Change]:
    state = observed.of(WIREGUARD, host)
    mesh = topology.cluster.wireguard
    wanted = wanted_peers(topology, observed, host)
    enabled = unit(Unit(name=state.service.name, seen=state.service, enabled=True))
    started = _started(mesh.interface, state)
    left = forget_left_over(mesh.interface, state)
    if started or state.interface is None or state.link is None:
        return [*enabled, *started, *left]
    return [
        *enabled,
        *_synchronised(mesh.interface, state, wanted, mesh.port),
        *_link_changes(topology, host, state.link),
        *left,
    ]


def _started(interface: str, state: WireguardState) -> list[Change]:
    """Changes that bring an interface up that is not there, or that does not belong to its unit."""
    name = state.service.name
    if state.interface is None:
        return unit(Unit(name=name, seen=state.service, active=True, restart=state.service.is_active))
    if state.service.is_active:
        return []
    remove = ("ip", "link", "delete", "dev", interface)
    return [
        Run(
            title=f"remove {interface}, which was not started by {name}, and start it anew (about one second)",
            argv=remove,
        ),
        *unit(Unit(name=name, seen=state.service, active=True)),
    ]


def _synchronised(interface: str, state: WireguardState, wanted: Sequence[WantedPeer], port: int) -> list[Change]:
    unknown = unknown_peers(wanted, state.interface) if state.interface else []
    found = [
        *(f"unknown peer {name_of(peer, wanted)}" for peer in unknown),
        *(difference.text for difference in differences(wanted, state, port)),
    ]
    if not found:
        return []
    return [
        Run(
            title=f"bring {interface} in line, tunnels stay: {'; '.join(found)}",
            argv=(places.SYNC, interface),
            provisional=not all(peer.final for peer in wanted),
        )
    ]


def _link_changes(topology: Topology, host: str, link: Link) -> list[Change]:
    """MTU, addresses and the route of a running interface, with ip(8).

    Foreign addresses go first: with one of them the kernel drops those that it took for its secondaries.
    """
    mesh = topology.cluster.wireguard
    own = address(topology, host)
    dev = ("dev", mesh.interface)
    foreign = [other for other in link.addresses if other != own]
    changes = [_ip(f"take {other} from {mesh.interface}", "address", "delete", other, *dev) for other in foreign]
    if not link.up:
        changes.append(_ip(f"set {mesh.interface} up", "link", "set", "up", *dev))
    if link.mtu != mesh.mtu:
        changes.append(_ip(f"set the MTU to {mesh.mtu} (it is {link.mtu})", "link", "set", "mtu", str(mesh.mtu), *dev))
    if own not in link.addresses or foreign:
        changes.append(_ip(f"give {mesh.interface} its address {own}", "address", "replace", own, *dev))
    elif link.up and str(mesh.network) not in link.routes:
        source = str(topology.host(host).wireguard.address)
        route = (str(mesh.network), *dev, "proto", "kernel", "scope", "link", "src", source)
        changes.append(_ip(f"set the route {mesh.network}", "route", "replace", *route))
    return changes


def _ip(title: str, *arguments: str) -> Change:
    return Run(title=title, argv=("ip", *arguments))
