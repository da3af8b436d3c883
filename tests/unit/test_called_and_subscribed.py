"""One function that is called and subscribed: whoever calls it has what it returns, an event of it is dealt with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest

from eventmicro import Client, Publish, Router, Service, SignatureError, Topic, UsageError, rpc, subscribe

URL = "memory://both"
SENT = Topic("mails.sent", int)


def a_function(service: Service, seen: asyncio.Queue[str]) -> None:
    @service.subscribe("mails", name="send_later")
    @service.rpc
    async def send(to: str, body: str = "") -> int:
        seen.put_nowait(to)
        return len(body)


def a_plain_function(service: Service, seen: asyncio.Queue[str]) -> None:
    loop = asyncio.get_running_loop()

    @service.subscribe("mails", name="send_later")
    @service.rpc
    def send(to: str, body: str = "") -> int:
        loop.call_soon_threadsafe(seen.put_nowait, to)
        return len(body)


def a_method(service: Service, seen: asyncio.Queue[str]) -> None:
    class Mails:
        @subscribe("mails", name="send_later")
        @rpc
        async def send(self, to: str, body: str = "") -> int:
            seen.put_nowait(to)
            return len(body)

    service.add(Mails())


def of_a_router(service: Service, seen: asyncio.Queue[str]) -> None:
    inner, outer = Router(), Router()

    @inner.subscribe("mails", name="send_later")
    @inner.rpc
    async def send(to: str, body: str = "") -> int:
        seen.put_nowait(to)
        return len(body)

    outer.include(inner)
    service.include(outer)


def of_several_topics(service: Service, seen: asyncio.Queue[str]) -> None:
    @service.subscribe(["mails", "letters"], name="later")
    @service.rpc
    async def send(to: str, body: str = "") -> int:
        seen.put_nowait(to)
        return len(body)


@pytest.mark.parametrize("declare", [a_function, a_plain_function, a_method, of_a_router, of_several_topics])
async def test_it_is_called_and_gets_events(declare: Any) -> None:
    service, seen = Service("mail", broker=URL), asyncio.Queue[str]()
    declare(service, seen)
    async with service, Client(URL) as client:
        assert await client.call("mail.send", {"to": "ada", "body": "four"}, int) == 4
        assert await seen.get() == "ada"
        await client.publish("mails", {"to": "bob", "body": "four"})
        assert await seen.get() == "bob"
    assert seen.empty()


async def test_what_it_returns_is_published_from_both_sides_where_it_says_so() -> None:
    service, seen = Service("mail", broker=URL), asyncio.Queue[int]()
    service.subscribe(SENT, name="note")(seen.put)

    @service.subscribe("mails", name="send_later")
    @service.rpc
    async def send(to: str, body: str = "") -> Annotated[int, Publish(SENT)]:
        return len(body)

    async with service, Client(URL) as client:
        assert await client.call("mail.send", {"to": "ada", "body": "four"}, int) == 4
        assert await seen.get() == 4
        await client.publish("mails", {"to": "bob", "body": "seven.."})
        assert await seen.get() == 7


async def test_an_endpoint_gets_events_of_what_is_known_only_later() -> None:
    service, seen = Service("mail", broker=URL), asyncio.Queue[str]()

    @service.rpc
    async def send(to: str, body: str = "") -> int:
        seen.put_nowait(to)
        return len(body)

    async with service, Client(URL) as client, await service.start_subscriber("mails", send, name="send_later"):
        await client.publish("mails", {"to": "bob"})
        assert await seen.get() == "bob"


@pytest.mark.parametrize("declares", [Service("mail"), Router()], ids=["service", "router"])
def test_the_other_way_round_the_error_says_so(declares: Any) -> None:
    with pytest.raises(SignatureError, match=r"nobody takes what it returns; .* write @rpc below @subscribe\("):

        @declares.rpc
        @declares.subscribe("mails", name="send_later")
        async def send(to: str, body: str = "") -> int:
            return len(body)


def test_the_endpoint_of_another_function_is_no_reason_to_return_something() -> None:
    service = Service("mail")

    @service.rpc
    async def other(to: str) -> int:
        return 0

    with pytest.raises(SignatureError, match="nobody takes what it returns"):

        @service.subscribe("mails")
        async def send(to: str, body: str = "") -> int:
            return len(body)


def test_two_names_are_needed() -> None:
    service = Service("mail")
    with pytest.raises(UsageError, match="has a handler 'send' already; give this one a name="):

        @service.subscribe("mails")
        @service.rpc
        async def send(to: str, body: str = "") -> int:
            return len(body)


def test_a_stream_is_no_event() -> None:
    service = Service("mail")
    with pytest.raises(SignatureError, match="count: it yields; a handler returns one value"):

        @service.subscribe("counts", name="count_later")
        @service.rpc
        async def count(to: int) -> AsyncIterator[int]:
            yield to
