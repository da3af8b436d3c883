"""The NATS adapter against real servers: lost and hung connections, credentials, TLS, slow consumers, limits."""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from eventmicro_nats import NatsBroker, NatsSettings
from eventmicro_nats.driver import Driver
from nats.aio.client import Srv

from eventmicro.broker import Broker, Subscription
from eventmicro.caller import Caller
from eventmicro.client import Client
from eventmicro.errors import (
    CallTimeout,
    ConnectionFailed,
    Disconnected,
    MessageTooLarge,
    NotAllPublished,
    TransportError,
    Unavailable,
    UsageError,
)
from eventmicro.message import Delivery, Message
from eventmicro.service import Service
from tests.certificates import make_certificates
from tests.servers import NatsServer


async def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Wait for something that another task or process brings about."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


class Inbox:
    """A consumer that keeps what it got, and can be waited for."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []

    def __call__(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.deliveries]

    async def wait_for(self, count: int) -> None:
        await until(lambda: len(self.deliveries) >= count)


async def listen(broker: Broker, subject: str, *, queue: str | None = None) -> tuple[Inbox, Subscription]:
    """Subscribe and make sure that the server knows of it."""
    inbox = Inbox()
    subscription = await broker.subscribe(subject, inbox, queue=queue)
    await broker.flush()
    return inbox, subscription


async def send(broker: Broker, subject: str, count: int) -> list[bytes]:
    """Publish this many numbered messages, one after the other."""
    bodies = [str(number).encode() for number in range(count)]
    for body in bodies:
        await broker.publish(Message(subject, body))
    return bodies


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


# -- connecting ------------------------------------------------------------------------------------------------


async def test_without_a_server_connect_fails_with_the_address_and_the_cause() -> None:
    with NatsServer() as server:
        port = server.port
    broker = NatsBroker(f"nats://127.0.0.1:{port}?connect_timeout=0.3")
    with pytest.raises(ConnectionFailed, match=rf"127\.0\.0\.1:{port} within 0\.3 s.*is it running"):
        await broker.connect()
    assert not broker.connected


CREDENTIALS = [
    # server configuration, good user info, bad user info
    ('authorization { user: "joe", password: "p@ss:w/rd" }', "joe:p%40ss%3Aw%2Frd@", "joe:wrong@"),
    ('authorization { token: "s3cret" }', "s3cret@", "wrong@"),
]


@pytest.mark.parametrize(("config", "good", "bad"), CREDENTIALS)
async def test_passwords_and_tokens(config: str, good: str, bad: str) -> None:
    with NatsServer(config) as server:
        async with NatsBroker(f"nats://{good}127.0.0.1:{server.port}") as broker:
            await broker.flush()
            assert good not in broker.url
        for userinfo in (bad, ""):
            began = time.monotonic()
            with pytest.raises(ConnectionFailed, match=r"refused.*[Aa]uthorization") as caught:
                await NatsBroker(f"nats://{userinfo}127.0.0.1:{server.port}?connect_timeout=20").connect()
            assert time.monotonic() - began < 15, "wrong credentials are not tried again and again"
            assert "wrong" not in str(caught.value)


async def test_a_server_that_does_not_answer_or_refuses_does_not_stand_before_the_others() -> None:
    config = 'authorization {{ users = [ {{ user: "u", password: "{0}" }} ] }}'
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        NatsServer(config.format("p")) as good,
        NatsServer(config.format("other")) as refusing,
    ):
        ports = [silent.getsockname()[1], refusing.port, good.port]
        for first, second, third in itertools.permutations(ports):
            servers = f"127.0.0.1:{first},127.0.0.1:{second},127.0.0.1:{third}"
            async with NatsBroker(f"nats://u:p@{servers}?connect_timeout=3") as broker:
                await broker.flush()
        servers = f"127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}"
        with pytest.raises(ConnectionFailed, match=r"refused.*[Aa]uthorization"):
            await NatsBroker(f"nats://u:p@{servers}?connect_timeout=0.5").connect()


async def test_settings_that_speak_of_tls_do_not_go_without_it() -> None:
    with NatsServer() as plain, pytest.raises(ConnectionFailed, match="offers no TLS"):
        await NatsBroker(f"nats://u:secret@127.0.0.1:{plain.port}?tls_hostname=a.example").connect()


def test_no_secret_is_shown() -> None:
    settings = NatsSettings(user="joe", password="hunter2", token="s3cret")
    assert "hunter2" not in repr(settings)
    assert "s3cret" not in repr(settings)
    for url in ("nats://joe:hun?ter2@host", "nats://joe:hunter2@a,joe:hunter2@b"):
        with pytest.raises(UsageError) as caught:
            NatsBroker(url)
        assert "ter2" not in str(caught.value)
    with pytest.raises(UsageError, match="beside them"):
        NatsSettings(servers=("nats://joe:hunter2@host",))


async def test_connecting_twice_at_once_makes_one_connection(nats_url: str) -> None:
    broker = NatsBroker(nats_url)
    tasks = asyncio.all_tasks()
    await asyncio.gather(broker.connect(), broker.connect(), broker.connect())
    await asyncio.gather(broker.close(), broker.close())
    assert asyncio.all_tasks() == tasks


async def test_a_key_that_is_just_being_written_does_not_end_reconnecting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nkeys = pytest.importorskip("nkeys")
    seed = b"SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU"
    key = nkeys.from_seed(bytearray(seed)).public_key.decode()
    file = tmp_path / "seed"
    file.write_bytes(seed)
    with NatsServer(f"authorization {{ users = [ {{ nkey: {key} }} ] }}") as server:
        async with NatsBroker(f"{server.url}?nkey_seed={file}") as broker:
            file.write_bytes(seed[:30])
            server.stop()
            server.start()
            await until(lambda: "seed" in caplog.text)
            file.write_bytes(seed)
            await until(lambda: broker.online)


async def test_nkeys(tmp_path: Path) -> None:
    nkeys = pytest.importorskip("nkeys")
    seed = b"SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU"
    seed_file = tmp_path / "seed.txt"
    seed_file.write_bytes(seed)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    with NatsServer(f'authorization {{ users = [ {{ nkey: "{public}" }} ] }}') as server:
        async with NatsBroker(f"{server.url}?nkey_seed={seed_file}") as broker:
            await broker.flush()


async def test_a_file_without_a_key_is_named_at_once(tmp_path: Path, nats_url: str) -> None:
    pytest.importorskip("nkeys")
    seed_file = tmp_path / "seed.txt"
    for _ in range(2):
        with pytest.raises(ConnectionFailed, match="nkey_seed or creds cannot be used"):
            await NatsBroker(f"{nats_url}?nkey_seed={seed_file}&connect_timeout=1000").connect()
        seed_file.write_text("no seed")


async def test_tls_is_verified_and_never_silently_left_out(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path, "localhost")
    config = f'tls {{ cert_file: "{certificates.certificate}", key_file: "{certificates.key}" }}'
    with NatsServer(config) as server, NatsServer() as plain:
        trusted = f"tls://localhost:{server.port}?tls_ca={certificates.authority}"
        async with NatsBroker(trusted) as broker:
            await broker.flush()
        with pytest.raises(ConnectionFailed, match=r"refused.*certificate verify failed"):
            await NatsBroker(f"tls://localhost:{server.port}?connect_timeout=20").connect()
        with pytest.raises(ConnectionFailed, match=r"refused.*certificate"):
            await NatsBroker(f"{trusted}&tls_hostname=other.example&connect_timeout=20").connect()
        with pytest.raises(ConnectionFailed, match="offers no TLS"):
            await NatsBroker(f"tls://user:secret@127.0.0.1:{plain.port}?connect_timeout=20").connect()


async def test_a_permission_that_is_missing_stops_the_start_by_name() -> None:
    config = 'authorization { users = [ { user: "u", password: "p", permissions: { subscribe: ["_INBOX.>"] } } ] }'
    service = Service("orders")

    @service.rpc
    async def quote() -> None: ...

    refused = r"refuses: permissions violation for subscription to .orders"
    with NatsServer(config) as server, pytest.raises(TransportError, match=refused):
        await service.start(f"nats://u:p@127.0.0.1:{server.port}")


def test_urls_that_cannot_be_are_refused_with_the_mend() -> None:
    for url, wanted in {
        "nats://": "nats://host:4222",
        "nats://a:4222/path": "nats://host:4222",
        "nats://a:port": "[Pp]ort",
        "nats://a?colour=red": "nothing is called 'colour'.*connect_timeout",
        "nats://a?connect_timeout=soon": "connect_timeout='soon' is no float",
        "nats://a?tls_cert=x": "tls_cert and tls_key belong together",
        "tls://a?tls_ca=/nowhere.pem": "tls_ca",
    }.items():
        with pytest.raises(UsageError, match=wanted):
            NatsBroker(url).settings.ssl_context()


def test_a_url_says_all_the_settings() -> None:
    settings = NatsBroker("tls://joe:x%2Fy@a:1,b:2?pending_messages=5&tls_first=true&reconnect_wait=0.1").settings
    assert settings == NatsSettings(
        servers=("tls://a:1", "tls://b:2"),
        user="joe",
        password="x/y",
        pending_messages=5,
        tls_first=True,
        reconnect_wait=0.1,
    )


# -- limits ----------------------------------------------------------------------------------------------------


async def test_a_slow_consumer_is_reported_by_count_and_goes_on(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    subject = "slow-consumer"
    gate = asyncio.Event()
    taken = 0

    def receive(delivery: Delivery) -> Awaitable[object]:
        nonlocal taken
        taken += 1
        return gate.wait()

    async with NatsBroker(f"{nats_url}?pending_messages=100") as consumer, NatsBroker(nats_url) as publisher:
        subscription = await consumer.subscribe(subject, receive)  # type: ignore[arg-type]
        await consumer.flush()
        await send(publisher, subject, 1000)
        await publisher.flush()
        await consumer.flush()
        await until(lambda: subscription.dropped > 0)
        gate.set()
        await subscription.drain()
        assert taken + subscription.dropped == 1000
        assert f"{subscription.dropped} in all" in caplog.text
        assert "raise concurrency" in caplog.text


async def test_what_waits_when_a_connection_is_closed_is_dropped_and_counted(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[Delivery] = []

    def receive(delivery: Delivery) -> asyncio.Future[None]:
        taken.append(delivery)
        return asyncio.get_running_loop().create_future()

    async with NatsBroker(nats_url) as broker:
        subscription = await broker.subscribe("closing", receive)
        await send(broker, "closing", 5)
        await broker.flush()
        await until(lambda: taken)
    assert (len(taken), subscription.dropped) == (1, 4)
    assert caplog.text.count("4 messages still waited and are dropped") == 1


async def test_a_burst_to_a_slow_subscriber_arrives_whole(nats_url: str) -> None:
    service = Service("burst")
    received = 0

    @service.subscribe("burst.events")
    async def slow(number: int) -> None:
        nonlocal received
        received += 1
        if number % 100 == 0:
            await asyncio.sleep(0.001)

    await service.start(nats_url)
    async with Client(nats_url) as client:
        for number in range(50_000):
            await client.publish("burst.events", number)
        await client.flush()
        await until(lambda: received == 50_000)
    await service.stop()


async def test_headers_count_against_the_servers_limit() -> None:
    with NatsServer("max_payload: 1000") as server:
        async with NatsBroker(server.url) as broker:
            inbox, _ = await listen(broker, "a")
            await broker.publish(Message("a", b"x" * 1000))
            with pytest.raises(MessageTooLarge, match="1000"):
                await broker.publish(Message("a", b"x" * 1001))
            with pytest.raises(MessageTooLarge, match="with headers"):
                await broker.publish(Message("a", b"x" * 990, {"One": "1"}))
            await inbox.wait_for(1)
            assert len(inbox.deliveries) == 1


async def test_of_a_batch_only_what_cannot_be_sent_fails(nats_url: str) -> None:
    async with NatsBroker(nats_url) as broker:
        inbox, _ = await listen(broker, "batch")
        with pytest.raises(NotAllPublished, match="1 of 3") as caught:
            await broker.publish_many([Message("batch", b"1"), Message("no subject"), Message("batch", b"3")])
        assert list(caught.value.failed) == [1]
        await inbox.wait_for(2)
        assert inbox.bodies == [b"1", b"3"]


async def test_cancelling_calls_leaves_nothing_behind(nats_url: str) -> None:
    async with NatsBroker(nats_url) as server, NatsBroker(nats_url) as broker:
        await server.subscribe("silent.endpoint", Inbox(), queue="q")
        await server.flush()
        caller = Caller(broker)
        await caller.open()
        tasks = asyncio.all_tasks()
        for _ in range(10):
            calls = [
                asyncio.ensure_future(caller.request("silent", Message("silent.endpoint"), time.monotonic() + 60))
                for _ in range(1000)
            ]
            await asyncio.sleep(0)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        assert len(caller) == 0
        assert asyncio.all_tasks() == tasks
        await caller.close()
