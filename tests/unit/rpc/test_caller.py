"""caller: whatever becomes of a call, it has one outcome and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest

from eventmicro import Client
from eventmicro.context import Context, Side
from eventmicro.errors import CallTimeout, DecodeError, Disconnected, MessageTooLarge, ServiceError, TransportError
from eventmicro.memory import MemoryBroker
from eventmicro.message import Delivery, Message
from eventmicro.rpc import caller
from eventmicro.rpc.caller import Caller
from eventmicro.wire import DESCRIPTION, STATUS, STORED

Until = Callable[[Callable[[], object]], Awaitable[None]]
RECEIPT = {STATUS: STORED, DESCRIPTION: "the archive"}


class Wire(MemoryBroker):
    """A broker that keeps what is sent, and hands over the replies that it is told to."""

    def __init__(self, *, at_once: bool = True, found: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__("memory://wire")
        self.at_once = at_once
        self.error: Exception | None = None
        self.found = found
        self.sent: list[Message] = []
        self.awaited = 0

    def try_send(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None, reply: str = "") -> bool:
        if isinstance(self.error, MessageTooLarge):
            raise self.error
        if self.at_once:
            self.sent.append(Message(subject, body, headers and dict(headers), reply))  # type: ignore[arg-type]
        return self.at_once

    async def send(self, message: Message) -> None:
        self.awaited += 1
        if self.error is not None:
            raise self.error
        self.sent.append(message)

    async def stores(self, subjects: Sequence[str]) -> Mapping[str, Sequence[str]] | None:
        return self.found

    @property
    def requests(self) -> list[Message]:
        return [message for message in self.sent if message.reply]

    @property
    def cancels(self) -> list[bytes]:
        return [message.body for message in self.sent if message.subject.endswith(".$cancel")]


class Calling:
    """A client whose calls are answered by hand."""

    def __init__(self, wire: Wire, **options: Any) -> None:
        self.wire = wire
        self.client = Client(wire, **options)

    async def __aenter__(self) -> Calling:  # noqa: PYI034
        await self.wire.connect()
        await self.client.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        await self.wire.close()

    async def call(self, *arguments: Any, **options: Any) -> asyncio.Task[Any]:
        """A call whose request is on its way."""
        before = len(self.wire.requests)
        task = asyncio.create_task(self.client.call("orders.double", *arguments, **options))
        while len(self.wire.requests) == before and not task.done():
            await asyncio.sleep(0)
        return task

    @property
    def caller(self) -> Caller:
        caller = self.client._caller  # type: ignore[attr-defined]
        inner = caller._caller
        assert isinstance(inner, Caller)
        return inner

    def reply(self, number: int, body: bytes = b"8", headers: dict[str, str] | None = None) -> Delivery:
        """The reply to a request, by its number."""
        return Delivery(self.wire.requests[number].reply, body, headers)

    def has_nothing(self) -> bool:
        return not self.caller._waiting and not self.caller._notes and not self.caller._looking


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_request_goes_at_once_where_it_can_and_else_waits(at_once: bool) -> None:
    async with Calling(Wire(at_once=at_once)) as calling:
        call = await calling.call(4, int)
        calling.caller(calling.reply(0))
        assert await call == 8
        assert (calling.wire.awaited, len(calling.wire.requests)) == (0 if at_once else 1, 1)
        assert calling.has_nothing()


@pytest.mark.parametrize("at_once", [True, False])
async def test_two_replies_in_one_read_find_their_calls(at_once: bool) -> None:
    async with Calling(Wire(at_once=at_once)) as calling:
        first, second = await calling.call(1, int), await calling.call(2, int)
        calling.caller.many(deque([calling.reply(1, b"22"), calling.reply(0, b"11")]))
        assert (await first, await second) == (11, 22)
        assert calling.has_nothing()


@pytest.mark.parametrize("at_once", [True, False])
async def test_late_and_double_replies_are_dropped_and_leave_nothing(at_once: bool) -> None:
    async with Calling(Wire(at_once=at_once)) as calling:
        call = await calling.call(4, int)
        twice = [calling.reply(0, b"8"), calling.reply(0, b"9"), Delivery(calling.caller._inbox + "nobody", b"")]
        calling.caller.many(deque(twice))
        calling.caller(calling.reply(0, b"10"))
        assert await call == 8
        calling.caller(calling.reply(0, b"11", dict(RECEIPT)))
        assert calling.has_nothing()


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_cancelled_call_tells_the_service_once(at_once: bool) -> None:
    async with Calling(Wire(at_once=at_once)) as calling:
        call = await calling.call(4, int)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        assert calling.wire.cancels == [calling.wire.requests[0].reply.encode()]
        calling.caller(calling.reply(0))
        assert calling.has_nothing()


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_call_over_its_time_tells_the_service_once_and_its_late_reply_is_dropped(at_once: bool) -> None:
    async with Calling(Wire(at_once=at_once)) as calling:
        call = await calling.call(4, int, timeout=0.001)
        with pytest.raises(CallTimeout, match=r"no reply from orders\.double within") as caught:
            await call
        assert caught.value.received
        assert calling.wire.cancels == [calling.wire.requests[0].reply.encode()]
        calling.caller(calling.reply(0))
        assert calling.has_nothing()


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("found", [None, {"orders.double": ["the archive"]}], ids=["unknown", "known"])
@pytest.mark.parametrize("end", ["reply", "timeout", "cancel"])
async def test_what_is_known_of_a_receipt_goes_with_its_call(
    at_once: bool, found: Mapping[str, Sequence[str]] | None, end: str
) -> None:
    async with Calling(Wire(at_once=at_once, found=found)) as calling:
        call = await calling.call(4, int, timeout=0.05 if end == "timeout" else 60)
        calling.caller(calling.reply(0, b"{}", dict(RECEIPT)))
        while calling.caller._looking:
            await asyncio.sleep(0)
        assert len(calling.caller._notes) == 1
        if end == "reply":
            calling.caller(calling.reply(0))
            assert await call == 8
        elif end == "timeout":
            with pytest.raises(CallTimeout, match="the archive"):
                await call
        else:
            call.cancel()
            await asyncio.wait([call])
        assert calling.has_nothing()


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("headers", [None, {"A": "b"}], ids=["plain", "headers"])
async def test_a_reply_that_cannot_be_read_is_a_decode_error(at_once: bool, headers: dict[str, str] | None) -> None:
    async with Calling(Wire(at_once=at_once)) as calling:
        calls = [await calling.call(4, int), await calling.call(5, int), await calling.call(6, int)]
        replies = [calling.reply(0, b"1"), calling.reply(1, b"no json", headers), calling.reply(2, b"3")]
        calling.caller.many(deque(replies))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [outcomes[0], outcomes[2]] == [1, 3]
        assert isinstance(outcomes[1], DecodeError)
        assert calling.has_nothing()


async def test_a_request_that_is_too_large_leaves_nothing() -> None:
    async with Calling(Wire()) as calling:
        first = await calling.call(1, int)
        calling.caller(calling.reply(0))
        await first
        calling.wire.error = MessageTooLarge("too large")
        with pytest.raises(MessageTooLarge):
            await calling.client.call("orders.double", 4, int)
        assert calling.has_nothing()


async def test_a_request_that_the_broker_does_not_take_leaves_nothing() -> None:
    async with Calling(Wire(at_once=False)) as calling:
        calling.wire.error = Disconnected("away")
        with pytest.raises(TransportError, match="away"):
            await calling.client.call("orders.double", 4, int)
        assert calling.has_nothing()


async def test_a_call_whose_broker_takes_nothing_ends_in_time() -> None:
    class Stuck(Wire):
        async def send(self, message: Message) -> None:
            if message.reply:
                await asyncio.Event().wait()
            await super().send(message)

    async with Calling(Stuck(at_once=False)) as calling:
        with pytest.raises(CallTimeout):
            await calling.client.call("orders.double", 4, int, timeout=0.001)
        assert len(calling.wire.cancels) == 1
        assert calling.has_nothing()


@pytest.mark.parametrize("end", ["timeout", "cancel", "close"])
async def test_who_gives_a_call_up_does_not_wait_for_a_broker_that_takes_nothing(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, ended = asyncio.Event(), asyncio.Event()

    class Full(Wire):
        async def send(self, message: Message) -> None:
            if not message.reply:
                hung.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.set()
            await super().send(message)

    monkeypatch.setattr(caller, "SOON", 0.01)
    monkeypatch.setattr(caller, "MOMENT", 0.01)
    async with Calling(Full(at_once=False)) as calling:
        call = await calling.call(4, int, timeout=0.01 if end == "timeout" else 60)
        if end == "close":  # of the client: nothing goes on behind it
            await calling.client.close()
            assert hung.is_set()
            assert ended.is_set()
            assert isinstance((await asyncio.gather(call, return_exceptions=True))[0], CallTimeout)
            return
        if end == "cancel":
            call.cancel()
        await asyncio.wait([call])
        assert call.cancelled() if end == "cancel" else isinstance(call.exception(), CallTimeout)
        assert hung.is_set()
        assert not ended.is_set()
    assert ended.is_set()


@pytest.mark.parametrize("at_once", [True, False])
async def test_close_ends_all_that_wait(at_once: bool) -> None:
    async with Calling(Wire(at_once=at_once)) as calling:
        calls = [await calling.call(number, int, timeout=60) for number in range(20)]
        caller = calling.caller
        await calling.client.close()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {CallTimeout}
        assert (len(caller), caller._notes) == (0, {})


@pytest.mark.parametrize("at_once", [True, False])
async def test_an_error_that_is_replied_is_raised_as_that(at_once: bool) -> None:
    async with Calling(Wire(at_once=at_once)) as calling:
        call = await calling.call(4, int)
        headers = {"Nats-Service-Error": "none", "Nats-Service-Error-Code": "404"}
        calling.caller(calling.reply(0, b'{"id":"x","code":404,"detail":"none"}', headers))
        with pytest.raises(ServiceError) as caught:
            await call
        assert (caught.value.code, caught.value.received) == (404, True)
        assert calling.has_nothing()


@pytest.mark.parametrize("at_once", [True, False])
async def test_middleware_sees_a_call_and_may_change_it(at_once: bool) -> None:
    seen: list[Context] = []

    async def note(request: Any, context: Context, call_next: Any) -> Any:
        seen.append(context)
        assert context.side is Side.CLIENT
        assert (context.service, context.endpoint, context.topic) == ("orders", "double", "orders.double")
        left = context.remaining()
        assert left is not None
        assert 50 < left <= 60
        context.metadata["Added"] = "yes"
        context.deadline = (context.deadline or 0) - 30
        return await call_next(request + 1, context) + 1

    async with Calling(Wire(at_once=at_once), middleware=[note]) as calling:
        call = await calling.call(4, int, timeout=60, metadata={"Given": "too"})
        request = calling.wire.requests[0]
        assert (request.body, request.headers) == (b"5", {"Given": "too", "Added": "yes"})
        budget = int(request.reply.rpartition(".")[2].removesuffix("ms"))
        assert 20_000 < budget <= 30_000
        calling.caller(calling.reply(0))
        assert await call == 9
        assert len(seen) == 1
        assert calling.has_nothing()
