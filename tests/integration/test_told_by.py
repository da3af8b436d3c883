"""Events of several types are told apart by a header on each broker, also where another client has written it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel

from eventmicro import Service, Topic
from tests.integration.test_foreign_clients import BROKERS, EVENTS, faststream

Until = Callable[[Callable[[], object]], Awaitable[None]]


class Placed(BaseModel):
    id: int


class Paid(BaseModel):
    id: int


@pytest.mark.timeout_seconds(60)
@pytest.mark.parametrize("broker", BROKERS)
async def test_types_are_told_apart_by_a_header_whoever_publishes(
    broker: str, request: pytest.FixtureRequest, subject: str, until: Until
) -> None:
    url, seen = request.getfixturevalue(f"{broker}_url"), list[BaseModel]()
    topic = Topic(subject, Placed | Paid, told_by="Event-Type")
    service, theirs = Service(subject, broker=url), faststream(url)
    where: dict[str, Any] = {"exchange": EVENTS, "routing_key": subject} if broker == "rabbitmq" else {}

    @service.subscribe(topic)
    async def take(event: Placed | Paid) -> None:
        seen.append(event)

    async with service, theirs:
        await service.publish(topic, Paid(id=1))
        for number, kind in enumerate((Placed, Paid), 2):
            place = where or ({"topic": subject} if broker == "kafka" else {"subject": subject})
            await theirs.publish(kind(id=number), headers={"Event-Type": kind.__name__}, **place)
        await until(lambda: len(seen) == 3)
    assert sorted(seen, key=lambda event: event.model_dump()["id"]) == [Paid(id=1), Placed(id=2), Paid(id=3)]
