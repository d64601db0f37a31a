"""The steps of which a runbook is a list.

* `Gate`: nothing is changed; the run stops unless the check finds nothing.
* `Converge`: observe, plan, show, ask, apply and observe again (in the same exec). The plan must then be empty.
* `Wait`: the check is asked again until it finds nothing or the time is over.
* `Confirm`: a person reads a page and types a phrase; ``--yes`` does not answer it.
* `Show`: a person reads what was seen, and nothing is asked.

A step looks at its hosts first. Where it follows another one closely, ``stale_s`` lets it take what was seen less than
so many seconds ago; a host that was changed was looked at after the change. 0 is a fresh look in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dockyard.change import Plan
from dockyard.findings import Finding
from dockyard.observe import Domains, Observed
from dockyard.topology import Role, Topology

Check = Callable[[Topology, Observed], Sequence[Finding]]
Planner = Callable[[Topology, Observed], Plan]


@dataclass(frozen=True, slots=True)
class Gate:
    """Go on only when ``check`` finds nothing. ``on`` limits it to the hosts that have one of these roles.

    When a person was asked before the first change that follows, which takes minutes, it is checked once more.
    """

    title: str
    check: Check
    sees: Domains
    on: Sequence[Role] = ()
    stale_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Converge:
    """Bring the hosts to what ``plan`` wants.

    ``each`` says that every host's changes depend on that host alone, so that one unreachable host keeps nobody else
    back. Without it the plan needs to have seen all hosts, and the step is refused when one is missing.
    ``together`` says that the changes of several hosts belong together: ``--limit`` may not tear them apart.
    ``proved_by`` is where the changes show: what is read again after them. Empty: all that the step sees.
    """

    title: str
    plan: Planner
    sees: Domains
    on: Sequence[Role] = ()
    each: bool = False
    together: bool = False
    stale_s: float = 0.0
    proved_by: Domains = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask ``check`` every ``every_s`` seconds: it finds nothing, something `lasting`, or ``timeout_s`` are over.

    When ``--limit`` kept changes back that it may wait for, it waits no longer than a minute.
    """

    title: str
    check: Check
    sees: Domains
    timeout_s: float
    on: Sequence[Role] = ()
    every_s: float = 2.0
    stale_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a person has to read, and the phrase (in lower case) by which they say that they did."""

    lines: tuple[str, ...]
    phrase: str


@dataclass(frozen=True, slots=True)
class Confirm:
    """Show a page and go on only when its phrase is typed. Neither ``--yes`` nor a closed terminal answers it.

    No page (None): there is nothing left to confirm. ``for_all``: the phrase answers for the steps that follow, too.
    """

    title: str
    page: Callable[[Topology, Observed], Page | None]
    sees: Domains
    on: Sequence[Role] = ()
    stale_s: float = 0.0
    for_all: bool = False


@dataclass(frozen=True, slots=True)
class Show:
    """Show what ``lines`` has to say of what was seen: text, or the rows of a table, all with the same columns."""

    title: str
    lines: Callable[[Topology, Observed], Sequence[str] | Sequence[dict[str, str]]]
    sees: Domains
    on: Sequence[Role] = ()
    stale_s: float = 0.0


Step = Gate | Converge | Wait | Confirm | Show


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asked for. ``limit`` are the hosts that may be changed; None is all of them.

    ``gone`` are hosts that are known to be out of reach: gates and pages look for them, changes and waiting do without.
    """

    dry_run: bool = False
    yes: bool = False
    limit: frozenset[str] | None = None
    destroy: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()


def hosts_of(step: Step, topology: Topology, options: Options) -> list[str]:
    """The hosts that a step looks at."""
    hosts = topology.with_role(*step.on) if step.on else topology.hosts.values()
    away = options.gone if isinstance(step, Converge | Wait) else frozenset()
    names = [host.name for host in hosts if host.name not in away]
    if options.limit is None or not (isinstance(step, Converge) and step.each):
        return names
    return [name for name in names if name in options.limit]
