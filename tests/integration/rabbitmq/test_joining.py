"""The page on joining a RabbitMQ that others have set up: its service runs on what is there."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from eventmicro.service import Service
from tests.integration.rabbitmq.kit import Properties, Until, raw_channel
from tests.told import depth, until_told

PAGE = Path(__file__).parents[3] / "docs" / "joining" / "rabbitmq.md"
# The page's names with a prefix, as another test has its queues on the same server.
NAMES = re.compile(r'"(billing|new-orders|invoices|shop|kinds)"')
QUEUES = ("page-billing", "page-new-orders", "page-invoices")


async def test_the_service_of_the_page_runs_on_what_others_have_made(url: str, until: Until) -> None:
    (block,) = re.findall(r"```python\n(# billing\.py\n.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": "billing"}
    exec(compile(NAMES.sub(r'"page-\1"', block), str(PAGE), "exec"), names)
    service: Service = names["service"]
    async with raw_channel(url) as channel:
        await channel.exchange_declare("page-shop", exchange_type="fanout", durable=True)
        await channel.queue_declare("page-billing", durable=True, arguments={"x-max-priority": 10})
        await service.start(url)
        await channel.basic_publish(b'{"order_id": "1"}', exchange="page-shop", routing_key="")
        await service.publish(names["PLACED"], names["Placed"](order_id="2"))
        for name in ("bill", "welcome"):
            await until(lambda: counts(service)[name] == 2)  # noqa: B023
        await channel.basic_publish(b'{"order_id": "3"}', routing_key="page-invoices")
        await until(lambda: counts(service)["invoice"] == 1)
        await service.stop()
        for queue in QUEUES:
            await until_told(lambda: depth(channel, queue), 0)  # noqa: B023
            await channel.queue_delete(queue)
            await channel.queue_delete(f"dead.page-billing.{queue}")
        for exchange in ("page-shop", "page-kinds"):
            await channel.exchange_delete(exchange)


async def test_the_service_for_masstransit_answers_a_request_and_an_event(url: str) -> None:
    (block,) = re.findall(r"```python\n(# status\.py\n.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": "status"}
    exec(compile(block, str(PAGE), "exec"), names)
    envelope = {
        "messageType": ["urn:message:Shop.Contracts:CheckOrder"],
        "headers": {"Tenant": "acme"},
        "message": {"orderId": "7"},
    }
    service: Service = names["service"]
    answers: asyncio.Queue[Any] = asyncio.Queue()
    await service.start(url)
    async with raw_channel(url) as channel:
        awaits = (await channel.queue_declare("", exclusive=True)).queue or ""
        await channel.exchange_declare("Shop.Contracts:OrderStatus", exchange_type="fanout", durable=True)
        await channel.queue_bind(awaits, "Shop.Contracts:OrderStatus")
        await channel.basic_consume(awaits, answers.put, no_ack=True)
        for said in ({"requestId": "1", "responseAddress": f"rabbitmq://localhost/{awaits}?temporary=true"}, {}):
            properties = Properties(content_type="application/vnd.masstransit+json")
            body = json.dumps({**envelope, **said}).encode()
            await channel.basic_publish(body, exchange="Shop.Contracts:CheckOrder", properties=properties)
            answer = json.loads((await answers.get()).body)
            assert answer["message"] == {"orderId": "7", "text": "on its way, acme"}
            assert answer.get("requestId") == said.get("requestId")
        await service.stop()
        for queue in ("order-status", "dead.status.order-status", "dead.order-status"):
            await channel.queue_delete(queue)
        for exchange in ("Shop.Contracts:OrderStatus", "Shop.Contracts:CheckOrder"):
            await channel.exchange_delete(exchange)


def counts(service: Service) -> dict[str, int]:
    """How many events each subscriber has handled."""
    node: Any = service._node
    return {handler.name.partition(".")[2]: handler.inflight.statistics.count for handler in node._parts.handlers}
