"""The reader of the NATS protocol: all that a chunk holds, in one loop without a coroutine.

The messages of one subscription that stand together in a chunk are handed over together, as a run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from nats.errors import ProtocolError

log = logging.getLogger(__name__)

Raw = tuple[bytes, bytes, bytes, bytes]
"""Subject, reply, body and headers of a message, as they came."""

Take = Callable[[bytes, bytes, bytes, bytes], None]
"""Takes one of them."""

TakeRun = Callable[[list[Raw]], None]
"""Takes messages of one subscription that came together; what it raises is logged."""

CRLF = 2
# The longest line of the protocol, in bytes.
LONGEST_LINE = 1024 * 1024
# How many sizes of messages are remembered.
SIZES = 10_000
_M, _H = b"MH"
# What no subscription is: words have no blanks.
NOBODY = b" "


class Hears(Protocol):
    """Who is told what is no message for one of the takers."""

    def on_foreign(self, sid: bytes, run: list[Raw]) -> None:
        """Messages of a subscription that has no taker."""

    def on_ping(self) -> None: ...

    def on_pong(self) -> None: ...

    def on_error(self, text: str) -> None: ...

    def on_info(self, text: bytes) -> None: ...


class Reader:
    """Reads what comes on one connection after the other.

    Args:
        takers: who takes the messages of a subscription, by its number as it is on the wire.
        hears: who is told the rest.

    Attributes:
        has_more: whether what is being handed over is not all that its chunk holds.
    """

    def __init__(self, takers: Mapping[bytes, TakeRun], hears: Hears) -> None:
        self._takers = takers
        self._hears = hears
        self._parts: list[bytes] = []  # of what is cut off
        self._have = self._need = 0
        self.has_more = False
        self._sizes: dict[bytes, int] = {}  # as they are written: to look one up takes a third of reading it

    def reset(self) -> None:
        """Forget what was cut off: another connection begins."""
        self._parts.clear()
        self._have = self._need = 0

    def feed(self, data: bytes) -> None:
        """Take a chunk.

        Raises:
            ProtocolError: a line is none of the protocol's; nothing after it can be read.
        """
        if self._parts:
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        position, self._need = self._read(data)
        if position < len(data):
            self._parts.append(data[position:] if position else data)
            self._have = len(data) - position

    def _read(self, data: bytes) -> tuple[int, int]:
        """Read all that is whole; where what is cut off begins, and how many bytes it needs at least."""
        find, length, sizes = data.find, len(data), self._sizes
        position, sid, run = 0, NOBODY, list[Raw]()
        subject = same = b""  # of the message before, and how the next one begins that is on the same subject
        headed = b""  # how the next one does that has headers, too
        line, size = b"", 0  # the whole first line of that, and its size: the next may be as long
        try:
            while position < length:
                if line and data[position : position + len(line)] == line:
                    body = position + len(line)
                    end = body + size
                    if end + CRLF > length:
                        return position, end + CRLF - position
                    run.append((subject, b"", data[body:end], b""))
                    position = end + CRLF
                    continue
                end_of_line = find(b"\r\n", position)
                if end_of_line < 0:
                    return position, _more(length - position)
                body = end_of_line + CRLF
                if same and data.startswith(same, position):  # [reply] size
                    reply, space, digits = data[position + len(same) : end_of_line].partition(b" ")
                    if space:
                        line = b""
                    else:
                        reply, digits, line = b"", reply, data[position:body]
                    end = body + (sizes.get(digits) or _remember(sizes, digits))
                    if end + CRLF > length:
                        return position, end + CRLF - position
                    size = end - body
                    run.append((subject, reply, data[body:end], b""))
                    position = end + CRLF
                    continue
                if headed and data.startswith(headed, position):  # [reply] size-of-headers size
                    words = data[position + len(headed) : end_of_line].split(b" ")
                    reply, digits, last = words if len(words) == 3 else (b"", *words)
                    end = body + (sizes.get(last) or _remember(sizes, last))
                    if end + CRLF > length:
                        return position, end + CRLF - position
                    first = body + (sizes.get(digits) or _remember(sizes, digits))
                    if first > end:
                        raise ValueError
                    run.append((subject, reply, data[first:end], data[body:first]))
                    position = end + CRLF
                    continue
                kind = data[position]
                if kind != _M and kind != _H:
                    if run:
                        before, run, self.has_more = run, [], True  # once, also where a taker ends the program
                        self._hand_over(sid, before)
                    sid, same, headed, line = NOBODY, b"", b"", b""
                    self._hear(data[position:end_of_line])
                    position = body
                    continue
                words = data[position:end_of_line].split(b" ")
                count = len(words)
                end = body + (sizes.get(words[-1]) or _remember(sizes, words[-1]))
                if kind == _M:  # MSG subject sid [reply] size
                    if words[0] != b"MSG" or not 4 <= count <= 5:
                        raise ValueError
                    reply, headers = (words[3] if count == 5 else b""), b""
                else:  # HMSG subject sid [reply] size-of-headers size
                    if words[0] != b"HMSG" or not 5 <= count <= 6:
                        raise ValueError
                    reply = words[3] if count == 6 else b""
                    body += sizes.get(words[-2]) or _remember(sizes, words[-2])
                    headers = data[end_of_line + CRLF : body]
                    if body > end:
                        raise ValueError
                if end + CRLF > length:
                    return position, end + CRLF - position
                if words[2] != sid:
                    if not words[2].isdigit() or not words[1]:
                        raise ValueError
                    if run:
                        before, run, self.has_more = run, [], True
                        self._hand_over(sid, before)
                    sid, same, headed = words[2], b"", b""
                elif words[1] != subject:
                    if not words[1]:
                        raise ValueError
                    same = headed = b""
                elif kind == _M:
                    same, headed = b"MSG %b %b " % (subject, sid), b""
                else:
                    same, headed = b"", b"HMSG %b %b " % (subject, sid)
                subject, line = words[1], b""
                run.append((subject, reply, data[body:end], headers))
                position = end + CRLF
            return position, 0
        except (ValueError, IndexError):
            raise ProtocolError("nats: a message has no readable first line") from None
        finally:
            if run:
                self.has_more |= len(run) > 1
                self._hand_over(sid, run)
            self.has_more = False

    def _hand_over(self, sid: bytes, run: list[Raw]) -> None:
        take = self._takers.get(sid)
        try:
            if take is None:
                self._hears.on_foreign(sid, run)
            else:
                take(run)
        except Exception:  # of what is not as a server sends it; the connection must not die of it
            log.exception("messages on %r could not be taken", run[0][0][:100])

    def _hear(self, line: bytes) -> None:
        word, _, rest = line.partition(b" ")
        match word.upper():
            case b"PING" if not rest.strip():
                self._hears.on_ping()
            case b"PONG" if not rest.strip():
                self._hears.on_pong()
            case b"-ERR":
                self._hears.on_error(rest.strip().decode(errors="replace"))
            case b"INFO":
                self._hears.on_info(rest)
            case b"+OK" if not rest.strip():
                pass
            case _:
                raise ProtocolError("nats: a line is none of the protocol's")


def _remember(sizes: dict[bytes, int], digits: bytes) -> int:
    """A size, which is kept for the next that is the same.

    Raises:
        ValueError: it is none.
    """
    if len(sizes) >= SIZES:
        sizes.clear()
    if not digits.isdigit():  # int takes a sign, too, and blanks
        raise ValueError
    size = int(digits)
    sizes[digits] = size
    return size


def _more(have: int) -> int:
    """How many bytes a line that is cut off needs at least, having so many."""
    if have > LONGEST_LINE:
        raise ProtocolError("nats: a line has no end")
    return have + 1


def take_each(take: Take, run: list[Raw]) -> None:
    """Have messages that came together taken one by one: one that cannot be is none of the others' business."""
    for message in run:
        try:
            take(*message)
        except Exception:  # of what is not as a server sends it; the connection must not die of it
            log.exception("a message on %r could not be taken", message[0][:100])
