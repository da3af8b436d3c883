"""World: several services on one broker of a test's own, seen from all sides, with faults and time in its hands."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack
from inspect import isawaitable
from itertools import count
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from eventmicro.broker import Broker
from eventmicro.checks import check_function, check_kind, check_seconds, check_several, names_words
from eventmicro.client import Client
from eventmicro.codecs import Codecs
from eventmicro.errors import UsageError
from eventmicro.events.objects import Objects
from eventmicro.handlers.depends import name_of
from eventmicro.memory import MemoryBroker
from eventmicro.memory.registry import MemoryRegistry
from eventmicro.plugins import NO_REGISTRY, check_broker, open_broker
from eventmicro.service import Service
from eventmicro.testing.breaking import GoesWrong
from eventmicro.testing.busy import StillBusy, what_is_busy
from eventmicro.testing.clock import Clock, can_be_held, hold, let_go
from eventmicro.testing.faults import Faults
from eventmicro.testing.names import Names
from eventmicro.testing.overriding import Dependency, check_used, overriding
from eventmicro.testing.reading import Reader
from eventmicro.testing.records import CLIENT, Journal
from eventmicro.testing.seen import Seen
from eventmicro.testing.watching import Watching, of_client
from eventmicro.testing.wire import Wire, watched

BROKER_VARIABLE = "EVENTMICRO_TEST_BROKER"
MEMORY = "memory"

# How long `idle` waits where nothing else is said: in the world's own time, and on a real broker, where time is real.
WITHIN = 3600.0
REAL_WITHIN = 30.0
# For how long nothing may have happened outside, as what is on its way there shows itself nowhere; how often is looked.
QUIET = 0.2
LOOK = 0.02
# How long the world may compute, and threads may run, before that is taken for something without an end.
PATIENCE = 10.0

R = TypeVar("R")
_numbers = count(1)


@names_words
class World(Seen, GoesWrong):
    """Services, started as they are on one broker of this world's own, for as long as its block lasts.

        async with World(orders, stock) as world:
            await world.client.publish(PLACED, Order(sku="tea"))
            await world.idle()
            assert world.published(RESERVED) == [Reserved(sku="tea")]

    Their own brokers and registries are left alone, whatever they name. In memory, in an event loop of asyncio's own,
    time is in the world's hands: it passes by `advance`, and where nothing is left to do but to wait.

    Args:
        services: the services.
        broker: a URL of a broker to use instead of memory; default: what `--eventmicro-broker` of pytest says, or
            `EVENTMICRO_TEST_BROKER`. Subjects and queues then have a prefix, so that no two worlds meet there. Time
            passes there as ever. Calls go over it where it carries any, else over memory.
        overrides: functions to use in the place of others where handlers depend on these.
        quiet: for how long nothing may come from a real broker, or over sockets that handlers have open, before the
            world is taken to be at rest, in seconds of the real time. Give more where a database is slow.
        patience: how long handlers may compute, or run in threads, before `idle` and `advance` say that they have no
            end, likewise.

    Raises:
        UsageError: one is no service, or is given twice.
    """

    def __init__(
        self,
        *services: Service,
        broker: str | None = None,
        overrides: Mapping[Dependency, Dependency] | None = None,
        quiet: float = QUIET,
        patience: float = PATIENCE,
    ) -> None:
        for each in check_several("services", services, "World(orders, stock)"):
            if not isinstance(each, Service):
                raise UsageError(f"{each!r} is no Service: write World(orders, stock)")
        names = [each.name for each in services]
        if twice := {name for name in names if names.count(name) > 1}:
            raise UsageError(f"{', '.join(sorted(twice))}: a world has one service of a name")
        check_seconds("quiet", quiet)
        check_seconds("patience", patience)
        broker = broker or os.environ.get(BROKER_VARIABLE) or f"{MEMORY}://"
        check_kind("broker", broker, str, "a URL such as 'nats://127.0.0.1:4222'")
        check_broker("broker", broker)
        self.services = services
        self.url = _apart(broker)
        self._memory_url = _apart(f"{MEMORY}://")  # for the registry, and for calls that the broker does not carry
        self._overrides = dict(overrides or {})
        for dependency in self._overrides:
            check_used(dependency, services)
        self._quiet = quiet
        self._patience = patience
        self._names = Names(services)
        self._faults = Faults()
        self._clock: Clock | None = None
        self._client: Client | None = None
        self._watching: dict[Service, Watching] = {}
        self._ending = AsyncExitStack()
        self._state = "new"
        journal = Journal()
        is_memory = self._is_memory
        self._wire = Wire(journal, self._faults, "" if is_memory else f"w{secrets.token_hex(4)}.", self.value_of)
        codecs = Codecs([codec for each in services for codec in each._codecs.own])
        broker_alone = _open(self.url)  # never connected: it says how it has CloudEvents
        reader = Reader(codecs, journal, Objects(broker_alone, 0), broker_alone.capabilities.cloudevents)
        super().__init__(journal, reader, self._names, services)

    @property
    def client(self) -> Client:
        """What calls and publishes from outside of the services.

        Raises:
            UsageError: the world has not begun.
        """
        if self._client is None:
            self._check_running()
        assert self._client is not None
        return self._client

    @property
    def _is_memory(self) -> bool:
        return urlsplit(self.url).scheme == MEMORY

    # -- its life ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._state != "new":
            raise UsageError("a world has one life: make another one by World(...)")
        self._check_startable()
        self._state = "running"
        async with AsyncExitStack() as undo:
            if self._is_memory and can_be_held():
                self._clock = hold()
                undo.callback(let_go, self._clock)
            for dependency, by in self._overrides.items():
                for each in self.services:
                    undo.enter_context(each.override(dependency, by))
            undo.push_async_callback(self._wire.close)
            await self._start(undo)
            self._client = await undo.enter_async_context(self._make_client())
            self._ending = undo.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._state = "over"
        self._names.learn()
        left = list(self._faults.all)
        self._faults.all.clear()
        await self._ending.aclose()
        if error is None:
            self._check_all_applied(left)

    def run(self, test: Callable[[Self], Awaitable[R]]) -> R:
        """What a test returns, run within this world in an event loop of its own; for those that are no coroutines.

            def test_an_order():
                async def test(world: World) -> None: ...
                World(orders).run(test)

        Raises:
            UsageError: an event loop is running here already, or the test is no coroutine.
        """
        if asyncio._get_running_loop() is not None:
            raise UsageError("run is for a test that is no coroutine: here write `async with World(...) as world:`")
        check_function("run", test)

        async def within() -> R:
            async with self as world:
                running = test(world)
                if not isawaitable(running):
                    name = name_of(test).rpartition(".")[2]
                    raise UsageError(f"run is for a test that is awaited: write `async def {name}(world)`")
                return await running

        return asyncio.run(within())

    def _check_startable(self) -> None:
        names = {each.name for each in self.services}
        for each in self.services:
            if each._is_started:
                raise UsageError(f"service {each.name!r} is started already, perhaps in another world: stop it first")
            if missing := sorted(set(each._needs) - names):
                raise UsageError(
                    f"service {each.name!r} needs {', '.join(missing)}, and would wait for it: add it to the world, or "
                    f"a stand-in, such as Service({missing[0]!r})"
                )

    async def _start(self, undo: AsyncExitStack) -> None:
        """Start all at the same time, as some may wait for others; where one fails none is left running."""
        for each in self.services:
            undo.push_async_callback(each.stop)
        starting = [asyncio.ensure_future(self._start_one(each)) for each in self.services]
        try:
            await asyncio.gather(*starting)
        except BaseException as error:
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            if isinstance(error, Exception):
                failed = [
                    each.name
                    for each, task in zip(self.services, starting, strict=True)
                    if not task.cancelled() and task.exception() is error
                ]
                error.add_note(f"service {', '.join(failed)} could not be started in this world")
            raise

    async def _start_one(self, service: Service) -> None:
        watching = Watching(service.name, set(service.endpoints), self._journal, self._faults, self._happened)
        self._watching[service] = watching
        registry = service._registry
        await service._start(
            *self._brokers(service.name),
            NO_REGISTRY if registry == NO_REGISTRY else MemoryRegistry(self._memory_url),
            (watching,),
        )

    def _make_client(self) -> Client:
        broker, rpc_broker = self._brokers(CLIENT)
        return Client(
            broker,
            rpc_broker=rpc_broker,
            middleware=[of_client(self._journal, self._faults, self._happened)],
            codecs=[codec for each in self.services for codec in each._codecs.own],
            registry=MemoryRegistry(self._memory_url),
        )

    def _brokers(self, owner: str) -> tuple[Broker, Broker]:
        broker = watched(_open(self.url), self._wire, owner)
        if broker.capabilities.request_reply:
            return broker, broker
        return broker, watched(_open(self._memory_url), self._wire, owner)

    # -- waiting, and time ---------------------------------------------------------------------------------------

    async def idle(self, *, within: float | None = None) -> None:
        """Return when nothing is queued, being handled, to be retried, collected for a batch or unsettled, and no reply
        is awaited. Time skips to what is due meanwhile: an event that is to be tried again in an hour is tried now.

        A stream that is open is not waited for, nor a task that a service runs beside its handlers.

        Args:
            within: how far time may skip, in seconds; default: an hour. On a real broker it is how long is waited;
                default: 30.

        Raises:
            StillBusy: it is not idle by then; it says what is still to do.
        """
        self._check_running()
        if within is not None:
            check_seconds("within", within)
        if self._clock is None:
            await self._idle_really(REAL_WITHIN if within is None else within)
        else:
            await self._idle_at(self._clock, WITHIN if within is None else within)

    async def advance(self, seconds: float) -> None:
        """Let so much time pass: all that is due by then happens, in its order, and nothing else; 0: what is due now.

        Raises:
            StillBusy: something goes on and on, or a thread does not end.
            UsageError: time is real here.
        """
        self._check_running()
        check_seconds("seconds", seconds, or_none_at_all=True)
        clock = self._held_clock()
        end = clock.now + seconds
        await self._settle(clock)
        while (due := clock.next_due()) is not None and due <= end:
            clock.skip_to(due)
            await self._settle(clock)
        clock.skip_to(end)
        await self._settle(clock)

    def _held_clock(self) -> Clock:
        if self._clock is not None:
            return self._clock
        loop = type(asyncio.get_running_loop()).__module__
        where = f"in {loop}" if self._is_memory else f"over {urlsplit(self.url).scheme}://"
        raise UsageError(f"time is real {where} and cannot be advanced: wait by idle(), or run this test in memory")

    async def _idle_at(self, clock: Clock, within: float) -> None:
        end = clock.now + within
        while True:
            await self._settle(clock)
            busy = await self._busy()
            if not busy:
                return
            due = clock.next_due()
            if due is None or due > end:
                raise StillBusy(busy, f"{within:g} s of its time" if due is not None else "all that is ever due")
            clock.skip_to(due)

    async def _settle(self, clock: Clock) -> None:
        if not await clock.settle(self._patience, self._quiet):
            raise StillBusy(await self._busy(), f"{self._patience:g} s of computing, or in threads")

    async def _idle_really(self, within: float) -> None:
        loop = asyncio.get_running_loop()
        end, since, seen = loop.time() + within, loop.time(), len(self._journal)
        while True:
            await self._wire.flush()
            busy = await self._busy()
            if busy or len(self._journal) != seen:
                since, seen = loop.time(), len(self._journal)
            elif loop.time() - since >= self._quiet:
                return
            if loop.time() > end:
                raise StillBusy(busy, f"{within:g} s")
            await asyncio.sleep(LOOK)

    async def _busy(self) -> list[str]:
        return await what_is_busy(self.services, self.client, self._wire)

    # -- what handlers depend on ----------------------------------------------------------------------------------

    def override(self, dependency: Dependency, by: Dependency) -> AbstractContextManager[None]:
        """Use another function where handlers depend on this one, for the messages that come in the block.

            with world.override(get_db, lambda: FakeDb()): ...

        Raises:
            UsageError: no handler depends on it.
        """
        self._check_running()
        check_used(dependency, self.services)
        return overriding(dependency, by, self._watching)

    # -- checks --------------------------------------------------------------------------------------------------

    def _happened(self) -> None:
        if self._clock is not None:
            self._clock.go_on()

    def _check_running(self) -> None:
        if self._state != "running":
            when = "is over" if self._state == "over" else "has not begun"
            raise UsageError(f"this world {when}: use it in its block, `async with World(...) as world:`")

    def _check_not_over(self) -> None:
        if self._state == "over":
            self._check_running()


def _open(url: str) -> Broker:
    """The broker of a URL; one in memory without a look at all that is installed, which takes longer than a test."""
    return MemoryBroker(url) if urlsplit(url).scheme == MEMORY else open_broker(url)


def _apart(url: str) -> str:
    """The URL of a broker in memory that nobody else has; of a real one the URL as it is."""
    parts = urlsplit(url)
    if parts.scheme != MEMORY or parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=f"world-{next(_numbers)}"))
