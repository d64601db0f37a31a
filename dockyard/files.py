"""Files on hosts, as they were seen."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass

from dockyard.errors import ParseError
from dockyard.remote import Command, Outputs

ABSENT = "absent"
WRITTEN = "# Written by Dockyard"
"""How a text of ours begins, where nobody else's may be replaced."""

_READ = """\
if [ -e {path} ] || [ -L {path} ]; then
  stat -L -c '%F|%a|%U|%G|%.9Y' -- {path} && if [ -f {path} ]; then cat -- {path}; fi
else
  echo absent
fi"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """One path on one host.

    ``kind`` is what stat(1) calls it (``regular file``, ``directory`` ...) or ``""`` when there is nothing.
    ``digest`` (SHA-256 of the content, or ``absent``) lets a change notice that somebody else was quicker; ``""`` not.
    ``content`` is text with surrogate escapes, so that bytes which are not UTF-8 survive a round trip.
    """

    path: str
    kind: str = ""
    mode: int = 0
    owner: str = ""
    group: str = ""
    mtime_ns: int = 0
    content: str = ""
    digest: str = ""

    @property
    def exists(self) -> bool:
        return self.kind != ""

    @property
    def is_foreign(self) -> bool:
        """Whether something stands in it, and does not begin as our own texts do (`WRITTEN`)."""
        return bool(self.content.strip()) and not self.content.startswith(WRITTEN)

    @classmethod
    def of(cls, outputs: Outputs, path: str) -> FileState:
        """The state that `read_file(path)` recorded.

        Raises:
            CommandFailed: the file is there but cannot be read.
            ParseError: stat(1) answered in a form that we do not know.
        """
        text = outputs.text(_name(path))
        if text == f"{ABSENT}\n":
            return cls(path=path, digest=ABSENT)
        head, newline, content = text.partition("\n")
        fields = head.split("|")
        if not newline or len(fields) != 5:
            raise ParseError("stat", 1, head, "expected: kind|mode|owner|group|mtime")
        kind, mode, owner, group, mtime = fields
        return cls(
            path=path,
            kind="regular file" if kind == "regular empty file" else kind,
            mode=int(mode, 8),
            owner=owner,
            group=group,
            mtime_ns=int(mtime.replace(".", "")),
            content=content,
            digest=hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest(),
        )


def read_file(path: str) -> Command:
    """Probe that reads one file with its metadata; its answer is turned into a state by `FileState.of`."""
    return Command(name=_name(path), argv=("sh", "-c", _READ.format(path=shlex.quote(path))))


def _name(path: str) -> str:
    return f"file:{path}"
