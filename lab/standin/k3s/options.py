"""The options of `k3s server` and `k3s agent` that the stand-in knows, from the config file; others are refused."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CONFIG = "/etc/rancher/k3s/config.yaml"
DATA = "/var/lib/rancher/k3s"
KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"
API_PORT = 6443
KUBELET_PORT = 10250

_BOTH = {
    "node-name",
    "node-ip",
    "bind-address",
    "flannel-iface",
    "kube-proxy-arg",
    "kubelet-arg",
    "node-taint",
    "node-label",
}
_KNOWN = {
    "server": _BOTH
    | {
        *("advertise-address", "tls-san", "cluster-cidr", "service-cidr", "secrets-encryption", "disable"),
        *("write-kubeconfig-mode", "write-kubeconfig", "https-listen-port", "data-dir"),
    },
    "agent": _BOTH | {"server", "token-file", "data-dir"},
}


_RESTRICTED = "node-restriction.kubernetes.io"
"""Kubernetes' admission plugin NodeRestriction lets no kubelet set a label of this namespace, or of one below it."""


class WrongOption(Exception):
    """Real K3s would not start with this either."""


@dataclass(frozen=True)
class Options:
    """``api`` is where the control plane answers; ``token_file`` is None on the server, which makes its own."""

    name: str
    address: str
    bind: str
    api: tuple[str, int]
    kubelet_port: int
    taints: tuple[str, ...]
    labels: tuple[str, ...]
    data: Path
    token_file: Path | None
    kubeconfig: Path


def read_options(role: str) -> Options:
    """Read the config file ($K3S_CONFIG_FILE); raises WrongOption."""
    import yaml  # Debian's python3-yaml; kubectl starts faster without

    path = Path(os.environ.get("K3S_CONFIG_FILE", CONFIG))
    given: dict[str, Any] = (yaml.safe_load(path.read_text()) if path.exists() else None) or {}
    unknown = sorted(given.keys() - _KNOWN[role])
    if unknown:
        raise WrongOption(f"flag provided but not defined: -{unknown[0]}")
    for label in given.get("node-label", ()):
        if f".{label.partition('/')[0]}".endswith(f".{_RESTRICTED}"):
            raise WrongOption(f"unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{label}]")
    bind = str(given.get("bind-address", "0.0.0.0"))  # as K3s does
    return Options(
        name=str(given.get("node-name", socket.gethostname())),
        address=str(given.get("node-ip", "127.0.0.1")),
        bind=bind,
        api=_api(role, given, bind),
        kubelet_port=_kubelet_port(given),
        taints=tuple(given.get("node-taint", ())),
        labels=tuple(given.get("node-label", ())),
        data=Path(given.get("data-dir", DATA)),
        token_file=Path(given["token-file"]) if "token-file" in given else None,
        kubeconfig=Path(given.get("write-kubeconfig", KUBECONFIG)),
    )


def _api(role: str, given: dict[str, Any], bind: str) -> tuple[str, int]:
    if role == "server":
        return bind, int(given.get("https-listen-port", API_PORT))
    url = urlsplit(given.get("server", ""))
    if url.scheme != "https" or not url.hostname:
        raise WrongOption("--server is required, such as https://10.0.0.1:6443")
    if "token-file" not in given:
        raise WrongOption("--token is required")
    return url.hostname, url.port or API_PORT


def _kubelet_port(given: dict[str, Any]) -> int:
    ports = [word.partition("=")[2] for word in given.get("kubelet-arg", ()) if word.startswith("port=")]
    return int(ports[0]) if ports else KUBELET_PORT
