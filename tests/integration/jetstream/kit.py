"""What the tests on JetStream share: workers that settle, publishers under load, an administrator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest
from eventmicro_nats import JetStreamBroker
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo

from eventmicro.broker import Durable, Subscription
from eventmicro.message import Delivery
from tests.servers import NatsServer

Until = Callable[[Callable[[], object]], Awaitable[None]]


def jetstream(server: NatsServer, query: str = "") -> JetStreamBroker:
    return JetStreamBroker(f"jetstream://127.0.0.1:{server.port}?{query}")


@asynccontextmanager
async def administrator(port: int, user: str = "") -> AsyncIterator[JetStreamContext]:
    """The plain client, as another hand on the same server; `user` is `name:password@`."""
    client = await nats.connect(f"nats://{user}127.0.0.1:{port}")
    try:
        yield client.jetstream()
    finally:
        await client.close()


async def once_unsettled(
    admin: JetStreamContext, count: int, stream: str = "EVENTS", queue: str = "q", bound: float = 45
) -> ConsumerInfo:
    """What the server says of a queue, as soon as so many of its events are with its readers.

    It counts beside what it confirms: for a moment after a publish or an ack it tells what was before.
    """
    try:
        async with asyncio.timeout(bound):
            while (info := await admin.consumer_info(stream, queue)).num_ack_pending != count:
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"{info.num_ack_pending} of {queue} are unsettled, not {count}")
    return info


class Worker:
    """A consumer that notes what it gets, and acks it unless told otherwise."""

    subscription: Subscription

    def __init__(self, settle: bool = True) -> None:
        self.deliveries: list[Delivery] = []
        self.settle = settle

    def __call__(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        if self.settle:
            at_once(delivery.ack())

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.deliveries]


def at_once(settlement: Any) -> None:
    """Settle where nothing can be awaited; a settlement of this adapter never waits."""
    with pytest.raises(StopIteration):
        settlement.send(None)


async def work(
    broker: JetStreamBroker, subject: str, queue: str = "q", *, settle: bool = True, **durable: Any
) -> Worker:
    worker = Worker(settle)
    worker.subscription = await broker.subscribe(subject, worker, queue=queue, durable=Durable(**durable))
    return worker


async def call(admin: JetStreamContext, what: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """A management call by its JSON: the plain client knows not all that a server can."""
    answer: dict[str, Any] = json.loads(
        (await admin._nc.request(f"$JS.API.{what}", json.dumps(arguments).encode())).data
    )
    assert "error" not in answer, answer
    return answer


async def make(admin: JetStreamContext, **config: Any) -> dict[str, Any]:
    name = config.setdefault("name", "EVENTS")
    sealed = config.pop("sealed", False)
    made = await call(admin, f"STREAM.CREATE.{name}", config)
    if sealed:
        made = await call(admin, f"STREAM.UPDATE.{name}", made["config"] | {"sealed": True})
    return dict(made["config"])


async def config_of(admin: JetStreamContext, name: str = "EVENTS") -> dict[str, Any]:
    return dict((await call(admin, f"STREAM.INFO.{name}", {}))["config"])
