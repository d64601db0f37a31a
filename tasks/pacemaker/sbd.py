"""The messages that wait for nodes on shared disks: `sbd -d DEVICE ... list`. Diskless SBD has none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dockyard.parsing import Printed, Row
from dockyard.standing import Level, Standing

_UNREADABLE = re.compile(r"== (?:disk (\S+) unreadable!|Slots on disk (\S+) NOT dumped)")
_ENDS_WITH = "sbd failed; please check the logs."


class Message(StrEnum):
    """What waits in a node's slot (src/sbd-md.c, char2cmd)."""

    CLEAR = "clear"
    TEST = "test"
    RESET = "reset"
    OFF = "off"
    CRASHDUMP = "crashdump"
    EXIT = "exit"
    UNDEFINED = "undefined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One node's slot; ``sender`` is "" while the message is `Message.CLEAR`."""

    number: int
    node: str
    message: Message
    sender: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """The slots that are in use on each disk that could be read, in the order of the command line.

    `sbd list` prints no title between disks: a number that is not higher than the one before begins another disk, so
    ``disks`` has fewer entries than there are disks when one of them has no slot in use. Empty: diskless SBD, or disks
    without any slot in use.
    """

    disks: tuple[tuple[Slot, ...], ...] = ()
    unreadable: tuple[str, ...] = ()
    complete: bool = True


def read_slots(text: str, *, stderr: str = "", exit_code: int = 0, devices: Sequence[str] = ()) -> Slots:
    """What `sbd -d DEVICE ... list` printed; with ``devices`` their number is checked.

    Raises:
        ParseError: an unknown line or message, a node twice on a disk, more disks than there are.
    """
    printed = Printed("sbd list", text)
    disks: list[list[Slot]] = []
    for row in printed.rows("sbd_list"):
        slot = _slot(printed, row)
        if not disks or slot.number <= disks[-1][-1].number:
            disks.append([])
        if slot.node in {other.node for other in disks[-1]}:
            raise printed.error(row.line_number, "is a second slot of its node on one disk")
        disks[-1].append(slot)
    said = [line for line in stderr.splitlines() if line != _ENDS_WITH]
    found = [match for line in said if (match := _UNREADABLE.fullmatch(line))]
    unreadable = tuple(match[1] or match[2] for match in found)
    if devices and len(disks) > len(devices) - len(set(unreadable) & set(devices)):
        raise printed.error(len(printed.lines), f"ends the lists of {len(disks)} disks, more than could be read")
    return Slots(
        disks=tuple(map(tuple, disks)),
        unreadable=unreadable,
        complete=printed.whole and len(found) == len(said) and bool(unreadable) == bool(exit_code),
    )


def _slot(printed: Printed, row: Row) -> Slot:
    message = printed.member(Message, row["message"], row.line_number)
    return Slot(number=int(row["slot"]), node=row["node"], message=message, sender=row["sender"])


_LEVELS = {Message.CLEAR: Level.HEALTHY, Message.TEST: Level.DEGRADED, Message.EXIT: Level.DEGRADED}


def standing(state: Slots) -> Standing:
    """Levels of ``disk 0 dock-prod`` and ``disk /dev/vdd`` (unreadable ones only).

    A node that has an order to end itself waiting (`Message.RESET` and the like) is `Level.FAILED`: it is being fenced,
    or was and will not start SBD before the slot is cleared.
    """
    levels = {
        f"disk {at} {slot.node}": _LEVELS.get(slot.message, Level.FAILED)
        for at, slots in enumerate(state.disks)
        for slot in slots
    }
    levels |= {f"disk {name}": Level.FAILED for name in state.unreadable}
    return levels if state.complete else dict.fromkeys(levels, Level.UNKNOWN)
