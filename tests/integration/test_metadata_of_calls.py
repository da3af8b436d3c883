"""Over each broker that carries calls: what goes on by itself, metadata of replies, a call to every node."""

from __future__ import annotations

import secrets

import pytest
from pydantic import BaseModel

from eventmicro import Client, Context, NotFound, Reply, Service
from eventmicro.errors import UsageError

TRACE = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "correlation-id": "c-7"}


class Quote(BaseModel):
    node: str = ""


@pytest.fixture(params=["nats", "jetstream", "rabbitmq"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


def shop(name: str, url: str, id: str, seen: list[dict[str, str]]) -> Service:
    service = Service(name, broker=url, id=id)

    @service.rpc
    async def quote(context: Context) -> Quote:
        context.reply_metadata["X-Node"] = id
        return Quote(node=id)

    @service.rpc
    async def refuse(context: Context) -> Quote:
        context.reply_metadata["X-Left"] = "0"
        raise NotFound("no such sku")

    @service.rpc
    async def outer() -> None:
        await service.call(f"{name}.inner")

    @service.rpc
    async def inner(context: Context) -> None:
        seen.append({header.lower(): value for header, value in context.metadata.items()})

    return service


async def test_metadata_goes_on_comes_back_and_every_node_answers(url: str) -> None:
    name, seen = f"t-{secrets.token_hex(4)}", list[dict[str, str]]()
    async with shop(name, url, "a", seen), shop(name, url, "b", seen), Client(url) as client:
        await client.call(f"{name}.outer", metadata=TRACE | {"secret": "x"})
        assert seen == [TRACE]
        reply = await client.call(f"{name}.quote", None, Reply[Quote])
        assert reply.metadata == {"X-Node": reply.value.node}
        with pytest.raises(NotFound) as raised:
            await client.call(f"{name}.refuse", None, Quote)
        assert raised.value.metadata["X-Left"] == "0"
        if client.registry is None:
            with pytest.raises(UsageError, match="needs a registry"):
                await anext(client.call_all(f"{name}.quote", None, Quote))
            return
        answers = [each async for each in client.call_all(f"{name}.quote", None, Quote, within=5)]
        assert sorted((each.node.id, each.value.node) for each in answers) == [("a", "a"), ("b", "b")]
