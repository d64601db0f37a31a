"""Which release of K3s a node has: told by the name of its file, so that nothing of K3s is started or asked for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from dockyard.observe import Domain, Observed
from dockyard.remote import Command, Outputs
from dockyard.topology import Architecture, Host, Topology
from tasks.k3s import places
from tasks.k3s.facts import is_node

_PROBE = "k3s release"


def _probes(_topology: Topology, _host: Host) -> Sequence[Command]:
    return [Command(_PROBE, ("readlink", places.BINARY), accepts=frozenset({0, 1}))]


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> str:
    return outputs.text(_PROBE).strip()


RELEASE = Domain(_PROBE, _probes, _read, is_node)
"""The file behind `places.BINARY`; "" for none."""


def named(topology: Topology, binary: str) -> str:
    """The version that the inventory pins, where ``binary`` is that release; else the name of the file."""
    k3s = topology.cluster.k3s
    digests = [k3s.digest(one) for one in Architecture] if k3s and k3s.version else []
    if k3s and k3s.version and binary in {places.stored(digest) for digest in digests if digest}:
        return k3s.version
    return PurePosixPath(binary).name


def versions(topology: Topology, observed: Observed, host: str) -> dict[str, str]:
    """What evidence says of K3s: the release of ``host``, nothing where it has none."""
    binary = observed.seen(RELEASE).get(host)
    return {"k3s": named(topology, binary)} if binary else {}
