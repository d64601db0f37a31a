"""What is seen of WireGuard on one host: interface, keys (never their secret part), files, units.

The answers come out of one exec. `wg show all dump` prints private and preshared keys, so they are hidden on the host
before anything leaves it; of a preshared key only the first 16 digits of its SHA-256 are seen, enough to tell whether
both ends of a pair hold the same 256 random bits.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dockyard.change import UnitState, unit_probe
from dockyard.errors import ParseError
from dockyard.files import FileState, read_file
from dockyard.links import Family, Route, read_addresses, read_routes
from dockyard.links import Link as IpLink
from dockyard.observe import Domain
from dockyard.parsing import Printed, Row
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Topology
from tasks.wireguard import conf, places
from tasks.wireguard.overlap import Overlap, overlaps
from tasks.wireguard.running import Interface, read_dump


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The same interface for ip(8): MTU in bytes, IPv4 addresses as ``10.20.0.1/24``, destinations of its routes."""

    mtu: int
    up: bool
    addresses: tuple[str, ...]
    routes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFile:
    """A file that is for root alone; ``owner`` is ``user:group``."""

    mode: int
    owner: str

    @property
    def private(self) -> bool:
        return self.mode & 0o077 == 0 and self.owner == "root:root"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFile(SecretFile):
    """A private key's file, known by its public key; ``""`` when the file holds no key."""

    public_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresharedKeyFile(SecretFile):
    """The file of the key shared with one peer, known by its fingerprint; ``""`` when it holds no key."""

    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WireguardState:
    """Everything that plans and checks of the mesh need to know about one host.

    ``now`` is the host's clock, in seconds since the epoch. ``loaded`` says which peer's preshared key file holds what
    the running interface uses, by public key. ``resolved`` has the addresses that endpoint names mean on this host.
    Of a key rotation: ``next_key`` is a new private key that waits for it, ``kept`` names the files that hold the old
    state, ``key_renewed`` says that the key among them is another one than that of today, and ``armed_s`` for how many
    seconds the way back has been pending (None: it is not). ``overlaps`` is what other devices have inside the networks
    of the cluster.
    """

    now: int
    interface: Interface | None
    link: Link | None
    key: KeyFile | None
    preshared: Mapping[str, PresharedKeyFile]
    loaded: Mapping[str, str]
    files: Mapping[str, FileState]
    service: UnitState
    timer: UnitState
    reload_needed: bool
    next_key: KeyFile | None = None
    kept: tuple[str, ...] = ()
    key_renewed: bool = False
    armed_s: int | None = None
    resolved: Mapping[str, frozenset[str]] = field(default_factory=dict)
    overlaps: tuple[Overlap, ...] = ()

    @property
    def public_key(self) -> str:
        """The key that this host's peers must know it by: the one in its file. ``""`` while there is none."""
        return self.key.public_key if self.key else ""


_DUMP = r"""command -v wg >/dev/null || [ -n "$(ip -o link show type wireguard)" ] || exit 0
dump=$(wg show all dump) || exit
[ -z "$dump" ] || printf '%s\n' "$dump" | awk -F'\t' -v OFS='\t' '
NF == 5 { if ($2 != "(none)") $2 = "(hidden)"; print; next }
NF == 9 { if ($3 != "(none)") $3 = "(hidden)"; print; next }
{ print "(a line of " NF " fields)" }'"""
"""A host without wireguard-tools and without an interface has nothing to show: phase 1 has yet to install them."""

_FILES = r"""i={interface}; d=/etc/wireguard
printf 'now||||%s\n' "$(date +%s)"
printf 'reload||||%s\n' "$(echo $(systemctl show -p NeedDaemonReload --value "wg-quick@$i.service" {units}))"
for key in "$i.key" "$i.key.new"; do
  [ -e "$d/$key" ] || continue
  public=$(wg pubkey <"$d/$key" 2>/dev/null) || public=
  stat -L -c "key|$key|%a|%U:%G|$public" -- "$d/$key"
done
for old in "$i.conf.old" "$i.key.old"; do
  [ -e "$d/$old" ] || continue
  cmp -s -- "$d/$old" "$d/${{old%.old}}" && printf 'old|%s|||same\n' "$old" || printf 'old|%s|||other\n' "$old"
done
for state in $(systemctl show -p ActiveState --value {back}.timer {back}.service); do
  case $state in inactive|failed) continue ;; esac
  since=$(systemctl show -p ActiveEnterTimestampMonotonic --value {back}.timer); read -r up rest </proc/uptime
  printf 'armed||||%s\n' "$(( ${{up%.*}} - ${{since:-0}} / 1000000 ))"; break
done
running=$(wg show "$i" preshared-keys 2>/dev/null) || running=
for file in "$d/$i"-*.psk; do
  [ -e "$file" ] || continue
  peer=${{file#"$d/$i-"}}; peer=${{peer%.psk}}; secret=; read -r secret <"$file"; sum=
  [ -z "$secret" ] || {{ sum=$(printf '%s' "$secret" | sha256sum); sum=${{sum%"${{sum#????????????????}}"}}; }}
  stat -L -c "psk|$peer|%a|%U:%G|$sum" -- "$file"
  [ -z "$secret" ] || printf '%s\n' "$running" | while read -r public key; do
    [ "$key" != "$secret" ] || printf 'loaded|%s|||%s\n' "$public" "$peer"
  done
done
"""

_RESOLVE = r"""for name in {names}; do
  ( found=$(timeout 15 getent ahosts "$name" | awk '$2 == "STREAM" {{ printf "%s ", $1 }}')
    printf 'resolved|%s|||%s\n' "$name" "$found" ) &
done; wait
"""


def probes(topology: Topology, host: Host) -> Sequence[Command]:
    """The commands that `read` understands."""
    interface = topology.cluster.wireguard.interface
    names = endpoint_names(topology, host.name)
    files = _FILES.format(interface=shlex.quote(interface), units=places.TIMER if names else "", back=places.BACK_UNIT)
    resolve = _RESOLVE.format(names=shlex.join(names)) if names else ""
    return [
        Command("wg show all dump", ("sh", "-c", _DUMP)),
        Command("wireguard files", ("sh", "-c", files + resolve), timeout_s=30),
        Command("ip address", ("ip", "-j", "address", "show")),
        Command("ip route", ("ip", "-j", "-4", "route", "show")),
        *(_probe_file(interface, path) for path in places.files(interface, resolving=bool(names))),
        unit_probe(places.service(interface)),
        unit_probe(places.TIMER),
    ]


def _probe_file(interface: str, path: str) -> Command:
    return conf.probe(path) if path == places.config(interface) else read_file(path)


def endpoint_names(topology: Topology, host: str) -> list[str]:
    """The host names (not addresses) among the endpoints that ``host`` uses, each once."""
    endpoints = (topology.endpoint(host, peer.name) for peer in topology.peers_of(host))
    return sorted({endpoint.host for endpoint in endpoints if endpoint and endpoint.is_name})


def read(topology: Topology, host: Host, outputs: Outputs) -> WireguardState:
    """The state of one host.

    Raises:
        CommandFailed, ToolMissing: a probe failed, for instance because wireguard-tools is not installed.
        ParseError: a tool printed something unknown.
    """
    mesh = topology.cluster.wireguard
    interface = mesh.interface
    links, routes = read_addresses(outputs.text("ip address")), read_routes(outputs.text("ip route"))
    facts = Printed("wireguard files", outputs.text("wireguard files")).rows("wireguard_files")
    return WireguardState(
        now=int(_one(facts, "now")),
        interface=_running(outputs).get(interface),
        link=_link(interface, links, routes),
        key=_key(facts, f"{interface}.key"),
        next_key=_key(facts, f"{interface}.key.new"),
        kept=tuple(_values(facts, "old")),
        key_renewed=_values(facts, "old").get(f"{interface}.key.old") == "other",
        armed_s=next((int(seconds) for seconds in _values(facts, "armed").values()), None),
        preshared=_preshared(facts),
        loaded=_values(facts, "loaded"),
        files=_files(topology, host, outputs),
        service=UnitState.of(outputs, places.service(interface)),
        timer=UnitState.of(outputs, places.TIMER),
        reload_needed="yes" in _one(facts, "reload"),
        resolved={name: frozenset(found.split()) for name, found in _values(facts, "resolved").items()},
        overlaps=overlaps(topology, host, links, routes),
    )


WIREGUARD = Domain("wireguard", probes, read)


def _running(outputs: Outputs) -> Mapping[str, Interface]:
    running = read_dump(outputs.text("wg show all dump"))
    if not running.complete:
        raise ParseError("wg show all dump", 0, "", "", why="ends in the middle of a line")
    return running.interfaces


def _values(facts: Sequence[Row], kind: str) -> dict[str, str]:
    """The values of one kind by name, in their order."""
    return {fact["name"]: fact["value"] for fact in facts if fact["kind"] == kind}


def _one(facts: Sequence[Row], kind: str) -> str:
    for value in _values(facts, kind).values():
        return value
    raise ParseError("wireguard files", 0, "", f"no line begins with {kind}|")


def _key(facts: Sequence[Row], name: str) -> KeyFile | None:
    for fact in facts:
        if fact["kind"] == "key" and fact["name"] == name:
            return KeyFile(mode=int(fact["mode"], 8), owner=fact["owner"], public_key=fact["value"])
    return None


def _preshared(facts: Sequence[Row]) -> dict[str, PresharedKeyFile]:
    return {
        fact["name"]: PresharedKeyFile(mode=int(fact["mode"], 8), owner=fact["owner"], fingerprint=fact["value"])
        for fact in facts
        if fact["kind"] == "psk"
    }


def _files(topology: Topology, host: Host, outputs: Outputs) -> dict[str, FileState]:
    interface = topology.cluster.wireguard.interface
    config = places.config(interface)
    paths = places.files(interface, resolving=bool(endpoint_names(topology, host.name)))
    return {path: conf.read(outputs, path) if path == config else FileState.of(outputs, path) for path in paths}


def _link(interface: str, links: Sequence[IpLink], routes: Sequence[Route]) -> Link | None:
    for link in links:
        if link.name == interface:
            return Link(
                mtu=link.mtu,
                up=link.up,
                addresses=tuple(str(address) for address in link.addresses if address.family is Family.IPV4),
                routes=tuple(route.destination for route in routes if interface in route.devices),
            )
    return None
