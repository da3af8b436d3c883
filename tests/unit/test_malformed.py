"""Thousands of bodies that nobody should send: an error each, nothing dies, nothing leaks, memory stays flat."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import random
import sys
from collections.abc import Awaitable, Callable, Iterator

import pytest
from pydantic import BaseModel

from eventmicro import MemoryBroker, Service
from eventmicro.message import Delivery, Message

Until = Callable[[Callable[[], object]], Awaitable[None]]

COUNT = 10_000
# How many more blocks of memory may be in use after the second half than after the first: less than one for each.
GROWTH = 1_000
# Stands in every body that is text, and must stand in no answer and in no line of the log.
SECRET = "hunter2"


class Line(BaseModel):
    sku: str
    count: int


class Order(BaseModel):
    id: str
    lines: list[Line]
    parent: Order | None = None


def random_bytes(dice: random.Random) -> bytes:
    return b"\xff" + dice.randbytes(dice.randrange(200))


def cut_short(dice: random.Random) -> bytes:
    whole = json.dumps({"id": SECRET, "lines": [{"sku": SECRET, "count": 1}] * dice.randrange(1, 5)}).encode()
    return whole[: dice.randrange(1, len(whole) - 1)]


def wrong_types(dice: random.Random) -> bytes:
    values = [None, 1.5, True, [], {}, SECRET, [SECRET], {SECRET: SECRET}, 10**30]
    line = {"sku": dice.choice(values), "count": dice.choice([None, SECRET, 1.5, [SECRET], {"hidden": SECRET}])}
    return json.dumps({"id": SECRET, "lines": [line] * dice.randrange(1, 100)}).encode()


def deep(dice: random.Random) -> bytes:
    opening = dice.choice([b"[", b'{"parent":', b'{"id":"x","lines":[],"parent":'])
    return opening * dice.randrange(200, 2_000)


def huge_number(dice: random.Random) -> bytes:
    number = dice.choice([b"9", b"-9", b"1e9", b"0.9"]) + b"9" * dice.randrange(100, 6_000)
    return b'{"id":"a","lines":[{"sku":"hunter2","count":' + number + b'}],"parent":[]}'


def another_form(dice: random.Random) -> bytes:
    return dice.choice(
        [b"", b"null", b"[]", b"7", b'"hunter2"', b"{}", b"NaN", b"\x00", b'{"id":"\\ud800"}', b"\xef\xbb\xbf{}"]
    )


KINDS = [random_bytes, cut_short, wrong_types, deep, huge_number, another_form]


def bodies(seed: int, count: int) -> Iterator[bytes]:
    """Malformed bodies, the same for the same seed; one in a thousand has a megabyte."""
    dice = random.Random(seed)
    for number in range(count):
        if number % 1000 == 999:
            yield b'{"id":"' + SECRET.encode() * 149_000 + b'"}'
        else:
            yield dice.choice(KINDS)(dice)


service = Service("shop", broker="memory://malformed")


@service.rpc
async def take(request: Order) -> None:
    raise AssertionError("a malformed order was taken")


@service.subscribe("orders.>", dead_letter=False)
async def see(event: Order) -> None:
    raise AssertionError("a malformed order was taken")


class Sender:
    """Sends bodies in portions, and waits until each portion has been dealt with."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker
        self.codes: dict[str, int] = {}
        self.leaks: list[bytes] = []

    def receive(self, delivery: Delivery) -> None:
        code = (delivery.headers or {}).get("Nats-Service-Error-Code", "none")
        self.codes[code] = self.codes.get(code, 0) + 1
        if leaks(delivery.body.decode()) or leaks(str(delivery.headers)):
            self.leaks.append(delivery.body)

    @property
    def answered(self) -> int:
        return sum(self.codes.values())

    async def send(self, subject: str, seed: int, count: int, reply: str = "") -> None:
        for number, body in enumerate(bodies(seed, count)):
            await self.broker.publish(Message(subject, body, None, reply))
            if number % 200 == 199:
                await asyncio.sleep(0)


def leaks(text: str) -> bool:
    return any(word in text for word in ("Traceback", "File ", ".py", "site-packages", SECRET, "0x"))


async def measured(first: Callable[[], Awaitable[None]], second: Callable[[], Awaitable[None]]) -> int:
    """How many more blocks of memory are in use after the second than after the first."""
    await first()
    gc.collect()
    before = sys.getallocatedblocks()
    await second()
    gc.collect()
    return sys.getallocatedblocks() - before


@pytest.mark.timeout_seconds(60)
async def test_an_endpoint_answers_each_with_400_and_goes_on(until: Until, caplog: pytest.LogCaptureFixture) -> None:
    async with service, MemoryBroker("memory://malformed") as broker:
        sender = Sender(broker)
        await broker.subscribe("mine", sender.receive)

        async def half(seed: int) -> None:
            expected = sender.answered + COUNT // 2
            await sender.send("shop.take", seed, COUNT // 2, "mine")
            await until(lambda: sender.answered >= expected)

        grown = await measured(lambda: half(1), lambda: half(2))
    assert sender.codes == {"400": COUNT}
    assert sender.leaks == []
    assert caplog.records == []
    assert grown < GROWTH


@pytest.mark.timeout_seconds(60)
async def test_a_subscriber_gives_each_up_with_a_line_in_the_log_and_goes_on(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    given_up = 0
    leaking: list[str] = []

    def count(record: object) -> bool:
        nonlocal given_up
        text = record.getMessage()  # type: ignore[attr-defined]
        given_up += "event on orders.placed is given up: it is" in text
        if leaks(text) or record.exc_info:  # type: ignore[attr-defined]
            leaking.append(text)
        return False  # kept by nobody, so that memory can be measured

    log = logging.getLogger("eventmicro.events.settling")
    log.addFilter(count)
    try:
        async with service, MemoryBroker("memory://malformed") as broker:
            sender = Sender(broker)

            async def half(seed: int) -> None:
                expected = given_up + COUNT // 2
                await sender.send("orders.placed", seed, COUNT // 2)
                await until(lambda: given_up >= expected)

            grown = await measured(lambda: half(3), lambda: half(4))
    finally:
        log.removeFilter(count)
    assert given_up == COUNT
    assert leaking == []
    assert grown < GROWTH


async def test_each_becomes_a_dead_letter_whole_and_with_a_reason_that_has_none_of_it(until: Until) -> None:
    letters: list[Delivery] = []
    careful = Service("careful", broker="memory://malformed")

    @careful.subscribe("orders.>")
    async def see(event: Order) -> None:
        raise AssertionError("a malformed order was taken")

    async with careful, MemoryBroker("memory://malformed") as broker:
        await broker.subscribe("dead.careful.see", letters.append)
        await Sender(broker).send("orders.placed", 5, 2_000)
        await until(lambda: len(letters) == 2_000)
    assert sorted(letter.body for letter in letters) == sorted(bodies(5, 2_000))
    reasons = [(letter.headers or {})["Dead-Letter-Reason"] for letter in letters]
    assert not any(map(leaks, reasons))
    assert all(reason.startswith("it is not a valid Order") and len(reason) <= 500 for reason in reasons)


async def test_a_field_name_of_a_megabyte_is_a_bad_request_too(until: Until) -> None:
    strict = Service("strict", broker="memory://malformed")

    @strict.rpc
    async def count(request: dict[str, dict[str, int]]) -> None: ...

    async with strict, MemoryBroker("memory://malformed") as broker:
        sender = Sender(broker)
        await broker.subscribe("mine", sender.receive)
        await broker.publish(
            Message("strict.count", b'{"' + b"k" * 500_000 + b'":{"a":"x","b":"x","c":"x"}}', None, "mine")
        )
        await until(lambda: sender.answered)
    assert sender.codes == {"400": 1}
