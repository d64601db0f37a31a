"""Where a pod may run: node selector, taints, and the affinity of the volumes that it claims. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lab.standin.k3s.store import Object

UNSCHEDULABLE = "node.kubernetes.io/unschedulable"


def place(pod: Object, nodes: Sequence[Object], volumes: Sequence[Object]) -> tuple[str, str]:
    """The node for a pod, or "" and the sentence that the scheduler says."""
    reasons: Counter[str] = Counter()
    for node in nodes:
        reason = obstacle(pod, node, volumes)
        if not reason:
            return str(node["metadata"]["name"]), ""
        reasons[reason] += 1
    said = ", ".join(f"{count} node(s) {reason}" for reason, count in sorted(reasons.items()))
    return "", f"0/{len(nodes)} nodes are available: {said or 'there is none'}."


def obstacle(pod: Object, node: Object, volumes: Sequence[Object]) -> str:
    """Why a pod cannot be on a node; "" when it can."""
    spec, labels = pod["spec"], node["metadata"].get("labels", {})
    taint = next((one for one in taints(node) if _repels(one, spec.get("tolerations", ()))), None)
    if taint:
        return f"had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    if any(labels.get(key) != value for key, value in spec.get("nodeSelector", {}).items()):
        return "didn't match Pod's node affinity/selector"
    if not all(_allows(volume, labels) for volume in volumes):
        return "didn't match PersistentVolume's node affinity"
    return ""


def taints(node: Object) -> list[Mapping[str, str]]:
    """The taints of a node, with those that follow from its state."""
    found: list[Mapping[str, str]] = [*node["spec"].get("taints", ())]
    if node["spec"].get("unschedulable"):
        found.append({"key": UNSCHEDULABLE, "effect": "NoSchedule"})
    if not is_ready(node):
        found.append({"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"})
    return found


def is_ready(node: Object) -> bool:
    """Whether its kubelet says so, and was heard of lately."""
    conditions = node.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _repels(taint: Mapping[str, str], tolerations: Iterable[Mapping[str, str]]) -> bool:
    if taint["effect"] == "PreferNoSchedule":
        return False
    return not any(_tolerates(one, taint) for one in tolerations)


def _tolerates(toleration: Mapping[str, str], taint: Mapping[str, str]) -> bool:
    if toleration.get("effect", taint["effect"]) != taint["effect"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key", taint["key"]) == taint["key"]
    return (toleration.get("key"), toleration.get("value", "")) == (taint["key"], taint.get("value", ""))


def _allows(volume: Object, labels: Mapping[str, str]) -> bool:
    affinity = volume["spec"].get("nodeAffinity")
    terms: list[Any] = affinity["required"]["nodeSelectorTerms"] if affinity else []
    return not terms or any(
        all(labels.get(one["key"]) in one["values"] for one in term["matchExpressions"]) for term in terms
    )
