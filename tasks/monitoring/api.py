"""What Prometheus itself says, asked on its own host: two curl processes, of which one tries every exporter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from dockyard.observe import Domain
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Topology
from dockyard.typed_json import typed
from tasks.monitoring import places
from tasks.monitoring.facts import is_server
from tasks.monitoring.texts import address, wanted_of

API = "prometheus api"
REACH = "exporters"
_ANY = frozenset(range(126))
"""curl(1) answers for every URL; its exit code is that of the last one that failed."""

_STATUS = re.compile(r"http://(\S+?)/(\S*) ([0-9]{3})")
_PATHS = {"targets": "api/v1/targets?state=active", "rules": "api/v1/rules?type=alert"}

T = TypeVar("T")


class _Target(msgspec.Struct):
    labels: dict[str, str]
    health: str
    last_error: str = msgspec.field(name="lastError")
    url: str = msgspec.field(name="scrapeUrl")


class _Targets(msgspec.Struct):
    active: list[_Target] = msgspec.field(name="activeTargets")


class _Alert(msgspec.Struct):
    labels: dict[str, str]
    annotations: dict[str, str]
    state: str
    since: str = msgspec.field(name="activeAt")


class _Rule(msgspec.Struct):
    name: str
    health: str
    alerts: list[_Alert]
    last_error: str = msgspec.field(name="lastError", default="")


class _Group(msgspec.Struct):
    rules: list[_Rule]


class _Rules(msgspec.Struct):
    groups: list[_Group]


class _Answer(msgspec.Struct, Generic[T]):
    status: str
    data: T


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One address that Prometheus asks; ``error`` is "" while it answers."""

    job: str
    host: str
    address: str
    up: bool
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert, ``pending`` or ``firing`` since ``since`` (ISO 8601)."""

    name: str
    state: str
    severity: str
    host: str
    summary: str
    advice: str
    since: str

    @property
    def firing(self) -> bool:
        """Whether it has lasted long enough to be told."""
        return self.state == "firing"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrometheusState:
    """``answers`` is False when Prometheus does not; ``reached`` are addresses (``10.20.0.2:9100``) that just answered.

    ``rules`` are the names of the loaded alerts, with the error of the last evaluation or "".
    """

    answers: bool
    reached: frozenset[str] = frozenset()
    targets: tuple[Target, ...] = ()
    rules: Mapping[str, str] = field(default_factory=dict)
    alerts: tuple[Alert, ...] = ()


def _probes(topology: Topology, host: Host) -> Sequence[Command]:
    prometheus = address(topology, host.name, places.PROMETHEUS)
    urls = [f"http://{prometheus}/{path}" for path in _PATHS.values()]
    ask = ("curl", "-s", "--max-time", "8", "-w", "\n%{url} %{http_code}\n")
    reach = ("curl", "-s", "-Z", "--max-time", "5", "-w", "%{url} %{http_code}\n")
    nothing = [word for url in addresses(topology, host) for word in ("-o", "/dev/null", f"http://{url}/")]
    return [Command(API, (*ask, *urls), accepts=_ANY), Command(REACH, (*reach, *nothing), accepts=_ANY)]


def addresses(topology: Topology, host: Host) -> list[str]:
    """Everything that has to answer: the exporters, Alertmanager, and Grafana where there is to be one."""
    exporters = [address(topology, name, places.EXPORTER) for name in topology.hosts]
    grafana = [address(topology, host.name, places.GRAFANA)] if wanted_of(topology).grafana else []
    return [*exporters, address(topology, host.name, places.ALERTMANAGER), *grafana]


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> PrometheusState:
    return read_state(outputs.text(API), outputs.text(REACH))


PROMETHEUS = Domain("prometheus", _probes, _read, is_server)


def read_state(api: str, reach: str) -> PrometheusState:
    """What both commands printed; raises ParseError for anything that is neither an answer nor the lack of one."""
    reached = frozenset(where for where, _, code in _statuses(Printed(REACH, reach)) if code != "000")
    printed = Printed(API, api)
    bodies = _bodies(printed)
    if not bodies:
        return PrometheusState(answers=False, reached=reached)
    targets = _data(printed, bodies["targets"], _Targets)
    rules = [rule for group in _data(printed, bodies["rules"], _Rules).groups for rule in group.rules]
    return PrometheusState(
        answers=True,
        reached=reached,
        targets=tuple(_target(target) for target in targets.active),
        rules={rule.name: rule.last_error if rule.health == "err" else "" for rule in rules},
        alerts=tuple(_alert(rule, alert) for rule in rules for alert in rule.alerts),
    )


def _statuses(printed: Printed) -> list[tuple[str, str, str]]:
    found = []
    for number, line in enumerate(printed.lines, 1):
        match = _STATUS.fullmatch(line)
        if not match:
            raise printed.error(number)
        found.append((match[1], match[2], match[3]))
    return found


def _bodies(printed: Printed) -> dict[str, Any]:
    """The JSON documents by their names in `_PATHS`; none when not all were answered (it is starting, or gone)."""
    names = {path: name for name, path in _PATHS.items()}
    lines = [line for line in printed.lines if line]
    found: dict[str, Any] = {}
    codes = []
    for number, line in enumerate(lines):
        status = _STATUS.fullmatch(line)
        if status and status[2] in names:
            codes.append(status[3])
            if status[3] == "200":
                found[names[status[2]]] = Printed(API, lines[number - 1]).json()
    if len(codes) != len(_PATHS):
        raise printed.error(0, "does not have a status for every question")
    return found if len(found) == len(_PATHS) else {}


def _data(printed: Printed, document: Any, kind: type[T]) -> T:
    return typed(printed, document, _Answer[kind]).data  # type: ignore[valid-type]  # a generic Struct takes a variable


def _target(target: _Target) -> Target:
    return Target(
        job=target.labels.get("job", ""),
        host=target.labels.get("host", ""),
        address=target.url.removeprefix("http://").partition("/")[0],
        up=target.health == "up",
        error=target.last_error,
    )


def _alert(rule: _Rule, alert: _Alert) -> Alert:
    return Alert(
        name=rule.name,
        state=alert.state,
        severity=alert.labels.get("severity", ""),
        host=alert.labels.get("host", ""),
        summary=alert.annotations.get("summary", ""),
        advice=alert.annotations.get("advice", ""),
        since=alert.since,
    )
