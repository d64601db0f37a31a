"""The command line that all runbooks share.

Exit codes: 0 fine; 1 a finding, or a step that did not reach its goal; 2 wrong usage or inventory; 3 a host could not
be reached or read; 4 not confirmed; 5 another run holds the lease; 130 interrupted (128 + signal number, as shells do).
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

from nornir.core import Nornir

from dockyard.cluster import open_cluster
from dockyard.errors import DockyardError, Refused, UsageError
from dockyard.journal import Journal
from dockyard.lease import Lease
from dockyard.observe import Observed
from dockyard.remote import close_all, connect_ahead, stopping
from dockyard.report import Report
from dockyard.runbook import Engine
from dockyard.steps import Options, Step, hosts_of
from dockyard.sudo import ask_before
from dockyard.topology import Topology

T = TypeVar("T")

EXIT_CODES = __doc__.partition("\n\n")[2] if __doc__ else ""


AFTER_INTERRUPT = (
    "Changes that were already sent run to their end on their hosts; no new ones were sent. "
    "Look with runbooks/health.py; runs that converge can simply be started again."
)


class Interrupted(BaseException):
    """A signal asked us to stop; connections are closed, so that nothing waits for an answer any more."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser that shows the runbook's docstring and knows the options that every runbook has."""
    title, _, rest = (doc or "").strip().partition("\n")
    made = argparse.ArgumentParser(
        description=title,
        epilog=f"{rest.strip()}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--inventory",
        metavar="WHERE",
        help="'lab', or a folder with hosts.yaml (default: $DOCKYARD_INVENTORY, else the inventory/ of this project)",
    )
    made.add_argument("--json", action="store_true", help="print one JSON document at the end instead of text")
    made.add_argument("-v", "--verbose", action="count", default=0, help="a line per host; -vv: all that was seen")
    return made


def main(doc: str | None, steps: Sequence[Step]) -> NoReturn:
    """Run a runbook made of steps, as the command line says, and exit with its exit code."""
    options = parser(doc)
    add_step_options(options)
    arguments = options.parse_args()

    def body(report: Report) -> int:
        run_steps(arguments, steps, report)
        return 0

    sys.exit(guarded(arguments, body))


def number(least: float, most: float) -> Callable[[str], float]:
    """For ``type=`` of an option: a number between two others."""

    def number(text: str) -> float:
        if not least <= float(text) <= most:  # also refuses nan
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return float(text)

    return number


def read_by(read: Callable[[str], T]) -> Callable[[str], T]:
    """For ``type=`` of an option: ``read``, whose ValueError tells the person what is wrong."""

    def argument(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return argument


def guarded(arguments: argparse.Namespace, body: Callable[[Report], int]) -> int:
    """Call ``body`` with a report; turn what it raises into a message with advice and an exit code."""
    report = Report(Path(sys.argv[0]).stem, json_mode=arguments.json, verbose=arguments.verbose)
    code, error = 0, None
    try:
        code = body(report)
    except DockyardError as raised:
        code, error = raised.exit_code, raised
    except Interrupted as stopped:
        code, error = stopped.exit_code, DockyardError(f"interrupted by {stopped}", advice=AFTER_INTERRUPT)
    except KeyboardInterrupt:
        code, error = 130, DockyardError("interrupted before anything was sent")
    except Exception as bug:
        report.finish(1, DockyardError(f"{type(bug).__name__}: {bug}", advice="This is a mistake in Dockyard itself."))
        raise
    report.finish(code, error)
    return code


def make_ready(nornir: Nornir, topology: Topology) -> None:
    """Ask for a sudo password now, while nobody waits; from then on signals end the run in good order.

    The first SIGINT, SIGTERM or SIGHUP stops further changes from being sent, closes all connections (so that no thread
    waits for an answer) and raises `Interrupted`. Later ones are ignored while the lease is given back.
    """
    if sys.stdin.isatty():
        ask_before(topology.hosts.values())
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(number: int, _: FrameType | None) -> None:
        for other in signals:
            signal.signal(other, signal.SIG_IGN)
        stopping.set()
        close_all(nornir)
        raise Interrupted(number)

    for number in signals:
        signal.signal(number, stop)


def ask_at_terminal(question: str) -> str:
    """What a person typed, in lower case; a closed terminal is an empty answer.

    Raises:
        Refused: standard input is no terminal.
    """
    if not sys.stdin.isatty():
        raise Refused(
            "there is no terminal to confirm at", advice="Nothing was changed. Look at --dry-run, then give --yes."
        )
    try:
        return input(question).strip().lower()
    except EOFError:
        return ""


def add_change_options(made: argparse.ArgumentParser) -> None:
    """The options of every runbook that changes the cluster, for `options_of`."""
    made.add_argument("--dry-run", action="store_true", help="show what would be done, change nothing")
    made.add_argument("--yes", action="store_true", help="do not ask before changes; a phrase is asked for anyway")


def options_of(
    arguments: argparse.Namespace,
    *,
    limit: frozenset[str] | None = None,
    destroy: frozenset[str] = frozenset(),
    gone: frozenset[str] = frozenset(),
) -> Options:
    """What `add_change_options` took from the command line, and what the runbook itself knows."""
    return Options(dry_run=arguments.dry_run, yes=arguments.yes, limit=limit, destroy=destroy, gone=gone)


def carry_out(
    arguments: argparse.Namespace,
    steps_of: Callable[[Topology], Sequence[Step]],
    options: Callable[[Topology], Options] | None = None,
) -> int:
    """`walk` the steps for a runbook that has nothing to say afterwards, `guarded`; returns the exit code."""

    def body(report: Report) -> int:
        walk(arguments.inventory, options or (lambda _: options_of(arguments)), steps_of, report)
        return 0

    return guarded(arguments, body)


def add_step_options(made: argparse.ArgumentParser) -> None:
    """The options of a runbook made of steps, for `run_steps`."""
    add_change_options(made)
    made.add_argument("--limit", metavar="HOST[,HOST]", help="change only these hosts")
    made.add_argument("--only", metavar="STEP", action="append", help="only this step (number or part of its title)")
    made.add_argument("--from", metavar="STEP", dest="start", help="begin at this step (number or part of its title)")
    made.add_argument("--list", action="store_true", help="list the steps and stop")
    made.add_argument(
        "--destroy", metavar="WHAT", action="append", default=[], help="allow to destroy exactly this (HOST:DEVICE)"
    )


def run_steps(arguments: argparse.Namespace, steps: Sequence[Step], report: Report) -> Observed | None:
    """Walk the steps that the command line chose; returns what was seen, None when they were only listed.

    Raises:
        UsageError: the options do not fit together, or a step is not there. Else as `walk`.
    """
    chosen = select(steps, arguments.only or [], arguments.start)
    if arguments.list:
        for number, step in enumerate(steps, 1):
            report.note(f"{number:2}  {type(step).__name__:9} {step.title}")
        return None
    return walk(arguments.inventory, partial(_options, arguments), lambda _: chosen, report)


def walk(
    inventory: str | None,
    options: Callable[[Topology], Options],
    steps_of: Callable[[Topology], Sequence[Step]],
    report: Report,
) -> Observed:
    """Open the cluster, take the lease (not for a dry run), walk the steps, write the journal, close everything.

    Returns what the last look at each host has seen.

    Raises:
        UsageError: ``--json`` where changes would have to be confirmed. Else as `Engine.run`.
    """
    with ExitStack() as stack:
        nornir, topology = stack.enter_context(open_cluster(inventory))
        chosen, steps = options(topology), steps_of(topology)
        if report.json_mode and not (chosen.yes or chosen.dry_run):
            raise UsageError("--json shows nothing to confirm", advice="Give --yes or --dry-run with it.")
        make_ready(nornir, topology)
        journal = stack.enter_context(Journal(report.runbook))
        hold = _never
        if not chosen.dry_run:
            connect_ahead(nornir, hosts_of(steps[0], topology, chosen))
            hold = stack.enter_context(Lease(nornir, topology.cluster.arbitrator, report.runbook)).hold
        engine = Engine(nornir, topology, chosen, report, journal, hold, ask_at_terminal)
        engine.run(steps)
        journal.write("end", exit_code=0)
    return engine.seen


def _never() -> None:
    raise AssertionError("a dry run must not come here")


def _options(arguments: argparse.Namespace, topology: Topology) -> Options:
    limit = None if arguments.limit is None else frozenset(arguments.limit.split(","))
    unknown = sorted((limit or frozenset()) - set(topology.hosts))
    if unknown:
        raise UsageError(
            f"--limit: no such host: {', '.join(map(repr, unknown))}",
            advice=f"The hosts are: {', '.join(topology.hosts)}",
        )
    return options_of(arguments, limit=limit, destroy=frozenset(arguments.destroy))


def select(steps: Sequence[Step], only: Sequence[str], start: str | None) -> list[Step]:
    """The steps that ``--only`` and ``--from`` leave, in order.

    Raises:
        UsageError: a number or part of a title that fits no step, or more than one.
    """
    first = _position(steps, start) if start else 0
    wanted = {_position(steps, text) for text in only}
    chosen = [step for at, step in enumerate(steps) if at >= first and (not only or at in wanted)]
    if not chosen:
        raise UsageError("--from and --only together leave no step", advice="See --list for the steps.")
    return chosen


def _position(steps: Sequence[Step], text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= len(steps):
        return int(text) - 1
    found = [at for at, step in enumerate(steps) if text.lower() in step.title.lower()]
    if len(found) != 1:
        raise UsageError(
            f"{text!r} fits {'no step' if not found else f'{len(found)} steps'}", advice="See --list for the steps."
        )
    return found[0]
