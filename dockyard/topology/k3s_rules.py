"""What must be true of K3s and of what runs on it, in the manner of `dockyard.topology.rules`."""

from __future__ import annotations

from collections.abc import Iterator

from dockyard.errors import Problem
from dockyard.topology.draft import Draft, Rule
from dockyard.topology.model import Role

_LEAST_MINOR = 31
"""github.com/k3s-io/k3s/pull/10480: before, a kubelet on one address could not be asked for logs."""


def k3s_binary(draft: Draft) -> Iterator[Problem]:
    """What is installed is pinned, and can be verified; a file that is to be sent is there."""
    k3s, path = draft.cluster.k3s if draft.cluster else None, "defaults.cluster.k3s"
    if k3s is None:
        return
    if k3s.binary is None and (k3s.version is None or not k3s.sha256):
        yield Problem(path, "version and sha256 say what is downloaded; or give binary, a file on this machine")
    if k3s.binary and not k3s.binary.is_file():
        yield Problem(f"{path}.binary", f"there is no file {k3s.binary}")
    if k3s.version and int(k3s.version.split(".")[1]) < _LEAST_MINOR:
        yield Problem(
            f"{path}.version", f"{k3s.version} is too old: bind-address covers the kubelet since v1.{_LEAST_MINOR}"
        )


def k3s_networks(draft: Draft) -> Iterator[Problem]:
    """Pods and services have addresses of their own."""
    k3s = draft.cluster.k3s if draft.cluster else None
    if k3s and k3s.pods.overlaps(k3s.services):
        yield Problem("defaults.cluster.k3s.services", f"{k3s.services} overlaps {k3s.pods}, the network of the pods")


def volumes(draft: Draft) -> Iterator[Problem]:
    """Volumes that lie on the replicated storage are nowhere when it is not mounted."""
    k3s, drbd = (draft.cluster.k3s, draft.cluster.drbd) if draft.cluster else (None, None)
    if not k3s or not drbd or not f"{k3s.volumes.path}/".startswith(f"{drbd.mount}/"):
        return
    path = "defaults.cluster.k3s.volumes"
    if k3s.volumes.path != drbd.mount:
        yield Problem(f"{path}.path", f"inside of cluster.drbd.mount it can only be {drbd.mount} itself")
    elif not k3s.volumes.mounted:
        yield Problem(f"{path}.mounted", f"must be true: {drbd.mount} is mounted on the writer only")


def opencloud(draft: Draft) -> Iterator[Problem]:
    """OpenCloud runs on K3s, on exactly one worker, which carries the service of that name."""
    if not draft.cluster or draft.cluster.opencloud is None:
        return
    if draft.cluster.k3s is None:
        yield Problem("defaults.cluster.opencloud", "runs on K3s, but defaults.cluster.k3s is missing")
    hosts = draft.having(Role.OPENCLOUD)
    if not hosts and draft.complete:
        yield Problem("hosts", "no host has the role opencloud")
    for host in hosts[1:]:
        yield Problem(draft.place(host.name, "roles"), f"is opencloud, but {hosts[0].name} is it already")
    for host in hosts[:1]:
        if Role.K3S_WORKER not in host.roles:
            yield Problem(draft.place(host.name, "roles"), "is opencloud, but no k3s-worker")
        if "opencloud" not in draft.cluster.services:
            yield Problem("defaults.cluster.services", f"opencloud is missing: it runs on {host.name}")


K3S_RULES: tuple[Rule, ...] = (k3s_binary, k3s_networks, volumes, opencloud)
