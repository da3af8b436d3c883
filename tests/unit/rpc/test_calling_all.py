"""A call to every node of a service: each has one outcome, a reply, an error, or none in time."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest
from pydantic import BaseModel

from eventmicro import CallTimeout, Client, Context, NotFound, Reply, Service, Unavailable
from eventmicro.discovery.filters import label
from eventmicro.errors import UsageError


class Quote(BaseModel):
    node: str = ""


class Shop:
    """So many nodes of one service, `n0` and on."""

    def __init__(self, count: int, url: str) -> None:
        self.url = url
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.hangs: set[str] = set()
        self.fails: set[str] = set()
        self.nodes = [self._node(f"n{number}", "eu" if number % 2 else "us") for number in range(count)]

    def _node(self, id: str, zone: str) -> Service:
        service = Service("shop", broker=self.url, id=id, metadata={"zone": zone})

        @service.rpc
        async def quote(sku: str, context: Context) -> Quote:
            self.asked.append(id)
            context.reply_metadata["X-Sku"] = sku
            if id in self.fails:
                raise NotFound("no such sku")
            if id in self.hangs:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    self.cancelled.append(id)
                    raise
            return Quote(node=id)

        return service


@pytest.fixture
def url() -> str:
    return f"memory://{secrets.token_hex(4)}"


async def test_every_node_replies_once(url: str) -> None:
    shop = Shop(4, url)
    async with AsyncExitStack() as running:
        for node in shop.nodes:
            await running.enter_async_context(node)
        client = await running.enter_async_context(Client(url))
        answers = [each async for each in client.call_all("shop.quote", "tea", Quote)]
        assert sorted((each.node.id, each.value.node) for each in answers) == [(f"n{n}", f"n{n}") for n in range(4)]
        assert sorted(shop.asked) == ["n0", "n1", "n2", "n3"]
        assert all(each.error is None for each in answers)
        with_metadata = [each async for each in client.call_all("shop.quote", "tea", Reply[Quote])]
        assert [each.value.metadata["X-Sku"] for each in with_metadata] == ["tea"] * 4


async def test_one_that_fails_and_one_that_is_late_are_told_beside_the_others(url: str) -> None:
    shop = Shop(3, url)
    shop.fails, shop.hangs = {"n0"}, {"n1"}
    async with shop.nodes[0], shop.nodes[1], shop.nodes[2], Client(url) as client:
        answers = {each.node.id: each async for each in client.call_all("shop.quote", "tea", Quote, within=0.2)}
        assert isinstance(answers["n0"].error, NotFound)
        assert isinstance(answers["n1"].error, CallTimeout)
        assert answers["n2"].value == Quote(node="n2")
        with pytest.raises(NotFound, match="no such sku"):
            _ = answers["n0"].value
        while shop.cancelled != ["n1"]:
            await asyncio.sleep(0)


async def test_who_leaves_early_cancels_the_rest(url: str) -> None:
    shop = Shop(2, url)
    shop.hangs = {"n1"}
    async with shop.nodes[0], shop.nodes[1], Client(url) as client:
        async with aclosing(client.call_all("shop.quote", "tea", Quote, within=30)) as answers:
            assert (await anext(answers)).node.id == "n0"
        while shop.cancelled != ["n1"]:
            await asyncio.sleep(0)


async def test_filters_say_who_is_asked(url: str) -> None:
    shop = Shop(3, url)
    async with shop.nodes[0], shop.nodes[1], shop.nodes[2], Client(url) as client:
        asked = client.call_all("shop.quote", "tea", Quote, filters=[label("zone", "us")])
        assert sorted([each.node.id async for each in asked]) == ["n0", "n2"]
        with pytest.raises(Unavailable, match="none of the 3 nodes of 'shop' passes the filters"):
            await anext(client.call_all("shop.quote", "tea", Quote, filters=[label("zone", "mars")]))


async def test_a_service_calls_all_of_another_and_its_middleware_runs_around_each(url: str) -> None:
    seen = list[str]()

    async def note(message: Any, context: Context, call_next: Any) -> Any:
        if context.side == "client":
            seen.append(context.topic)
        return await call_next(message, context)

    shop, front = Shop(2, url), Service("front", broker=url, middleware=[note])
    async with shop.nodes[0], shop.nodes[1], front:
        assert len([each async for each in front.call_all("shop.quote", "tea", Quote)]) == 2
    assert seen == ["shop.quote"] * 2


async def test_where_nobody_is_there_it_is_said(url: str) -> None:
    async with Client(url) as client:
        with pytest.raises(NotFound, match="no node of service 'shop' is registered"):
            await anext(client.call_all("shop.quote", None, Quote))


async def test_an_endpoint_that_is_not_there_is_the_outcome_of_each(url: str) -> None:
    shop = Shop(2, url)
    async with shop.nodes[0], shop.nodes[1], Client(url) as client:
        answers = [each async for each in client.call_all("shop.quotes", None, Quote)]
        assert [type(each.error) for each in answers] == [NotFound, NotFound]


async def test_what_is_refused(url: str) -> None:
    client: Any = Client(url)
    with pytest.raises(UsageError, match=r"write 'service\.endpoint'"):
        client.call_all("quote", None, Quote)
    with pytest.raises(UsageError, match=r"write 'service\.endpoint'"):
        client.call_all(["shop.quote"], None, Quote)
    with pytest.raises(UsageError, match=r"within=0: write seconds"):
        client.call_all("shop.quote", None, Quote, within=0)
    async with Client(url) as other:
        with pytest.raises(UsageError, match="filters=7: write a list"):
            await anext(other.call_all("shop.quote", None, Quote, filters=7))  # type: ignore[call-overload]
