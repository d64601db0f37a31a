"""What stands behind the agent of a resource in the text of `crm_mon`: role, node, flags, description.

The order differs between versions (``Started n1 (unmanaged) FAILED`` in 1.1.5, ``FAILED n1 (unmanaged)`` today), and a
description, which anybody may write, looks like a flag in brackets. So whatever holds a word that is known as a flag
must be flags as a whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from dockyard.parsing import Printed
from tasks.pacemaker.cluster import Flag, Role

MODERN = {"Master": Role.PROMOTED, "Masters": Role.PROMOTED, "Slave": Role.UNPROMOTED, "Slaves": Role.UNPROMOTED}
FLAGS = {flag.value: flag for flag in Flag}
PROBES = re.compile(
    r"ok|unknown error|error occurred|invalid parameter|unimplemented( feature)?|insufficient privileges|not installed"
    r"|not configured|not running|promoted|failed in promoted role|degraded( in promoted role)?|master( \(failed\))?"
    r"|(error )?timed? ?out( occurred)?|timeout occurred|interrupted by .*|unknown exit status",
    flags=re.IGNORECASE,
)
"""Results of a failed probe: `crm_exit_str` and `services_ocf_exitcode_str`."""
NOTE = re.compile(r"\s*\(((?:[^()]|\([^()]*\))*)\)(\s|(?=\[)|$)")

_STATE = re.compile(
    r"(?P<orphaned>ORPHANED\s+)?(\((?P<target>target-role:\w+)\) )?(?P<failed>FAILED\b\s*)?(?P<rest>.*)"
)
_ROLE = re.compile(r"([A-Z][a-z]+)(?=\s|$)")
_SEVERAL = re.compile(r"(.*?)\[((?:\s+[^\s\[\]]+)+)\s\]\s*")
_NODE = re.compile(r"[^\s()\[\]:]+")
_FLAG_WORDS = re.compile(r"\b(" + "|".join(sorted({name.split(":")[0] for name in FLAGS})) + r"|REMOVED)\b")


@dataclass(slots=True)
class State:
    """``role`` is `Role.NOT_SAID` for a failed resource that is not promoted; the rest as in `Resource`."""

    printed: Printed
    line_number: int
    role: Role = Role.NOT_SAID
    nodes: tuple[str, ...] = ()
    flags: set[Flag] = field(default_factory=set)
    probe: str = ""
    description: str = ""

    def read(self, text: str, *, beside_node: bool) -> None:
        parts = _STATE.fullmatch(text.strip())
        if not parts:
            raise self.printed.error(self.line_number)
        self.flags |= {Flag.ORPHANED} if parts["orphaned"] else set()
        self.flags |= {Flag.FAILED} if parts["failed"] else set()
        if parts["target"]:
            self.flags |= flags_of(self.printed, self.line_number, parts["target"]) or set()
        self._rest(self._role(parts["rest"], failed=bool(parts["failed"])), beside_node=beside_node)
        if Flag.FAILED in self.flags and self.role is not Role.PROMOTED:
            self.role = Role.NOT_SAID

    def _role(self, rest: str, *, failed: bool) -> str:
        """Takes the role from the beginning; a failed resource may have none."""
        said = _ROLE.match(rest)
        if not said:
            if not failed:
                raise self.printed.error(self.line_number, "has no role")
            return rest
        if failed and said[1] not in MODERN and said[1] not in set(Role):
            return rest
        self.role = MODERN.get(said[1]) or self.printed.member(Role, said[1], self.line_number)
        return rest[said.end() :]

    def _rest(self, rest: str, *, beside_node: bool) -> None:
        if several := _SEVERAL.fullmatch(rest):
            rest, self.nodes = several[1], tuple(several[2].split())
        nameless = beside_node or bool(self.nodes)
        while rest := rest.strip():
            if note := NOTE.match(rest):
                rest = self._note(note[1], rest[note.end() :])
            elif re.match(r"FAILED\b", rest):
                self.flags.add(Flag.FAILED)
                rest = rest.removeprefix("FAILED")
            elif not nameless and (name := _NODE.match(rest)):
                self.nodes, nameless, rest = (name.group(),), True, rest[name.end() :]
            elif beside_node or len(self.nodes) > 1:
                self._describe(rest)
                return
            else:
                raise self.printed.error(self.line_number, f"has {rest!r} where we know of nothing")

    def _note(self, note: str, rest: str) -> str:
        flags = flags_of(self.printed, self.line_number, note)
        if flags is not None:
            self.flags |= flags
        elif self.role is Role.STOPPED and not self.probe and PROBES.fullmatch(note):
            self.probe = note
        else:
            self._describe(f"({note}) {rest}".strip())
            return ""
        return rest

    def _describe(self, text: str) -> None:
        if _FLAG_WORDS.search(text):
            raise self.printed.error(self.line_number, f"has {text!r}: a description, or flags that we do not know")
        self.description = text.removeprefix(": ").removeprefix("(").removesuffix(")")


def read_state(printed: Printed, line_number: int, text: str, *, beside_node: bool) -> State:
    """``beside_node``: the line stands under a node and names none.

    Raises:
        ParseError: an unknown role, or flags of which some are unknown.
    """
    state = State(printed, line_number)
    state.read(text, beside_node=beside_node)
    return state


def flags_of(printed: Printed, line_number: int, note: str) -> frozenset[Flag] | None:
    """The flags in ``disabled, blocked``; None if it is something else, such as a description.

    Raises:
        ParseError: some of it are flags and some are not.
    """
    words = [_modern(word) for word in note.split(", ")]
    if all(word in FLAGS or word == "" for word in words) and note:
        return frozenset(FLAGS[word] for word in words if word)
    if _FLAG_WORDS.search(note):
        raise printed.error(line_number, f"has {note!r}, of which we know only a part ({', '.join(FLAGS)})")
    return None


def _modern(word: str) -> str:
    """Today's word for a target role; "" for one that limits nothing."""
    if not word.lower().startswith("target-role:"):
        return word
    role = word.lower().removeprefix("target-role:")
    words = {"stopped": Flag.DISABLED.value, "slave": Flag.TARGET_UNPROMOTED.value}
    return words.get(role, Flag.TARGET_UNPROMOTED.value if role == "unpromoted" else "")
