"""`k3s kubectl`: the verbs and options that Dockyard uses, with kubectl's words and exit codes."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab.standin.k3s import wire
from lab.standin.k3s.options import KUBECONFIG
from lab.standin.k3s.wire import Message, Refused, Silent

KINDS = {
    **dict.fromkeys(("node", "nodes", "no"), "Node"),
    **dict.fromkeys(("namespace", "namespaces", "ns"), "Namespace"),
    **dict.fromkeys(("storageclass", "storageclasses", "sc"), "StorageClass"),
    **dict.fromkeys(("persistentvolume", "persistentvolumes", "pv"), "PersistentVolume"),
    **dict.fromkeys(("persistentvolumeclaim", "persistentvolumeclaims", "pvc"), "PersistentVolumeClaim"),
    **dict.fromkeys(("configmap", "configmaps", "cm"), "ConfigMap"),
    **dict.fromkeys(("secret", "secrets"), "Secret"),
    **dict.fromkeys(("service", "services", "svc"), "Service"),
    **dict.fromkeys(("deployment", "deployments", "deploy"), "Deployment"),
    **dict.fromkeys(("pod", "pods", "po"), "Pod"),
}
FLAGS = {
    *("--all-namespaces", "-A", "--overwrite", "--ignore-not-found", "--ignore-daemonsets", "--delete-emptydir-data"),
    *("--wait=false", "--force", "--save-config"),
}
VALUED = {
    "--namespace": "-n",
    "--output": "-o",
    "--selector": "-l",
    "--filename": "-f",
    "--raw": "",
    "--timeout": "",
    "--for": "",
}


class Usage(Exception):
    """Words that the stand-in does not know."""


class Line:
    """A command line taken apart: words, flags, and options with values (by their long name)."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.words: list[str] = []
        self.flags: set[str] = set()
        self.values: dict[str, str] = {}
        self.files: list[str] = []
        short = {short: long for long, short in VALUED.items() if short}
        rest = list(arguments)
        while rest:
            word = rest.pop(0)
            name, equals, value = word.partition("=")
            name = short.get(name, name)
            if name in VALUED:
                self.values[name] = value if equals else rest.pop(0)
            elif name == "--from-file":
                self.files.append(value)
            elif word in FLAGS:
                self.flags.add(word)
            elif word.startswith("-") and word != "-":
                raise Usage(f"error: unknown flag: {word}")
            else:
                self.words.append(word)

    @property
    def namespace(self) -> str:
        return self.values.get("--namespace", "default")


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code: 1 whatever is wrong, as kubectl does."""
    try:
        line = Line(arguments)
        if not line.words:
            raise Usage("error: no verb")
        return _VERBS[line.words.pop(0)](line)
    except KeyError as error:
        print(f"error: the stand-in does not know {error}", file=sys.stderr)
    except (Usage, Refused) as error:
        print(error, file=sys.stderr)
    except Silent as error:
        print(f"The connection to the server was refused: {error}", file=sys.stderr)
    return 1


def ask(message: Message) -> Message:
    """Ask the API as its administrator; raises Refused or Silent."""
    path = Path(os.environ.get("KUBECONFIG", KUBECONFIG))
    try:
        config = json.loads(path.read_text())
    except OSError as error:
        raise Silent(f"{path}: {error.strerror}") from error
    return wire.call(("127.0.0.1", config["port"]), {**message, "password": config["password"]})


def _get(line: Line) -> int:
    if "--raw" in line.values:
        ask({"verb": "get", "kinds": []})
        print("ok", end="")
        return 0
    kinds = [KINDS[word] for word in line.words[0].split(",")]
    found = [one for one in ask({"verb": "get", "kinds": kinds})["items"] if _wanted(line, one)]
    names = line.words[1:]
    missing = [name for name in names if name not in [one["metadata"]["name"] for one in found]]
    if missing and "--ignore-not-found" not in line.flags:
        raise Refused(f'Error from server (NotFound): {line.words[0]} "{missing[0]}" not found')
    _print(
        [one for one in found if not names or one["metadata"]["name"] in names], line.values.get("--output", ""), names
    )
    return 0


def _wanted(line: Line, one: dict[str, Any]) -> bool:
    labels = one["metadata"].get("labels", {})
    for pair in filter(None, line.values.get("--selector", "").split(",")):
        key, _, value = pair.partition("=")
        if labels.get(key) != value:
            return False
    everywhere = {"--all-namespaces", "-A"} & line.flags
    return bool(everywhere) or one["metadata"].get("namespace", line.namespace) == line.namespace


def _print(found: list[dict[str, Any]], form: str, names: list[str]) -> None:
    if form == "json":
        single = found[0] if len(names) == 1 and found else None
        print(json.dumps(single or {"apiVersion": "v1", "kind": "List", "items": found, "metadata": {}}))
    elif form == "name":
        for one in found:
            print(f"{one['kind'].lower()}/{one['metadata']['name']}")
    else:
        for one in found:
            print(
                one["metadata"].get("namespace", "-"),
                one["metadata"]["name"],
                one.get("spec", {}).get("nodeName", ""),
                sep="\t",
            )


def _apply(line: Line) -> int:
    import yaml  # Debian's python3-yaml

    name = line.values["--filename"]
    text = sys.stdin.read() if name == "-" else Path(name).read_text()
    return _send([one for one in yaml.safe_load_all(text) if one])


def _send(objects: list[dict[str, Any]], **how: bool) -> int:
    for said in ask({"verb": "apply", "objects": objects, **how})["said"]:
        print(said)
    return 0


def _create(line: Line) -> int:
    kind, *words = line.words
    if KINDS[kind] == "Namespace":
        return _send([{"kind": "Namespace", "metadata": {"name": words[0]}}], create=True)
    data = {Path(file).name: base64.b64encode(Path(file).read_bytes()).decode() for file in line.files}
    meta = {"name": words[1], "namespace": line.namespace}
    return _send([{"kind": "Secret", "type": "Opaque", "metadata": meta, "data": data}], create=True)


def _label(line: Line) -> int:
    _kind, name, *pairs = line.words
    changes: dict[str, str | None] = {pair[:-1]: None for pair in pairs if pair.endswith("-")}
    for pair in pairs:
        if not pair.endswith("-"):
            changes[pair.partition("=")[0]] = pair.partition("=")[2]
    ask({"verb": "node", "name": name, "labels": changes})
    print(f"node/{name} labeled")
    return 0


def _taint(line: Line) -> int:
    _kind, name, *pairs = line.words
    ask({"verb": "node", "name": name, "taints": [_read_taint(pair) for pair in pairs]})
    print(f"node/{name} modified")
    return 0


def _read_taint(text: str) -> dict[str, str]:
    if text.endswith("-"):
        return {"key": text[:-1].partition(":")[0].partition("=")[0]}
    pair, _, effect = text.rpartition(":")
    key, _, value = pair.partition("=")
    return {"key": key, "value": value, "effect": effect}


def _cordon(line: Line) -> int:
    ask({"verb": "node", "name": line.words[0], "unschedulable": True})
    print(f"node/{line.words[0]} cordoned")
    return 0


def _uncordon(line: Line) -> int:
    ask({"verb": "node", "name": line.words[0], "unschedulable": False})
    print(f"node/{line.words[0]} uncordoned")
    return 0


def _drain(line: Line) -> int:
    _cordon(line)
    node = line.words[0]
    for pod in _pods_on(node):
        ask({"verb": "delete", "kind": "Pod", **_place(pod)})
        print(f"evicting pod {pod['metadata']['namespace']}/{pod['metadata']['name']}")
    return _until(lambda: not _pods_on(node), line, f"error: pods are still on {node}")


def _pods_on(node: str) -> list[dict[str, Any]]:
    return [pod for pod in ask({"verb": "get", "kinds": ["Pod"]})["items"] if pod["spec"].get("nodeName") == node]


def _place(one: dict[str, Any]) -> dict[str, str]:
    return {"namespace": one["metadata"].get("namespace", ""), "name": one["metadata"]["name"]}


def _until(done: Callable[[], bool], line: Line, otherwise: str) -> int:
    deadline = time.monotonic() + float(line.values.get("--timeout", "30s").rstrip("s"))
    while not done():
        if time.monotonic() > deadline:
            raise Refused(otherwise)
        time.sleep(0.5)
    return 0


def _wait(line: Line) -> int:
    kind, _, name = line.words[0].partition("/")
    wanted = line.values["--for"].removeprefix("condition=")

    def done() -> bool:
        found = [
            one for one in ask({"verb": "get", "kinds": [KINDS[kind]]})["items"] if one["metadata"]["name"] == name
        ]
        conditions = found[0].get("status", {}).get("conditions", ()) if found else ()
        return any(one["type"] == wanted and one["status"] == "True" for one in conditions)

    return _until(done, line, f"error: timed out waiting for the condition on {kind}/{name}")


def _delete(line: Line) -> int:
    kind, *names = line.words
    for name in names:
        namespace = "" if KINDS[kind] in {"Node", "Namespace", "PersistentVolume"} else line.namespace
        one = {"kind": KINDS[kind], "namespace": namespace, "name": name}
        ask({"verb": "delete", **one, "force": "--force" in line.flags})
        print(f'{kind} "{name}" deleted')
    return 0


_VERBS: dict[str, Callable[[Line], int]] = {
    "get": _get,
    "apply": _apply,
    "replace": _apply,  # here both leave nothing of what was there before
    "create": _create,
    "label": _label,
    "taint": _taint,
    "cordon": _cordon,
    "uncordon": _uncordon,
    "drain": _drain,
    "wait": _wait,
    "delete": _delete,
}
