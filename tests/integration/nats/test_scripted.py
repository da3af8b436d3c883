"""Core NATS against a server that says what it is told to, and on both event loops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from eventmicro_nats import NatsBroker

from eventmicro.broker import Subscription
from eventmicro.client import Client
from eventmicro.errors import CallTimeout, MessageTooLarge, TransportError, Unavailable
from eventmicro.message import Delivery, Message
from eventmicro.service import Service
from tests.certificates import make_certificates
from tests.integration.nats.kit import until
from tests.servers import NatsServer

RUN = {"asyncio": asyncio.run, "uvloop": uvloop.run}
Test = Callable[..., Coroutine[Any, Any, None]]
MANY = 1_000


@pytest.fixture(params=RUN)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Runs a test on one of the event loops, within a bound."""

    def run_bounded(test: Coroutine[Any, Any, None]) -> None:
        RUN[request.param](asyncio.wait_for(test, 20))

    return run_bounded


class Script:
    """A server that greets, answers pings and notes all lines, for each connection."""

    def __init__(self, **info: Any) -> None:
        self.info = {"server_id": "x", "version": "2.10.0", "headers": True, "max_payload": 1000, "proto": 1, **info}
        self.heard: list[list[bytes]] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.reading: list[asyncio.Task[Any]] = []
        self.greets = asyncio.Event()
        self.greets.set()

    async def __aenter__(self) -> Script:  # noqa: PYI034
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        self.broker = NatsBroker(f"nats://127.0.0.1:{self.port}?reconnect_wait=0.01&ping_interval=60")
        await self.broker.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.broker.close()
        self.server.close()
        for writer in self.writers:
            writer.close()
        await asyncio.wait(self.reading)
        await self.server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.reading.append(task)
        heard: list[bytes] = []
        self.heard.append(heard)
        self.writers.append(writer)
        await self.greets.wait()
        writer.write(b"INFO %b\r\n" % json.dumps(self.info).encode())
        try:
            while line := await reader.readline():
                heard.append(line.strip())
                if line == b"PING\r\n":
                    writer.write(b"PONG\r\n")
        except OSError:
            pass

    def say(self, text: bytes) -> None:
        """To who has connected last."""
        self.writers[-1].write(text)

    def words(self, connection: int = -1) -> list[bytes]:
        """The first words of what was heard on a connection."""
        return [line.partition(b" ")[0] for line in self.heard[connection]]

    async def again(self) -> None:
        """Return when there is another connection, which stands."""
        await until(lambda: len(self.heard) == 2 and self.broker.online)
        await self.broker.flush()


ENDS: dict[str, Callable[[Script], object]] = {
    "end": lambda script: script.writers[-1].close(),
    "reset": lambda script: script.writers[-1].transport.abort(),
    "garbage": lambda script: script.say(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "no size": lambda script: script.say(b"MSG a 1 x\r\n"),
    "negative size": lambda script: script.say(b"MSG a 1 -5\r\n"),
    "headers over size": lambda script: script.say(b"HMSG a 1 20 10\r\n"),
}


@pytest.mark.parametrize("end", ENDS)
def test_after_any_end_all_is_subscribed_anew_before_anything_else_goes_out(run: Any, end: str) -> None:
    async def test() -> None:
        got: list[bytes] = []
        async with Script() as script:
            broker = script.broker
            for subject in ("a", "b", "c"):
                await broker.subscribe(subject, lambda delivery: got.append(delivery.body))
            await broker.flush()
            script.say(b"MSG a 1 1\r\n1\r\n")
            await until(lambda: got == [b"1"])
            script.greets.clear()
            ENDS[end](script)
            await until(lambda: not broker.online)
            waiting = asyncio.create_task(broker.publish(Message("d", b"waits")))
            await broker.send(Message("e", b"buffered"))
            script.greets.set()
            await script.again()
            await waiting
            await broker.flush()
            words = [word for word in script.words() if word not in (b"PING", b"CONNECT", b"PONG")]
            assert words == [b"SUB"] * 3 + [b"PUB", b"buffered", b"PUB", b"waits"]
            script.say(b"MSG a 1 1\r\n2\r\nMSG c 3 1\r\n3\r\n")
            await until(lambda: got == [b"1", b"2", b"3"])

    run(test())


def test_what_stands_before_garbage_is_taken_and_what_stands_behind_it_is_not(run: Any) -> None:
    async def test() -> None:
        got: list[bytes] = []
        async with Script() as script:
            await script.broker.subscribe("a", lambda delivery: got.append(delivery.body))
            await script.broker.flush()
            script.say(b"MSG a 1 1\r\n1\r\nMSG a 1 1\r\n2\r\nGET / HTTP/1.1\r\nMSG a 1 1\r\n3\r\n")
            await script.again()
            assert got == [b"1", b"2"]

    run(test())


def test_a_new_limit_of_the_server_holds_at_once(run: Any) -> None:
    async def test() -> None:
        async with Script() as script:
            broker = script.broker
            assert broker.try_publish(Message("a", b"x" * 1000))
            script.say(b"INFO %b\r\n" % json.dumps({**script.info, "max_payload": 10}).encode())

            def is_refused() -> bool:
                try:
                    return not broker.try_send("a", b"x" * 11)
                except MessageTooLarge:
                    return True

            await until(is_refused)
            for sending in (broker.publish(Message("a", b"x" * 11)), broker.send(Message("a", b"x" * 11))):
                with pytest.raises(MessageTooLarge):
                    await sending
            assert broker.try_publish(Message("a", b"x" * 10))
            assert len(script.heard) == 1

    run(test())


def test_what_the_server_complains_of_is_told_and_ends_nothing(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        got: list[bytes] = []
        async with Script() as script:
            await script.broker.subscribe("a", lambda delivery: got.append(delivery.body))
            await script.broker.flush()
            script.say(b"-ERR 'Invalid Subject'\r\n-ERR 'Permissions Violation for Publish to \"b\"'\r\n+OK\r\n")
            script.say(b"MSG a 1 1\r\n1\r\n")
            await until(lambda: got == [b"1"] and len(caplog.records) >= 2)
            assert len(script.heard) == 1
        assert "invalid subject" in caplog.text.lower()
        assert "publish" in caplog.text.lower()

    run(test())


def test_a_server_may_greet_with_a_long_line(run: Any) -> None:
    async def test() -> None:
        urls = [f"10.0.{number // 250}.{number % 250}:4222" for number in range(20_000)]
        async with Script(connect_urls=[], comment=urls) as script:
            assert len(json.dumps(script.info)) > 300_000
            await script.broker.flush()
            assert script.broker.online

    run(test())


def test_very_many_that_end_together_ask_once(run: Any) -> None:
    async def test() -> None:
        async with Script() as script:
            broker = script.broker
            subscriptions: list[Subscription] = [
                await broker.subscribe(f"s.{number}", lambda delivery: None) for number in range(MANY)
            ]
            await broker.flush()
            before = script.words().count(b"PING")
            await asyncio.gather(*(subscription.drain() for subscription in subscriptions))
            assert script.words().count(b"UNSUB") == MANY
            assert script.words().count(b"PING") == before + 1
            assert script.words()[-1] == b"PING"

    run(test())


def test_a_ping_is_answered_while_handlers_are_at_work(run: Any) -> None:
    async def test() -> None:
        gate = asyncio.Event()
        taken: list[Delivery] = []

        def receive(delivery: Delivery) -> Awaitable[Any]:
            taken.append(delivery)
            return asyncio.ensure_future(gate.wait())

        async with Script() as script:
            await script.broker.subscribe("a", receive)  # type: ignore[arg-type]
            await script.broker.flush()
            script.say(b"MSG a 1 1\r\n1\r\n" * 50 + b"PING\r\n")
            await until(lambda: b"PONG" in script.words())
            assert len(taken) == 1
            gate.set()
            await until(lambda: len(taken) == 50)

    run(test())


# -- a real server ---------------------------------------------------------------------------------------------


async def call_and_publish(url: str) -> None:
    service, got = Service("orders"), list[int]()

    @service.rpc
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    @service.subscribe("numbers", concurrency=1)
    async def note(number: int) -> None:
        got.append(number)

    await service.start(url)
    try:
        async with Client(url) as client:
            doubled = await asyncio.gather(*(client.call("orders.double", n, int) for n in range(300)))
            assert doubled == [2 * number for number in range(300)]
            assert len(await client.call("orders.double", 1, bytes)) == 1
            for number in range(300):
                await client.publish("numbers", number)
            await until(lambda: len(got) == 300)
            assert got == list(range(300))
    finally:
        await service.stop()


def test_calls_and_events(run: Any, nats_url: str) -> None:
    run(call_and_publish(nats_url))


@pytest.mark.parametrize("first", [False, True], ids=["tls", "tls first"])
def test_calls_and_events_over_tls(run: Any, first: bool, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path, "localhost")
    more = "handshake_first: true" if first else ""
    config = f'tls {{ cert_file: "{certificates.certificate}", key_file: "{certificates.key}", {more} }}'
    with NatsServer(config) as server:
        url = f"tls://localhost:{server.port}?tls_ca={certificates.authority}&connect_timeout=20"
        run(call_and_publish(url + ("&tls_first=true" if first else "")))


def test_after_a_restart_calls_come_back(run: Any) -> None:
    async def test(server: NatsServer) -> None:
        service = Service("orders")

        @service.rpc
        async def double(number: int) -> int:
            return 2 * number

        await service.start(f"{server.url}?reconnect_wait=0.05")
        async with Client(f"{server.url}?reconnect_wait=0.05") as client:
            assert await client.call("orders.double", 1, int) == 2
            server.kill()
            server.start()
            while True:
                try:
                    assert await client.call("orders.double", 2, int, timeout=0.5) == 4
                    break
                except (CallTimeout, TransportError, Unavailable):
                    continue
        await service.stop()

    with NatsServer() as server:
        run(test(server))
