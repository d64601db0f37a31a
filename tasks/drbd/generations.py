"""Generation identifiers: what DRBD itself says about two copies, and how they stand to each other; pure.

DRBD begins a new generation when a Primary writes without its peer; the one before becomes the base of the bitmap, in
which the blocks are marked that the peer lacks (LINBIT guide, "How DRBD works", Generation identifiers).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from dockyard.parsing import Printed

TOOL = "drbdadm get-gi"
_FORM = re.compile(r"(?P<ids>(?:[0-9A-F]{16}:){4})[01](?::[01]){6}(?:(?::[01]){5})?\n")
"""Four identifiers, seven flags, and with DRBD 9 five more of the peer (`dt_print_uuids` of drbd-utils)."""

_JUST_CREATED = 4
_PRIMARY = 1
"""The lowest bit says that the host is Primary; it is no part of the identity (drbd_uuid_compare in the kernel)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generations:
    """The current generation, the one that the bitmap counts from (0: the peer lacks nothing), and older ones."""

    current: int
    base: int
    history: tuple[int, ...]

    @property
    def name(self) -> str:
        """The current one as DRBD prints it, without the bit of the role."""
        return f"{self.current:016X}"


class Relation(Enum):
    """How one copy stands to another; the value is a sentence, `said` puts the names in.

    One that goes on from the other may still lack what that one wrote last and could not send.
    """

    SAME = "both are of the same generation"
    AHEAD = "{one} goes on from what {two} has"
    BEHIND = "{two} goes on from what {one} has"
    SPLIT = "both were written without the other"
    UNRELATED = "they have no generation in common"

    def said(self, one: str, two: str) -> str:
        """The sentence for two hosts."""
        return self.value.format(one=one, two=two)


def read_generations(text: str) -> Generations:
    """What ``drbdadm get-gi`` printed for one peer; raises ParseError for anything else."""
    found = _FORM.fullmatch(text)
    if not found:
        raise Printed(TOOL, text).error(1)
    current, base, *history = (int(word, 16) & ~_PRIMARY for word in found["ids"].split(":") if word)
    return Generations(current=current, base=base, history=tuple(history))


def relation(one: Generations, two: Generations) -> Relation:
    """The rules of the kernel's drbd_uuid_compare, as far as they tell who holds what.

    It also looks at flags of a crash, which decide who is the source of a resync within one generation.
    """
    if one.current == two.current:
        return Relation.SAME
    if _follows(one, two):
        return Relation.AHEAD
    if _follows(two, one):
        return Relation.BEHIND
    common = {one.base, *one.history} & {two.base, *two.history}
    return Relation.SPLIT if common - {0, _JUST_CREATED} else Relation.UNRELATED


def _follows(later: Generations, earlier: Generations) -> bool:
    return earlier.current == _JUST_CREATED or earlier.current in {later.base, *later.history} - {0}
