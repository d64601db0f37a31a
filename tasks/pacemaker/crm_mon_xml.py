"""Reads the XML of `crm_mon`: ``--output-as=xml`` (2.0.3 and later) and the older ``--as-xml`` (1.1.6 to 2.0.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from dockyard.parsing import Printed
from tasks.pacemaker.cluster import (
    NOT_SAID,
    Answer,
    Attribute,
    Ban,
    Cluster,
    Daemons,
    Failure,
    Fencing,
    History,
    Management,
    NoQuorum,
    Operation,
    Quorum,
    Section,
    Switch,
    Ticket,
)
from tasks.pacemaker.crm_mon_events import FENCING_STATES, milliseconds, number, operation_key
from tasks.pacemaker.crm_mon_xml_resources import read_nodes, read_tree
from tasks.pacemaker.xml_element import Element

SECTIONS = {
    "summary": Section.SUMMARY,
    "nodes": Section.NODES,
    "resources": Section.RESOURCES,
    "node_attributes": Section.ATTRIBUTES,
    "node_history": Section.HISTORY,
    "failures": Section.FAILURES,
    "fence_history": Section.FENCING,
    "tickets": Section.TICKETS,
    "bans": Section.BANS,
}
ALWAYS = frozenset({Section.NODES, Section.RESOURCES, Section.INACTIVE, Section.FAILURES})
NEW_ALWAYS = ALWAYS | {Section.ATTRIBUTES, Section.HISTORY, Section.FENCING, Section.BANS}
"""What an unlimited document speaks of even where the element is missing: there is none of it."""

_LIMITS = re.compile(r"--(include|exclude|node|resource|hide-headers)\b.*|-[A-Za-z0-9]*[IUD][A-Za-z0-9]*")


def read_xml(text: str, *, exit_code: int = 0, version: str = "") -> Cluster:
    """The state of the cluster. Without ``--include``, ``--exclude``, ``--node`` and the like it proves what is absent.

    Raises:
        ParseError: not the document that we know, or one that contradicts itself.
    """
    printed = Printed("crm_mon", text, version)
    root = Element(printed, printed.xml())
    if root.node.tag not in {"pacemaker-result", "crm_mon"}:
        raise root.error("is not the document of crm_mon")
    parts: dict[str, Element] = {}
    for part in root.children(*SECTIONS, "status", "pacemakerd"):
        if part.node.tag in parts:
            raise part.error("stands twice")
        parts[part.node.tag] = part
    if root.node.tag == "pacemaker-result":
        root.text("request")
        if "status" not in parts:
            raise root.error("has no status")
    if not parts.keys() & SECTIONS.keys():
        return _no_status(root, parts, exit_code)
    return _status(root, parts)


def _no_status(root: Element, parts: dict[str, Element], exit_code: int) -> Cluster:
    status = parts.get("status")
    said = "; ".join((error.text or "").strip() for error in root.node.iter("error"))
    if "pacemakerd" in parts:
        daemons = parts["pacemakerd"].member(Daemons, parts["pacemakerd"].text("state"))
        return Cluster(answer=Answer.DAEMONS_ONLY, complete=True, daemons=daemons, message=said)
    if (status.count("code") if status else exit_code) == 0:
        raise root.error("says nothing, although crm_mon ended with 0")
    message = said or (status.text("message") if status else "")
    return Cluster(answer=Answer.NOT_CONNECTED, complete=True, message=message)


def _status(root: Element, parts: dict[str, Element]) -> Cluster:
    new = root.node.tag == "pacemaker-result"
    limited = _limited(root)
    summary = _summary(parts["summary"], new=new, limited=limited) if "summary" in parts else {}
    nodes, beside = read_nodes(parts["nodes"]) if "nodes" in parts else ((), ())
    collections, listed = read_tree(parts["resources"], nodes, limited=limited) if "resources" in parts else ((), ())
    shown = {section for tag, section in SECTIONS.items() if tag in parts}
    by_node = {Section.BY_NODE} if beside or "group-by-node" in root.optional("request") else set()
    missing = {"summary", "nodes", "resources"} - parts.keys()
    if missing - ({"resources"} if summary.get("instances_configured") == 0 else set()) and not limited:
        raise root.error(f"lacks {', '.join(sorted(missing))}")
    _check_counts(root, summary, len(nodes), len(listed), limited=limited or bool(by_node))
    return Cluster(
        **summary,
        answer=Answer.STATUS,
        complete=not limited,
        shown=frozenset(shown | by_node | (set() if limited else NEW_ALWAYS if new else ALWAYS)),
        limited=limited,
        nodes=nodes,
        collections=collections,
        resources=(*beside, *listed),
        attributes=_each(parts, "node_attributes", _attributes),
        history=_each(parts, "node_history", _history),
        failures=_failures(parts),
        fencing=_each(parts, "fence_history", _fencing),
        fencing_history=_fencing_history(parts),
        bans=_each(parts, "bans", _bans),
        tickets=_each(parts, "tickets", _tickets),
    )


def _limited(root: Element) -> bool:
    """Whether an option on the command line left something out."""
    return any(_LIMITS.fullmatch(word) and word != "--include=all" for word in root.optional("request").split())


def _check_counts(root: Element, summary: dict[str, Any], nodes: int, instances: int, *, limited: bool) -> None:
    if limited or not summary:
        return
    if summary["nodes_configured"] != nodes:
        raise root.error(f"lists {nodes} nodes, of {summary['nodes_configured']} that are configured")
    if root.node.tag == "pacemaker-result" and summary["instances_configured"] > instances:
        raise root.error(f"lists {instances} resources, of {summary['instances_configured']} that are configured")


def _each(parts: dict[str, Element], tag: str, read: Callable[[Element], Iterator[Any]]) -> tuple[Any, ...]:
    return tuple(read(parts[tag])) if tag in parts else ()


def _summary(summary: Element, *, new: bool, limited: bool) -> dict[str, Any]:
    known = ("stack", "current_dc", "last_update", "last_change", "nodes_configured", "resources_configured")
    found: dict[str, Element] = {}
    for part in summary.children(*known, "cluster_options"):
        if part.node.tag in found:
            raise part.error("stands twice")
        found[part.node.tag] = part
    needed = {"current_dc", "nodes_configured", "resources_configured", *({"cluster_options"} if new else set())}
    if not limited and needed - found.keys():
        raise summary.error(f"lacks {', '.join(sorted(needed - found.keys()))}")
    return {
        **(_stack(found["stack"]) if "stack" in found else {}),
        **(_dc(found["current_dc"]) if "current_dc" in found else {}),
        **(_counts(found["nodes_configured"], found["resources_configured"]) if needed <= found.keys() else {}),
        **(_options(found["cluster_options"]) if "cluster_options" in found else {}),
        "updated": found["last_update"].optional("time") if "last_update" in found else "",
        "changed": found["last_change"].optional("time") if "last_change" in found else "",
    }


def _stack(stack: Element) -> dict[str, Any]:
    state = stack.optional("pacemakerd-state")
    return {"stack": stack.text("type"), "daemons": stack.member(Daemons, state) if state else Daemons.NOT_SAID}


def _dc(dc: Element) -> dict[str, Any]:
    if not dc.flag("present"):
        return {"quorum": Quorum.NO_DC}
    return {
        "dc": dc.text("name"),
        "version": dc.optional("version"),
        "quorum": Quorum.WITH if dc.flag("with_quorum") else Quorum.WITHOUT,
        "mixed_version": dc.maybe("mixed_version"),
    }


def _counts(nodes: Element, resources: Element) -> dict[str, Any]:
    return {
        "nodes_configured": nodes.count("number"),
        "instances_configured": resources.count("number"),
        "instances_disabled": resources.count("disabled") if resources.optional("disabled") else 0,
        "instances_blocked": resources.count("blocked") if resources.optional("blocked") else 0,
    }


def _options(options: Element) -> dict[str, Any]:
    maintenance = options.maybe("maintenance-mode")
    stopped = options.maybe("stop-all-resources")
    said = "maintenance-mode" in options.node.attrib
    management = Management.ENABLED if said else Management.NOT_SAID
    management = Management.STOP_ALL if stopped else management
    policy = options.optional("no-quorum-policy")
    fencing = "fencing-enabled" if "fencing-enabled" in options.node.attrib else "stonith-enabled"
    return {
        "management": Management.MAINTENANCE if maintenance else management,
        "fencing_enabled": Switch.ENABLED if options.flag(fencing) else Switch.DISABLED,
        "symmetric": Switch.ENABLED if options.flag("symmetric-cluster") else Switch.DISABLED,
        "no_quorum": options.member(NoQuorum, policy) if policy else NoQuorum.NOT_SAID,
    }


def _attributes(part: Element) -> Iterator[Attribute]:
    for node in part.children("node"):
        for attribute in node.children("attribute"):
            expected = attribute.optional("expected")
            yield Attribute(
                node=node.text("name"),
                name=attribute.text("name"),
                value=attribute.optional("value"),
                expected=number(expected) if expected else NOT_SAID,
            )


def _history(part: Element) -> Iterator[History]:
    for node in part.children("node"):
        for resource in node.children("resource_history"):
            yield History(
                node=node.text("name"),
                resource=resource.text("id"),
                fail_count=max(number(resource.optional("fail-count")), 0),
                last_failure=resource.optional("last-failure"),
                migration_threshold=number(resource.optional("migration-threshold")),
                orphan=resource.maybe("orphan") or resource.maybe("removed"),
                operations=tuple(_operation(one) for one in resource.children("operation_history")),
            )


def _operation(operation: Element) -> Operation:
    return Operation(
        call=number(operation.text("call")),
        task=operation.text("task"),
        interval_ms=max(milliseconds(operation.optional("interval")), 0),
        exit_code=number(operation.text("rc")),
        exit_text=operation.optional("rc_text"),
        changed=operation.optional("last-rc-change"),
        exec_ms=milliseconds(operation.optional("exec-time")),
        queue_ms=milliseconds(operation.optional("queue-time")),
    )


def _failures(parts: dict[str, Element]) -> tuple[Failure, ...]:
    failures = _each(parts, "failures", _each_failure)
    if "failures" in parts and not failures:
        raise parts["failures"].error("is empty")
    return failures


def _each_failure(part: Element) -> Iterator[Failure]:
    for failure in part.children("failure"):
        key = failure.optional("op_key") or failure.text("id")
        resource, task, interval_ms = operation_key(part.printed, key, 0)
        reason = failure.text("exitreason")
        yield Failure(
            resource=resource,
            task=task,
            interval_ms=interval_ms,
            node=failure.text("node"),
            exit_text=failure.text("exitstatus"),
            exit_code=number(failure.text("exitcode")),
            call=number(failure.text("call")),
            status=failure.text("status"),
            reason="" if reason == "none" else reason,
            changed=failure.optional("last-rc-change"),
            exec_ms=milliseconds(failure.optional("exec")),
        )


def _fencing(part: Element) -> Iterator[Fencing]:
    for event in part.children("fence_event"):
        state = event.optional("status") or event.text("state")
        if state not in FENCING_STATES:
            raise event.error(f"has the state {state!r}, where we know of {', '.join(FENCING_STATES)}")
        yield Fencing(
            action=event.text("action"),
            target=event.text("target"),
            state=FENCING_STATES[state],
            delegate=event.optional("delegate"),
            client=event.text("client"),
            origin=event.text("origin"),
            completed=event.optional("completed"),
            reason=event.optional("exit-reason"),
        )


def _fencing_history(parts: dict[str, Element]) -> str:
    history = parts.get("fence_history")
    status = history.optional("status") if history else ""
    return f"exit code {status}" if status not in {"", "0"} else ""


def _bans(part: Element) -> Iterator[Ban]:
    for ban in part.children("ban"):
        only = "promoted-only" if "promoted-only" in ban.node.attrib else "master_only"
        yield Ban(
            id=ban.text("id"),
            resource=ban.text("resource"),
            node=ban.text("node"),
            promoted_only=ban.flag(only),
            weight=number(ban.text("weight")),
        )


def _tickets(part: Element) -> Iterator[Ticket]:
    for ticket in part.children("ticket"):
        if (status := ticket.text("status")) not in {"granted", "revoked"}:
            raise ticket.error(f"has the status {status!r}, neither granted nor revoked")
        yield Ticket(
            id=ticket.text("id"),
            granted=status == "granted",
            standby=ticket.flag("standby"),
            last_granted=ticket.optional("last-granted"),
        )
