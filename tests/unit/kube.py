"""K3s on the lab's hosts as data: an inventory that wants it, nodes and objects that are as planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dockyard.change import UnitState
from dockyard.files import FileState
from dockyard.observe import Observed
from dockyard.service import unit_file
from dockyard.topology import Architecture, K3s, OpenCloud, Topology, VolumeRoot
from runbooks.phase1_baseline import MANIFESTS
from tasks.k3s import K3S, NODES, OBJECTS, STRANGER, Api, NodeHost, Objects, places
from tasks.k3s.config import texts
from tasks.k3s.facts import TokenSeen, unit_of
from tasks.k3s.nodes import Condition, Effect, Node, Nodes, Taint, Truth
from tasks.k3s.objects import documents
from tests.unit.meshes import topology as lab

DIGEST = "0f" * 32
VERSION = "v1.33.5+k3s1"
LOAD, PROD, MIRROR = NODE_NAMES = ("dock-load", "dock-prod", "dock-mirror")
STANDBY = Taint(key=places.STANDBY_TAINT, value="true", effect=Effect.NO_SCHEDULE)
IMAGE = "docker.io/opencloudeu/opencloud-rolling:8.0.1"


def topology(*, mounted: bool = False, opencloud: bool = True, **parts: Any) -> Topology:
    """The lab with K3s (parts of `K3s` by name) and OpenCloud."""
    base = lab()
    k3s = K3s(version=VERSION, sha256={Architecture.AMD64: DIGEST}, volumes=VolumeRoot(mounted=mounted))
    cluster = replace(base.cluster, k3s=replace(k3s, **parts), opencloud=OpenCloud(image=IMAGE) if opencloud else None)
    return replace(base, cluster=cluster)


def unit(name: str, active: str = "active", enabled: str = "enabled") -> UnitState:
    return UnitState(name=name, loaded=bool(enabled), active=active, enabled=enabled)


def bare(cluster: Topology, host: str) -> NodeHost:
    """A host on which nothing of K3s is."""
    name = unit_of(cluster.host(host))
    paths = (places.CONFIG, places.GUARD, unit_file(name))
    return NodeHost(
        architecture=Architecture.AMD64,
        machine="x86_64",
        unit=unit(name, "inactive", ""),
        files={path: FileState(path=path) for path in paths},
    )


def planned(cluster: Topology, host: str) -> NodeHost:
    """A node as it is after phase 1."""
    files = {
        path: FileState(path=path, kind="regular file", mode=mode, owner="root", group="root", content=text)
        for path, (text, mode) in texts(cluster, cluster.host(host)).items()
    }
    token = TokenSeen(fingerprint="0123456789abcdef", private=True)
    address = cluster.host(host).wireguard.address
    ports = (places.KUBELET_PORT, places.API_PORT) if host == LOAD else (places.KUBELET_PORT,)
    return replace(
        bare(cluster, host),
        unit=unit(unit_of(cluster.host(host))),
        files=files,
        binary=places.stored(DIGEST),
        stored=frozenset({places.stored(DIGEST)}),
        token=None if host == LOAD else token,
        server_token=token if host == LOAD else None,
        guarded=True,
        listening=tuple(f"{address}:{port}" for port in ports),
        volumes={"/srv/k3s/opencloud": "opencloud"} if host == PROD else {},
    )


def node(cluster: Topology, host: str, **parts: Any) -> Node:
    """A node as the API has it after phase 1; parts of `Node` by name."""
    ready = Condition(status=Truth.TRUE, reason="KubeletReady", message="kubelet is posting ready status")
    made = Node(
        name=host,
        ready=Truth.TRUE,
        unschedulable=False,
        roles=(),
        version=VERSION,
        internal_ip=str(cluster.host(host).wireguard.address),
        external_ip="",
        os_image="Debian",
        kernel="6.12",
        runtime="containerd://2",
        detailed=True,
        labels={places.STORAGE_LABEL: places.HERE} if host == PROD else {},
        taints=(STANDBY,) if host == MIRROR else (),
        conditions={"Ready": ready},
    )
    return replace(made, **parts)


def api(cluster: Topology, **changed: Mapping[str, Any]) -> Api:
    """All three nodes; of one (``_`` for ``-``) other parts."""
    parts = {name.replace("_", "-"): found for name, found in changed.items()}
    return Api(
        answers=True, nodes=Nodes(nodes={host: node(cluster, host, **parts.get(host, {})) for host in NODE_NAMES})
    )


def objects(cluster: Topology, carrier: str = PROD) -> Objects:
    """Everything applied, as it was wanted, and a pod that runs."""
    live: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for manifests in MANIFESTS:
        for text in manifests(cluster, carrier).values():
            for one in documents(text):
                live[one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]] = one
    return Objects(answers=True, live={**live, ("Pod", "opencloud", "opencloud-1"): pod(carrier)})


def pod(host: str, *, ready: bool = True, **status: Any) -> dict[str, Any]:
    """A pod on ``host``, as the API has it."""
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "kind": "Pod",
        "metadata": {"name": "opencloud-1", "namespace": "opencloud"},
        "spec": {"nodeName": host},
        "status": {"phase": "Running", "conditions": conditions, **status},
    }


def observed(
    cluster: Topology,
    hosts: Mapping[str, object] | None = None,
    *,
    nodes: object = None,
    live: object = None,
    **domains: Mapping[str, object],
) -> Observed:
    """As a sweep would return it; other domains by name (``_`` for a blank)."""
    states = hosts if hosts is not None else {host: planned(cluster, host) for host in NODE_NAMES}
    found: dict[str, dict[str, object]] = {host: {K3S.name: state} for host, state in states.items()}
    found.setdefault(LOAD, {})[NODES.name] = nodes or api(cluster)
    found[LOAD][OBJECTS.name] = live or objects(cluster)
    for host in ("dock-dash", "dock-edge"):
        found[host] = {STRANGER.name: ()}
    for name, seen in domains.items():
        for host, state in seen.items():
            found.setdefault(host, {})[name.replace("_", " ")] = state
    return Observed(found)
