"""Metadata that goes on by itself from the message that is handled to what its handler calls and publishes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest

from eventmicro import Client, Context, Publish, Service, Topic, from_thread
from eventmicro.context import Received, Side
from eventmicro.errors import UsageError
from eventmicro.events.options import DeliveryOptions
from eventmicro.forwarding import MAX_FORWARDED, Forwarding
from eventmicro.message import Delivery

URL = "memory://forwarding"
HAPPENED = Topic("shop.happened", int)
TRACE = {"traceparent": "00-1-2-01", "tracestate": "a=b", "correlation-id": "c-7"}
Seen = list[dict[str, str]]


def back(seen: Seen) -> Service:
    """What notes the metadata of all that comes to it."""
    service = Service("back", broker=URL)

    @service.rpc
    async def note(context: Context) -> None:
        seen.append(dict(context.metadata))

    @service.rpc
    async def count(context: Context) -> AsyncIterator[int]:
        seen.append(dict(context.metadata))
        yield 1

    @service.subscribe(HAPPENED)
    async def happened(context: Context) -> None:
        seen.append(dict(context.metadata))

    return service


def front(**words: Any) -> Service:
    """What calls and publishes within its handlers."""
    service = Service("front", broker=URL, delivery=DeliveryOptions(durable=False), **words)

    @service.rpc
    async def call() -> None:
        await service.call("back.note")

    @service.rpc
    async def direct() -> None:
        await service.call("back.note", selector="random")

    @service.rpc
    async def say() -> None:
        await service.call("back.note", metadata={"Correlation-Id": "mine", "tenant": "acme"})

    @service.rpc
    async def publish() -> None:
        await service.publish(HAPPENED, 1)

    @service.rpc
    async def publish_many() -> None:
        await service.publish_many(HAPPENED, [1])

    @service.rpc
    async def returned() -> Annotated[int, Publish(HAPPENED)]:
        return 1

    @service.rpc
    async def stream() -> None:
        async for _ in service.stream("back.count", None, int):
            pass

    @service.rpc
    def plain() -> None:
        from_thread(service.call("back.note"))

    return service


async def sent_by(endpoint: str, metadata: dict[str, str], **words: Any) -> dict[str, str]:
    """The metadata of what an endpoint sends that is called with this one."""
    seen: Seen = []
    async with back(seen), front(**words), Client(URL) as client:
        await client.call(f"front.{endpoint}", None, int if endpoint == "returned" else None, metadata=metadata)
        await client.flush()
        while not seen:
            await asyncio.sleep(0)
    [only] = seen
    return {name: value for name, value in only.items() if name not in ("Stream", "Content-Type")}


WAYS = ["call", "direct", "publish", "publish_many", "returned", "stream", "plain"]


@pytest.mark.parametrize("way", WAYS)
async def test_the_trace_and_the_correlation_id_go_on_and_nothing_else(way: str) -> None:
    assert await sent_by(way, TRACE | {"Authorization": "secret"}) == TRACE


@pytest.mark.parametrize("way", WAYS)
async def test_where_nothing_comes_nothing_is_made_up(way: str) -> None:
    assert await sent_by(way, {}) == {}


async def test_what_is_said_goes_before_what_goes_on_whatever_its_case() -> None:
    assert await sent_by("say", {"correlation-id": "theirs"}) == {"Correlation-Id": "mine", "tenant": "acme"}


async def test_the_case_in_which_it_comes_does_not_matter_and_it_goes_on_as_it_is_named_here() -> None:
    assert await sent_by("call", {"CORRELATION-ID": "c-7"}) == {"correlation-id": "c-7"}


async def test_a_service_names_what_goes_on() -> None:
    sent = await sent_by("call", TRACE | {"x-tenant": "acme"}, forward=["X-Tenant"])
    assert sent == {"X-Tenant": "acme"}
    assert await sent_by("call", TRACE, forward=()) == {}


async def test_it_goes_on_in_a_task_that_the_handler_leaves_behind() -> None:
    seen: Seen = []
    service, left = Service("front", broker=URL), list[asyncio.Task[None]]()
    ended = asyncio.Event()

    async def later() -> None:
        await ended.wait()
        await service.call("back.note")

    @service.rpc
    async def begin() -> None:
        left.append(asyncio.create_task(later()))

    async with back(seen), service, Client(URL) as client:
        await client.call("front.begin", metadata=TRACE)
        ended.set()
        await left[0]
    assert seen == [TRACE]


async def test_it_goes_on_over_another_client_that_the_handler_uses() -> None:
    seen: Seen = []
    service, other = Service("front", broker=URL), Client(URL)

    @service.rpc
    async def begin() -> None:
        await other.call("back.note")

    async with back(seen), service, other, Client(URL) as client:
        await client.call("front.begin", metadata=TRACE)
        await client.call("back.note")
    assert seen == [TRACE, {}]


async def test_what_a_middleware_adds_goes_on() -> None:
    async def identify(message: Any, context: Context, call_next: Any) -> Any:
        if context.side is Side.ENDPOINT:
            context.metadata.setdefault("correlation-id", "made-here")
        return await call_next(message, context)

    assert await sent_by("publish", {}, middleware=[identify]) == {"correlation-id": "made-here"}


# -- what is joined ------------------------------------------------------------------------------------------------


def of(headers: dict[str, str] | None) -> Context:
    return Received(Delivery("a", headers=headers), lambda context: Context.__init__(context, Side.ENDPOINT))


def test_a_message_without_headers_is_not_even_looked_into() -> None:
    context, said = of(None), {"a": "b"}
    assert Forwarding().join(context, said) is said
    assert Forwarding().join(context, None) is None
    assert isinstance(context, Received)
    assert context.fill is not None


@pytest.mark.parametrize("value", ["", "two\nlines", "\udc80", "x" * (MAX_FORWARDED + 1)])
def test_what_cannot_be_sent_stays_behind(value: str) -> None:
    context = Context(Side.ENDPOINT, metadata={"correlation-id": value, "traceparent": "t"})
    assert Forwarding().join(context, None) == {"traceparent": "t"}


def test_the_state_of_a_trace_does_not_go_with_another_trace() -> None:
    context = Context(Side.ENDPOINT, metadata=dict(TRACE))
    joined = Forwarding().join(context, {"Traceparent": "another"})
    assert joined == {"Traceparent": "another", "correlation-id": "c-7"}


def test_what_is_said_stays_as_it_is() -> None:
    said = {"tenant": "acme"}
    assert Forwarding().join(Context(Side.ENDPOINT, metadata=dict(TRACE)), said) == said | TRACE
    assert said == {"tenant": "acme"}


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("traceparent", r"forward='traceparent': write a list, forward=\['traceparent'\]"),
        (["two words"], "forward: metadata name 'two words': write letters, digits and '-'"),
        ([7], "forward: metadata name 7"),
    ],
)
def test_what_is_no_name_is_refused(wrong: Any, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Service("front", forward=wrong)
    with pytest.raises(UsageError, match=why):
        Client(URL, forward=wrong)
