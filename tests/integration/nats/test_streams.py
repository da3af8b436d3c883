"""Streams over a real server: order and credit, plain clients, a bad network, a server that is killed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest
from eventmicro_nats import NatsBroker
from nats.aio.msg import Msg
from pydantic import BaseModel

from eventmicro import Client, Service
from eventmicro.errors import CallTimeout, NotFound, PeerLost, ServiceError, StreamBroken, Unavailable
from tests.integration.nats.kit import started, until
from tests.servers.faults import FaultProxy
from tests.servers.nats import NatsServer


class Number(BaseModel):
    value: int = 0


class Streaming:
    """A service under a name of its own on the shared server."""

    def __init__(self, **options: Any) -> None:
        self.name = f"numbers-{secrets.token_hex(4)}"
        self.service = Service(self.name, **options)
        self.given = 0
        self.outcomes: list[BaseException | None] = []

        @self.service.rpc
        async def count(request: Number) -> AsyncIterator[Number]:
            """The numbers below the one that is asked for; without one, all that there are."""
            outcome: BaseException | None = None
            number = 0
            try:
                while number < (request.value or number + 1):
                    yield Number(value=number)
                    number = self.given = number + 1
                if request.value == 7:
                    raise NotFound("seven is the last")
            except BaseException as error:
                outcome = error
                raise
            finally:
                self.outcomes.append(outcome)

        @self.service.rpc
        async def tick() -> AsyncIterator[Number]:
            """A number now and then, without end."""
            try:
                while True:
                    yield Number(value=self.given)
                    self.given += 1
                    await asyncio.sleep(0.002)
            finally:
                self.outcomes.append(None)

        @self.service.rpc
        async def chunks(requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            """Gives back what it reads, slowly."""
            async for chunk in requests:
                self.given += 1
                yield chunk


@pytest.mark.timeout_seconds(120)
async def test_a_million_messages_come_in_their_order(nats_url: str) -> None:
    streaming, count = Streaming(), 1_000_000
    async with started(streaming.service, nats_url), Client(nats_url) as client:
        expected = 0
        async for number in client.stream(f"{streaming.name}.count", Number(value=count), Number):
            assert number.value == expected
            expected += 1
        assert expected == count
        assert streaming.outcomes == [None]


async def test_a_thousand_streams_at_once_do_not_mix(nats_url: str) -> None:
    streaming = Streaming()
    async with started(streaming.service, nats_url), Client(nats_url, timeout=60) as client:

        async def talk(number: int) -> list[bytes]:
            async with client.stream(f"{streaming.name}.chunks", reply=bytes) as chunks:
                for step in range(10):
                    await chunks.send(b"%d %d" % (number, step))
                await chunks.end()
                return [chunk async for chunk in chunks]

        results = await asyncio.gather(*(talk(number) for number in range(1000)))
        assert results == [[b"%d %d" % (number, step) for step in range(10)] for number in range(1000)]


async def test_a_slow_reader_stops_the_writer_and_nothing_is_dropped(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    streaming = Streaming()
    async with started(streaming.service, nats_url), Client(nats_url) as client:
        endpoint, expected = f"{streaming.name}.count", 0
        async with client.stream(endpoint, Number(), Number) as numbers:
            for _ in range(20):
                await asyncio.sleep(0.005)
                assert (await anext(numbers)).value == expected
                expected += 1
            assert streaming.given <= 1024 + 1
            async for number in numbers:
                assert number.value == expected
                expected += 1
                if expected == 10_000:
                    break
        async with client.stream(f"{streaming.name}.chunks", reply=bytes) as chunks:
            sent, streaming.given = 0, 0

            async def send() -> None:
                nonlocal sent
                for _ in range(200):
                    await chunks.send(b"x" * 100_000)
                    sent += 1
                await chunks.end()

            sending = asyncio.create_task(send())
            await until(lambda: sent >= 11)
            await asyncio.sleep(0.2)
            assert sent <= 45, "a window of a megabyte each way, and what is on its way into the next"
            assert sum([len(chunk) async for chunk in chunks]) == 200 * 100_000
            await sending
    assert "slow consumer" not in caplog.text


async def test_streams_run_beside_stored_events(jetstream_url: str) -> None:
    streaming = Streaming()
    async with started(streaming.service, jetstream_url), Client(jetstream_url) as client:
        stream = client.stream(f"{streaming.name}.count", Number(value=5000), Number)
        assert [number.value async for number in stream] == list(range(5000))


# -- plain clients ---------------------------------------------------------------------------------------------


async def read_plainly(client: nats.NATS, endpoint: str, body: bytes) -> tuple[list[Msg], Any]:
    """Ask as any NATS client does that wants many replies."""
    inbox, messages = client.new_inbox(), list[Msg]()

    async def take(message: Msg) -> None:
        messages.append(message)

    subscription = await client.subscribe(inbox, cb=take)
    await client.publish(endpoint, body, reply=inbox)
    await client.flush()
    return messages, subscription


async def test_a_plain_client_reads_a_server_stream(nats_url: str) -> None:
    streaming = Streaming()
    async with started(streaming.service, nats_url):
        client = await nats.connect(nats_url)
        messages, _ = await read_plainly(client, f"{streaming.name}.count", b'{"value":2500}')
        await until(lambda: len(messages) == 2501)
        assert [m.data for m in messages[:-1]] == [b'{"value":%d}' % number for number in range(2500)]
        assert (messages[-1].data, messages[-1].headers) == (b"", None)
        messages, _ = await read_plainly(client, f"{streaming.name}.count", b'{"value":7}')
        await until(lambda: len(messages) == 8)
        assert (messages[-1].headers or {})["Nats-Service-Error-Code"] == "404"
        messages, _ = await read_plainly(client, f"{streaming.name}.chunks", b"x")
        await until(lambda: messages)
        assert (messages[0].headers or {})["Nats-Service-Error-Code"] == "400"
        await client.close()


async def test_a_plain_client_that_has_gone_ends_the_stream(nats_url: str) -> None:
    streaming = Streaming()
    async with started(streaming.service, nats_url):
        client = await nats.connect(nats_url)
        messages, subscription = await read_plainly(client, f"{streaming.name}.tick", b"")
        await until(lambda: len(messages) > 3)
        await subscription.unsubscribe()
        await until(lambda: streaming.outcomes == [None])
        messages, _ = await read_plainly(client, f"{streaming.name}.tick", b"")
        await until(lambda: len(messages) > 3)
        await client.close()
        await until(lambda: streaming.outcomes == [None, None])


# -- a bad network ---------------------------------------------------------------------------------------------


async def test_a_network_that_lets_nothing_through_is_noticed_on_both_sides(nats_url: str) -> None:
    streaming, port = Streaming(), int(nats_url.rpartition(":")[2].strip("/"))

    async def read(client: Client, proxy: FaultProxy) -> None:
        async for number in client.stream(f"{streaming.name}.tick", reply=Number, keep_alive=0.3):
            proxy.blackhole = number.value > 5

    async with started(streaming.service, nats_url), FaultProxy(port) as proxy, Client(proxied(proxy)) as client:
        with pytest.raises(PeerLost):
            await read(client, proxy)
        await until(lambda: streaming.outcomes == [None])
        proxy.blackhole = False


def proxied(proxy: FaultProxy) -> str:
    return f"nats://127.0.0.1:{proxy.port}"


@pytest.mark.timeout_seconds(90)
async def test_after_the_server_was_killed_no_stream_has_a_gap() -> None:
    """Each goes on without a gap, or ends with an error; others can be opened."""
    outcomes: list[str] = []
    with NatsServer() as server:
        streaming = Streaming()
        async with started(streaming.service, server.url), Client(server.url) as client:
            begun = 0

            async def read() -> None:
                nonlocal begun
                last = -1
                try:
                    async for body in client.stream(f"{streaming.name}.count", Number(), Number, keep_alive=2.0):
                        assert body.value == last + 1
                        last = body.value
                        begun += last == 1000
                        if last == 1_000_000:
                            break
                        if last % 100 == 0:
                            await asyncio.sleep(0.001)
                    outcomes.append("read")
                except (StreamBroken, PeerLost) as error:
                    outcomes.append(type(error).__name__)

            reading = [asyncio.create_task(read()) for _ in range(10)]
            await until(lambda: begun == 10)
            server.kill()
            await asyncio.sleep(0.1)
            server.start()
            await asyncio.sleep(3.0)
            for task in reading:
                task.cancel()
            results = await asyncio.gather(*reading, return_exceptions=True)
            assert not [each for each in results if isinstance(each, AssertionError)]
            outcomes += ["going on" for each in results if isinstance(each, asyncio.CancelledError)]
            assert len(outcomes) == 10
            async with asyncio.timeout(20):
                while True:
                    try:
                        stream = client.stream(f"{streaming.name}.count", Number(value=5), Number)
                        assert [number.value async for number in stream] == [0, 1, 2, 3, 4]
                        break
                    except (CallTimeout, Unavailable, ServiceError):
                        await asyncio.sleep(0.1)
            await until(lambda: len(streaming.outcomes) == 11)


async def test_leaving_early_leaves_no_subscription_behind(nats_url: str) -> None:
    streaming = Streaming()
    broker = NatsBroker(nats_url)
    async with broker, started(streaming.service, nats_url), Client(broker) as client:
        async for _ in client.stream(f"{streaming.name}.count", Number(), Number):
            break
        subscriptions = len(broker._subscriptions)
        for _ in range(200):
            async for _ in client.stream(f"{streaming.name}.count", Number(), Number):
                break
        await until(lambda: len(streaming.outcomes) == 201)
        assert len(broker._subscriptions) == subscriptions
        assert len(client._calls.streams) == 0
