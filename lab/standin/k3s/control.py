"""The control plane's own work: nodes that fall silent, pods for deployments, claims, and a node for each pod."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable

from lab.standin.k3s.schedule import is_ready, place
from lab.standin.k3s.store import Object, Store, key_of, now

GRACE_S = float(os.environ.get("STANDIN_GRACE_S", "15"))
"""Without a heartbeat for so long a node counts as lost. Real Kubernetes waits 50 s (node-monitor-grace-period)."""

HASH = "pod-template-hash"


def condition(status: str, reason: str, message: str) -> Object:
    """The condition Ready of a node."""
    return {"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": now()}


def ready() -> Object:
    """The condition of a node that was just heard of."""
    return condition("True", "KubeletReady", "kubelet is posting ready status")


def tick(store: Store, heard: dict[str, float], clock: Callable[[], float] = time.monotonic) -> None:
    """One round; ``heard`` says when each node was heard of last, by ``clock``."""
    with store.locked():
        _lose_nodes(store, heard, clock())
        _bind_claims(store)
        for deployment in store.of_kind("Deployment"):
            _keep_pods(store, deployment)
        for pod in store.of_kind("Pod"):
            if not pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]:
                _schedule(store, pod)


def _lose_nodes(store: Store, heard: dict[str, float], at: float) -> None:
    for node in store.of_kind("Node"):
        last = heard.setdefault(node["metadata"]["name"], at)
        if is_ready(node) and at - last > GRACE_S:
            lost = condition("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
            node["status"]["conditions"] = [lost]
            store.put(node)


def _bind_claims(store: Store) -> None:
    for claim in store.of_kind("PersistentVolumeClaim"):
        volume = store.get(("PersistentVolume", "", claim["spec"].get("volumeName", "")))
        phase = "Bound" if volume else "Pending"
        if claim.get("status", {}).get("phase") != phase:
            claim["status"] = {"phase": phase}
            store.put(claim)
        if volume and volume.get("status", {}).get("phase") != "Bound":
            volume["status"] = {"phase": "Bound"}
            store.put(volume)


def _keep_pods(store: Store, deployment: Object) -> None:
    """As with the strategy Recreate: old pods go first, and a new one comes when they are gone."""
    template = deployment["spec"]["template"]
    name, namespace = deployment["metadata"]["name"], deployment["metadata"].get("namespace", "default")
    mark = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
    mine = [pod for pod in store.of_kind("Pod") if pod["metadata"].get("ownerReferences", [{}])[0].get("name") == name]
    wanted = int(deployment["spec"].get("replicas", 1))
    old = [pod for pod in mine if pod["metadata"]["labels"][HASH] != mark]
    for pod in old or mine[wanted:]:
        remove(store, pod)
    if not old:
        for _ in range(wanted - len(mine)):
            store.put(_new_pod(name, namespace, template, mark))
    ready = sum(_is_up(pod) for pod in mine)
    if deployment.get("status", {}).get("readyReplicas", 0) != ready:
        deployment["status"] = {"readyReplicas": ready}
        store.put(deployment)


def _new_pod(name: str, namespace: str, template: Object, mark: str) -> Object:
    meta = copy.deepcopy(template.get("metadata", {}))
    meta["labels"] = {**meta.get("labels", {}), HASH: mark}
    meta |= {"name": f"{name}-{mark}-{secrets.token_hex(3)[:5]}", "namespace": namespace}
    meta["ownerReferences"] = [{"kind": "Deployment", "name": name}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": copy.deepcopy(template["spec"]),
        "status": {"phase": "Pending", "conditions": []},
    }


def remove(store: Store, pod: Object) -> None:
    """Ask for the end of a pod; one that is on no node is gone at once."""
    if not pod["spec"].get("nodeName"):
        store.delete(key_of(pod))
    elif "deletionTimestamp" not in pod["metadata"]:
        pod["metadata"]["deletionTimestamp"] = now()
        store.put(pod)


def _is_up(pod: Object) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))


def volumes_of(store: Store, pod: Object) -> dict[str, Object]:
    """The persistent volumes of a pod, by the name that it has for each. Claims without a volume are left out."""
    found: dict[str, Object] = {}
    for volume in pod["spec"].get("volumes", ()):
        name = volume.get("persistentVolumeClaim", {}).get("claimName", "")
        claim = store.get(("PersistentVolumeClaim", pod["metadata"]["namespace"], name)) if name else None
        bound = claim and store.get(("PersistentVolume", "", claim["spec"].get("volumeName", "")))
        if bound:
            found[volume["name"]] = bound
    return found


def _schedule(store: Store, pod: Object) -> None:
    claims = [one["name"] for one in pod["spec"].get("volumes", ()) if "persistentVolumeClaim" in one]
    volumes = volumes_of(store, pod)
    node, why = place(pod, store.of_kind("Node"), list(volumes.values()))
    if len(volumes) < len(claims):
        node, why = "", "pod has unbound immediate PersistentVolumeClaims"
    said: Object = {"type": "PodScheduled", "status": "True" if node else "False"}
    if node:
        pod["spec"]["nodeName"] = node
    else:
        said |= {"reason": "Unschedulable", "message": why}
    if node or pod["status"]["conditions"] != [said]:
        pod["status"]["conditions"] = [said]
        store.put(pod)
