"""The batch reader says what nats-py's own parser says, wherever the stream of the server is cut."""

from __future__ import annotations

import random
from typing import Any

import pytest
from eventmicro_nats.connection.parser import BatchParser
from nats.protocol.parser import Parser

WORDS = b"MSG 1 PING\r\n+OK{}"
OTHERS = [b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'x'\r\n", b'INFO {"a":1}\r\n']
HEADERS = b"NATS/1.0\r\nx: y\r\n\r\n"


class Recorder:
    """Stands where the parser has its client, and keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def take(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        self.said.append((sid, subject, reply, data, headers))

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.said.append((sid, subject, reply, bytes(data), bytes(headers or b"")))

    async def _process_ping(self) -> None:
        self.said.append("ping")

    async def _process_pong(self) -> None:
        self.said.append("pong")

    async def _process_err(self, error: str) -> None:
        self.said.append(error)

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.said.append(info)


def stream(chance: random.Random) -> bytes:
    """What a server may send: messages with and without headers, whose bodies look like protocol, and other lines."""
    parts = []
    for _ in range(chance.randint(1, 30)):
        body = bytes(chance.choice(WORDS) for _ in range(chance.choice([0, 1, 5, 50, 300])))
        head = b"a.b %d %b" % (chance.choice([1, 23]), chance.choice([b"", b"_INBOX.a.1 "]))
        kind = chance.random()
        if kind < 0.5:
            parts.append(b"MSG %b%d\r\n%b\r\n" % (head, len(body), body))
        elif kind < 0.75:
            parts.append(b"HMSG %b%d %d\r\n%b%b\r\n" % (head, len(HEADERS), len(HEADERS) + len(body), HEADERS, body))
        else:
            parts.append(chance.choice(OTHERS))
    return b"".join(parts)


@pytest.mark.parametrize("seed", range(10))
async def test_it_says_the_same_as_the_drivers_own_parser_wherever_a_chunk_ends(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(100):
        sent, own, ours = stream(chance), Recorder(), Recorder()
        await Parser(own).parse(sent)
        parser = BatchParser(ours, ours.take)
        position = 0
        while position < len(sent):
            size = chance.choice([1, 2, 7, 30, 200, 2000])
            await parser.parse(sent[position : position + size])
            position += size
        assert ours.said == own.said
        assert not parser.buf
