"""A broker that loses, doubles and turns around messages: no stream ever has a gap, whatever becomes of it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping

import pytest

from eventmicro import Client, MemoryBroker
from eventmicro.errors import CallTimeout, EventMicroError, PeerLost, ServiceError, StreamBroken, StreamCancelled
from eventmicro.message import Message
from tests.unit.rpc.streams.kit import Number, Streaming, open_streams

URL = "memory://streams"
COUNT = 3000


class Lossy(MemoryBroker):
    """Does something wrong with one in so many of the frames that are sent."""

    def __init__(self, choose: random.Random, one_in: int) -> None:
        super().__init__(URL)
        self._choose = choose
        self._one_in = one_in
        self._kept: list[tuple[str, bytes]] = []
        self.wrongs = 0

    def try_send(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None, reply: str = "") -> bool:
        is_frame = subject.endswith(".frames") or "$stream" in subject
        if not is_frame or self._choose.randrange(self._one_in):
            done = super().try_send(subject, body, headers, reply)
            while done and self._kept:
                super().try_send(*self._kept.pop())
            return done
        self.wrongs += 1
        wrong = self._choose.choice(("lost", "doubled", "later", "garbled"))
        if wrong == "later":
            self._kept.append((subject, body))
        elif wrong == "doubled":
            super().try_send(subject, body)
            super().try_send(subject, body)
        elif wrong == "garbled":
            super().try_send(subject, body[: self._choose.choice((0, 1, 3))])
        return True

    async def send(self, message: Message) -> None:
        if not self.try_send(message.subject, message.body, message.headers, message.reply):
            await super().send(message)


async def read(client: Client) -> str:
    """Read a stream to its end, whatever that is."""
    awaited = 0
    try:
        async for number in client.stream("numbers.count", Number(value=COUNT), Number, keep_alive=0.2):
            assert number.value == awaited
            awaited += 1
    except EventMicroError as error:
        return type(error).__name__
    assert awaited == COUNT
    return "whole"


async def talk(client: Client) -> str:
    """Send and read at the same time, to the end."""
    awaited = 0
    try:
        async with client.stream("numbers.double", reply=Number, keep_alive=0.2) as numbers:

            async def send() -> None:
                for value in range(COUNT):
                    await numbers.send(Number(value=value))
                await numbers.end()

            sending = asyncio.create_task(send())
            try:
                async for number in numbers:
                    assert number.value == 2 * awaited
                    awaited += 1
            finally:
                sending.cancel()
                await asyncio.wait([sending])
    except EventMicroError as error:
        return type(error).__name__
    assert awaited == COUNT
    return "whole"


async def total(client: Client) -> str:
    """Send all, and get the one reply."""
    try:
        async with client.stream("numbers.total", reply=Number, keep_alive=0.2) as numbers:
            for value in range(COUNT):
                await numbers.send(Number(value=value))
            reply = await numbers.reply()
    except EventMicroError as error:
        return type(error).__name__
    assert reply.value == COUNT * (COUNT - 1) // 2
    return "whole"


FAILURES = {kind.__name__ for kind in (StreamBroken, PeerLost, StreamCancelled, CallTimeout)}


@pytest.mark.timeout_seconds(90)
@pytest.mark.parametrize("seed", range(4))
async def test_no_stream_over_a_broker_that_does_wrong_has_a_gap(seed: int) -> None:
    choose, outcomes = random.Random(seed), Counter[str]()
    broken = Lossy(choose, 25)
    async with (streaming := Streaming(url=broken)).service, Client(broken, timeout=0.5) as client:  # type: ignore[arg-type]
        for _ in range(10):
            outcomes.update(await asyncio.gather(*(kind(client) for kind in (read, talk, total, read))))
        async with asyncio.timeout(20):
            while streaming.open_streams or open_streams(client):
                await asyncio.sleep(0.01)
    assert broken.wrongs > 10
    assert set(outcomes) <= FAILURES | {"whole"}
    assert outcomes["whole"] > 0
    assert sum(outcomes.values()) - outcomes["whole"] > 5
    assert not [error for error in streaming.outcomes if isinstance(error, ServiceError) and error.code == 500]
