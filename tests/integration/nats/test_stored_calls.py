"""Calls on subjects that a stream stores: the server's receipt is no reply, and is told of."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import nats
import pytest
from nats.aio.client import Client as NatsClient
from nats.js import JetStreamContext
from pydantic import BaseModel

from eventmicro.client import Client
from eventmicro.errors import CallTimeout, Unavailable
from eventmicro.service import Service
from tests.integration.jetstream.kit import administrator
from tests.integration.nats.kit import started
from tests.servers import NatsServer
from tests.servers.nats import flush

Until = Callable[[Callable[[], object]], Awaitable[None]]


class Quote(BaseModel):
    total: float = 0.0


class Receipt(BaseModel):
    """What a service may reply that has stored something itself: to the byte what a server says."""

    stream: str
    seq: int


SCHEMES = pytest.mark.parametrize("scheme", ["nats", "jetstream"])


def orders() -> Service:
    service = Service("orders")

    @service.rpc
    async def quote(number: int) -> Quote:
        await asyncio.sleep(0.05)  # behind the receipt
        return Quote(total=number)

    return service


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[NatsClient]:
    client = await nats.connect(url)
    try:
        yield client
    finally:
        await client.close()


@SCHEMES
async def test_a_call_has_its_services_reply_though_a_stream_stores_it(scheme: str) -> None:
    with NatsServer(jetstream=True) as server:
        url = f"{scheme}://127.0.0.1:{server.port}"
        async with administrator(server.port) as admin:
            await admin.add_stream(name="ORDERS", subjects=["orders.*"])
            async with started(orders(), url), Client(url) as client:
                replies = await asyncio.gather(*(client.call("orders.quote", n, Quote) for n in range(1, 20)))
                assert [reply.total for reply in replies] == list(range(1, 20))
                assert (await admin.stream_info("ORDERS")).state.messages >= 19


FAILING: list[dict[str, object]] = [
    {},
    {"max_msg_size": 1},
    {"max_bytes": 1, "discard": "new"},
    {"max_msgs": 1, "discard": "new"},
    {"sealed": True},
]


@SCHEMES
@pytest.mark.parametrize("config", FAILING, ids=lambda config: "-".join(config) or "stored")
async def test_an_endpoint_that_nobody_serves_has_no_reply_of_a_stream(scheme: str, config: dict[str, object]) -> None:
    with NatsServer(jetstream=True) as server:
        url = f"{scheme}://127.0.0.1:{server.port}"
        async with administrator(server.port) as admin, Client(url) as client:
            await make(admin, name="ORDERS", subjects=["orders.*"], **config)
            await admin._nc.publish("orders.quote", b"x")
            with pytest.raises(CallTimeout) as caught:
                await client.call("orders.quote", 12345, Quote, timeout=0.5)
            assert "no reply from orders.quote within" in caught.value.detail
            assert "stream ORDERS stores orders.quote" in caught.value.detail
            assert "take the subject out of it, or name the endpoint otherwise" in caught.value.detail
            with pytest.raises(Unavailable):
                await client.call("shop.quote", 7, Quote)


async def make(admin: JetStreamContext, **config: object) -> None:
    """A stream made by its JSON: what the plain client does not know can be set, too."""
    sealed = config.pop("sealed", False)
    for verb in ("CREATE", "UPDATE") if sealed else ("CREATE",):
        body = json.dumps(config | ({"sealed": True} if verb == "UPDATE" else {})).encode()
        answer = await admin._nc.request(f"$JS.API.STREAM.{verb}.{config['name']}", body)
        assert "error" not in json.loads(answer.data), answer.data


@SCHEMES
async def test_a_duplicate_and_a_domain_are_receipts_too(scheme: str) -> None:
    with NatsServer('jetstream: { store_dir: "streams", domain: "hub" }') as server:
        url = f"{scheme}://127.0.0.1:{server.port}"
        async with administrator(server.port) as admin, Client(url) as client:
            await admin.add_stream(name="ORDERS", subjects=["orders.*"])
            for _ in range(2):
                with pytest.raises(CallTimeout, match="stream ORDERS of the domain hub stores"):
                    await client.call("orders.quote", 7, Quote, timeout=0.5, metadata={"Nats-Msg-Id": "same"})


@SCHEMES
async def test_a_service_may_reply_what_a_stream_would(scheme: str) -> None:
    service = Service("orders")

    @service.rpc
    async def store() -> Receipt:
        return Receipt(stream="ORDERS", seq=1)

    with NatsServer(jetstream=True) as server:
        url = f"{scheme}://127.0.0.1:{server.port}"
        async with administrator(server.port) as admin:
            await admin.add_stream(name="ORDERS", subjects=["orders.placed", "other.*"])
            async with started(service, url), Client(url) as client:
                for _ in range(3):
                    assert await client.call("orders.store", None, Receipt) == Receipt(stream="ORDERS", seq=1)


@SCHEMES
async def test_a_service_may_reply_so_where_there_is_no_jetstream(scheme: str, nats_url: str) -> None:
    service = Service("receipts")

    @service.rpc
    async def store() -> Receipt:
        return Receipt(stream="ORDERS", seq=1)

    url = nats_url.replace("nats://", f"{scheme}://")
    async with started(service, url), Client(url) as client:
        assert await client.call("receipts.store", None, Receipt) == Receipt(stream="ORDERS", seq=1)


DENIED = """
accounts {
  A {
    jetstream: enabled
    users = [
      { user: admin, password: p }
      { user: caller, password: p, permissions: { publish: { deny: ["$JS.API.>"] } } }
    ]
  }
}
"""


@SCHEMES
async def test_who_may_not_ask_gets_no_receipt_for_a_reply_either(
    scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    with NatsServer(DENIED, jetstream=True) as server:
        async with connected(f"nats://admin:p@127.0.0.1:{server.port}") as admin:
            await admin.jetstream().add_stream(name="ORDERS", subjects=["orders.*"])
        url = f"{scheme}://caller:p@127.0.0.1:{server.port}"
        with caplog.at_level(logging.INFO):
            async with started(orders(), url), Client(url) as client:
                assert (await client.call("orders.quote", 7, Quote)).total == 7
                with pytest.raises(CallTimeout, match=r"stream ORDERS .*orders\.nothing.*cannot be looked up"):
                    await client.call("orders.nothing", 7, Quote, timeout=0.5)
        assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


@SCHEMES
@pytest.mark.parametrize("subjects", [["_INBOX.>"], ["orders.$cancel"], [">"]], ids=str)
async def test_calls_go_their_way_through_streams_of_everything(scheme: str, subjects: list[str], until: Until) -> None:
    cancelled: list[int] = []
    service = Service("orders")

    @service.rpc
    async def hang(number: int) -> int:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    @service.rpc
    async def double(number: int) -> int:
        return number * 2

    with NatsServer(jetstream=True) as server:
        url = f"{scheme}://127.0.0.1:{server.port}"
        async with administrator(server.port) as admin:
            await admin.add_stream(name="ALL", subjects=subjects, no_ack=">" in subjects)
            async with started(service, url), Client(url) as client:
                assert [await client.call("orders.double", n, int) for n in range(5)] == [0, 2, 4, 6, 8]
                with pytest.raises(CallTimeout):
                    await client.call("orders.hang", 7, int, timeout=0.1)
                await until(lambda: cancelled == [7])


# -- at the start ----------------------------------------------------------------------------------------------------


@SCHEMES
@pytest.mark.parametrize("subjects", [["orders.*"], ["orders.quote", "other"], [">"]], ids=str)
async def test_a_service_says_at_its_start_which_stream_stores_its_calls(
    scheme: str, subjects: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with NatsServer(jetstream=True) as server:
        async with administrator(server.port) as admin:
            await admin.add_stream(name="ORDERS", subjects=subjects, no_ack=">" in subjects)
            if ">" not in subjects:
                await admin.add_stream(name="BESIDE", subjects=["orders.placed.*"])
            async with started(orders(), f"{scheme}://127.0.0.1:{server.port}"):
                said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(said) == 1
    assert "service 'orders': stream ORDERS stores orders.quote" in said[0]


@SCHEMES
async def test_a_start_asks_once_and_is_silent_where_all_is_well(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    service = orders()
    for number in range(30):
        service.rpc(name=f"again{number}")(quote_again)
    with NatsServer(jetstream=True) as server:
        url = f"{scheme}://127.0.0.1:{server.port}"
        async with connected(f"nats://127.0.0.1:{server.port}") as admin:
            asked = await admin.subscribe("$JS.API.STREAM.NAMES")
            await flush(admin)
            async with started(service, url):
                await flush(admin)
                assert asked.pending_msgs == 1
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


async def quote_again(number: int) -> Quote:
    return Quote(total=number)


@SCHEMES
async def test_a_start_is_silent_without_jetstream(
    scheme: str, nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(orders(), nats_url.replace("nats://", f"{scheme}://")):
        pass
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
