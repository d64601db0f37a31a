"""A service as it really runs: which version of its files the process that is there was started with.

A run that is killed between writing a file and restarting leaves files that are right and a process that never read
them; dates would not tell, as clocks are set. So each service of ours carries a mark of all its files in its
environment (`MARK`), and the mark of the running process is read from ``/proc``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from dockyard.change import Change, Run, Unit, UnitState, WriteFile, unit, write_file
from dockyard.errors import ParseError
from dockyard.remote import Command, Outputs

MARK = "DOCKYARD_FILES"
"""Environment variable of a service: `mark_of` its files."""

_SHOWN = ("LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "NRestarts", "MainPID", "NeedDaemonReload")
_PROBE = f"""\
shown=$(systemctl show --property={",".join(_SHOWN)} -- "$1") || exit
printf '%s\\n' "$shown"
pid=${{shown#*MainPID=}}; pid=${{pid%%[!0-9]*}}
[ "$pid" -gt 0 ] && mark=$(sed -z -n 's/^{MARK}=//p' "/proc/$pid/environ" 2>/dev/null | tr -d '\\0') || mark=
printf 'Mark=%s\\n' "$mark\""""


def unit_file(name: str) -> str:
    """The file of a unit of ours."""
    return f"/etc/systemd/system/{name}"


RELOAD: Change = Run(title="let systemd read its units again", argv=("systemctl", "daemon-reload"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """``result`` and ``restarts`` as systemd counts them (``Result``, ``NRestarts``); ``mark`` is "" without a process.

    ``reload_needed``: a unit file is newer than what systemd has read.
    """

    unit: UnitState
    result: str
    restarts: int
    mark: str
    reload_needed: bool

    @classmethod
    def of(cls, outputs: Outputs, name: str) -> ServiceState:
        """What `service_probe(name)` found; raises CommandFailed, or ParseError when a property is missing."""
        text = outputs.text(_named(name))
        said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        if missing := [key for key in (*_SHOWN, "Mark") if key not in said]:
            raise ParseError("systemctl show", 0, "", text, why=f"lacks {', '.join(missing)}")
        return cls(
            unit=UnitState(
                name=name,
                loaded=said["LoadState"] == "loaded",
                active=said["ActiveState"],
                enabled=said["UnitFileState"],
                sub=said["SubState"],
            ),
            result=said["Result"],
            restarts=int(said["NRestarts"] or 0),
            mark=said["Mark"],
            reload_needed=said["NeedDaemonReload"] == "yes",
        )

    def __str__(self) -> str:
        restarts = f", restarted {self.restarts} times" if self.restarts else ""
        return f"{self.unit.active} ({self.unit.sub}), {self.result}{restarts}"


def service_probe(name: str) -> Command:
    """The command that `ServiceState.of` understands."""
    return Command(_named(name), ("sh", "-c", _PROBE, "probe", name))


def mark_of(*texts: str) -> str:
    """What tells one version of a service's files from another: 16 hexadecimal digits."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def plan_service(seen: ServiceState, files: Sequence[WriteFile], mark: str) -> list[Change]:
    """Write ``files``, and let the service run with them, now and at boot.

    A file that differs restarts it even when its process has the right mark: whoever edited the file may have
    restarted the service as well, and the mark does not stand in that file.
    """
    changes = [change for file in files for change in write_file(file)]
    restart = seen.mark != mark or bool(changes)
    wanted = Unit(name=seen.unit.name, seen=seen.unit, enabled=True, active=True, restart=restart)
    return [*changes, *([RELOAD] if changes or seen.reload_needed else []), *unit(wanted)]


def _named(name: str) -> str:
    return f"service:{name}"
