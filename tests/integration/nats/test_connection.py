"""Core NATS: connections that are lost, hang, are drained or closed."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import suppress
from typing import Any
from urllib.parse import urlparse

import pytest
from eventmicro_nats import NatsBroker
from eventmicro_nats.connection.driver import Driver
from nats.aio.client import Srv

from eventmicro.client import Client
from eventmicro.errors import (
    CallTimeout,
    Disconnected,
    NotAllPublished,
    TransportError,
    Unavailable,
)
from eventmicro.message import Message
from eventmicro.service import Service
from tests.integration.nats.kit import listen, send, until
from tests.servers import FaultProxy, NatsServer

# -- lost connections ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_after_a_server_restart_subscriptions_and_calls_come_back_by_themselves(end: str) -> None:
    service = Service("orders")
    events: list[int] = []

    @service.rpc
    async def double(number: int) -> int:
        return number * 2

    @service.subscribe("numbers")
    async def note(number: int) -> None:
        events.append(number)

    with NatsServer() as server:
        await service.start(server.url)
        async with Client(server.url) as client:
            assert await client.call("orders.double", 1, int) == 2
            getattr(server, end)()
            with pytest.raises((CallTimeout, TransportError)):
                await client.call("orders.double", 2, int, timeout=0.2)
            server.start()
            async with asyncio.timeout(20):
                while True:
                    try:
                        assert await client.call("orders.double", 3, int, timeout=0.5) == 6
                        break
                    except (CallTimeout, TransportError, Unavailable):
                        continue
            await client.publish("numbers", 7)
            await until(lambda: 7 in events)
        await service.stop()


async def test_a_call_that_waits_for_a_server_that_is_away_says_so() -> None:
    with NatsServer() as server:
        broker = NatsBroker(server.url)
        async with broker, Client(broker) as client:
            server.kill()
            await until(lambda: not broker.online)
            with pytest.raises(CallTimeout, match=f"no reply from orders.double within .* s; {broker.url} is away$"):
                await client.call("orders.double", 2, int, timeout=0.1)


async def test_a_hung_server_is_noticed_within_seconds_and_calls_come_back(caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer() as server:
        broker = NatsBroker(f"{server.url}?ping_interval=0.2")
        async with broker:
            inbox, _ = await listen(broker, "a")
            server.signal(signal.SIGSTOP)
            for _ in range(64):  # more than the socket takes, so that there is something unsent to let go of
                await broker.publish(Message("b", b"x" * 100_000))
            await until(lambda: "connection lost" in caplog.text)
            server.signal(signal.SIGCONT)
            await until(lambda: "connected again" in caplog.text)
            await send(broker, "a", 1)
            await inbox.wait_for(1)


async def test_while_the_server_is_away_what_is_sent_is_buffered_within_a_bound_and_then_refused() -> None:
    with NatsServer() as server:
        broker = NatsBroker(f"{server.url}?outgoing_bytes=10000&ping_interval=0.2")
        async with broker:
            await broker.flush()
            server.kill()
            await until(lambda: not broker.online)
            for _ in range(9):
                await broker.send(Message("a", b"x" * 1000))
            with pytest.raises(Disconnected, match="outgoing buffer is full"):
                await broker.send(Message("a", b"x" * 1000))


async def test_while_the_server_is_away_an_event_waits_for_it_within_its_timeout() -> None:
    with NatsServer() as server:
        async with NatsBroker(server.url) as broker, NatsBroker(server.url) as other:
            inbox, _ = await listen(other, "a")
            server.kill()
            await until(lambda: not broker.online)
            with pytest.raises(Disconnected, match=r"away for 0\.1 s"):
                await broker.publish(Message("a", b"late"), timeout=0.1)
            with pytest.raises(NotAllPublished, match="2 of 2") as caught:
                await broker.publish_many([Message("a", b"late")] * 2, timeout=0.1)
            assert caught.value.confirmed == 0
            waiting = asyncio.ensure_future(broker.publish(Message("b", b"waits")))
            server.start()
            await waiting
            await other.flush()
            await broker.publish_many([Message("a", b"1"), Message("a", b"2")])
            await until(lambda: len(inbox.deliveries) == 2)
            assert inbox.bodies == [b"1", b"2"]


async def test_who_waits_for_the_connection_is_told_when_the_broker_is_closed() -> None:
    with NatsServer() as server:
        async with NatsBroker(server.url) as broker:
            server.kill()
            await until(lambda: not broker.online)
            waiting = asyncio.ensure_future(broker.publish(Message("a")))
            await asyncio.sleep(0)
            await broker.close()
            with pytest.raises(Disconnected, match="not connected"):
                await waiting


async def test_a_connection_that_cannot_be_taken_up_is_not_left_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = 'authorization {{ users = [ {{ user: "u", password: "{0}" }} ] }}'
    failed: list[Driver] = []

    async def fail_once(self: NatsBroker, driver: Driver) -> None:
        if not failed:
            failed.append(driver)
            raise OSError("not this time")

    monkeypatch.setattr(NatsBroker, "_take_up", fail_once)
    with NatsServer(config.format("old")) as server:
        async with NatsBroker(f"nats://u:old@127.0.0.1:{server.port}?reconnect_wait=0.05") as broker:
            server.reload(config.format("new"))
            await until(lambda: "uthori" in caplog.text or "uthent" in caplog.text)
            server.reload(config.format("old"))
            await until(lambda: "connected again" in caplog.text)
            assert failed[0].is_closed
            await broker.flush()


async def test_a_connection_that_the_server_ends_for_good_is_made_anew(caplog: pytest.LogCaptureFixture) -> None:
    config = 'authorization {{ users = [ {{ user: "u", password: "{0}" }} ] }}'
    with NatsServer(config.format("old")) as server:
        broker = NatsBroker(f"nats://u:old@127.0.0.1:{server.port}?reconnect_wait=0.05")
        async with broker:
            inbox, _ = await listen(broker, "a")
            server.reload(config.format("new"))  # the server throws the client out, and its next tries
            await until(lambda: "uthori" in caplog.text or "uthent" in caplog.text)
            await until(lambda: broker._driver is not None and broker._driver.is_closed)
            with pytest.raises(Disconnected, match="being made anew"):
                await broker.send(Message("a", b"nowhere"))
            server.reload(config.format("old"))
            await until(lambda: "connected again" in caplog.text)
            await send(broker, "a", 1)
            await inbox.wait_for(1)


async def test_a_close_ends_a_reconnect_that_has_lost_its_first_cancellations(nats_url: str) -> None:
    """And what that has just connected: a connection that is left fails the test."""

    async def reconnect() -> None:
        for _ in range(3):
            with suppress(asyncio.CancelledError):  # as asyncio.wait_for may where a connection is made just then
                await asyncio.Event().wait()
        assert driver is not None
        await driver._connect_to_server(Srv(urlparse(nats_url)))

    async with NatsBroker(nats_url) as broker:
        driver = broker._driver
        assert driver is not None
        reconnecting = driver._reconnection_task = asyncio.create_task(reconnect())
        await asyncio.sleep(0)
    assert reconnecting.done()


async def test_stop_ends_in_time_though_the_server_is_gone() -> None:
    service = Service("orders", stop_timeout=1.0)

    @service.rpc
    async def double(number: int) -> int:
        return number * 2

    with NatsServer() as server:
        await service.start(server.url)
        server.kill()
        async with asyncio.timeout(15):
            await service.stop()


@pytest.mark.parametrize("end", ["kill", "pause"])
async def test_a_close_says_in_words_what_may_be_lost(
    end: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("eventmicro_nats.broker.FLUSH_TIMEOUT", 0.2)
    with NatsServer() as server:
        broker = NatsBroker(f"{server.url}?ping_interval=60")
        await broker.connect()
        getattr(server, end)()
        if end == "kill":
            await until(lambda: not broker.online)
        await broker.send(Message("a", b"1"))
        await broker.close()
    why = "was away for 0.2 s" if end == "kill" else "did not answer within 0.2 s"
    assert f"{broker.url}: closed; what was sent last may be lost, " in caplog.text
    assert f"bytes have not left: the server {why}\n" in caplog.text


async def test_a_subject_that_is_not_utf_8_harms_nobody(nats_url: str) -> None:
    async with NatsBroker(nats_url) as broker:
        inbox, _ = await listen(broker, "odd.>")
        _, writer = await asyncio.open_connection("127.0.0.1", int(nats_url.rpartition(":")[2]))
        writer.write(b"CONNECT {}\r\nPUB odd.a \xff\xfe.x 1\r\na\r\nPUB odd.\xff 1\r\nb\r\nPUB odd.c 1\r\nc\r\n")
        await inbox.wait_for(1)
        writer.close()
        assert inbox.bodies == [b"c"]


async def test_a_flush_that_is_cancelled_harms_nobody(nats_url: str) -> None:
    async with NatsBroker(nats_url) as broker:
        inbox, _ = await listen(broker, "cancelled-flush")
        for _ in range(10):
            flush = asyncio.ensure_future(broker.flush())
            await asyncio.sleep(0)
            flush.cancel()
            await asyncio.gather(flush, return_exceptions=True)
            await send(broker, "cancelled-flush", 1)
        await inbox.wait_for(10)


async def test_what_was_drained_while_the_server_was_away_takes_nothing_afterwards() -> None:
    with NatsServer() as server:
        async with NatsBroker(server.url) as broker, NatsBroker(server.url) as other:
            left, subscription = await listen(broker, "work", queue="q")
            stays, _ = await listen(other, "work", queue="q")
            server.kill()
            await until(lambda: not broker._driver.is_connected)  # type: ignore[union-attr]
            await subscription.drain()
            server.start()
            await broker.flush()
            await other.flush()
            await send(other, "work", 50)
            await stays.wait_for(50)
            assert left.deliveries == []


async def test_flush_says_so_while_the_server_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmicro_nats.broker.FLUSH_TIMEOUT", 0.2)
    with NatsServer() as server:
        async with NatsBroker(server.url) as broker:
            server.kill()
            await until(lambda: not broker._driver.is_connected)  # type: ignore[union-attr]
            with pytest.raises(Disconnected, match="did not answer"):
                await broker.flush()


async def test_drain_hands_over_what_is_still_in_the_socket(nats_url: str) -> None:
    async with NatsBroker(nats_url) as broker:
        inbox, subscription = await listen(broker, "in-the-socket")
        with socket.create_connection(("127.0.0.1", int(nats_url.rpartition(":")[2]))) as publisher:
            publisher.sendall(b"CONNECT {}\r\n" + b"PUB in-the-socket 1\r\nx\r\n" * 5000 + b"PING\r\n")
            while b"PONG" not in publisher.recv(65536):  # the server has routed all, and this loop has read none
                pass
        await subscription.drain()
        assert len(inbox.deliveries) == 5000


async def test_an_endpoint_answers_what_is_still_in_the_socket_when_its_drain_is_cancelled(nats_url: str) -> None:
    async with NatsBroker(nats_url) as broker:
        inbox, subscription = await listen(broker, "in-the-socket", queue="q")
        with socket.create_connection(("127.0.0.1", int(nats_url.rpartition(":")[2]))) as publisher:
            publisher.sendall(b"CONNECT {}\r\n" + b"PUB in-the-socket 1\r\nx\r\n" * 5000 + b"PING\r\n")
            while b"PONG" not in publisher.recv(65536):  # the server has routed all, and this loop has read none
                pass
        draining = asyncio.create_task(subscription.drain())
        await asyncio.sleep(0)
        draining.cancel()
        with suppress(asyncio.CancelledError):
            await draining
        await subscription.drain()
        assert len(inbox.deliveries) == 5000


async def test_what_is_drained_while_the_connection_is_lost_takes_nothing_afterwards() -> None:
    with NatsServer() as server:
        async with (
            FaultProxy(server.port) as proxy,
            NatsBroker(server.url) as other,
            NatsBroker(f"nats://127.0.0.1:{proxy.port}?reconnect_wait=0.01") as broker,
        ):
            left, subscription = await listen(broker, "work", queue="q")
            stays, _ = await listen(other, "work", queue="q")
            proxy.blackhole = True
            draining = asyncio.create_task(subscription.drain())
            await until(lambda: broker._driver._pongs)  # type: ignore[union-attr]
            proxy.blackhole = False
            proxy.cut()
            await until(lambda: broker.reconnects == 1)
            await draining
            await broker.flush()
            await send(other, "work", 50)
            await stays.wait_for(50)
            assert left.deliveries == []


async def test_a_full_buffer_lets_a_cancellation_through_and_is_bounded() -> None:
    with NatsServer() as server:
        async with NatsBroker(f"{server.url}?outgoing_bytes=100000&ping_interval=60") as broker:
            await broker.flush()
            server.signal(signal.SIGSTOP)

            async def publish_on() -> None:
                while True:
                    await broker.publish(Message("b", b"x" * 50_000))

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(publish_on(), 0.5)
            driver: Any = broker._driver
            assert driver.pending_data_size < 300_000
            assert driver._transport._io_writer.transport.get_write_buffer_size() < 1_000_000
            server.signal(signal.SIGCONT)


async def test_what_is_published_waits_for_room_no_longer_than_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmicro_nats.broker.FLUSH_TIMEOUT", 1000)
    with NatsServer() as server:
        broker = NatsBroker(f"{server.url}?outgoing_bytes=1000&ping_interval=60")
        await broker.connect()
        server.pause()

        async def publish_on() -> None:
            while True:
                await broker.publish(Message("b", b"x" * 500_000), timeout=0.1)

        with pytest.raises(Disconnected, match="outgoing buffer is full"):
            await publish_on()
        monkeypatch.undo()
        server.resume()
        await broker.close()


async def test_a_client_is_closed_though_the_server_hangs(caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer() as server:
        client = Client(server.url)
        await client.connect()
        with pytest.raises(Unavailable):
            await client.call("nobody.there")
        server.signal(signal.SIGSTOP)
        await client.close()
        assert not client.broker.connected
        assert "left without the server's answer" in caplog.text
