"""Show the SSH host keys of all hosts side by side, and pin those that you confirm.

Nothing is logged in to: each host is asked for its public host key and no more. Compare the fingerprints with what
`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints on the host's own console, then say yes. Pinned keys go into
the host's known_hosts file (`ssh.known_hosts` in the inventory, mode 0600).

A key that has CHANGED is replaced only when you type the host's name; --yes never does that.

Needs: hosts whose ssh port answers; no login.
May destroy: nothing on any host; a changed key in known_hosts, once you typed the name.
Way back: `ssh-keygen -f FILE -R NAME` takes a pinned key out again; the next connection to that host is refused.
Exit codes here: 0 all keys are pinned; 3 a host cannot be reached, or its changed key was left alone; 4 not confirmed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nornir.core import Nornir
from nornir.core.task import Result, Task
from rich.markup import escape

from dockyard.cli import ask_at_terminal, guarded, parser
from dockyard.cluster import open_cluster
from dockyard.errors import DockyardError, HostKeyError, Refused, UsageError
from dockyard.host_keys import HostKey, Trust, name_in_file, read_known_hosts, replace_keys
from dockyard.remote import shown_key
from dockyard.report import Report
from dockyard.topology import Host, Topology


@dataclass(frozen=True, slots=True)
class Shown:
    """What one host showed, and what its known_hosts file says of it."""

    host: Host
    key: HostKey
    trust: Trust

    @property
    def row(self) -> dict[str, str]:
        known = read_known_hosts(self.host.ssh.known_hosts).keys_of(_name(self.host))
        before = ", ".join(key.fingerprint for key in known if key != self.key)
        return {
            "Host": self.host.name,
            "Address": escape(_name(self.host)),
            "Key": self.key.type,
            "Fingerprint": self.key.fingerprint,
            "Known": f"{self.trust}, was {before}" if self.trust is Trust.CHANGED else self.trust.value,
        }


def _name(host: Host) -> str:
    return name_in_file(host.hostname, host.port)


def show(task: Task) -> Result:
    """Nornir task: ``result`` is the `Shown` of the host."""
    topology: Topology = task.host.defaults.data["topology"]
    host, key = topology.host(task.host.name), shown_key(task)
    return Result(
        host=task.host, result=Shown(host, key, read_known_hosts(host.ssh.known_hosts).trust_of(_name(host), key))
    )


def pin(shown: Shown, *, yes: bool) -> DockyardError | None:
    """Pin one key, when it is new and confirmed. Returns why it was left alone, or None when it is pinned now."""
    if shown.trust is Trust.KNOWN:
        return None
    if shown.trust is Trust.REVOKED or not _confirmed(shown, yes=yes):
        return _left_alone(shown)
    replace_keys(shown.host.ssh.known_hosts, _name(shown.host), [shown.key])
    return None


def _confirmed(shown: Shown, *, yes: bool) -> bool:
    name = shown.host.name
    try:
        if shown.trust is Trust.CHANGED:
            return ask_at_terminal(f"The key of {name} HAS CHANGED. Type {name} to replace it: ") == name
        return yes or ask_at_terminal(f"{name} {shown.key.fingerprint}: trust it? [y/N] ") in {"y", "yes"}
    except Refused:
        return False


def _left_alone(shown: Shown) -> DockyardError:
    what = f"{shown.key.type} {shown.key.fingerprint}"
    if shown.trust is Trust.UNKNOWN:
        return Refused(f"{shown.host.name}: {what} was not confirmed", advice="Run again at a terminal, or give --yes.")
    return HostKeyError(
        shown.host.name,
        f"the key is {shown.trust} and was left alone: {what}",
        fingerprint=shown.key.fingerprint,
        advice="Was the host reinstalled, or does somebody sit in between? It can be replaced at a terminal.",
    )


def _ask_all(nornir: Nornir) -> Iterator[Shown | DockyardError]:
    for answer in nornir.run(task=show, on_failed=True).values():
        if answer.exception is None:
            yield answer[0].result
        elif isinstance(answer.exception, DockyardError):
            yield answer.exception
        else:
            raise answer.exception


def trust(arguments: argparse.Namespace, report: Report) -> int:
    """Ask all hosts at once, show their keys, pin what is confirmed; the worst that happened is the exit code."""
    with open_cluster(arguments.inventory) as (nornir, topology):
        found = list(_ask_all(_chosen(nornir, topology, arguments.hosts)))
    shown = [one for one in found if isinstance(one, Shown)]
    report.table("Host keys", [one.row for one in shown])
    problems = [one for one in found if isinstance(one, DockyardError)]
    problems += [problem for problem in (pin(one, yes=arguments.yes) for one in shown) if problem is not None]
    for problem in problems:
        report.note(f"{problem}\n  {problem.advice}".rstrip())
    return max((problem.exit_code for problem in problems), default=0)


def _chosen(nornir: Nornir, topology: Topology, names: Sequence[str]) -> Nornir:
    unknown = sorted(set(names) - set(topology.hosts))
    if unknown:
        raise UsageError(f"no such host: {', '.join(unknown)}", advice=f"The hosts are: {', '.join(topology.hosts)}")
    return nornir.filter(filter_func=lambda host: not names or host.name in names)


def main() -> int:
    """Read the command line, show and pin, and return the exit code."""
    options = parser(__doc__)
    options.add_argument("hosts", nargs="*", metavar="HOST", help="only these (default: all)")
    options.add_argument("--yes", action="store_true", help="pin unknown keys without asking (never changed ones)")
    arguments = options.parse_args()
    return guarded(arguments, lambda report: trust(arguments, report))


if __name__ == "__main__":
    sys.exit(main())
