"""Not having seen a host is a finding too, once per host and domain, and never the same as "all is well"."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dockyard.errors import CommandFailed, RemoteError
from dockyard.findings import Cause, Finding
from dockyard.observe import Domain, Observed


def unseen(observed: Observed, domain: Domain[Any], cause: Cause) -> list[Finding]:
    """A finding per host whose ``domain`` could not be read.

    A host that could not be talked to at all gives the same finding in every domain (cause `Cause.REACH`), so that a
    report can show it once; what failed on a host that answers is put down to ``cause``.
    """
    found = []
    for host, error in observed.unseen(domain).items():
        away = isinstance(error, RemoteError) and not isinstance(error, CommandFailed)
        found.append(
            Finding(
                cause=Cause.REACH if away else cause,
                host=host,
                fault="could not be looked at" if away else f"{domain.name} could not be read",
                evidence=str(error).removeprefix(f"{host}: "),
                advice=error.advice or f"Is {host} up? Try to log in there with ssh.",
                unseen=True,
            )
        )
    return found


def once(findings: Iterable[Finding]) -> list[Finding]:
    """``findings`` without repetitions; of a host that could not be reached, only the one with the most evidence."""
    kept: dict[object, Finding] = {}
    for finding in findings:
        away = finding.unseen and finding.cause is Cause.REACH
        key = ("away", finding.host) if away else finding
        if key not in kept or len(finding.evidence) > len(kept[key].evidence):
            kept[key] = finding
    return list(kept.values())
