"""NatsRegistry: the registry port over NATS."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from eventmicro.checks import check_seconds
from eventmicro.errors import ConnectionFailed, Disconnected, Unavailable, UsageError
from eventmicro.lifetime import Lifetime
from eventmicro.registry import Change, ServiceRecord, check_record
from eventmicro.roster import Roster, look_again
from eventmicro_nats.broker import NatsBroker
from eventmicro_nats.connection.told import Told
from eventmicro_nats.jetstream.api import Nobody, NoJetStream, NotAllowed
from eventmicro_nats.registry.asking import Asking
from eventmicro_nats.registry.bucket import Bucket, NotMade
from eventmicro_nats.registry.line import Line

log = logging.getLogger(__name__)

DEFAULT = "nats://127.0.0.1:4222"
# How long a watch waits before it looks again, and a cluster without JetStream before it is asked for it again.
PAUSE = 0.2
RETHINK = 30.0


class NatsRegistry(Lifetime):
    """A registry in a JetStream KV bucket; where there is no JetStream, one that asks who is there.

    See `eventmicro.registry.Registry`.

    Args:
        broker: a URL as of a NatsBroker, for a connection of its own; or a broker whose connection is used, while that
            is connected.
    """

    def __init__(self, broker: str | NatsBroker = "nats://") -> None:
        self._owns = isinstance(broker, str)
        self._broker = NatsBroker(DEFAULT if broker == "nats://" else broker) if isinstance(broker, str) else broker
        self._line: Line | None = None
        self._keeper: Bucket | Asking | None = None
        self._rethink = float("inf")
        self._connecting = asyncio.Lock()
        self._choosing = asyncio.Lock()
        self._told = Told()
        self._back = asyncio.Event()

    @property
    def url(self) -> str:
        return self._broker.url

    async def connect(self) -> None:
        async with self._connecting:
            if self._line is not None and not self._line.ended:
                return
            try:
                await self._open()
            except BaseException as error:
                await self.close()
                if isinstance(error, ConnectionFailed | Disconnected):
                    raise Unavailable(str(error), id=self.url) from error
                raise

    async def close(self) -> None:
        await self._use(None)
        line, self._line = self._line, None
        if line is not None:
            line.end()
        if self._owns:
            await self._broker.close()

    async def register(self, service: ServiceRecord, *, ttl: float) -> None:
        check_seconds("ttl", ttl)
        check_record(service)
        keeper = await self._find(self._connected())
        await asyncio.gather(*(keeper.put(service.of_node(node), ttl) for node in service.nodes))

    async def deregister(self, service: ServiceRecord) -> None:
        keeper = await self._find(self._connected())
        await asyncio.gather(*(keeper.remove(service.name, node.id) for node in service.nodes))

    async def get_service(self, name: str) -> list[ServiceRecord]:
        return (await self._roster(name)).find(name, self.url)

    async def list_services(self) -> list[ServiceRecord]:
        return (await self._roster(None)).all()

    async def watch(self, name: str | None = None) -> AsyncIterator[Change]:
        line = self._connected()

        async def wait() -> bool:
            await asyncio.sleep(PAUSE)
            return await line.stands()

        async with aclosing(look_again(lambda: self._look(line, name), wait, name)) as changes:
            async for change in changes:
                yield change

    async def returned(self) -> None:
        await self._back.wait()

    # -- within ------------------------------------------------------------------------------------------------

    async def _roster(self, name: str | None) -> Roster:
        return await (await self._find(self._connected())).roster(name)

    async def _look(self, line: Line, name: str | None) -> AsyncGenerator[Change, None]:
        try:
            keeper = await self._find(line)
            async with aclosing(keeper.look(name)) as changes:
                async for change in changes:
                    yield change
        except UsageError as error:  # it may be mended yet
            if self._told.is_new(str(error)):
                log.error("registry %s cannot be watched: %s", self.url, error)
            raise Unavailable(str(error), id=self.url) from error

    async def _open(self) -> None:
        if self._owns:
            await self._broker.connect()
        driver = self._broker._connected_driver()
        self._line = line = Line(self._broker, driver)
        await line.open(driver)
        line.on_loss[self._forget_keeper] = None
        line.on_back = self._tell_back
        self._broker.follow(line)
        await self._find(line)

    def _connected(self) -> Line:
        if self._line is None or self._line.ended:
            raise Unavailable(f"{self.url} is not connected", id=self.url)
        self._line.check()
        return self._line

    async def _find(self, line: Line) -> Bucket | Asking:
        """The bucket, or where this server keeps none, who asks."""
        async with self._choosing:
            line.check()
            if self._keeper is None or asyncio.get_running_loop().time() > self._rethink:
                await self._use(await self._choose(line))
            assert self._keeper is not None
            return self._keeper

    async def _choose(self, line: Line) -> Bucket | Asking:
        self._rethink = float("inf")
        bucket = Bucket(line)
        try:
            await bucket.have()
            return bucket
        except Nobody:  # of a cluster, which may have JetStream in a moment
            self._rethink = asyncio.get_running_loop().time() + RETHINK
            reason = "JetStream does not answer"
        except NotMade as error:  # there may be room in a while, or somebody else makes it
            self._rethink = asyncio.get_running_loop().time() + RETHINK
            reason = str(error)
        except (NoJetStream, NotAllowed) as error:
            reason = str(error)
        if self._told.is_new(reason):
            log.info("registry %s: nothing is stored, services are asked who is there: %s", self.url, reason)
        return self._keeper if isinstance(self._keeper, Asking) else Asking(line)

    async def _use(self, keeper: Bucket | Asking | None) -> None:
        former, self._keeper = self._keeper, keeper
        if former is not None and former is not keeper:
            await former.retire()

    def _tell_back(self) -> None:
        back, self._back = self._back, asyncio.Event()
        back.set()

    def _forget_keeper(self) -> None:
        """The server that comes back may be another one."""
        if isinstance(self._keeper, Bucket):
            self._keeper = None
        else:
            self._rethink = float("-inf")
