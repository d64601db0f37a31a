"""What happened, in the text of `crm_mon`: fail counts, failed actions, fencing; and attributes, bans, tickets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from dockyard.parsing import Printed, Row
from tasks.pacemaker.cluster import (
    NOT_SAID,
    Attribute,
    Ban,
    Failure,
    Fencing,
    FencingState,
    History,
    Operation,
    Ticket,
)

INFINITY = 1_000_000
MILLISECONDS = {"ms": 1, "": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
FENCING_STATES = {
    "failed": FencingState.FAILED,
    "successful": FencingState.SUCCESS,
    "success": FencingState.SUCCESS,
    "pending": FencingState.PENDING,
}
FENCING_ACTIONS = {"turning off": "off", "unfencing": "on"}

_KEY = re.compile(r"(.+)_(migrate_to|migrate_from|last_failure|[^_]+)_(\d{1,18})")


def milliseconds(text: str) -> int:
    """The number in ``1m30s``, ``4.005s``, ``426ms`` or ``426``; `NOT_SAID` for nothing and for ``(null)``."""
    parts = re.findall(r"(\d{1,15}(?:\.\d{1,9})?)(ms|[smhd]|)", text)
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != text:
        return NOT_SAID
    return round(sum(float(number) * MILLISECONDS[unit] for number, unit in parts))


def number(text: str) -> int:
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else INFINITY if text == "INFINITY" else NOT_SAID


def operation_key(printed: Printed, key: str, line_number: int) -> tuple[str, str, int]:
    """Resource, task and interval in milliseconds of a key like ``app_monitor_10000``."""
    parts = _KEY.fullmatch(key)
    if not parts:
        raise printed.error(line_number, f"has {key!r} where the key of an operation should be")
    task = "probe" if (parts[2], int(parts[3])) == ("monitor", 0) else parts[2]
    return parts[1], task, int(parts[3])


def read_failure(printed: Printed, row: Row) -> Failure:
    """One failed action, in any of the four wordings."""
    if row["action"]:
        resource, task, interval_ms = operation_key(printed, row["action"], row.line_number)
    else:
        resource, task, interval_ms = row["failed"], row["task"], max(milliseconds(row["interval"]), 0)
    return Failure(
        resource=resource,
        task=task,
        interval_ms=interval_ms,
        node=row["of_node"],
        exit_text=row["rc_text"],
        exit_code=number(row["rc"]),
        call=number(row["call"]),
        status=row["status"] or ("complete" if row["rc_text"] else ""),
        reason="" if row["reason"] == "none" else row["reason"],
        changed=row["changed"],
        exec_ms=milliseconds(row["exec"]),
    )


def read_fencing(printed: Printed, row: Row, heading: str) -> Fencing:
    """One entry of the history; those under ``Failed`` and ``Pending Fencing Actions`` must be what that says."""
    state = FENCING_STATES[row["fence_state"]]
    if heading.split(maxsplit=1)[0].lower() not in {"fencing", state.value}:
        raise printed.error(row.line_number, f"does not belong under {heading!r}")
    return Fencing(
        action=FENCING_ACTIONS.get(row["fence"], row["fence"]),
        target=row["target"],
        state=state,
        delegate=row["delegate"],
        client=row["client"],
        origin=row["origin"],
        completed=row["changed"],
        reason=row["reason"],
        later_succeeded="succeeded" in row["later"],
    )


def read_attributes(printed: Printed, rows: Iterable[Row]) -> tuple[Attribute, ...]:
    """The attributes below the name of their node."""
    node, found = "", dict[tuple[str, str], Attribute]()
    seen: set[str] = set()
    for row in rows:
        if row["of_node"]:
            node = once(printed, row, row["of_node"], seen)
        elif not node or (node, row["attribute"]) in found:
            raise printed.error(row.line_number, "has no node above it, or stands twice")
        else:
            expected = re.search(r"Expected=(-?\d{1,18})", row["connectivity"])
            found[node, row["attribute"]] = Attribute(
                node=node,
                name=row["attribute"],
                value=row["value"].rstrip(),
                expected=int(expected[1]) if expected else NOT_SAID,
                connectivity_lost=row["connectivity"] == "lost",
            )
    return tuple(found.values())


def once(printed: Printed, row: Row, name: str, seen: set[str]) -> str:
    if name in seen:
        raise printed.error(row.line_number, f"says {name} a second time")
    seen.add(name)
    return name


@dataclass(slots=True)
class _Histories:
    printed: Printed
    node: str = ""
    nodes: set[str] = field(default_factory=set)
    resources: set[str] = field(default_factory=set)
    found: list[History] = field(default_factory=list)

    def add(self, row: Row) -> None:
        if row["of_node"]:
            self.node, self.resources = once(self.printed, row, row["of_node"], self.nodes), set()
            return
        if not self.node:
            raise self.printed.error(row.line_number, "has no node above it")
        if row["history"]:
            once(self.printed, row, row["history"], self.resources)
            self.found.append(_history(row, self.node))
        if row["call"]:
            self._operation(row)

    def _operation(self, row: Row) -> None:
        if not self.found or self.found[-1].node != self.node:
            raise self.printed.error(row.line_number, "has no resource above it")
        last = self.found[-1]
        self.found[-1] = replace(last, operations=(*last.operations, _operation(row)))


def read_history(printed: Printed, rows: Iterable[Row]) -> tuple[History, ...]:
    """Fail counts and operations, below the name of their node."""
    histories = _Histories(printed)
    for row in rows:
        histories.add(row)
    return tuple(histories.found)


def _history(row: Row, node: str) -> History:
    return History(
        node=node,
        resource=row["history"],
        fail_count=max(number(row["fail_count"]), 0),
        last_failure=row["last_failure"],
        migration_threshold=number(row["threshold"]),
        orphan=bool(row["orphan"] or row["call"]),
    )


def _operation(row: Row) -> Operation:
    return Operation(
        call=number(row["call"]),
        task=row["task"],
        interval_ms=max(milliseconds(row["interval"]), 0),
        exit_code=number(row["rc"]),
        exit_text=row["rc_text"],
        changed=row["changed"],
        exec_ms=milliseconds(row["exec"]),
        queue_ms=number(row["queue"]),
    )


def read_bans(printed: Printed, rows: Iterable[Row]) -> tuple[Ban, ...]:
    """Raises ParseError for one that stands twice."""
    seen: set[str] = set()
    found: list[Ban] = []
    for row in rows:
        once(printed, row, f"{row['ban']} {row['of_node']}", seen)
        found.append(
            Ban(id=row["ban"], resource=row["banned"], node=row["of_node"], promoted_only=bool(row["promoted_only"]))
        )
    return tuple(found)


def read_tickets(printed: Printed, rows: Sequence[Row]) -> tuple[Ticket, ...]:
    """Raises ParseError for one that stands twice."""
    seen: set[str] = set()
    return tuple(
        Ticket(
            id=once(printed, row, row["ticket"], seen),
            granted=row["granted"] == "granted",
            standby=bool(row["standby"]),
            last_granted=row["last_granted"],
        )
        for row in rows
    )
