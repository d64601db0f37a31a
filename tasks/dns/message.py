"""DNS messages (RFC 1035, section 4): a question for one name's IPv4 addresses, and what came back."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from dockyard.errors import ParseError

_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!2HIH")
_A, _IN = 1, 1
_ASKS_ON = 0x0100
_ANSWERS, _CODE = 0x8000, 0x000F


class Code(IntEnum):
    """Response codes of RFC 1035, section 4.1.1."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What was said to question ``number``; ``addresses`` in the order of the message."""

    number: int
    code: Code
    addresses: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join(self.addresses) or ("no address" if self.code is Code.NOERROR else self.code.name)


def question(number: int, name: str) -> bytes:
    """A message that asks for the IPv4 addresses of ``name``."""
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split("."))
    return _HEADER.pack(number, _ASKS_ON, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", _A, _IN)


def read_reply(message: bytes) -> Reply:
    """Read a message that answers one question.

    Raises:
        ParseError: it is cut off, no answer, or has a code that we do not know.
    """
    try:
        number, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
        if not flags & _ANSWERS or questions != 1:
            raise ValueError("no answer to one question")
        at = _after_name(message, _HEADER.size) + 4
        return Reply(number=number, code=Code(flags & _CODE), addresses=tuple(_addresses(message, at, answers)))
    except (struct.error, IndexError, ValueError) as error:
        raise ParseError("DNS", 1, message.hex(), "", why=f"is no reply ({error})") from error


def _addresses(message: bytes, at: int, count: int) -> Iterator[str]:
    for _ in range(count):
        at = _after_name(message, at)
        kind, family, _, length = _RECORD.unpack_from(message, at)
        at += _RECORD.size
        data = message[at : at + length]
        if len(data) != length:
            raise ValueError("cut off")
        if (kind, family, length) == (_A, _IN, 4):
            yield ".".join(map(str, data))
        at += length


def _after_name(message: bytes, at: int) -> int:
    """Where the name that begins at ``at`` ends; two high bits mark a pointer, which ends it (section 4.1.4)."""
    while length := message[at]:
        if length & 0xC0:
            return at + 2
        at += 1 + length
    return at + 1
