"""K3s: one control plane, workers that join through the mesh, volumes that stay where the data are. See docs/k3s.md.

`K3S` is what a node knows by itself, `NODES` and `OBJECTS` ask the API on the control plane, `STRANGER` looks at hosts
that must never be a node. `check_strangers` comes before anything is changed; plans in order: `plan_binary`,
`plan_files`, `plan_server`, `plan_forget`, `plan_token`, `plan_workers`, `plan_marks`, `plan_volumes`, `plan_apply`;
`upkeep` has what comes later.
"""

from tasks.k3s.api import NODES, OBJECTS, Api, Objects
from tasks.k3s.binary import plan_binary
from tasks.k3s.checks import STRANGER, check_k3s
from tasks.k3s.config import plan_files
from tasks.k3s.copies import check_put_back, newest_kept
from tasks.k3s.facts import K3S, NodeHost
from tasks.k3s.join import (
    TOKEN,
    check_api,
    check_joined,
    plan_forget,
    plan_marks,
    plan_server,
    plan_token,
    plan_workers,
)
from tasks.k3s.nodes import Truth
from tasks.k3s.objects import Manifests, plan_apply
from tasks.k3s.places import CLAIMED, HERE, MANAGED, MARKER, STORAGE_CLASS, STORAGE_LABEL
from tasks.k3s.pods import pods
from tasks.k3s.strangers import check_strangers
from tasks.k3s.volumes import manifests, plan_volumes

__all__ = [
    "CLAIMED",
    "HERE",
    "K3S",
    "MANAGED",
    "MARKER",
    "NODES",
    "OBJECTS",
    "STORAGE_CLASS",
    "STORAGE_LABEL",
    "STRANGER",
    "TOKEN",
    "Api",
    "Manifests",
    "NodeHost",
    "Objects",
    "Truth",
    "check_api",
    "check_joined",
    "check_k3s",
    "check_put_back",
    "check_strangers",
    "manifests",
    "newest_kept",
    "plan_apply",
    "plan_binary",
    "plan_files",
    "plan_forget",
    "plan_marks",
    "plan_server",
    "plan_token",
    "plan_volumes",
    "plan_workers",
    "pods",
]
