"""Every error that Dockyard raises on purpose.

::

    DockyardError                     exit 1
    ├── InventoryError                exit 2   mistakes in the inventory, all of them, with their paths
    ├── UsageError                    exit 2   a wrong command line
    ├── RemoteError                            something about one host; carries its name
    │   ├── Unreachable               exit 3   no route, refused, no answer within the time-out, link lost
    │   ├── HostKeyError              exit 3   unknown or changed host key; nothing was sent to that host
    │   ├── AuthenticationFailed      exit 3   the host refuses our key
    │   ├── SudoRefused               exit 3   no sudo, or a wrong password
    │   ├── CommandFailed             exit 1   argv, exit code, standard error
    │   │   ├── ToolMissing           exit 1   exit code 127: not installed
    │   │   └── CommandTimeout        exit 1   stopped on the host after its time limit
    │   ├── Busy                      exit 1   another batch is still changing that host
    │   └── FramingError              exit 1   the answer ended early or was not ours
    ├── ParseError                    exit 1   a line that no template knows
    ├── RenderError                   exit 1   a template needs a value that nobody gave
    ├── NotObserved                   exit 3   a decision needs a state that could not be read
    ├── StepFailed                    exit 1   a step of a runbook did not reach its goal
    ├── Refused                       exit 4   not confirmed, or no terminal and no --yes
    └── LeaseHeld                     exit 5   another run is changing the cluster

``exit_code`` on each class is what a runbook returns (``docs/runbooks.md`` lists them once for people).
``advice`` says what to do next; it is printed under the message.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class DockyardError(Exception):
    """Root of all; ``str()`` is one paragraph for a person, ``advice`` what to do next (may be empty)."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the inventory: ``path`` as ``hosts.dock-prod.wireguard.address``, ``message`` what is wrong."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class InventoryError(DockyardError):
    """All mistakes of an inventory at once, in ``problems``."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem], *, advice: str = "") -> None:
        super().__init__("\n".join(map(str, problems)), advice=advice)
        self.problems = tuple(problems)


class UsageError(DockyardError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = 2


class RemoteError(DockyardError):
    """Something about one host; the message starts with its name."""

    def __init__(self, host: str, message: str, *, advice: str = "") -> None:
        super().__init__(f"{host}: {message}", advice=advice)
        self.host = host


class Unreachable(RemoteError):
    """The host did not answer in time, refused the connection, or the link broke.

    ``answered`` says that it had just logged us in, or that an SSH server spoke: it was alive a moment ago.
    """

    exit_code = 3

    def __init__(self, host: str, message: str, *, advice: str = "", answered: bool = False) -> None:
        super().__init__(host, message, advice=advice)
        self.answered = answered


class HostKeyError(RemoteError):
    """The host's key is unknown or has changed; ``fingerprint`` is what it showed (``SHA256:...``)."""

    exit_code = 3

    def __init__(self, host: str, message: str, *, fingerprint: str, advice: str = "") -> None:
        super().__init__(host, message, advice=advice)
        self.fingerprint = fingerprint


class AuthenticationFailed(RemoteError):
    """The host accepts none of the keys that we offered."""

    exit_code = 3


class SudoRefused(RemoteError):
    """The login works but sudo does not: no right, or a wrong password (asked once, never repeated)."""

    exit_code = 3


class CommandFailed(RemoteError):
    """A command ended with an exit code that its caller does not accept."""

    def __init__(self, host: str, argv: Sequence[str], exit_code: int, stderr: str, *, advice: str = "") -> None:
        said = stderr.strip() or "(nothing on standard error)"
        super().__init__(host, f"`{shlex.join(argv)}` ended with {exit_code}: {said}", advice=advice)
        self.argv = tuple(argv)
        self.returned = exit_code
        self.stderr = stderr


class ToolMissing(CommandFailed):
    """Exit code 127: the host has no such command."""


class CommandTimeout(CommandFailed):
    """The command was stopped on the host when its own time limit was over."""


class Busy(RemoteError):
    """Another batch holds the lock of the host, of a run that is no more perhaps: nothing was run."""


class FramingError(RemoteError):
    """The answer of a host ended before its last frame: ``missing`` names the command that never answered."""

    def __init__(self, host: str, message: str, *, missing: str, advice: str = "") -> None:
        super().__init__(host, message, advice=advice)
        self.missing = missing


class ParseError(DockyardError):
    """A tool said something that its reader does not know.

    ``line_number`` 0 is the output as a whole; ``why`` goes on after "line 3" or "the output".
    """

    def __init__(
        self,
        tool: str,
        line_number: int,
        line: str,
        neighbours: str,
        *,
        version: str = "",
        why: str = "is not understood",
    ) -> None:
        what = f"line {line_number} {why}: {line!r}" if line_number else f"the output {why}"
        super().__init__(
            f"{tool}{' ' + version if version else ''}: {what}\n{neighbours}".rstrip(),
            advice="Nothing was decided on this output. Please report it together with the tool's version.",
        )
        self.tool = tool
        self.line_number = line_number
        self.line = line


class RenderError(DockyardError):
    """A configuration template could not be filled in."""


class NotObserved(DockyardError):
    """A plan or a check needs the state of ``host``, which could not be read; the message says why."""

    exit_code = 3

    def __init__(self, host: str, message: str, *, advice: str = "") -> None:
        super().__init__(f"{host}: {message}", advice=advice)
        self.host = host


class StepFailed(DockyardError):
    """A step did not reach its goal."""


class Refused(DockyardError):
    """Nothing was done because nobody said yes."""

    exit_code = 4


class LeaseHeld(DockyardError):
    """Another run holds the lease of the cluster."""

    exit_code = 5
