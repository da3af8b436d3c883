"""What something in the broker stores of a call, and confirms: it is no reply."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from eventmicro.client import Client
from eventmicro.errors import CallTimeout
from eventmicro.memory import MemoryBroker
from eventmicro.message import Delivery, Message
from eventmicro.service import Service
from eventmicro.wire import DESCRIPTION, STATUS, STORED

RECEIPT = {STATUS: STORED, DESCRIPTION: "the archive"}


class Storing(MemoryBroker):
    """A broker in which an archive confirms each request, before its service replies."""

    def __init__(self, found: Mapping[str, Sequence[str]] | None) -> None:
        super().__init__()
        self.found = found
        self.asked: list[list[str]] = []

    async def send(self, message: Message) -> None:
        if message.reply:
            await super().send(Message(message.reply, b"7", dict(RECEIPT)))
        await super().send(message)

    async def stores(self, subjects: Sequence[str]) -> Mapping[str, Sequence[str]] | None:
        self.asked.append(list(subjects))
        await asyncio.sleep(0)
        return self.found


async def hold(request: Delivery) -> None:
    """Serves nothing: as a stream that takes the requests."""


async def test_the_confirmation_is_waited_over() -> None:
    async with Storing({"orders.double": ["the archive"]}) as broker:
        service = Service("orders", broker=broker)

        @service.rpc
        async def double(number: int) -> int:
            await asyncio.sleep(0.01)
            return number * 2

        async with service, Client(broker) as client:
            assert await client.call("orders.double", 4, int) == 8


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (
            {"orders.double": ["the archive"]},
            r"within 0\.\d+ s; the archive stores orders\.double.*"
            r"where that is a topic, publish to it; else take the subject out",
        ),
        (None, r"within 0\.\d+ s; the archive confirmed something.*cannot be looked up"),
    ],
    ids=["known", "unknown"],
)
async def test_the_timeout_names_what_stores_the_call(found: Mapping[str, Sequence[str]] | None, wanted: str) -> None:
    async with Storing(found) as broker, Client(broker) as client:
        await broker.subscribe("orders.double", hold)
        with pytest.raises(CallTimeout, match=wanted):
            await client.call("orders.double", 4, int, timeout=0.1)


@pytest.mark.parametrize("found", [{}, {"orders.double": ["another"]}, {"orders.other": ["the archive"]}], ids=str)
async def test_what_only_looks_so_is_the_reply(found: Mapping[str, Sequence[str]]) -> None:
    async with Storing(found) as broker, Client(broker) as client:
        await broker.subscribe("orders.double", hold)
        assert await client.call("orders.double", 4, int) == 7
        assert broker.asked == [["orders.double"]]


async def test_no_header_of_a_service_makes_its_reply_a_confirmation() -> None:
    """As on the wire, where a service may reply whatever status it likes."""
    async with Storing(None) as broker, Client(broker) as client:

        async def answer(request: Delivery) -> None:
            await MemoryBroker.send(broker, Message(request.reply, b"8", {STATUS: "202", DESCRIPTION: "accepted"}))

        await broker.subscribe("orders.double", answer)
        broker.send = MemoryBroker.send.__get__(broker)  # type: ignore[method-assign]  # which stores nothing
        assert await client.call("orders.double", 4, int) == 8
        assert broker.asked == []


async def test_a_client_that_is_closed_looks_no_more() -> None:
    class Slow(Storing):
        async def stores(self, subjects: Sequence[str]) -> Mapping[str, Sequence[str]] | None:
            await asyncio.sleep(60)
            return None

    async with Slow({}) as broker:
        client = Client(broker)
        await client.connect()
        await broker.subscribe("orders.double", hold)
        with pytest.raises(CallTimeout, match="the archive"):
            await client.call("orders.double", 4, int, timeout=0.05)
        await client.close()
        assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
