"""One pinned release of K3s on each node: downloaded there or sent from here, verified, and only then put in place."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dockyard.change import Change, Plan, Run, filled, install
from dockyard.errors import StepFailed
from dockyard.observe import Observed
from dockyard.remote import Command
from dockyard.topology import Architecture, K3s, Topology
from tasks.k3s import places
from tasks.k3s.config import server_of, settings
from tasks.k3s.facts import K3S, PACKAGES, NodeHost

RELEASES = "https://github.com/k3s-io/k3s/releases/download"
_FILES = {Architecture.AMD64: "k3s", Architecture.ARM64: "k3s-arm64"}

_INSTALL = """\
set -eu; digest=$1 path=$2 version=$3 link=$4 url=${{5:-}}
install -d -m 0755 -- "$(dirname -- "$path")"
new=$(mktemp -- "$path.XXXXXX"); trap 'rm -f -- "$new"' EXIT
{fetch}
found=$(sha256sum <"$new"); found=${{found%% *}}
[ "$found" = "$digest" ] || {{ echo "its checksum is $found instead of $digest: it was thrown away" >&2; exit 65; }}
chmod 0755 -- "$new"
said=$("$new" --version)
[ -z "$version" ] || [ "${{said#"k3s version $version"}}" != "$said" ] || {{ echo "it says: $said" >&2; exit 65; }}
sync -- "$new"; mv -f -- "$new" "$path"
"""
_DOWNLOAD = """\
curl --fail --silent --show-error --location --proto =https --retry 3 --connect-timeout 20 --output "$new" -- "$url\""""
_RECEIVE = 'cat >"$new"'

_SWITCH = '{ [ ! -e "$2" ] || touch -- "$3"; } && ln -sfn -- "$1" "$2.new" && mv -f -T -- "$2.new" "$2"'
"""Link and rename: there is no moment without a binary. Where there was one, it runs on until the next start."""


def url(k3s: K3s, architecture: Architecture) -> str:
    """Where the release is published; the plus sign in its name has to be escaped."""
    return f"{RELEASES}/{(k3s.version or '').replace('+', '%2B')}/{_FILES[architecture]}"


def digest(topology: Topology, host: str, state: NodeHost) -> str:
    """The SHA-256 that the binary of ``host`` must have.

    Raises:
        StepFailed: K3s has no binary for this machine, or the inventory names no checksum for it.
    """
    found = settings(topology).digest(state.architecture) if state.architecture else None
    if found is None:
        raise StepFailed(
            f"{host} is a {state.machine}, and the inventory has no checksum of K3s for that",
            advice="defaults.cluster.k3s.sha256 has one for each architecture: amd64, arm64.",
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SendBinary:
    """Send a file of this machine to a host, where its checksum is verified before it is put in place."""

    source: Path
    digest: str
    version: str
    provisional: bool = False
    destroys: str = ""

    @property
    def title(self) -> str:
        return f"send K3s, {self.source.name}, SHA-256 {self.digest[:16]}..."

    def diff(self) -> str:
        return f"# {self.title}\n$ install {self.source} {places.stored(self.digest)}"

    def commands(self) -> Sequence[Command]:
        argv = _install_argv(_RECEIVE, self.digest, self.version)
        return [Command(name=self.title, argv=argv, stdin=self.source.read_bytes(), timeout_s=1800)]


def _install_argv(fetch: str, sha256: str, version: str, *where: str) -> tuple[str, ...]:
    script = _INSTALL.format(fetch=fetch)
    return ("sh", "-c", script, "install", sha256, places.stored(sha256), version, places.BINARY, *where)


def plan_binary(topology: Topology, observed: Observed) -> Plan:
    """Install what K3s needs and the pinned release, where there is none yet. Another release is not replaced here.

    A new worker gets no release that is newer than the control plane's: Kubernetes allows no such worker (its skew
    policy).

    Raises:
        StepFailed: see `digest`; or a worker would get another release than the control plane runs.
    """
    states, server = observed.seen(K3S), server_of(topology).name
    wanted = {host: places.stored(digest(topology, host, state)) for host, state in states.items()}
    lacking = [host for host, state in states.items() if not state.binary]
    runs = states[server].binary if server in states else ""
    if lacking and runs and runs != wanted[server]:
        raise StepFailed(
            f"{server} runs another release of K3s than the one that {', '.join(lacking)} would get",
            advice="Upgrade first: python runbooks/k3s_upgrade.py (it does without a worker that has no K3s); "
            "then run this again.",
        )
    return filled({host: [*_tools(state), *_binary(topology, host, state)] for host, state in states.items()})


def _tools(state: NodeHost) -> list[Change]:
    return [install(sorted({PACKAGES[tool] for tool in state.missing}))] if state.missing else []


def _binary(topology: Topology, host: str, state: NodeHost) -> list[Change]:
    return [] if state.binary else [*fetch(topology, host, state), switch(topology, host, state)]


def fetch(topology: Topology, host: str, state: NodeHost) -> list[Change]:
    """Bring the wanted release to a host, beside the one that it runs; nothing when it is there."""
    k3s, sha256 = settings(topology), digest(topology, host, state)
    if places.stored(sha256) in state.stored:
        return []
    if k3s.binary:
        return [SendBinary(source=k3s.binary, digest=sha256, version=k3s.version or "")]
    assert state.architecture, "digest() refuses others"
    source = url(k3s, state.architecture)
    argv = _install_argv(_DOWNLOAD, sha256, k3s.version or "", source)
    return [Run(title=f"download K3s {k3s.version} and verify it", argv=argv, timeout_s=1800)]


def switch(topology: Topology, host: str, state: NodeHost) -> Change:
    """Let the wanted release run from the next start on."""
    path = places.stored(digest(topology, host, state))
    argv = ("sh", "-c", _SWITCH, "switch", path, places.BINARY, places.STALE)
    return Run(title=f"let {shlex.quote(places.BINARY)} be {path}", argv=argv)
