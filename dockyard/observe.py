"""Looking at hosts: every domain lists its probes, one exec per host answers them all.

A host that cannot be reached, a tool that is missing and a line that nobody understands are three different errors.
None of them is ever an empty state: `Observed.of` raises, and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from nornir.core import Nornir
from nornir.core.task import Result, Task

from dockyard.errors import DockyardError, NotObserved
from dockyard.remote import Command, Outputs, run
from dockyard.topology import Host, Topology

S = TypeVar("S")


def _everywhere(_topology: Topology, _host: Host) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Domain(Generic[S]):
    """One thing to know about a host: which commands to ask, and the pure function that reads the answers.

    ``read`` raises `CommandFailed`, `ToolMissing` or `ParseError`; it never guesses. Hosts that it does not ``concern``
    are not asked, and have no state.
    """

    name: str
    probes: Callable[[Topology, Host], Sequence[Command]]
    read: Callable[[Topology, Host, Outputs], S]
    concerns: Callable[[Topology, Host], bool] = _everywhere


Domains = Sequence[Domain[Any]]
"""Several things to know, each with a state of its own kind."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of each host at one moment, by domain name; an error stands where nothing could be seen."""

    states: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def of(self, domain: Domain[S], host: str) -> S:
        """The state of ``host``.

        Raises:
            NotObserved: it could not be read, or nobody looked.
        """
        state = self.states.get(host, {}).get(domain.name)
        if isinstance(state, DockyardError):
            raise NotObserved(host, f"{domain.name} could not be read: {state}", advice=state.advice)
        if state is None:
            raise NotObserved(host, f"nobody looked at {domain.name}")
        return cast(S, state)

    def seen(self, domain: Domain[S]) -> dict[str, S]:
        """The states that could be read, by host."""
        found = {host: states.get(domain.name) for host, states in self.states.items()}
        return {
            host: cast(S, state)
            for host, state in found.items()
            if state is not None and not isinstance(state, DockyardError)
        }

    def unseen(self, domain: Domain[Any]) -> dict[str, DockyardError]:
        """Why each of the other hosts could not be read."""
        found = {host: states.get(domain.name) for host, states in self.states.items()}
        return {host: state for host, state in found.items() if isinstance(state, DockyardError)}

    def errors(self) -> dict[str, DockyardError]:
        """The first error of each host that has one."""
        found: dict[str, DockyardError] = {}
        for host, states in self.states.items():
            for state in states.values():
                if isinstance(state, DockyardError):
                    found.setdefault(host, state)
        return found

    def merged(self, other: Observed) -> Observed:
        """This observation with the hosts and domains of a later one laid over it."""
        hosts = {**self.states, **other.states}
        return Observed({host: {**self.states.get(host, {}), **other.states.get(host, {})} for host in hosts})


def probes_of(domains: Domains, topology: Topology, host: Host) -> list[Command]:
    """The commands of several domains; one that two domains ask for (same name, same argv) is asked once."""
    commands: dict[str, Command] = {}
    for domain in concerning(domains, topology, host):
        for command in domain.probes(topology, host):
            if commands.setdefault(command.name, command) != command:
                raise ValueError(f"two domains call different commands {command.name!r}")
    return list(commands.values())


def concerning(domains: Domains, topology: Topology, host: Host) -> list[Domain[Any]]:
    """Those of ``domains`` that ``host`` is asked about."""
    return [domain for domain in domains if domain.concerns(topology, host)]


def read_all(domains: Domains, topology: Topology, host: Host, outputs: Outputs) -> dict[str, object]:
    """The state of each domain, or the error that stands in its place."""
    states: dict[str, object] = {}
    for domain in concerning(domains, topology, host):
        try:
            states[domain.name] = domain.read(topology, host, outputs)
        except DockyardError as error:
            states[domain.name] = error
    return states


def observe(task: Task, domains: Domains, *, settled: bool = False) -> Result:
    """Ask one host about several domains, in one exec; ``settled`` waits for a change that is still going on there.

    Returns:
        Result with ``result`` set to a dict of states by domain name. A host that cannot be asked gets its error
        in every place. One that no domain concerns is not asked, and has no states.
    """
    topology: Topology = task.host.defaults.data["topology"]
    host = topology.host(task.host.name)
    if not (probes := probes_of(domains, topology, host)):
        return Result(host=task.host, result={})
    try:
        outputs = run(task, probes, settled=settled)
    except DockyardError as error:
        return Result(host=task.host, result={one.name: error for one in concerning(domains, topology, host)})
    return Result(host=task.host, result=read_all(domains, topology, host, outputs))


def sweep(nornir: Nornir, domains: Domains, *, settled: bool = False) -> Observed:
    """Observe all hosts of ``nornir`` in parallel. An unexpected exception in a reader is raised, not swallowed.

    ``settled`` is for who holds the lease: what still changes a host then is left of a run that is no more.
    """
    answers = nornir.run(task=observe, domains=domains, settled=settled, on_failed=True)
    for answer in answers.values():
        if answer.exception is not None:
            raise answer.exception
    return Observed({host: answer[0].result for host, answer in answers.items()})


Holders = Callable[[Topology, Observed, str, int], Sequence[str] | None]
"""Who listens at a port of a host's mesh address, or keeps others from it; None: that could not be seen."""
