"""RabbitMQ: what a publisher orders the server to do is done once, and not again with each copy of the event."""

from __future__ import annotations

import pytest
from eventmicro_rabbitmq import RabbitBroker

from eventmicro.broker import Durable
from eventmicro.context import Context
from eventmicro.message import Delivery
from eventmicro.retry import Retry
from eventmicro.service import Service
from tests.integration.rabbitmq.kit import Properties, Until, publish_raw, raw_channel


def orders(other: str) -> Properties:
    """An event with all that a publisher may ask of RabbitMQ and its plug-ins, and with what the server adds itself."""
    return Properties(
        message_id="1",
        expiration="60000",
        priority=9,
        user_id="guest",
        reply_to="answers",
        delivery_mode=1,
        headers={
            "CC": [other],
            "BCC": [f"{other}.blind"],
            "x-delay": 60_000,
            "x-deduplication-header": "1",
            "x-stream-filter-value": "1",
            "x-opt-deaths": "1",
            "x-delivery-count": 7,
            "x-death": [{"queue": f"{other}.retry.50", "reason": "expired", "count": 1, "exchange": ""}],
            "x-first-death-reason": "expired",
            "x-eventmicro-attempts": 7,
            "Kind": "order",
        },
    )


@pytest.mark.parametrize("ordered", [False, True])
async def test_an_event_with_orders_is_tried_as_often_as_any_and_copied_to_nobody(
    url: str, subject: str, ordered: bool, until: Until
) -> None:
    service, attempts, copies, letters = Service(subject), list[int](), list[Delivery](), list[Delivery]()
    queue, other, dead = f"{subject}.q", f"{subject}.other", f"{subject}.dead"

    @service.subscribe(
        subject,
        queue=queue,
        dead_letter=dead,
        retry=Retry(attempts=3, backoff=0.05, longest=0.05),
        order_by=(lambda _: "one") if ordered else None,
    )
    async def fail(event: int, context: Context) -> None:
        attempts.append(context.attempt)
        if event == 1:
            raise ValueError("not this one")

    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        for name in (other, f"{other}.blind"):
            await broker.subscribe(name, copies.append, queue=name, durable=Durable())
        await broker.subscribe(dead, letters.append, queue=dead, durable=Durable())
        await service.start(url)
        await publish_raw(channel, subject, orders(other))
        await until(lambda: letters)
        await service.publish(subject, 2)
        await until(lambda: len(attempts) == 4)
        await service.stop()
        await broker.flush()
    assert attempts == [1, 2, 3, 1]
    assert len(copies) == 2
    assert len(letters) == 1
    headers = letters[0].headers or {}
    assert (headers["Kind"], headers["Dead-Letter-Attempts"]) == ("order", "3")
    assert not [name for name in headers if name.startswith("x-") or name in ("CC", "BCC")]


async def test_an_event_that_expires_while_it_is_tried_again_lets_those_behind_it_go_on(
    url: str, subject: str, until: Until
) -> None:
    """It is a dead letter then, and nobody is to wait for it."""
    got, letters = list[Delivery](), list[Delivery]()
    dead = f"{subject}.dead"
    async with raw_channel(url) as channel, RabbitBroker(url) as broker:
        await broker.subscribe(dead, letters.append, queue=dead, durable=Durable())
        durable = Durable(ordered=True, dead_letter=dead)
        await broker.subscribe(subject, got.append, queue=subject, durable=durable)
        await publish_raw(channel, subject, Properties(message_id="1", expiration="1"))
        await publish_raw(channel, subject, Properties(message_id="2"))
        await until(lambda: got or letters)
        if got[0].id.endswith("1"):  # it had not expired before it could be delivered
            await got[0].nack()
        await until(lambda: letters and got[-1].id.endswith("2"))
        await got[-1].nack()
        await until(lambda: got[-1].attempt == 2)
    assert (letters[0].headers or {})["Dead-Letter-Reason"] == "given up by RabbitMQ: expired"
