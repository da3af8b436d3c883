"""The member of eventmicro, the same on every broker."""

from __future__ import annotations

from eventmicro import Client, Service, Topic
from tests.fleet.words import Event, forever, got, publish_all, ready


async def publish(url: str, subject: str, numbers: range) -> None:
    topic = Topic(subject, Event)
    async with Client(url) as client:
        await publish_all(numbers, lambda n: client.publish(topic, Event(n=n, by="eventmicro")))


async def consume(url: str, subject: str) -> None:
    service = Service(f"{subject}-eventmicro", broker=url)

    @service.subscribe(Topic(subject, Event), name="take", concurrency=10)
    async def take(event: Event) -> None:
        got(event)

    async with service:
        ready()
        await forever()
