"""What is seen of K3s on one node without asking the API: files, token, unit, and where it listens.

A token is seen by the first 16 digits of its SHA-256 only: enough to tell whether two are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dockyard.change import UnitState, unit_probe
from dockyard.files import FileState, read_file
from dockyard.observe import Domain
from dockyard.parsing import Printed, Row, first
from dockyard.remote import Command, Outputs
from dockyard.service import unit_file
from dockyard.topology import Architecture, Host, Role, Topology
from tasks.k3s import places

PROBE = "k3s facts"
PACKAGES = {"curl": "curl", "nft": "nftables", "chattr": "e2fsprogs", "openssl": "openssl"}
"""Commands, and the Debian packages that hold them."""

_MACHINES = {"x86_64": Architecture.AMD64, "aarch64": Architecture.ARM64}

_ASK = f"""\
say() {{{{ printf '%s|%s|%s\\n' "$1" "$2" "$3"; }}}}
secret() {{{{ [ ! -s "$2" ] || say "$1" "$(stat -c %a:%U "$2")" "$(sha256sum <"$2" | cut -c 1-16)"; }}}}
for tool in {" ".join(PACKAGES)}; do command -v "$tool" >/dev/null || say missing "$tool" ''; done
say architecture '' "$(uname -m)"
case $(readlink {places.BINARY}) in
{places.stored("?" * 16)}) [ ! -x {places.BINARY} ] || say binary '' "$(readlink {places.BINARY})" ;;
*) [ ! -e {places.BINARY} ] || say foreign '' {places.BINARY} ;;
esac
for file in {places.stored("?" * 16)}; do [ ! -x "$file" ] || say stored '' "$file"; done
[ ! -e {places.STALE} ] || say stale '' yes
[ ! -e {places.RENEWED} ] || say renewed '' yes
secret token {places.TOKEN}
secret server-token {places.SERVER_TOKEN}
ss -H -l -n -t '( sport = :{places.API_PORT} or sport = :{places.KUBELET_PORT} )' |
while read -r _ _ _ local _; do say listen '' "$local"; done
if mountpoint -q {{root}}; then say mounted '' yes
elif [ -d {{root}} ]; then case $(lsattr -d {{root}} 2>/dev/null) in *i*\\ *) say closed '' yes ;; esac
fi
! nft list table {" ".join(places.GUARD_TABLE)} >/dev/null 2>&1 || say guarded '' yes
[ ! -e {places.FLANNEL} ] || say mtu '' "$(sed -n 's/^FLANNEL_MTU=\\([0-9]*\\)$/\\1/p' {places.FLANNEL})"
[ ! -e {places.FLANNEL} ] || [ -e /sys/class/net/{places.FLANNEL_DEVICE} ] || say severed '' yes
for file in {" ".join(places.CERTIFICATES)}; do
  [ ! -s "$file" ] || openssl x509 -noout -checkend {places.RENEW_S} -in "$file" >/dev/null ||
    say expiring "$file" "$(openssl x509 -noout -enddate -in "$file" | cut -d = -f 2)"
done
for folder in {places.SNAPSHOTS}/*/; do
  [ ! -s "$folder/token" ] || {{{{ folder=${{{{folder%/}}}}; say snapshot '' "${{{{folder##*/}}}}"; }}}}
done
[ ! -s {places.RESTORED} ] || say restored '' "$(cat {places.RESTORED})"
for file in {{root}}/*/{places.MARKER}; do
  [ ! -e "$file" ] || {{{{ read -r text <"$file"; say volume "${{{{file%/*}}}}" "$text"; }}}}
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSeen:
    """A token's file: its fingerprint, and whether root alone may read it."""

    fingerprint: str
    private: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeHost:
    """One node as its host sees it.

    ``architecture`` is None where K3s has no binary for it; ``machine`` is what uname(1) calls it. ``binary`` is the
    file that runs from the next start on ("" for none; ``stale``: that start is still to come), ``stored`` are all that
    are there; ``foreign`` is what lies in its place and is not ours. ``server_token`` is the one that K3s made on the
    control plane; ``renewed`` says that a worker was not started yet with the token that it got last. ``listening`` are
    the addresses of API and kubelet, with their ports; ``guarded`` says that the table is loaded which keeps others
    from them, ``severed`` that flannel had made its device, and that it is gone; ``mtu`` is what flannel gives to pods,
    None where it has not said so. ``mounted`` says whether something is mounted where the volumes are, ``closed`` that
    nothing is and nobody can write there; ``volumes`` holds the text of each one's marker by path. ``snapshots`` are
    those of the control plane, by name, ``restored`` the one that it was put back to last, with the run that did it.
    ``expiring`` are certificates by path that K3s would renew at a start, with their end as openssl(1) writes it.
    """

    architecture: Architecture | None
    machine: str
    unit: UnitState
    missing: frozenset[str] = frozenset()
    binary: str = ""
    foreign: str = ""
    stale: bool = False
    renewed: bool = False
    stored: frozenset[str] = frozenset()
    token: TokenSeen | None = None
    server_token: TokenSeen | None = None
    listening: tuple[str, ...] = ()
    guarded: bool = False
    severed: bool = False
    mtu: int | None = None
    mounted: bool = False
    closed: bool = False
    volumes: Mapping[str, str] = field(default_factory=dict)
    snapshots: tuple[str, ...] = ()
    restored: str = ""
    expiring: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FileState] = field(default_factory=dict)


def is_node(topology: Topology, host: Host) -> bool:
    """Whether K3s runs on ``host``, as the inventory wants it."""
    return topology.cluster.k3s is not None and host.is_k3s_node


def unit_of(host: Host) -> str:
    """The unit that runs on a node."""
    return places.SERVER if Role.K3S_SERVER in host.roles else places.AGENT


def _paths(host: Host) -> list[str]:
    return [places.CONFIG, places.GUARD, unit_file(unit_of(host))]


def _probes(topology: Topology, host: Host) -> Sequence[Command]:
    assert topology.cluster.k3s, "concerns only nodes"
    script = _ASK.format(root=topology.cluster.k3s.volumes.path)
    return [Command(PROBE, ("sh", "-c", script)), *map(read_file, _paths(host)), unit_probe(unit_of(host))]


def _read(_topology: Topology, host: Host, outputs: Outputs) -> NodeHost:
    return replace(
        read_facts(outputs.text(PROBE), UnitState.of(outputs, unit_of(host))),
        files={path: FileState.of(outputs, path) for path in _paths(host)},
    )


def read_facts(text: str, unit: UnitState) -> NodeHost:
    """What the probe printed; raises ParseError for anything unknown."""
    printed = Printed(PROBE, text)
    rows = printed.rows("k3s_facts")
    machine = first(rows, "architecture")
    if not machine:
        raise printed.error(0, "does not name the architecture")
    return NodeHost(
        architecture=_MACHINES.get(machine),
        machine=machine,
        unit=unit,
        missing=frozenset(row["name"] for row in rows if row["kind"] == "missing"),
        binary=first(rows, "binary"),
        foreign=first(rows, "foreign"),
        stale=bool(first(rows, "stale")),
        renewed=bool(first(rows, "renewed")),
        stored=frozenset(_all(rows, "stored")),
        token=_token(rows, "token"),
        server_token=_token(rows, "server-token"),
        listening=tuple(_all(rows, "listen")),
        guarded=bool(first(rows, "guarded")),
        severed=bool(first(rows, "severed")),
        mtu=int(first(rows, "mtu") or 0) or None,
        mounted=bool(first(rows, "mounted")),
        closed=bool(first(rows, "closed")),
        snapshots=tuple(_all(rows, "snapshot")),
        restored=first(rows, "restored"),
        expiring={row["name"]: row["value"] for row in rows if row["kind"] == "expiring"},
        volumes={row["name"]: row["value"] for row in rows if row["kind"] == "volume"},
    )


K3S = Domain("k3s", _probes, _read, is_node)


def _all(rows: Sequence[Row], kind: str) -> list[str]:
    return [row["value"] for row in rows if row["kind"] == kind]


def _token(rows: Sequence[Row], kind: str) -> TokenSeen | None:
    found = next((row for row in rows if row["kind"] == kind), None)
    if found is None:
        return None
    return TokenSeen(fingerprint=found["value"], private=found["name"] in {"600:root", "400:root"})
