"""The reader of the NATS protocol: whole messages are read in place, everything else is left to nats-py's parser."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from nats.protocol.parser import AWAITING_MSG_PAYLOAD, Parser

Take = Callable[[int, bytes, bytes, bytes, bytes], Awaitable[None] | None]
"""Takes sid, subject, reply, body and raw headers of a message; what it returns, if anything, is awaited."""

CRLF = 2
_match_msg = re.compile(rb"MSG ([^\s]+) (\d+) (?:([^\s]+) )?(\d+)\r\n").match
_match_hmsg = re.compile(rb"HMSG ([^\s]+) (\d+) (?:([^\s]+) )?(\d+) (\d+)\r\n").match


class BatchParser(Parser):
    """Reads the messages of a chunk with one match each and no copying of the rest, where nats-py's parser moves the
    whole buffer twice a message. What is cut off at the chunk's end or is no message goes to that parser.
    """

    def __init__(self, client: object, take: Take) -> None:
        super().__init__(client)
        self._client: Any = client
        self._take = take

    async def parse(self, data: bytes = b"") -> None:
        self._client._pings_outstanding = 0  # whatever comes is a sign of life; the answer may be far behind it
        data = await self._complete(data)
        position, length = 0, len(data)
        while True:
            line = _match_msg(data, position)
            if line is not None:
                subject, sid, reply, size = line.groups(b"")
                body = line.end()
                end = body + int(size)
                headers = b""
            else:
                line = _match_hmsg(data, position)
                if line is None:
                    break
                subject, sid, reply, head, size = line.groups(b"")
                body = line.end() + int(head)
                end = line.end() + int(size)
                headers = data[line.end() : body]
            if end + CRLF > length:
                break
            position = end + CRLF
            waiting = self._take(int(sid), subject, reply, data[body:end], headers)
            if waiting is not None:
                await waiting
        if position < length:
            await super().parse(data[position:])

    async def _complete(self, data: bytes) -> bytes:
        """Give the parser what it still lacks of a message; what comes behind it, with a line that was cut in front."""
        if self.state == AWAITING_MSG_PAYLOAD:
            missing = self.needed + CRLF - len(self.buf)
            await super().parse(data[:missing])
            data = data[missing:]
        if self.buf and data:
            data = bytes(self.buf) + data
            self.buf.clear()
        return data
