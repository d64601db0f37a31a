"""The engine that walks the steps of a runbook (`dockyard.steps`): each of them converges.

So a run that was cut off is simply run again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nornir.core import Nornir

from dockyard import change
from dockyard.change import Change, Plan
from dockyard.clock import elapsed_s
from dockyard.errors import Busy, DockyardError, NotObserved, Refused, StepFailed, Unreachable, UsageError
from dockyard.findings import Finding, by_cause
from dockyard.journal import Journal
from dockyard.observe import Domains, Observed, concerning, probes_of, read_all, sweep
from dockyard.remote import Command
from dockyard.report import HostPlan, Report
from dockyard.steps import Confirm, Converge, Gate, Options, Show, Step, Wait, hosts_of
from dockyard.topology import Topology

KEPT_BACK_S = 60.0
IN_VAIN = 5  # looks in a row with a `lasting` finding; one alone may be of the moment before something begins

_UNCHANGED = {Converge: "nothing to do", Show: "nothing is asked"}


@dataclass(slots=True)
class Engine:
    """Walks the steps of one runbook over one cluster.

    ``hold`` is called before every apply and raises when the lease is no longer ours; ``ask`` shows a question to a
    person and returns what was typed (``""`` for no answer).
    """

    nornir: Nornir
    topology: Topology
    options: Options
    report: Report
    journal: Journal
    hold: Callable[[], None]
    ask: Callable[[str], str]
    seen: Observed = field(default_factory=Observed)
    left_out: dict[str, DockyardError] = field(default_factory=dict)
    kept_back: set[str] = field(default_factory=set)
    _gates: list[Gate] = field(default_factory=list)
    _all: bool = False
    _looks: dict[tuple[str, str], tuple[tuple[Any, Any], float]] = field(default_factory=dict)

    def run(self, steps: Sequence[Step]) -> None:
        """Walk ``steps`` in order.

        Raises:
            DockyardError: the step that could not reach its goal; `Report` holds what was done until then.
        """
        for number, step in enumerate(steps, 1):
            self.report.step_started(number, len(steps), step.title)
            self.journal.write("step", number=number, title=step.title)
            try:
                self._walk(step)
            except NotObserved as error:
                raise _with_alternatives(error, steps[number:]) from error
            self.report.step_ended(_UNCHANGED.get(type(step), "yes"))
        if self.left_out:
            host, reason = next(iter(self.left_out.items()))
            advice = "The other hosts are done. Run again when it is back."
            raise NotObserved(host, f"was left out: {reason}", advice=advice)

    def _walk(self, step: Step) -> None:
        match step:
            case Converge():
                self._converge(step)
            case Wait():
                self._wait(step)
            case Gate():
                self._judge(self._check(step))
                self._gates.append(step)
            case Confirm():
                self._agree(step)
            case Show():
                self._show(step)

    def _check(self, step: Gate | Wait, *, again: bool = False) -> list[Finding]:
        self._observe(step, again=again)
        return by_cause(step.check(self.topology, self.seen))

    def _judge(self, findings: list[Finding]) -> None:
        self.journal.write("findings", findings=[str(finding) for finding in findings])
        if findings and self.options.dry_run and self.report.has_plans:
            self.report.note(f"{len(findings)} findings now, before anything that is planned above has been done:")
            for finding in findings:
                self.report.note(f"  {finding}")
            return
        self.report.findings(findings)
        unseen = [finding for finding in findings if finding.unseen]
        if unseen:
            raise NotObserved(unseen[0].host, unseen[0].evidence, advice=unseen[0].advice)
        if findings:
            raise StepFailed(f"{len(findings)} findings", advice=findings[0].advice)

    def _agree(self, step: Confirm) -> None:
        self._observe(step)
        page = step.page(self.topology, self.seen)
        if page is None:
            return
        self.journal.write("page", lines=page.lines, phrase=page.phrase)
        for line in page.lines:
            self.report.note(line)
        if self.options.dry_run:
            self.report.note(f"The phrase would be: {page.phrase}")
        elif self.ask(f"To go on, type this:\n{page.phrase}\n> ") != page.phrase:
            raise Refused("the phrase was not typed", advice="Nothing was done in this step.")
        self._all = self._all or step.for_all

    def _show(self, step: Show) -> None:
        self._observe(step)
        lines = step.lines(self.topology, self.seen)
        self.journal.write("shown", lines=lines)
        self.report.show(step.title, lines)

    def _wait(self, step: Wait) -> None:
        deadline = time.monotonic() + (min(step.timeout_s, KEPT_BACK_S) if self.kept_back else step.timeout_s)
        findings, in_vain = self._check(step), 0
        while findings and not self.options.dry_run and time.monotonic() < deadline and in_vain < IN_VAIN:
            self.report.waiting(findings, deadline - time.monotonic())
            time.sleep(step.every_s)
            findings = self._check(step, again=True)
            in_vain = in_vain + 1 if any(finding.lasting for finding in findings) else 0
        if findings and self.kept_back:
            self.report.note(f"--limit kept back what is to be done on {', '.join(sorted(self.kept_back))}")
        self._judge(findings)

    def _converge(self, step: Converge) -> None:
        missing = self._observe(step)
        if missing and not step.each:
            host, error = next(iter(missing.items()))
            raise NotObserved(host, f"this step needs to see every host: {error}", advice=error.advice)
        plan = self._within_limit(step, step.plan(self.topology, self.seen))
        self.report.planned(_shown(plan))
        self.journal.write("plan", plan={host: [change.diff() for change in changes] for host, changes in plan.items()})
        if plan and not self.options.dry_run:
            self._confirm(plan)
            self._apply(step, plan)
        self.left_out.update(missing)

    def _within_limit(self, step: Converge, plan: Plan) -> dict[str, Sequence[Change]]:
        limit = self.options.limit
        wanted = {host: changes for host, changes in plan.items() if changes}
        left = {host: changes for host, changes in wanted.items() if limit is None or host in limit}
        self.kept_back |= wanted.keys() - left.keys()
        if step.together and left and left != wanted:
            raise UsageError(
                f"{', '.join(left)} cannot be changed without {', '.join(host for host in wanted if host not in left)}",
                advice="Nothing was done in this step. Give --limit all of them, or leave it out.",
            )
        return left

    def _observe(self, step: Step, *, again: bool = False) -> dict[str, DockyardError]:
        """Look at the hosts of the step; returns why some could not be seen."""
        hosts = hosts_of(step, self.topology, self.options)
        if not again and self._have_just_seen(step, hosts):
            return {}
        began_at = elapsed_s()
        with self.report.progress("observing", hosts) as processors:
            nornir = self.nornir.filter(filter_func=lambda host: host.name in hosts).with_processors(processors)
            fresh = sweep(nornir, step.sees, settled=not self.options.dry_run)
        self._take_in(step, fresh, began_at)
        if isinstance(step, Gate | Confirm):
            _refuse_busy(fresh)
        return fresh.errors()

    def _have_just_seen(self, step: Step, hosts: Sequence[str]) -> bool:
        """Whether all that the step sees was read, without a fault, within its ``stale_s``."""
        wanted = [
            (host, domain)
            for host in hosts
            for domain in concerning(step.sees, self.topology, self.topology.host(host))
        ]
        looks = [(self._looks.get((host, domain.name)), (domain.probes, domain.read)) for host, domain in wanted]
        oldest = elapsed_s() - step.stale_s
        return step.stale_s > 0 and all(look and look[0] == asked and look[1] >= oldest for look, asked in looks)

    def _take_in(self, step: Step, fresh: Observed, began_at: float) -> None:
        self.seen = self.seen.merged(fresh)
        for host, states in fresh.states.items():
            for domain in concerning(step.sees, self.topology, self.topology.host(host)):
                self._looks.pop((host, domain.name), None)
                if domain.name in states and not isinstance(states[domain.name], DockyardError):
                    self._looks[host, domain.name] = ((domain.probes, domain.read), began_at)

    def _confirm(self, plan: Plan) -> None:
        doomed = {change.destroys for changes in plan.values() for change in changes if change.destroys}
        unnamed = sorted(doomed - self.options.destroy)
        if unnamed:
            named = " ".join(f"--destroy {name}" for name in unnamed)
            advice = f"Nothing was done. If that is what you want, name it: {named}"
            raise Refused(f"this would destroy {', '.join(unnamed)}", advice=advice)
        if self.options.yes or self._all:
            return
        count = sum(map(len, plan.values()))
        answer = self.ask(f"Apply these {count} changes on {len(plan)} hosts? [y]es, [a]ll that follow too, [N]o: ")
        if answer not in {"y", "yes", "a", "all"}:
            raise Refused("not confirmed", advice="Nothing was done in this step. Answer y, or give --yes.")
        self._all = answer in {"a", "all"}
        for gate in self._gates:
            self._judge(self._check(gate))

    def _apply(self, step: Converge, plan: Plan) -> None:
        self.hold()
        self._gates.clear()
        began_at = elapsed_s()
        with self.report.progress("applying", list(plan)) as processors:
            nornir = self.nornir.filter(filter_func=lambda host: host.name in plan).with_processors(processors)
            answers = nornir.run(task=change.apply, plan=plan, probes_of=self._probes(step), on_failed=True)
        failures = {host: answer.exception for host, answer in answers.items() if answer.exception}
        states = {
            host: read_all(_read_again(step), self.topology, self.topology.host(host), answer[0].result)
            for host, answer in answers.items()
            if host not in failures
        }
        self._take_in(step, Observed(states), began_at)
        applied = sorted(set(plan) - set(failures))
        self.journal.write("applied", hosts=applied, failed={host: str(error) for host, error in failures.items()})
        self.report.applied(applied)
        _raise_first(failures)
        self._verify(step, plan)

    def _probes(self, step: Converge) -> Callable[[str], Sequence[Command]]:
        return lambda name: probes_of(_read_again(step), self.topology, self.topology.host(name))

    def _verify(self, step: Converge, plan: Plan) -> None:
        """The same plan must be empty now; raises StepFailed, or NotObserved when a host can no longer be read."""
        for host in plan:
            for domain in concerning(step.sees, self.topology, self.topology.host(host)):
                self.seen.of(domain, host)
        left = self._within_limit(step, step.plan(self.topology, self.seen))
        again = {host: changes for host, changes in left.items() if host in plan}
        if again:
            self.report.planned(_shown(again))
            raise StepFailed(
                f"the changes did not last on {', '.join(again)}: the same plan is not empty afterwards",
                advice="Something else writes there too, or the host refuses silently; the diff above is what is left.",
            )


def _read_again(step: Converge) -> Domains:
    return step.proved_by or step.sees


def _refuse_busy(fresh: Observed) -> None:
    """A check may do without a host that is away. One that is alive, and is being changed, could be what it is for."""
    for host, error in fresh.errors().items():
        if isinstance(error, Busy):
            raise NotObserved(host, str(error).removeprefix(f"{host}: "), advice=error.advice)


def _with_alternatives(error: NotObserved, later: Sequence[Step]) -> NotObserved:
    free = [step.title for step in later if isinstance(step, Converge) and step.each]
    hint = "These later steps do without it: " + "; ".join(f'--only "{title}"' for title in free) if free else ""
    advice = "\n".join(filter(None, (error.advice, hint)))
    return NotObserved(error.host, str(error).removeprefix(f"{error.host}: "), advice=advice)


def _shown(plan: Plan) -> list[HostPlan]:
    return [
        HostPlan(host=host, titles=[c.title for c in changes], diffs=[c.diff() for c in changes])
        for host, changes in plan.items()
    ]


def _raise_first(failures: dict[str, BaseException | None]) -> None:
    errors = [error for error in failures.values() if error is not None]
    for error in errors:
        if not isinstance(error, DockyardError):
            raise error
    if len(errors) == 1:
        raise errors[0]
    if errors and all(isinstance(error, Unreachable) for error in errors):
        raise Unreachable(", ".join(failures), "did not answer to the end", advice=str(errors[0]))
    if errors:
        advice = "Each host stopped at its first failure; run again after mending."
        raise StepFailed("\n".join(map(str, errors)), advice=advice)
