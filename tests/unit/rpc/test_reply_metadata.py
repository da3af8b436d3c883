"""Metadata beside a reply: set by the endpoint, read by the caller that asks for it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel

from eventmicro import Client, Context, MemoryBroker, NotFound, Reply, Service, ServiceError, Topic, current_context
from eventmicro.context import Received, Side
from eventmicro.errors import DecodeError, SignatureError, UsageError
from eventmicro.middlewares import LogMessages, ValidateReplies

URL = "memory://reply-metadata"


class Quote(BaseModel):
    total: int = 0


def shop(**words: Any) -> Service:
    service = Service("shop", broker=URL, **words)

    @service.rpc
    async def quote(context: Context) -> Quote:
        context.reply_metadata["X-Cost"] = "7"
        context.reply_metadata["X-Shard"] = "b"
        return Quote(total=3)

    @service.rpc
    async def silent() -> Quote:
        return Quote(total=4)

    @service.rpc
    def plain() -> None:
        current_context().reply_metadata["X-Thread"] = "yes"

    @service.rpc
    async def limited(context: Context) -> Quote:
        context.reply_metadata["X-Left"] = "0"
        raise NotFound("no such sku")

    @service.rpc
    async def raw(context: Context) -> bytes:
        context.reply_metadata["ETag"] = "abc"
        return b"{}"

    return service


async def test_what_the_endpoint_sets_comes_with_the_reply() -> None:
    async with shop(), Client(URL) as client:
        reply = await client.call("shop.quote", None, Reply[Quote])
        assert reply == Reply(Quote(total=3), {"X-Cost": "7", "X-Shard": "b"})
        assert await client.call("shop.plain", None, Reply[None]) == Reply(None, {"X-Thread": "yes"})
        assert await client.call("shop.raw", None, Reply[bytes]) == Reply(b"{}", {"ETag": "abc"})


async def test_who_does_not_ask_for_it_gets_the_value_alone() -> None:
    async with shop(), Client(URL) as client:
        assert await client.call("shop.quote", None, Quote) == Quote(total=3)


async def test_a_reply_without_metadata_has_none_and_each_has_its_own() -> None:
    async with shop(), Client(URL) as client:
        first = await client.call("shop.silent", None, Reply[Quote])
        assert first == Reply(Quote(total=4), {})
        first.metadata["mine"] = "x"
        assert await client.call("shop.silent", None, Reply[Quote]) == Reply(Quote(total=4), {})


@pytest.mark.parametrize("content_type", ["msgpack", "cbor", "json-rpc"])
async def test_it_comes_beside_a_reply_in_another_content_type(content_type: str) -> None:
    async with shop(), Client(URL) as client:
        reply = await client.call("shop.quote", None, Reply[Quote], content_type=content_type)
    assert reply.value == Quote(total=3)
    assert {name: value for name, value in reply.metadata.items() if name != "Content-Type"} == {
        "X-Cost": "7",
        "X-Shard": "b",
    }


async def test_it_comes_beside_a_reply_that_is_compressed_and_one_in_pieces() -> None:
    service = Service("shop", broker=URL, compression="gzip")

    @service.rpc
    async def long(size: int, context: Context) -> str:
        context.reply_metadata["X-Size"] = str(size)
        return "x" * size

    async with service, Client(URL, compression="gzip") as client:
        reply = await client.call("shop.long", 100_000, Reply[str])
        assert (len(reply.value), reply.metadata["X-Size"]) == (100_000, "100000")
        assert reply.metadata["Content-Encoding"] == "gzip"
    narrow, other = MemoryBroker(URL, max_payload=4000), MemoryBroker(URL, max_payload=4000)
    plain = Service("shop", broker=narrow)
    plain.rpc(long)
    async with plain, Client(other, large="stream") as client:
        reply = await client.call("shop.long", 100_000, Reply[str])
    assert (len(reply.value), reply.metadata) == (100_000, {"X-Size": "100000"})


async def test_an_error_has_it_too() -> None:
    async with shop(), Client(URL) as client:
        with pytest.raises(NotFound, match="no such sku") as raised:
            await client.call("shop.limited", None, Quote)
    assert raised.value.metadata["X-Left"] == "0"
    assert ServiceError("nowhere yet").metadata == {}


async def test_a_reply_of_the_wrong_type_is_refused_as_ever() -> None:
    async with shop(), Client(URL) as client:
        with pytest.raises(DecodeError, match=r"the reply of shop\.quote is"):
            await client.call("shop.quote", None, Reply[int])


async def test_it_passes_middleware_and_directed_calls() -> None:
    around = [LogMessages(), ValidateReplies()]
    async with shop(middleware=around), Client(URL, middleware=around) as client:
        reply = await client.call("shop.quote", None, Reply[Quote], selector="random")
    assert reply == Reply(Quote(total=3), {"X-Cost": "7", "X-Shard": "b"})


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("Content-Type", "text/plain", "Content-Type is said by the reply itself"),
        ("nats-service-error", "no", "nats-service-error is said by the reply itself"),
        ("X-Lines", "a\nb", "has a line break"),
        ("two words", "a", "metadata name 'two words'"),
        ("X-Number", 7, "is a int: values are strings"),
    ],
)
async def test_what_cannot_be_said_beside_a_reply_is_the_endpoints_own_fault(
    name: str, value: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service("shop", broker=URL)

    @service.rpc
    async def quote(context: Context) -> Quote:
        context.reply_metadata[name] = value
        return Quote()

    with caplog.at_level(logging.ERROR):
        async with service, Client(URL) as client:
            with pytest.raises(ServiceError) as raised:
                await client.call("shop.quote", None, Quote)
    assert raised.value.code == 500
    assert why in caplog.text


async def test_where_there_is_no_reply_it_is_refused() -> None:
    service, refused = Service("shop", broker=URL), list[str]()

    def note(context: Context) -> None:
        with pytest.raises(UsageError) as raised:
            _ = context.reply_metadata
        refused.append(str(raised.value))

    @service.rpc
    async def watch(context: Context) -> AsyncIterator[int]:
        note(context)
        yield 1

    @service.subscribe("shop.happened")
    async def happened(event: int, context: Context) -> None:
        note(context)

    async with service, Client(URL) as client:
        async for _ in client.stream("shop.watch", None, int):
            pass
        await client.publish("shop.happened", 1)
    assert refused == [
        "a stream has no reply with metadata: send it as a field of your model",
        "the side subscriber has no reply with metadata: send it as a field of your model",
    ]


async def test_who_does_not_use_it_has_nothing_made_for_it() -> None:
    service, seen = Service("shop", broker=URL), list[Context]()

    @service.rpc
    async def unseen() -> None:
        seen.append(current_context())

    async with service, Client(URL) as client:
        await client.call("shop.unseen")
    [context] = seen
    assert isinstance(context, Received)
    assert context.answers_with is None
    assert context.side is Side.ENDPOINT


async def test_reply_is_for_callers_only() -> None:
    service = Service("shop", broker=URL)
    with pytest.raises(SignatureError, match=r"set metadata by `context.reply_metadata`"):

        @service.rpc
        async def quote() -> Reply[Quote]:
            return Reply(Quote(), {})

    with pytest.raises(UsageError, match="is for the reply types of callers"):

        @service.rpc
        async def take(request: Reply[Quote]) -> None: ...

    with pytest.raises(UsageError, match="is for the reply types of callers"):
        Topic("shop.happened", Reply[Quote])
    async with Client(URL) as client:
        with pytest.raises(UsageError, match=r"say of what, Reply\[YourModel\]"):
            await client.call("shop.quote", None, Reply)
        with pytest.raises(UsageError, match="the messages of a stream have no metadata: write reply=Quote"):
            client.stream("shop.watch", None, Reply[Quote])
