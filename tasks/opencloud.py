"""OpenCloud: one pod where the volumes are, a secret that is made on the cluster, and whether it answers.

The manifests are our own: the project's Helm chart is archived. See docs/k3s.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from dockyard.change import Plan, Run
from dockyard.findings import Cause, Finding
from dockyard.observe import Domain, Observed
from dockyard.remote import Command, Outputs
from dockyard.rendering import render
from dockyard.topology import Host, Role, Topology
from dockyard.unseen import unseen

NAME = "opencloud"
"""Of the service, the namespace, the claim, the volume and the secret."""

KUBECTL = ("k3s", "kubectl", "--namespace", NAME)
_MAKE_SECRET = """\
set -eu; umask 077
folder=$(mktemp -d /run/dockyard-secret.XXXXXX); trap 'rm -rf -- "$folder"' EXIT
openssl rand -hex 16 | tr -d '\\n' >"$folder/admin-password"
k3s kubectl get namespace "$1" >/dev/null 2>&1 || k3s kubectl create namespace "$1"
k3s kubectl --namespace "$1" create secret generic "$1" --from-file="$folder/admin-password\""""
"""In a file in memory, for root alone, and from there to the API: never on a command line, never on a disk."""

_ASK = """\
curl --silent --insecure --max-time 10 --output /dev/null --write-out '%{{http_code}}' -- {url} ||
true"""


@dataclass(frozen=True, slots=True)
class Place:
    """What the manifest has to know of the cluster: class and size of the volume, label of its carrier, its marker."""

    storage_class: str
    size: str
    label: str
    here: str
    marker: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``status`` is the HTTP status of the front page's status, 0 when nobody answered."""

    status: int


def status_url(topology: Topology) -> str:
    """Where the front page says how it is, at the name that users have; ``""`` without OpenCloud."""
    return f"https://{topology.fqdn(NAME)}/status.php" if topology.cluster.opencloud else ""


def is_server(topology: Topology, host: Host) -> bool:
    """Whether the cluster can be asked on ``host`` about OpenCloud's secret."""
    return topology.cluster.opencloud is not None and Role.K3S_SERVER in host.roles


def is_asked(topology: Topology, host: Host) -> bool:
    """Whether OpenCloud is asked from ``host``: from where its name leads, and from the host that watches."""
    home = topology.cluster.services.get(NAME)
    return topology.cluster.opencloud is not None and (host.name == home or Role.MONITORING in host.roles)


def _ask_secret(_topology: Topology, _host: Host) -> Sequence[Command]:
    argv = (*KUBECTL, "get", "secret", NAME, "-o", "name", "--ignore-not-found")
    return [Command("opencloud secret", argv, accepts=frozenset({0, 1, 127}), timeout_s=30)]


def _read_secret(_topology: Topology, _host: Host, outputs: Outputs) -> bool:
    return bool(outputs.text("opencloud secret").strip())


SECRET = Domain("opencloud secret", _ask_secret, _read_secret, is_server)
"""Whether the secret is there; what is in it never leaves the cluster."""


def _ask_answer(topology: Topology, _host: Host) -> Sequence[Command]:
    return [Command(NAME, ("sh", "-c", _ASK.format(url=status_url(topology))), timeout_s=15)]


def _read_answer(_topology: Topology, _host: Host, outputs: Outputs) -> Answer:
    text = outputs.text(NAME).strip()
    return Answer(status=int(text) if text.isdecimal() else 0)


OPENCLOUD = Domain(NAME, _ask_answer, _read_answer, is_asked)
"""Asked by its name; its certificate is its own, so nothing is verified."""


def plan_secret(_topology: Topology, observed: Observed) -> Plan:
    """Make the secret with the first password of admin, where there is none. It is never replaced: see docs/k3s.md."""
    lacking = [host for host, there in observed.seen(SECRET).items() if not there]
    argv = ("sh", "-c", _MAKE_SECRET, "make", NAME)
    return {host: [Run(title=f"make the secret {NAME}", argv=argv, timeout_s=120)] for host in lacking}


def manifests(topology: Topology, carrier: str, *, place: Place) -> Mapping[str, str]:
    """The manifest by name, for a volume on ``carrier``; nothing without OpenCloud in the inventory."""
    if topology.cluster.opencloud is None:
        return {}
    wanted = topology.cluster.opencloud
    labels = {**place.labels, "app.kubernetes.io/name": NAME}
    text = render(
        "opencloud.yaml",
        name=NAME,
        image=wanted.image,
        size=place.size,
        memory=wanted.memory,
        memory_mib=wanted.memory_mib,
        cpu=wanted.cpu,
        url=f"https://{topology.fqdn(NAME)}",
        fqdn=topology.fqdn(NAME),
        address=topology.host(carrier).wireguard.address,
        storage_class=place.storage_class,
        storage_label=place.label,
        here=place.here,
        marker=place.marker,
        labels=json.dumps(dict(place.labels)),
        pod_labels=json.dumps(labels),
    )
    return {NAME: text}


def at(place: Place) -> partial[Mapping[str, str]]:
    """`manifests` for a cluster whose storage is called so."""
    return partial(manifests, place=place)


def check_opencloud(topology: Topology, observed: Observed) -> list[Finding]:
    """It answers at its name, where that leads; then also from elsewhere, through the mesh."""
    home, answers = topology.cluster.services.get(NAME), observed.seen(OPENCLOUD)
    silent = {host: _said(topology, answer) for host, answer in answers.items() if answer.status != 200}
    found = unseen(observed, OPENCLOUD, Cause.APPLICATION)
    if home in silent:
        advice = (
            "Is its pod running, and why not? On the control plane: "
            f"k3s kubectl -n {NAME} get pods; k3s kubectl -n {NAME} describe pods"
        )
        return [*found, _finding(home, "OpenCloud does not answer", silent[home], advice)]
    if home not in answers:
        return found
    advice = (
        f"It does on {home}. There: does a firewall (nft list ruleset, chain forward) drop what comes from the mesh "
        f"for its pod? Allow what comes in on {topology.cluster.wireguard.interface} and is forwarded to cni0"
    )
    return [
        *found,
        *(_finding(host, "OpenCloud does not answer to this host", said, advice) for host, said in silent.items()),
    ]


def _said(topology: Topology, answer: Answer) -> str:
    url = status_url(topology)
    return f"status {answer.status} from {url}" if answer.status else f"nobody answers at {url}"


def _finding(host: str, fault: str, evidence: str, advice: str) -> Finding:
    return Finding(cause=Cause.APPLICATION, host=host, fault=fault, evidence=evidence, advice=advice)
