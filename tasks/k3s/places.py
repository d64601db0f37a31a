"""Where K3s lies on a host, and what its parts are called in the cluster."""

from __future__ import annotations

BINARY = "/usr/local/bin/k3s"
"""A link to the file of one release; an upgrade moves it."""

CONFIG = "/etc/rancher/k3s/config.yaml"
TOKEN = "/etc/rancher/k3s/token"
"""The token by which a worker joins, for root alone."""

CERTIFICATES = (
    "/var/lib/rancher/k3s/agent/client-kubelet.crt",
    "/var/lib/rancher/k3s/server/tls/client-admin.crt",
)
"""One of each role: all of a node's are made at the same start."""

RENEW_S = 90 * 86400
"""So long before its end K3s makes a certificate anew when it starts, later releases even earlier
(docs.k3s.io/cli/certificate)."""

NODE_PASSWORD = "/etc/rancher/node/password"
"""By which K3s knows a node again; made at its first start."""

STALE = "/run/dockyard-k3s-stale"
"""There from the move of the link until the next start."""

RENEWED = "/run/dockyard-k3s-renewed"
"""There while a worker gets another token, until it is started with it."""

DATA = "/var/lib/rancher/k3s"
SERVER_TOKEN = f"{DATA}/server/token"
"""The token as K3s itself made it, with the hash of its certificate authority (docs.k3s.io/cli/token)."""

GUARD = "/etc/dockyard/k3s.nft"
GUARD_TABLE = ("inet", "dockyard_k3s")

FLANNEL = "/run/flannel/subnet.env"
"""K3s writes it when flannel has made its device. The lab's stand-in, which has no flannel, never does."""

FLANNEL_DEVICE = "flannel.1"
VXLAN_BYTES = 50
"""What VXLAN adds to each packet over IPv4 (RFC 7348); flannel takes it off the MTU of the mesh."""

SNAPSHOTS = "/var/lib/dockyard/k3s-snapshots"
"""Of the control plane: datastore, certificates and token, each in a folder of its own, on the same host."""

RESTORED = "/var/lib/dockyard/k3s-restored"

SERVER = "k3s.service"
AGENT = "k3s-agent.service"

API_PORT = 6443
KUBELET_PORT = 10250
VXLAN_PORT = 8472
"""docs.k3s.io/installation/requirements, "Inbound Rules"; VXLAN's is the kernel's own for flannel."""

MANAGED = {"app.kubernetes.io/managed-by": "dockyard"}
"""On every object of ours."""

STORAGE_LABEL = "dockyard.node-restriction.kubernetes.io/storage"
HERE = "here"
"""The node that has this label carries the volumes. Only a runbook moves it: the API (its admission plugin
NodeRestriction) lets no kubelet set a label of this namespace.
"""

STANDBY_TAINT = "dockyard.io/standby"
"""Keeps pods away from a worker that does not carry the volumes."""

STORAGE_CLASS = "dockyard-volumes"
CLAIMED = "100Gi"
"""What every volume has and every claim asks for. Kubernetes wants a number; of a local volume it is no limit, and none
is resized (kubernetes/kubernetes#83392), so it never changes.
"""
MARKER = ".dockyard-volume"
"""A file in each volume with its name: an empty folder in its place is never taken for it."""


def stored(digest: str) -> str:
    """The file of one release. Older ones stay, so that a way back needs no download."""
    return f"/usr/local/lib/dockyard/k3s-{digest[:16]}"
