"""Who listens where others than the mesh can reach: on every host nothing but ssh and WireGuard, unless you say why.

A wildcard counts as public, and so does an address in a LAN. Loopback, the mesh address and sockets that are bound to
either interface do not. A firewall in front of a socket is not looked at: it is one mistake away from being open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Address, ip_address

from dockyard.findings import Cause, Finding
from dockyard.observe import Domain, Observed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, K3s, Protocol, Role, Topology
from dockyard.unseen import unseen
from tasks.machine.sockets import Listening, Socket, read_sockets

WILDCARDS = {"*", "0.0.0.0", "::"}
_PROBE = "sockets"
_SSH = {"sshd", "systemd"}
"""With socket activation it is systemd that listens for sshd (ssh.socket)."""

_DHCP_PORTS = {68, 546}
_DHCP_CLIENTS = {"dhclient", "dhcpcd", "systemd-network", "NetworkManager", "udhcpc", "connmand"}
"""A host that gets its address by DHCP has to hear the answer; names as ss(8) has them, 15 bytes at the most."""

_EPHEMERAL = range(32768, 61000)
"""Ports that the kernel hands out by itself (ip_local_port_range, ip-sysctl.rst): a UDP socket there that belongs to a
process is one that waits for an answer, as a resolver's does."""

_POD_BRIDGE = "cni0"
"""The pods of K3s on this host, and nobody else, are behind this bridge, with addresses of cluster.k3s.pods."""

_FLANNEL_PORT = 8472
"""VXLAN: the kernel listens on all addresses there, whatever flannel is told. tasks/k3s keeps others away from it."""

_LIBVIRT_NETWORK = IPv4Network("192.168.122.0/24")
"""libvirt's network ``default``, behind the bridge virbr0; its dnsmasq speaks to the virtual machines only."""

_ADVICE = {
    "systemd-resolve": "LLMNR=no and MulticastDNS=no in /etc/systemd/resolved.conf.d/, then restart systemd-resolved",
    "avahi-daemon": "systemctl disable --now avahi-daemon.socket avahi-daemon.service",
    "rpcbind": "systemctl disable --now rpcbind.socket rpcbind.service",
    "cups-browsed": "systemctl disable --now cups-browsed.service",
    "ollama": "python runbooks/phase1_baseline.py gives it the mesh address (cluster.ollama)",
}

_MULTICAST_DNS = {"systemd-resolve", "avahi-daemon"}


def _probes(_topology: Topology, _host: Host) -> Sequence[Command]:
    return [Command(_PROBE, ("ss", "-H", "-ltnup"))]


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> Listening:
    return read_sockets(outputs.text(_PROBE))


LISTENING = Domain("listening sockets", _probes, _read)


def holders(topology: Topology, observed: Observed, host: str, port: int) -> list[str] | None:
    """Who listens at ``port`` of the host's mesh address, or keeps others from it: ``pihole-FTL (udp 0.0.0.0:53)``.

    None: nobody could look.
    """
    taken = WILDCARDS | {str(topology.host(host).wireguard.address)}
    state = observed.seen(LISTENING).get(host)
    if state is None:
        return None
    there = [one for one in state.sockets if one.port == port and one.address in taken and not one.interface]
    return [f"{_name(socket)} ({socket})" for socket in there]


def check_exposure(topology: Topology, observed: Observed) -> list[Finding]:
    """One finding for each process that listens on a public address without a reason."""
    found = unseen(observed, LISTENING, Cause.EXPOSURE)
    for name, state in observed.seen(LISTENING).items():
        found += _exposed(topology, topology.host(name), state)
    return found


def _exposed(topology: Topology, host: Host, state: Listening) -> Iterator[Finding]:
    public: dict[str, list[Socket]] = defaultdict(list)
    for socket in state.sockets:
        if not (_inside(topology, host, socket) or _meant(topology, host, socket)):
            public[_name(socket)].append(socket)
    for name, sockets in public.items():
        yield Finding(
            cause=Cause.EXPOSURE,
            host=host.name,
            fault=f"{name} listens on a public address",
            evidence=", ".join(map(str, sockets)) + _pids(sockets),
            advice=_advice(topology, host, name, sockets[0]),
        )


def _inside(topology: Topology, host: Host, socket: Socket) -> bool:
    """Whether only this machine and the mesh can reach it."""
    runs_pods = host.is_k3s_node
    if socket.interface in {"lo", topology.cluster.wireguard.interface, *([_POD_BRIDGE] if runs_pods else [])}:
        return True
    if socket.address in WILDCARDS:
        return False
    address = ip_address(socket.address)
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    pods = (topology.cluster.k3s or K3s()).pods
    return address.is_loopback or address == host.wireguard.address or (runs_pods and address in pods)


def _meant(topology: Topology, host: Host, socket: Socket) -> bool:
    """Whether this one belongs on a public address."""
    meant = {(one.proto, one.port) for one in (*topology.cluster.exposed, *host.exposed)}
    if (socket.protocol, socket.port) in meant:
        return True
    names = {process.name for process in socket.processes}
    if socket.protocol is Protocol.TCP:
        return _is_ssh(host, socket, names) or _is_libvirt(host, socket, names)
    if not names or socket.port == topology.cluster.wireguard.port:
        return not names and socket.port in _kernel_ports(topology, host)
    is_dhcp = socket.port in _DHCP_PORTS and names <= _DHCP_CLIENTS
    return is_dhcp or socket.port in _EPHEMERAL or _is_libvirt(host, socket, names)


def _kernel_ports(topology: Topology, host: Host) -> set[int]:
    """UDP ports of the kernel's own: WireGuard's, and flannel's on nodes of K3s, which a table keeps to the mesh."""
    return {topology.cluster.wireguard.port} | ({_FLANNEL_PORT} if host.is_k3s_node else set())


def _is_ssh(host: Host, socket: Socket, names: set[str]) -> bool:
    return socket.port in {22, host.port} and bool(names) and names <= _SSH


def _is_libvirt(host: Host, socket: Socket, names: set[str]) -> bool:
    if Role.LIBVIRT not in host.roles or names != {"dnsmasq"}:
        return False
    inner = socket.address not in WILDCARDS and ip_address(socket.address) in _LIBVIRT_NETWORK
    return inner or socket.interface.startswith("virbr")


def _name(socket: Socket) -> str:
    return socket.processes[0].name if socket.processes else "the kernel"


def _pids(sockets: Sequence[Socket]) -> str:
    pids = sorted({process.pid for socket in sockets for process in socket.processes})
    return f" (process {', '.join(map(str, pids))})" if pids else ""


def _advice(topology: Topology, host: Host, name: str, socket: Socket) -> str:
    elsewhere = f"on {host.wireguard.address} at a port that Dockyard does not use itself"
    mend = _ADVICE.get(name, f"Stop it, or let it listen on 127.0.0.1 only, or {elsewhere}")
    entry = f"{{port: {socket.port}, proto: {socket.protocol}, why: ...}}"
    purpose = f"If it is public on purpose, say why: exposed: [{entry}] for {host.name} in the inventory"
    return f"{_before(topology, host, name)}{mend}. {purpose}"


def _before(topology: Topology, host: Host, name: str) -> str:
    """What has to be done before ``name`` is switched off: the way to a host may hang on it."""
    hanging = _multicast_names(topology, host) if name in _MULTICAST_DNS else []
    if not hanging:
        return ""
    names = " and ".join(hanging)
    return f"First, in hosts.yaml, an address or a DNS name for {names}, which leads nowhere without it; then "


def _multicast_names(topology: Topology, host: Host) -> list[str]:
    """Names of the inventory that the host answers for, or asks for in its LAN, by multicast DNS (RFC 6762)."""
    neighbours = [one.wireguard.lan for one in topology.hosts.values() if one.site == host.site]
    names = dict.fromkeys(name for name in (host.hostname, *neighbours) if name)
    return [name for name in names if name.lower().rstrip(".").endswith(".local")]
