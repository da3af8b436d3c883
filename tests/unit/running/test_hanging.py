"""Hanging: who takes too long is named once, with where it stands."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest

from eventmicro import Client, Service
from eventmicro.running import hanging
from eventmicro.running.hanging import Hanging, watched_loop
from eventmicro.running.node import Node


def looking(service: Service) -> Hanging:
    node = service._node
    assert isinstance(node, Node)
    return node._hanging


async def wait_in_vain(forever: asyncio.Event) -> None:
    await forever.wait()  # it stands here


@pytest.mark.parametrize("kind", ["subscriber", "endpoint", "keyed", "batch"])
async def test_a_handler_that_hangs_is_named_once_with_its_place_and_its_message(
    kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hanging, "PATIENCE", 0.0)
    service = Service("shop", broker=f"memory://hanging-{kind}", stop_timeout=0)
    began, forever = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        began.set()
        await wait_in_vain(forever)

    if kind == "endpoint":

        @service.rpc(name="bill")
        async def answer(event: int) -> None:
            await work()

    elif kind == "batch":
        from eventmicro import Batch

        @service.subscribe("placed", name="bill", batch=Batch(1, within=1))
        async def take_all(events: list[int]) -> None:
            await work()

    else:
        options = {"order_by": str} if kind == "keyed" else {}

        @service.subscribe("placed", name="bill", **options)  # type: ignore[arg-type]
        async def take(event: int) -> None:
            await work()

    async with service, Client(service.broker) as client:
        look = looking(service)
        look._watched = [(name, inflight, 0.0) for name, inflight, _ in look._watched]
        call = None
        if kind == "endpoint":
            call = asyncio.create_task(client.call("shop.bill", 1, timeout=30))
        else:
            await client.publish("placed", 1)
        await began.wait()
        await asyncio.sleep(0)
        look.look()
        look.look()
        lines = [record for record in caplog.records if record.name == hanging.__name__]
        forever.set()
        if call is not None:
            await call
    (line,) = lines
    assert line.levelname == "WARNING"
    assert "shop.bill" in line.getMessage()
    assert "test_hanging.py:" in line.getMessage()
    assert "in wait_in_vain, which waits at" in line.getMessage()
    assert (line.service, line.handler) == ("shop", "bill")  # type: ignore[attr-defined]


async def test_who_has_not_run_for_long_and_a_stream_are_not_named(caplog: pytest.LogCaptureFixture) -> None:
    service = Service("shop", broker="memory://hanging-not", stop_timeout=0)
    began = asyncio.Event()

    @service.subscribe("placed")
    async def bill(event: int) -> None:
        began.set()
        await asyncio.Event().wait()

    @service.rpc
    async def watch(count: int) -> AsyncIterator[int]:
        yield count
        await asyncio.Event().wait()

    async with service, Client(service.broker) as client:
        await client.publish("placed", 1)
        await began.wait()
        watched = {name for name, *_ in looking(service)._watched}
        assert ("shop.bill" in watched, "shop.watch" in watched) == (True, False)
        looking(service).look()
    assert [record for record in caplog.records if record.name == hanging.__name__] == []


async def test_code_that_stops_the_event_loop_is_named_once_from_another_thread(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = threading.Event()
    say = hanging._say_still

    def saying(thread: int, seconds: float) -> None:
        say(thread, seconds)
        told.set()

    monkeypatch.setattr(hanging, "_say_still", saying)
    with watched_loop(look=0.01, stands=2):
        assert told.wait(30)  # the loop stands here
        time.sleep(0.05)
    (line,) = [record for record in caplog.records if record.name == hanging.__name__]
    assert "test_hanging.py:" in line.getMessage()
    assert "test_code_that_stops_the_event_loop" in line.getMessage()
    assert "asyncio.to_thread" in line.getMessage()
