"""`k3s server`: keeps the objects, answers kubectl and the agents, and runs an agent of its own."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.standin.k3s import agent, control, wire
from lab.standin.k3s.options import Options
from lab.standin.k3s.schedule import is_ready
from lab.standin.k3s.store import Object, Store, key_of
from lab.standin.k3s.wire import Message, Refused

TICK_S = 1.0

BUILT_IN = {"", "default", "kube-system"}
"""Namespaces that are always there; the empty one is that of objects without any."""


class Server:
    """The control plane of one data folder."""

    def __init__(self, options: Options) -> None:
        self.options = options
        folder = options.data / "server"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.store = Store(folder / "db" / "state.db")
        self.token_file = folder / "token"
        self.admin = secrets.token_hex(16)
        self.heard: dict[str, float] = {}
        if not self.token_file.exists():
            _write_secret(self.token_file, new_token())
        _write_secret(options.kubeconfig, json.dumps({"port": options.api[1], "password": self.admin}) + "\n")

    @property
    def token(self) -> str:
        """What a node has to know to join, without the part that tells it whom it joins."""
        return password_of(self.token_file.read_text())

    def run(self, ready: Callable[[], None]) -> None:
        """Serve for ever; ``ready`` is called when the API answers."""
        hosts = dict.fromkeys((self.options.bind, "127.0.0.1")) if self.options.bind != "0.0.0.0" else ("0.0.0.0",)
        for host in hosts:
            listener = wire.listen((host, self.options.api[1]), self.answer)
            threading.Thread(target=listener.serve_forever, daemon=True).start()
        threading.Thread(target=self._control, daemon=True).start()
        agent.run(self.options, lambda: self.token, ready)

    def _control(self) -> None:
        try:
            while True:
                control.tick(self.store, self.heard)
                time.sleep(TICK_S)
        finally:
            os._exit(1)  # never half a control plane: systemd starts a whole one

    def answer(self, message: Message) -> Message:
        """Answer one request; raises Refused."""
        verb = str(message["verb"])
        if verb in _FOR_NODES:
            self._admit(message.get("token", ""), self.token)
            return _FOR_NODES[verb](self, message)
        self._admit(message.get("password", ""), self.admin)
        return _FOR_ADMIN[verb](self, message)

    def _admit(self, given: str, right: str) -> None:
        if not hmac.compare_digest(given.encode(), right.encode()):
            raise Refused("error: You must be logged in to the server (Unauthorized)")

    def join(self, message: Message) -> Message:
        """A node registers: with its labels and taints the first time, and with its own password ever after."""
        node, digest = message["node"], hashlib.sha256(message["password"].encode()).hexdigest()
        name = node["metadata"]["name"]
        with self.store.locked() as store:
            known = store.get(("NodePassword", "kube-system", name))
            if known and known["sha256"] != digest:
                raise Refused(
                    f"Node password rejected, duplicate hostname or contents of node password changed: {name}"
                )
            mine = {"kind": "NodePassword", "metadata": {"name": name, "namespace": "kube-system"}, "sha256": digest}
            store.put(mine)
            there = store.get(("Node", "", name))
            if there:
                node["metadata"], node["spec"] = there["metadata"], there["spec"]
            store.put(node)
        self.heard[name] = time.monotonic()
        return {}

    def heartbeat(self, message: Message) -> Message:
        """A node is alive, and says how its pods are; it is told which ones it is to run."""
        name = message["name"]
        with self.store.locked() as store:
            node = store.get(("Node", "", name))
            if node is None:
                raise Refused(f'Error from server (NotFound): nodes "{name}" not found')
            self.heard[name] = time.monotonic()
            if not is_ready(node):
                node["status"]["conditions"] = [control.ready()]
                store.put(node)
            for pod in store.of_kind("Pod"):
                if pod["spec"].get("nodeName") == name:
                    self._take_in(store, pod, message)
            mine = [pod for pod in store.of_kind("Pod") if pod["spec"].get("nodeName") == name]
            return {"pods": [_order(store, pod) for pod in mine]}

    def _take_in(self, store: Store, pod: Object, message: Message) -> None:
        name = pod["metadata"]["name"]
        if "deletionTimestamp" in pod["metadata"] and name in message["gone"]:
            store.delete(key_of(pod))
        elif name in message["statuses"]:
            scheduled = [one for one in pod["status"]["conditions"] if one["type"] == "PodScheduled"]
            told = message["statuses"][name]
            told["conditions"] += scheduled
            if pod["status"] != told:  # each write waits for the disk
                pod["status"] = told
                store.put(pod)

    def get(self, message: Message) -> Message:
        """All objects of some kinds; kubectl chooses among them."""
        with self.store.locked() as store:
            return {"items": [one for kind in message["kinds"] for one in store.of_kind(kind)]}

    def apply(self, message: Message) -> Message:
        """Objects as they are wanted; what the cluster itself has added to them stays."""
        said: list[str] = []
        with self.store.locked() as store:
            for one in message["objects"]:
                namespace = key_of(one)[1]
                if namespace not in BUILT_IN and store.get(("Namespace", "", namespace)) is None:
                    raise Refused(f'Error from server (NotFound): namespaces "{namespace}" not found')
                there = store.get(key_of(one))
                if there and message.get("create"):
                    raise Refused(f'Error from server (AlreadyExists): {one["kind"]} "{key_of(one)[2]}" already exists')
                if there:
                    one["status"] = there.get("status", {})
                    one["metadata"]["creationTimestamp"] = there["metadata"]["creationTimestamp"]
                store.put(one)
                said.append(f"{one['kind'].lower()}/{key_of(one)[2]} {'configured' if there else 'created'}")
        return {"said": said}

    def change_node(self, message: Message) -> Message:
        """Labels, taints and the cordon of a node."""
        with self.store.locked() as store:
            node = store.get(("Node", "", message["name"]))
            if node is None:
                raise Refused(f'Error from server (NotFound): nodes "{message["name"]}" not found')
            change_node(node, message)
            store.put(node)
        return {}

    def delete(self, message: Message) -> Message:
        """Pods end, unless by ``force``; everything else is gone at once, a node together with its password."""
        with self.store.locked() as store:
            one = store.get((message["kind"], message["namespace"], message["name"]))
            if one is None:
                raise Refused(f'Error from server (NotFound): {message["kind"].lower()}s "{message["name"]}" not found')
            if message["kind"] == "Pod" and not message.get("force"):
                control.remove(store, one)
            else:
                store.delete(key_of(one))
                store.delete(("NodePassword", "kube-system", message["name"]))
                for pod in store.of_kind("Pod") if message["kind"] == "Node" else ():
                    if pod["spec"].get("nodeName") == message["name"]:
                        store.delete(key_of(pod))
        return {}

    def rotate(self, message: Message) -> Message:
        """Replace the token, when the old one is known; nodes that are there need the new one at their next start."""
        self._admit(password_of(message["old"]), self.token)
        _write_secret(self.token_file, new_token(self.token_file.read_text(), message.get("new", "")))
        return {}


def change_node(node: Object, message: Message) -> None:
    """Apply ``labels`` (None takes one away), ``taints`` likewise, and ``unschedulable``."""
    labels = node["metadata"].setdefault("labels", {})
    for key, value in message.get("labels", {}).items():
        if value is None:
            labels.pop(key, None)
        else:
            labels[key] = value
    for taint in message.get("taints", ()):
        same = ("key", "effect") if "effect" in taint else ("key",)
        left = [one for one in node["spec"].get("taints", ()) if any(one[part] != taint[part] for part in same)]
        node["spec"]["taints"] = [*left, taint] if "effect" in taint else left
    if "unschedulable" in message:
        node["spec"]["unschedulable"] = message["unschedulable"]


def _order(store: Store, pod: Object) -> dict[str, Any]:
    """A pod for an agent: where its volumes lie on the host, and which of its secrets are there."""
    named = [one["secret"]["secretName"] for one in pod["spec"].get("volumes", ()) if "secret" in one]
    missing = [one for one in named if store.get(("Secret", pod["metadata"]["namespace"], one)) is None]
    paths = {name: one["spec"]["local"]["path"] for name, one in control.volumes_of(store, pod).items()}
    return {"pod": pod, "paths": paths, "missing_secrets": missing}


def new_token(old: str = "", password: str = "") -> str:
    """A token as K3s writes it: ``K10``, the hash of the certificate authority, and the password of ``server``."""
    authority = old.partition("::")[0] or f"K10{secrets.token_hex(32)}"
    return f"{authority}::server:{password or secrets.token_hex(16)}\n"


def password_of(token: str) -> str:
    """The secret part of a token."""
    return token.strip().rpartition(":")[2]


def _write_secret(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        os.fsync(file.fileno())
    new.replace(path)


_FOR_NODES: dict[str, Callable[[Server, Message], Message]] = {"join": Server.join, "heartbeat": Server.heartbeat}
_FOR_ADMIN: dict[str, Callable[[Server, Message], Message]] = {
    "get": Server.get,
    "apply": Server.apply,
    "node": Server.change_node,
    "delete": Server.delete,
    "rotate": Server.rotate,
}
