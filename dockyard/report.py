"""What a run shows: to a person on a terminal, as plain lines in a pipe, or as one JSON document at the end."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from nornir.core.inventory import Host
from nornir.core.processor import Processor
from nornir.core.task import AggregatedResult, MultiResult, Task

from dockyard.errors import DockyardError
from dockyard.findings import Finding

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


PIPE_WIDTH = 160
"""Columns of a table that goes into a pipe or a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlan:
    """The planned changes of one host, as text."""

    host: str
    titles: Sequence[str]
    diffs: Sequence[str]


@dataclass(slots=True)
class StepRecord:
    """What became of one step.

    ``status`` is ``running``, ``unchanged``, ``planned``, ``changed``, ``failed`` or ``judged`` (no step of a run).
    """

    title: str
    status: str = "running"
    planned: list[HostPlan] = field(default_factory=list)
    applied: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


class Report:
    """Records a run and shows it while it goes on.

    ``json_mode`` shows nothing until `finish`, which then prints one document.
    ``verbose`` 1 adds a line per host, 2 what each host answered.
    """

    def __init__(self, runbook: str, *, json_mode: bool = False, verbose: int = 0, out: TextIO | None = None) -> None:
        self.runbook = runbook
        self.steps: list[StepRecord] = []
        self.tables: dict[str, list[dict[str, str]]] = {}
        self.verbose = verbose
        self.json_mode = json_mode
        self._out = out or sys.stdout
        self._lazy_console: Console | None = None

    @property
    def console(self) -> Console:
        """Where everything goes that is not JSON; rich decides about colour and width."""
        if self._lazy_console is None:
            from rich.console import Console

            self._lazy_console = Console(file=self._out, highlight=False, soft_wrap=True, quiet=self.json_mode)
            if not self._lazy_console.is_terminal:
                self._lazy_console.width = PIPE_WIDTH
        return self._lazy_console

    def step_started(self, number: int, count: int, title: str) -> None:
        self.steps.append(StepRecord(title))
        self.console.print(f"[bold][{number}/{count}] {_escaped(title)}[/bold]")

    def step_ended(self, unchanged: str) -> None:
        """Close the step; ``unchanged`` is what is said when nothing was planned or done."""
        step = self.steps[-1]
        step.status = "changed" if step.applied else "planned" if step.planned else "unchanged"
        if step.status == "unchanged":
            self.console.print(f"  [green]{unchanged}[/green]")

    def planned(self, plans: Sequence[HostPlan]) -> None:
        self.steps[-1].planned = list(plans)
        for plan in plans:
            self.console.print(f"  [cyan]{plan.host}[/cyan]: {len(plan.titles)} change{'s'[: len(plan.titles) > 1]}")
            for diff in plan.diffs:
                self._diff(diff)

    @property
    def has_plans(self) -> bool:
        return any(step.planned for step in self.steps)

    def applied(self, hosts: Sequence[str]) -> None:
        self.steps[-1].applied = list(hosts)
        if hosts:
            self.console.print(f"  [yellow]changed[/yellow]: {', '.join(hosts)}")

    def findings(self, findings: Sequence[Finding]) -> None:
        if self.steps:
            self.steps[-1].findings = list(findings)
        for finding in findings:
            self.console.print(f"  [red]{_escaped(finding.host)}: {_escaped(finding.fault)}[/red]")
            self.console.print(f"    seen: {_escaped(finding.evidence)}")
            self.console.print(f"    next: {_escaped(finding.advice)}")

    def waiting(self, findings: Sequence[Finding], left_s: float) -> None:
        self.console.print(f"  waiting, {left_s:.0f} s left: {_escaped(str(findings[0]))} [{len(findings)} in all]")

    def note(self, text: str) -> None:
        self.console.print(f"  {_escaped(text)}")

    def show(self, title: str, lines: Sequence[str] | Sequence[dict[str, str]]) -> None:
        """Lines of text, or the rows of a table (see `table`)."""
        rows = [line for line in lines if isinstance(line, dict)]
        if rows:
            self.table(title, rows)
        for line in lines:
            if isinstance(line, str):
                self.note(line)

    def table(self, title: str, rows: Sequence[dict[str, str]]) -> None:
        """Show ``rows`` (same keys in each) under ``title``; cells may hold rich's markup."""
        from rich.table import Table

        self.record(title.partition(" (")[0], rows)
        table = Table(title=title, title_justify="left")
        for column in rows[0] if rows else ():
            table.add_column(column, no_wrap=True)
        for row in rows:
            table.add_row(*row.values())
        self.console.print(table, soft_wrap=False)

    def record(self, name: str, rows: Sequence[dict[str, str]]) -> None:
        """Keep ``rows`` for JSON, without markup, and show nothing."""
        self.tables[name] = [{key: _plain(cell) for key, cell in row.items()} for row in rows]

    def judged(self, findings: Sequence[Finding]) -> None:
        """Show the findings of a check that is no step of a run."""
        self.steps.append(StepRecord("findings", status="judged"))
        self.findings(findings)
        if not findings:
            self.console.print("[bold green]everything is as it should be[/bold green]")

    def next_page(self) -> Report:
        """A fresh report for the next round of something that repeats; a terminal is cleared first."""
        self.console.clear()
        return Report(self.runbook, json_mode=self.json_mode, verbose=self.verbose, out=self._out)

    def finish(self, exit_code: int, error: DockyardError | None = None) -> None:
        """Say how it ended. In JSON mode this prints the whole record."""
        if error is not None and self.steps and self.steps[-1].status == "running":
            self.steps[-1].status = "failed"
        if self.json_mode:
            print(json.dumps(self._document(exit_code, error), indent=2, default=str), file=self._out)
            return
        if error is not None:
            self.console.print(f"[bold red]{_escaped(str(error))}[/bold red]")
            if error.advice:
                self.console.print(f"Next: {_escaped(error.advice)}")
        elif any(step.status != "judged" for step in self.steps):
            self.console.print(self._summary())

    def _summary(self) -> str:
        changes = sum(len(plan.titles) for step in self.steps for plan in step.planned)
        hosts = {plan.host for step in self.steps for plan in step.planned}
        done = any(step.applied for step in self.steps)
        verb = "made" if done or not changes else "planned, nothing done"
        return f"{changes} changes {verb} on {len(hosts)} hosts in {len(self.steps)} steps"

    def _document(self, exit_code: int, error: DockyardError | None) -> dict[str, Any]:
        return {
            "runbook": self.runbook,
            "exit_code": exit_code,
            "error": {"kind": type(error).__name__, "message": str(error), "advice": error.advice} if error else None,
            "steps": [asdict(step) for step in self.steps],
            "tables": self.tables,
        }

    def _diff(self, diff: str) -> None:
        colours = {"+": "green", "-": "red", "@": "magenta", "$": "bold", "#": "dim"}
        for line in diff.splitlines():
            colour = colours.get(line[:1], "default")
            self.console.print(f"    [{colour}]{_escaped(line)}[/{colour}]")

    @contextmanager
    def progress(self, verb: str, hosts: Sequence[str]) -> Iterator[list[Processor]]:
        """Nornir processors that show each host while it works: live on a terminal, a line each otherwise.

        From ``-vv`` on, nornir-utils prints in full what every task returned.
        """
        full = self._printers() if self.verbose > 1 and not self.json_mode else []
        if not self.console.is_terminal or self.json_mode or full:
            yield [HostProgress(verb, None, {}, self if self.verbose else None), *full]
            return
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self.console, transient=True) as live:
            rows = {host: live.add_task(f"{host}: {verb}", total=1) for host in hosts}
            yield [HostProgress(verb, live, rows, None)]

    @staticmethod
    def _printers() -> list[Processor]:
        from nornir_utils.plugins.processors import PrintResult

        return [PrintResult(severity_level=logging.DEBUG)]


class HostProgress:
    """Follows nornir's hosts through one task (a nornir ``Processor``)."""

    def __init__(self, verb: str, live: Progress | None, rows: dict[str, TaskID], lines: Report | None) -> None:
        self._verb = verb
        self._live = live
        self._rows = rows
        self._lines = lines
        self._started: dict[str, float] = {}

    def task_started(self, _: Task) -> None:
        """Nothing to show: the hosts follow."""

    def task_completed(self, _: Task, __: AggregatedResult) -> None:
        """Nothing to show: every host has said its part."""

    def task_instance_started(self, _: Task, host: Host) -> None:
        self._started[host.name] = time.monotonic()

    def task_instance_completed(self, _: Task, host: Host, result: MultiResult) -> None:
        took = time.monotonic() - self._started[host.name]
        word = "failed" if result.failed else "done"
        if self._live is not None:
            self._live.update(self._rows[host.name], completed=1, description=f"{host.name}: {word}")
        if self._lines is not None:
            self._lines.note(f"{host.name}: {self._verb} {word} in {took:.2f} s")

    def subtask_instance_started(self, _: Task, __: Host) -> None:
        """Our tasks have no subtasks."""

    def subtask_instance_completed(self, _: Task, __: Host, ___: MultiResult) -> None:
        """Our tasks have no subtasks."""


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _plain(cell: str) -> str:
    from rich.text import Text

    return Text.from_markup(cell).plain
