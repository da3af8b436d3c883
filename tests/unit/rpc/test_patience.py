"""Patience: a call waits for its service, through a restart, as long as it has surely not run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventmicro import CallRetry, Client, Context, MemoryBroker, Service
from eventmicro.errors import CallTimeout, Disconnected, InternalError, NotFound, Unavailable, UsageError
from eventmicro.rpc import patience

URL = "memory://patience"


class Naps:
    """Does in place of each pause what a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *done: Any) -> None:
        self.done = list(done)
        self.count = 0
        monkeypatch.setattr(patience, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.count += 1
        if self.done:
            await self.done.pop(0)()
        await asyncio.sleep(0)


async def _nothing() -> None:
    pass


def stock(**words: Any) -> Service:
    service = Service("stock", broker=URL, **words)

    @service.rpc
    async def left(sku: str) -> int:
        return 7

    @service.rpc
    async def busy(sku: str) -> int:
        raise Unavailable("no more today")

    @service.rpc
    async def broken(sku: str) -> int:
        raise ValueError

    return service


async def test_a_call_waits_until_its_service_has_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    service = stock()
    naps = Naps(monkeypatch, _nothing, service.start)
    async with Client(URL) as client:
        assert await client.call("stock.left", "tea", int, patience=60) == 7
        assert naps.count == 2
        await service.stop()
        naps.done = [_nothing, _nothing, service.start]
        assert await client.call("stock.left", "tea", int, patience=60) == 7
        assert naps.count == 5
        await service.stop()


async def test_it_is_the_clients_for_all_calls_and_a_call_may_say_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    service = stock()
    naps = Naps(monkeypatch, service.start)
    async with Client(URL, patience=60) as client:
        with pytest.raises(Unavailable):
            await client.call("stock.left", "tea", int, patience=0)
        assert naps.count == 0
        assert await client.call("stock.left", "tea", int) == 7
        assert naps.count == 1
    await service.stop()


async def test_what_a_service_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    naps = Naps(monkeypatch)
    async with stock(), Client(URL, patience=60) as client:
        for endpoint, error in (("busy", Unavailable), ("broken", InternalError), ("lfet", NotFound)):
            with pytest.raises(error):
                await client.call(f"stock.{endpoint}", "tea", int)
    assert naps.count == 0


async def test_a_directed_call_waits_for_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    service = stock()
    Naps(monkeypatch, _nothing, service.start)
    async with Client(URL, registry="memory", selector="random") as client:
        assert await client.call("stock.left", "tea", int, patience=60) == 7
    await service.stop()


@pytest.mark.parametrize("words", [{"patience": 0.05}, {"patience": 60, "timeout": 0.05}])
async def test_it_ends_with_the_patience_or_with_the_deadline(words: dict[str, Any]) -> None:
    async with Client(URL) as client:
        with pytest.raises(Unavailable, match=r"nobody serves stock\.left"):
            await asyncio.wait_for(client.call("stock.left", "tea", int, **words), 20)


async def test_it_ends_with_the_deadline_of_the_handler() -> None:
    outer = Service("outer", broker=URL, patience=60)
    raised: list[str] = []

    @outer.rpc
    async def relay() -> None:
        try:
            await outer.call("stock.left", "tea", int)
        except Exception as error:
            raised.append(type(error).__name__)
            raise

    async with outer, Client(URL) as client:
        with pytest.raises((CallTimeout, Unavailable)):
            await asyncio.wait_for(client.call("outer.relay", timeout=0.2), 20)
    assert raised in (["Unavailable"], [])


async def test_each_request_has_its_own_time_from_when_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    service, left = Service("stock", broker=URL), list[float | None]()

    @service.rpc
    async def look(context: Context) -> None:
        left.append(context.remaining())

    Naps(monkeypatch, service.start)
    async with Client(URL, timeout=3) as client:
        await client.call("stock.look", patience=60)
        await client.call("stock.look", patience=60, timeout=2)
    await service.stop()
    assert [each is not None and each <= most for each, most in zip(left, (3, 2), strict=True)] == [True, True]


class Away(MemoryBroker):
    """A broker that is away for a while."""

    gone = True

    @property
    def online(self) -> bool:
        return not self.gone


async def test_a_call_waits_while_the_connection_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Away(URL)

    async def come_back() -> None:
        broker.gone = False

    naps = Naps(monkeypatch, _nothing, come_back)
    async with stock(), Client(broker) as client:
        assert await client.call("stock.left", "tea", int, patience=60) == 7
        assert naps.count == 2
        broker.gone = True
        with pytest.raises(Disconnected, match="is away"):
            await client.call("stock.left", "tea", int, patience=1e-9)
        assert await client.call("stock.left", "tea", int, patience=0) == 7, "without patience nobody looks"


async def test_one_that_was_closed_or_never_connected_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(URL, patience=60)

    async def close() -> None:
        await client.close()

    with pytest.raises(Disconnected):
        await client.call("stock.left", "tea", int)
    naps = Naps(monkeypatch, close)
    async with MemoryBroker(URL) as broker:
        client = Client(broker, patience=60)
        with pytest.raises(Unavailable):
            await client.call("stock.left", "tea", int)
    assert naps.count == 1


async def test_middleware_is_around_all_of_it_and_retries_are_around_each(monkeypatch: pytest.MonkeyPatch) -> None:
    service, seen = stock(), list[str]()

    async def note(request: Any, context: Context, call_next: Any) -> Any:
        seen.append(context.topic)
        return await call_next(request, context)

    Naps(monkeypatch, _nothing, service.start)
    async with Client(URL, middleware=[note], retry=CallRetry(attempts=2, backoff=0)) as client:
        assert await client.call("stock.left", "tea", int, patience=60) == 7
        with pytest.raises(Unavailable) as caught:
            await client.call("stock.busy", "tea", int, patience=60)
    await service.stop()
    assert seen == ["stock.left", "stock.busy"]
    assert caught.value.attempts == 2


@pytest.mark.parametrize("wrong", [-1, "10", float("nan")])
async def test_what_is_no_time_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="patience="):
        Client(URL, patience=wrong)
    with pytest.raises(UsageError, match="patience="):
        Service("stock", patience=wrong)
    async with Client(URL) as client:
        with pytest.raises(UsageError, match="patience="):
            await client.call("stock.left", "tea", int, patience=wrong)
