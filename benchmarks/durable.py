"""eventmicro on any broker: one program, the URL says where it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from benchmarks.messages import Reading
from benchmarks.peer import Publishing, Take
from eventmicro import Client, Service, Topic


class EventMicro:
    """A subscriber and a publisher as in a first program."""

    prefetch: int | None = None

    @asynccontextmanager
    async def consumer(self, url: str, name: str, take: Take) -> AsyncIterator[None]:
        service = Service("archive", broker=url)

        @service.subscribe(Topic(name, Reading), queue=name, prefetch=self.prefetch)
        async def handle(reading: Reading) -> None:
            take(reading)

        async with service:
            yield

    @asynccontextmanager
    async def publisher(self, url: str, name: str) -> AsyncIterator[Publishing]:
        async with Client(url) as client:
            publisher = client.publisher(Topic(name, Reading))
            yield Publishing(publisher.publish, publisher.publish_many)


class WithPrefetch(EventMicro):
    """The same with twice as many events in advance as are decoded together: more where handlers are fast."""

    prefetch = 256


class WithStream(WithPrefetch):
    """The same with a JetStream stream of its own, as its rivals have: others may use the server meanwhile."""

    def consumer(self, url: str, name: str, take: Take) -> AbstractAsyncContextManager[None]:
        return super().consumer(f"{url}?stream={name}", name, take)

    def publisher(self, url: str, name: str) -> AbstractAsyncContextManager[Publishing]:
        return super().publisher(f"{url}?stream={name}", name)
