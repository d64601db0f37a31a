"""A DNS server that does all that the inventory wants, and what hosts hear from it, for tests to break."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dockyard.change import UnitState
from dockyard.files import FileState
from dockyard.service import ServiceState
from dockyard.topology import Topology
from tasks.dns.answers import Answers, wanted
from tasks.dns.message import Code, Reply
from tasks.dns.server import UNIT, DnsState, texts


def serving(cluster: Topology, **parts: Any) -> DnsState:
    """The server as planned, but for ``parts``: of its unit, of its service, or of the whole."""
    wanted_texts, mark = texts(cluster)
    files = {
        path: FileState(path=path, kind="regular file", mode=0o644, owner="root", group="root", content=text)
        for path, text in wanted_texts.items()
    }
    unit = UnitState(name=UNIT, loaded=True, active="active", enabled="enabled", sub="running")
    service = ServiceState(unit=unit, result="success", restarts=0, mark=mark, reload_needed=False)
    service = replace(service, **{key: parts.pop(key) for key in list(parts) if key in {"mark", "result", "restarts"}})
    if "active" in parts or "enabled" in parts:
        changed = {key: parts.pop(key) for key in list(parts) if key in {"active", "enabled", "sub"}}
        service = replace(service, unit=replace(unit, **changed))
    return replace(DnsState(installed=True, files=files, service=service), **parts)


def heard(cluster: Topology, **addresses: str) -> Answers:
    """Right answers, but for ``addresses`` by short name."""
    told = wanted(cluster) | {cluster.fqdn(name.replace("_", "-")): address for name, address in addresses.items()}
    return Answers(
        replies={
            name: Reply(
                number=1, code=Code.NOERROR if address else Code.NXDOMAIN, addresses=(address,) if address else ()
            )
            for name, address in told.items()
        }
    )
