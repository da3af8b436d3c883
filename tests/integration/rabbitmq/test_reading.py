"""RabbitMQ: whatever its size, an event comes as it was published, on each event loop, with TLS and without."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
import uvloop
from eventmicro_rabbitmq import RabbitBroker
from eventmicro_rabbitmq.connection.connection import _ours

from eventmicro.broker import Durable
from eventmicro.message import Delivery, Message
from tests.certificates import Certificates, make_certificates
from tests.servers import FaultProxy
from tests.servers.rabbitmq import RabbitServer

RUN = {"asyncio": asyncio.run, "uvloop": uvloop.run}
# Around the lengths at which a body is cut into frames, and those of what is read at once.
SIZES = [0, 1, 2, 100, 5000, 65_536, 131_063, 131_064, 131_065, 262_144, 400_000, 1_000_000, *[50] * 300]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("rabbitmq"), "localhost")


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[RabbitServer]:
    with RabbitServer(certificates=certificates) as server:
        yield server


@pytest.fixture(params=["plain", "tls"])
def address(request: pytest.FixtureRequest, server: RabbitServer, certificates: Certificates) -> str:
    plain, tls = f"{server.url}?new_queue_wait=0", f"{server.tls_url}?new_queue_wait=0&tls_ca={certificates.authority}"
    return tls if request.param == "tls" else plain


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    return RUN[request.param]


def test_events_of_all_sizes_come_as_they_were_published(
    run: Callable[[Coroutine[Any, Any, None]], None], address: str, subject: str
) -> None:
    run(publish_and_take(address, subject))


async def publish_and_take(url: str, subject: str) -> None:
    dice = random.Random(1)
    sizes = SIZES.copy()
    dice.shuffle(sizes)
    messages = [Message(subject, dice.randbytes(size), dice.choice([None, {"a": "ä", "b": ""}])) for size in sizes]
    kept, live = list[Delivery](), list[Delivery]()
    async with RabbitBroker(url) as broker:
        await broker.subscribe(subject, kept.append, queue=subject, durable=Durable(prefetch=1000))
        await broker.subscribe(subject, live.append)
        await broker.publish_many(messages)
        async with asyncio.timeout(30):
            while min(len(kept), len(live)) < len(messages):
                await asyncio.sleep(0.01)
        for got in (kept, live):
            assert [(event.subject, event.headers, event.body) for event in got] == [
                (subject, message.headers, message.body) for message in messages
            ]
        assert len({event.id for event in kept}) == len(messages)
        await asyncio.gather(*(event.ack() for event in reversed(kept)))


async def test_events_come_among_the_context_variables_of_who_has_subscribed(url: str, subject: str) -> None:
    whose: ContextVar[str] = ContextVar("whose", default="nobody's")
    seen: asyncio.Future[tuple[str, bool]] = asyncio.get_running_loop().create_future()
    whose.set("who has connected")
    async with RabbitBroker(url) as broker:
        whose.set("who has subscribed")
        await broker.subscribe(subject, lambda _: seen.set_result((whose.get(), _ours.get())))
        whose.set("who publishes")
        await broker.publish(Message(subject))
        assert await asyncio.wait_for(seen, 10) == ("who has subscribed", False)


async def test_a_connection_that_is_cut_amid_events_loses_none(server: RabbitServer, subject: str) -> None:
    taken: set[bytes] = set()

    def take(delivery: Delivery) -> Any:
        taken.add(delivery.body[:4])
        assert len(delivery.body) == 100_004
        return delivery.ack()

    async with RabbitBroker(f"{server.url}?new_queue_wait=0") as broker, FaultProxy(server.port) as proxy:
        made = await broker.subscribe(subject, lambda _: None, queue=subject, durable=Durable())
        await made.drain()
        numbers = {number.to_bytes(4, "big") for number in range(200)}
        await broker.publish_many([Message(subject, number + bytes(100_000)) for number in numbers])
        by_proxy = server.url.replace(f":{server.port}", f":{proxy.port}")
        async with RabbitBroker(f"{by_proxy}?reconnect_wait=0.01") as cut, asyncio.timeout(30):
            await cut.subscribe(subject, take, queue=subject, durable=Durable())
            for least in (1, 50, 100):
                while len(taken) < least:
                    await asyncio.sleep(0)
                proxy.cut()
            while taken != numbers:
                await asyncio.sleep(0.01)
