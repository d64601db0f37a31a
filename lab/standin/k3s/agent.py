"""`k3s agent`: registers its node, says that it lives, and runs the pods that it is told to run."""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from lab.standin.k3s import VERSION, control, wire
from lab.standin.k3s.options import CONFIG, Options
from lab.standin.k3s.pod import Pod
from lab.standin.k3s.store import Object, now
from lab.standin.k3s.wire import Message, Refused, Silent

BEAT_S = float(os.environ.get("STANDIN_BEAT_S", "3"))
"""Between two heartbeats. Real kubelets renew their lease every 10 s."""


def run(options: Options, token: Callable[[], str], ready: Callable[[], None]) -> None:
    """Join, call ``ready``, and live for ever. ``token`` gives the password of the cluster."""
    kubelet = wire.listen((options.bind, options.kubelet_port), _kubelet)
    threading.Thread(target=kubelet.serve_forever, daemon=True).start()
    api = ("127.0.0.1", options.api[1]) if options.token_file is None else options.api
    _join(options, api, token)
    ready()
    pods: dict[str, Pod] = {}
    folder = options.data / "agent" / "pods"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        _beat(options, api, token, pods, folder)
        time.sleep(BEAT_S)


def _kubelet(_message: Message) -> Message:
    raise Refused("the stand-in's kubelet answers nothing")


def _join(options: Options, api: tuple[str, int], token: Callable[[], str]) -> None:
    """Register; waits for as long as nobody answers, and ends when the answer is no, as K3s does."""
    message = {"verb": "join", "node": node_object(options), "password": _node_password()}
    while True:
        try:
            wire.call(api, {**message, "token": token()})
        except Silent as silent:
            say(f"waiting for the control plane: {silent}")
            time.sleep(BEAT_S)
        else:
            return


def _node_password() -> str:
    """The password of this node, made once: another machine of the same name cannot take its place."""
    path = Path(os.environ.get("K3S_CONFIG_FILE", CONFIG)).parent.parent / "node" / "password"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(16))
    return path.read_text()


def _beat(options: Options, api: tuple[str, int], token: Callable[[], str], pods: dict[str, Pod], folder: Path) -> None:
    gone = [name for name, pod in pods.items() if not pod.step()]
    statuses = {name: pod.status() for name, pod in pods.items() if name not in gone}
    beat = {"verb": "heartbeat", "token": token(), "name": options.name, "statuses": statuses, "gone": gone}
    try:
        orders = wire.call(api, beat)["pods"]
    except (Silent, Refused) as error:
        say(f"pods go on, the control plane was not told: {error}")
        return
    ordered = {order["pod"]["metadata"]["name"]: order for order in orders}
    for name, order in ordered.items():
        pods.setdefault(name, Pod(order, folder)).order = order
    for name in [*gone, *(pods.keys() - ordered.keys())]:
        pods.pop(name, None)
    _end_unknown(pods, folder)


def _end_unknown(pods: dict[str, Pod], folder: Path) -> None:
    """End what this agent or one before it ran and the API does not know any more, as a kubelet does."""
    for notes in folder.glob("*.json"):
        if notes.stem not in pods:
            Pod({"pod": {"metadata": {"name": notes.stem, "deletionTimestamp": now()}}}, folder).step()


def node_object(options: Options) -> Object:
    """What a node tells of itself when it registers."""
    taints = [_taint(text) for text in options.taints]
    labels = dict(text.partition("=")[::2] for text in options.labels)
    labels |= {"kubernetes.io/hostname": options.name}
    if options.token_file is None:
        labels["node-role.kubernetes.io/control-plane"] = "true"
    addresses = {"InternalIP": options.address, "Hostname": options.name}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": options.name, "labels": labels, "creationTimestamp": now()},
        "spec": {"taints": taints} if taints else {},
        "status": {
            "conditions": [control.ready()],
            "addresses": [{"type": kind, "address": address} for kind, address in addresses.items()],
            "nodeInfo": {
                "kubeletVersion": VERSION,
                "osImage": "stand-in",
                "kernelVersion": os.uname().release,
                "containerRuntimeVersion": "standin://0",
            },
        },
    }


def _taint(text: str) -> dict[str, str]:
    pair, _, effect = text.rpartition(":")
    key, _, value = pair.partition("=")
    return {"key": key, "value": value, "effect": effect} if value else {"key": key, "effect": effect}


def say(text: str) -> None:
    """A line for the journal; never a token."""
    print(f"stand-in for K3s: {text}", file=sys.stderr, flush=True)
