"""A memory broker whose server can be ended: what the restart cases are tried on without a real one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from eventmicro.broker import PUBLISH_TIMEOUT, Receive
from eventmicro.errors import Disconnected
from eventmicro.memory import MemoryBroker
from eventmicro.memory.durable import DurableSubscription
from eventmicro.memory.live import LiveSubscription
from eventmicro.message import Message


class MemoryServer:
    """Ends and starts what its brokers are connected to; their queues are as if on a disk."""

    def __init__(self) -> None:
        self.up = asyncio.Event()
        self.up.set()
        self.brokers: list[RestartableBroker] = []

    async def start(self) -> None:
        self.up.set()
        for broker in self.brokers:
            await broker.on_start()

    async def stop(self) -> None:
        self.up.clear()
        for broker in self.brokers:
            broker.on_end()

    async def kill(self) -> None:
        await self.stop()


class Resumed:
    """A subscription that is made anew when the server is back."""

    dropped = 0

    def __init__(self, broker: RestartableBroker, subject: str, receive: Receive, options: dict[str, Any]) -> None:
        self.ended = False
        self.inner: LiveSubscription | DurableSubscription | None = None
        self._broker = broker
        self._asked = (subject, receive, options)

    async def open(self) -> None:
        subject, receive, options = self._asked
        self.inner = await self._broker.subscribe_now(subject, receive, **options)

    def lose(self) -> None:
        if self.inner is not None:
            self.inner.close()

    async def drain(self) -> None:
        self.ended = True
        if self.inner is not None:
            await self.inner.drain()


class RestartableBroker(MemoryBroker):
    """It keeps all promises of the restart cases."""

    capabilities = replace(MemoryBroker.capabilities, persistent=True)

    def __init__(self, server: MemoryServer) -> None:
        super().__init__()
        self.server = server
        self.resumed: list[Resumed] = []
        server.brokers.append(self)

    @property
    def online(self) -> bool:
        return self.connected and self.server.up.is_set()

    async def close(self) -> None:
        self.resumed.clear()
        await super().close()

    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        await self.wait_for_server(timeout)
        await asyncio.sleep(0)
        await super().publish(message, timeout=timeout)

    async def flush(self) -> None:
        await self.wait_for_server(0.1)
        await super().flush()

    async def subscribe(self, subject: str, receive: Receive, **options: Any) -> Any:
        subscription = Resumed(self, subject, receive, options)
        await subscription.open()
        self.resumed.append(subscription)
        return subscription

    async def subscribe_now(self, subject: str, receive: Receive, **options: Any) -> Any:
        return await super().subscribe(subject, receive, **options)

    async def wait_for_server(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self.server.up.wait()
        except TimeoutError:
            raise Disconnected("the server is away") from None

    def on_end(self) -> None:
        for subscription in self.resumed:
            subscription.lose()

    async def on_start(self) -> None:
        for subscription in self.resumed:
            if not subscription.ended:
                await subscription.open()


# -- what some adapters do instead -----------------------------------------------------------------------------


class KeepsNothing(RestartableBroker):
    """Its queues are in the memory of the server."""

    def on_end(self) -> None:
        super().on_end()
        if self._hub is not None:
            for queue in self._hub._queues.values():
                queue._new.clear()
                queue._again.clear()


class NeverComesBack(RestartableBroker):
    """Its subscriptions end with the connection."""

    async def on_start(self) -> None: ...


class SeesNothing(RestartableBroker):
    """It does not notice that the connection is lost."""

    @property
    def online(self) -> bool:
        return self.connected


class GivesUpAtOnce(RestartableBroker):
    """It does not wait for a server that comes back."""

    async def wait_for_server(self, timeout: float) -> None:
        if not self.online:
            raise Disconnected("the server is away")


class WaitsForEver(RestartableBroker):
    """It forgets its timeout while the server is away."""

    async def wait_for_server(self, timeout: float) -> None:
        await self.server.up.wait()


class SaysThatItIsStored(RestartableBroker):
    """It returns for what it puts into a buffer of its own, and loses it."""

    async def publish(self, message: Message, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        if self.online:
            await super().publish(message, timeout=timeout)


class DrainsNever(RestartableBroker):
    """It asks the server to end a subscription, and waits for the answer."""

    async def subscribe(self, subject: str, receive: Receive, **options: Any) -> Any:
        subscription = await super().subscribe(subject, receive, **options)
        drain = subscription.drain

        async def ask_and_drain() -> None:
            await self.server.up.wait()
            await drain()

        subscription.drain = ask_and_drain
        return subscription


class LosesWhatIsHeld(RestartableBroker):
    """What a consumer had not settled when the server ended is not delivered again."""

    def on_end(self) -> None:
        for subscription in self.resumed:
            if isinstance(subscription.inner, DurableSubscription):
                for delivery in subscription.inner._held.values():
                    delivery.release()
                subscription.inner._held.clear()
        super().on_end()


class BatchesAreNotWaitedFor(RestartableBroker):
    """Only single events wait for the server."""

    async def publish_many(self, messages: Sequence[Message], *, timeout: float = PUBLISH_TIMEOUT) -> None:
        if not self.online:
            raise Disconnected("the server is away")
        await super().publish_many(messages, timeout=timeout)
