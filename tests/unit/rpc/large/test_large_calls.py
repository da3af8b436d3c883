"""Large bodies of calls: whole or not at all, where the caller asks for it; all else is as in any call."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import BaseModel

from eventmicro import CallRetry, Client, Context, Contract, MemoryBroker, Service
from eventmicro.errors import (
    CallTimeout,
    ContentTooLarge,
    InternalError,
    MessageTooLarge,
    NotFound,
    PeerLost,
    ServiceError,
    StreamBroken,
    UsageError,
)
from eventmicro.message import Delivery, Message
from eventmicro.middleware import Handler
from eventmicro.rpc.large import giving, taking
from eventmicro.rpc.streams.frames import read_frame, write_frame
from eventmicro.rpc.streams.streams import Streams
from eventmicro.wire import ACCEPT_LARGE, LARGE

Until = Callable[[Callable[[], object]], Awaitable[None]]

URL = "memory://large"
LIMIT = 4096
BIG = bytes(range(256)) * 400  # 100 KiB


def broker() -> MemoryBroker:
    """A connection with a low limit."""
    return MemoryBroker(URL, max_payload=LIMIT)


class Text(BaseModel):
    text: str


class Files:
    """A service whose handlers say what they got."""

    def __init__(self, its_broker: MemoryBroker | None = None, **options: Any) -> None:
        self.broker = its_broker or broker()
        self.service = Service("files", broker=self.broker, **options)
        self.got: list[bytes] = []
        self.cancelled = 0
        self.metadata: dict[str, str] = {}
        self.gate = asyncio.Event()

        @self.service.rpc
        async def echo(request: bytes, context: Context) -> bytes:
            self.got.append(request)
            self.metadata = dict(context.metadata)
            return request

        @self.service.rpc
        async def repeat(request: Text) -> Text:
            return request

        @self.service.rpc
        async def make(request: int) -> bytes:
            return b"x" * request

        @self.service.rpc
        async def refuse(request: bytes) -> bytes:
            raise NotFound("no such file: " + "x" * 2 * LIMIT if request == b"long" else "no such file")

        @self.service.rpc
        async def wait(request: bytes) -> int:
            self.got.append(request)
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return len(request)


@asynccontextmanager
async def running(files: Files, client_broker: MemoryBroker | None = None, **options: Any) -> AsyncIterator[Client]:
    connection = client_broker or broker()
    async with files.broker, files.service, connection, Client(connection, **options) as client:
        yield client


def open_channels(files: Files, client: Client) -> int:
    """How many transfers are open on both sides."""
    node: Any = files.service._node
    opened = node._making.large._opened
    return len(client._calls.streams) + (len(opened[0]) if opened else 0)


async def test_a_request_and_a_reply_over_the_limit_travel_in_pieces_where_that_is_asked_for(until: Until) -> None:
    files = Files()
    async with running(files) as client:
        assert await client.call("files.echo", BIG, bytes, large="stream") == BIG
        assert files.got == [BIG]
        assert files.metadata == {}
        assert await client.call("files.echo", b"small", bytes, large="stream") == b"small"
        assert await client.call("files.make", 50_000, bytes, large="stream") == b"x" * 50_000
        await until(lambda: open_channels(files, client) == 0)


async def test_a_client_says_it_for_all_its_calls_and_a_service_for_its_own() -> None:
    files = Files()
    asking = Service("asking", broker=broker(), large="stream")

    @asking.rpc
    async def ask() -> int:
        return len(await asking.call("files.echo", BIG, bytes))

    async with running(files, large="stream") as client, asking.broker, asking:  # type: ignore[union-attr]
        assert await client.call("files.echo", BIG, bytes) == BIG
        assert await client.call("asking.ask", None, int) == len(BIG)


async def test_without_it_both_are_refused_as_ever() -> None:
    files = Files()
    async with running(files) as client:
        with pytest.raises(MessageTooLarge, match=f"{len(BIG)} bytes, over the {LIMIT} allowed"):
            await client.call("files.echo", BIG, bytes)
        with pytest.raises(InternalError, match="the reply is too large for the broker"):
            await client.call("files.make", LIMIT + 1, bytes)
        assert files.got == []


@pytest.mark.parametrize("large", ["object", True, "", 7])
async def test_another_word_is_refused(large: Any) -> None:
    with pytest.raises(UsageError, match="write 'stream'"):
        Client(URL, large=large)
    with pytest.raises(UsageError, match="write 'stream'"):
        Service("files", large=large)
    async with Client(URL) as client:
        with pytest.raises(UsageError, match="write 'stream'"):
            await client.call("files.echo", b"", large=large)
    with pytest.raises(UsageError, match="max_large=0"):
        Client(URL, max_large=0)


async def test_a_call_that_fits_opens_nothing() -> None:
    files = Files()
    async with running(files, large="stream") as client:
        assert await client.call("files.echo", b"small", bytes) == b"small"
        assert "streams" not in client._calls.__dict__
        node: Any = files.service._node
        assert node._making.large._opened is None


async def test_models_middleware_errors_and_statistics_are_as_in_any_call() -> None:
    seen: list[tuple[str, int]] = []

    async def note(message: Any, context: Context, call_next: Handler) -> Any:
        reply = await call_next(message, context)
        seen.append((context.side.name, len(reply.text)))
        return reply

    files = Files(middleware=[note])
    async with running(files, middleware=[note], large="stream") as client:
        text = "ä" * LIMIT
        assert (await client.call("files.repeat", Text(text=text), Text)).text == text
        assert seen == [("ENDPOINT", LIMIT), ("CLIENT", LIMIT)]
        with pytest.raises(NotFound, match="no such file"):
            await client.call("files.refuse", BIG, bytes)
        with pytest.raises(NotFound, match="no such file: xxx"):
            await client.call("files.refuse", b"long", bytes)
        with pytest.raises(NotFound, match=r"did you mean|no endpoint"):
            await client.call("files.rename", BIG, bytes)


async def test_directed_calls_and_content_types_and_compression_go_with_it() -> None:
    files = Files()
    text = "".join(hashlib.sha256(str(number).encode()).hexdigest() for number in range(1000))
    async with running(files, large="stream", compression="gzip") as client:
        reply = await client.call("files.repeat", Text(text=text), Text, content_type="msgpack", selector="random")
        assert reply.text == text


class FilesContract(Contract, service="files"):
    """What a stub calls."""

    async def echo(self, request: bytes) -> bytes:
        raise NotImplementedError

    def lines(self, request: int) -> AsyncIterator[bytes]:
        raise NotImplementedError


async def test_a_stub_says_it_for_its_calls() -> None:
    files = Files()

    @files.service.rpc
    async def lines(request: int) -> AsyncIterator[bytes]:
        for _ in range(request):
            yield b"line"

    async with running(files) as client:
        stub = client.stub(FilesContract, large="stream")
        assert await stub.echo(BIG) == BIG
        assert [line async for line in stub.lines(3)] == [b"line"] * 3


# -- bounds ----------------------------------------------------------------------------------------------------


async def test_a_request_over_the_max_large_of_its_service_is_refused_by_name() -> None:
    files = Files(max_large=len(BIG) - 1)
    async with running(files, large="stream") as client:
        with pytest.raises(ContentTooLarge, match=f"the request has {len(BIG)} bytes, .*max_large") as caught:
            await client.call("files.echo", BIG, bytes)
        assert (caught.value.code, files.got) == (413, [])
        assert open_channels(files, client) == 0


async def test_a_reply_over_the_max_large_of_its_caller_is_refused_by_name() -> None:
    files = Files()
    async with running(files, large="stream", max_large=10_000) as client:
        with pytest.raises(ContentTooLarge, match=r"the reply has 10001 bytes, .*max_large"):
            await client.call("files.make", 10_001, bytes)
        assert await client.call("files.make", 10_000, bytes) == b"x" * 10_000


async def test_who_answers_more_than_is_taken_is_not_listened_to() -> None:
    async with broker() as connection, Client(connection, large="stream", max_large=10) as client:

        async def answer(delivery: Delivery) -> None:
            offer = '{"address":"a","stream":1,"keep_alive":1000,"size":11,"sha256":"%s"}' % ("0" * 64)
            await connection.send(Message(delivery.reply, b"", {LARGE: offer}))

        await connection.subscribe("files.echo", answer)
        with pytest.raises(ContentTooLarge, match="the reply has 11 bytes"):
            await client.call("files.echo", b"", bytes)


async def test_bodies_that_come_at_the_same_time_share_max_large(until: Until) -> None:
    most = 0

    class Watching(MemoryBroker):
        """Notes how many have got credit that have not ended."""

    files = Files(Watching(URL, max_payload=LIMIT), max_large=2 * len(BIG))
    async with running(files, large="stream") as client:
        calls = [asyncio.create_task(client.call("files.echo", BIG, bytes)) for _ in range(10)]
        node: Any = files.service._node
        while not all(call.done() for call in calls):
            if node._making.large._opened:
                room = node._making.large._opened[1]
                assert room._free >= 0
                most = max(most, 2 * len(BIG) - room._free)
            await asyncio.sleep(0)
        assert [await call for call in calls] == [BIG] * 10
        assert most == 2 * len(BIG)
        assert room._free == 2 * len(BIG)


@pytest.mark.parametrize(
    "offer",
    [
        "",
        "no json",
        "[1]",
        "x" * 3000,
        '{"size": 1}',
        '{"size": -1, "sha256": "%s"}' % ("0" * 64),
        '{"size": true, "sha256": "%s"}' % ("0" * 64),
        '{"size": 1, "sha256": "00"}',
        '{"size": 1, "sha256": "%s", "address": "a b", "stream": 1, "keep_alive": 1}' % ("0" * 64),
        '{"size": 1, "sha256": "%s", "address": "a", "stream": 0, "keep_alive": 1}' % ("0" * 64),
        '{"size": 1, "sha256": "%s", "address": "a", "stream": 1, "keep_alive": "1"}' % ("0" * 64),
        '{"size": 1, "sha256": "%s", "bucket": "b", "object": "o"}' % ("0" * 64),
    ],
)
async def test_an_offer_that_is_none_is_answered_with_400(offer: str) -> None:
    files = Files()
    async with running(files) as client:
        with pytest.raises(ServiceError, match="the request is without its body") as caught:
            await client.call("files.echo", b"", bytes, metadata={LARGE: offer})
        assert (caught.value.code, files.got) == (400, [])


# -- bad luck --------------------------------------------------------------------------------------------------


class Faulty(MemoryBroker):
    """Does something wrong with one frame of those that carry pieces."""

    def __init__(self, fault: str, at: int = 5) -> None:
        super().__init__(URL, max_payload=LIMIT)
        self.fault = fault
        self.at = at
        self.pieces = 0

    def try_send(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None, reply: str = "") -> bool:
        if not (subject.endswith(".frames") or "$stream" in subject) or not read_frame(body).items:
            return super().try_send(subject, body, headers, reply)
        if len(body) > LIMIT:
            return False  # it is split
        self.pieces += 1
        if self.pieces != self.at:
            return super().try_send(subject, body, headers, reply)
        if self.fault == "doubled":
            super().try_send(subject, body)
        elif self.fault == "lost":
            return True
        elif self.fault == "changed":
            frame = read_frame(body)
            frame.items[0] = bytes(len(frame.items[0]))
            body = write_frame(frame)
        elif self.fault == "more":
            frame = read_frame(body)
            frame.items.append(b"one more")
            body = write_frame(frame)
        return super().try_send(subject, body)

    async def send(self, message: Message) -> None:
        if not self.try_send(message.subject, message.body, message.headers, message.reply):
            await super().send(message)


FAULTS = ["lost", "doubled", "changed", "more"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_request_of_which_a_piece_is_not_as_it_was_does_not_run(fault: str, until: Until) -> None:
    files = Files()
    async with running(files, Faulty(fault), large="stream") as client:
        with pytest.raises(ServiceError, match="whole") as caught:
            await client.call("files.echo", BIG, bytes)
        assert (caught.value.code, caught.value.retryable) == (StreamBroken.code, True)
        assert files.got == []
        assert await client.call("files.echo", BIG, bytes) == BIG
        await until(lambda: open_channels(files, client) == 0)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_reply_of_which_a_piece_is_not_as_it_was_is_an_error(fault: str, until: Until) -> None:
    files = Files(Faulty(fault))
    async with running(files, large="stream") as client:
        with pytest.raises(ServiceError, match="the reply did not come whole") as caught:
            await client.call("files.make", len(BIG), bytes)
        assert (caught.value.code, caught.value.retryable) == (StreamBroken.code, False)
        assert len(await client.call("files.make", len(BIG), bytes)) == len(BIG)
        await until(lambda: open_channels(files, client) == 0)


async def test_a_request_that_did_not_get_there_is_made_again_where_the_call_says_so() -> None:
    files = Files()
    async with running(files, Faulty("lost"), large="stream", retry=CallRetry(backoff=0.001)) as client:
        assert await client.call("files.echo", BIG, bytes) == BIG
        assert files.got == [BIG]


async def test_who_takes_no_more_is_noticed(monkeypatch: pytest.MonkeyPatch, until: Until) -> None:
    """The service is killed in mid-way: nothing is heard of it any more, nor does it run half a request."""
    monkeypatch.setattr(giving, "KEEP_ALIVE", 0.2)
    files = Files()
    async with files.service, broker() as connection, Client(connection, large="stream") as client:
        node: Any = files.service._node
        calling = asyncio.create_task(client.call("files.echo", bytes(50_000_000), bytes))
        await until(lambda: node._making.large._opened and pieces(node._making.large._opened[0]) > 100)
        await files.broker.close()
        with pytest.raises(PeerLost, match="did not get there whole"):
            await calling
        assert files.got == []


async def test_who_gives_no_more_is_noticed(monkeypatch: pytest.MonkeyPatch, until: Until) -> None:
    """The caller is killed in mid-way."""
    monkeypatch.setattr(giving, "KEEP_ALIVE", 0.2)
    files = Files()
    connection = broker()
    async with files.broker, files.service, connection:
        client = Client(connection, large="stream")
        await client.connect()
        node: Any = files.service._node
        calling = asyncio.create_task(client.call("files.echo", bytes(5_000_000), bytes))
        while not (node._making.large._opened and len(node._making.large._opened[0])):
            await asyncio.sleep(0)
        await connection.close()
        with pytest.raises(Exception, match=r"not connected|whole|timeout|no reply"):
            await calling
        await until(lambda: len(node._making.large._opened[0]) == 0)
        assert files.got == []
        await client.close()


async def test_who_sends_no_more_of_a_reply_is_noticed(monkeypatch: pytest.MonkeyPatch, until: Until) -> None:
    """The service is killed while its reply comes."""
    monkeypatch.setattr(giving, "KEEP_ALIVE", 0.2)
    files = Files()
    async with files.service, broker() as connection, Client(connection, large="stream") as client:
        calling = asyncio.create_task(client.call("files.make", 50_000_000, bytes))
        await until(lambda: received(client) > 100)
        await files.broker.close()
        with pytest.raises(PeerLost, match="the reply did not come whole"):
            await calling
        assert len(client._calls.streams) == 0


def received(client: Client) -> int:
    """How many pieces have come to a client."""
    if "streams" not in client._calls.__dict__ or client._calls.streams._streams is None:
        return 0
    return pieces(client._calls.streams._streams)


def pieces(streams: Streams) -> int:
    """How many pieces have come of the transfers that are open."""
    return sum(each.incoming.credit.items for each in streams._channels.values())


async def test_who_offers_a_body_and_sends_none_holds_no_room_for_as_long_as_he_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(taking, "PATIENCE", 0.3)
    most = len(BIG)
    async with Files(max_large=most).service, Client(broker(), large="stream") as client, broker() as other:
        inbox, taken = other.inbox(), asyncio.Event()
        await other.subscribe(f"{inbox}.frames", lambda frame: taken.set())
        offer = {"address": f"{inbox}.frames", "stream": 5, "keep_alive": 3_600_000, "size": most, "sha256": "0" * 64}
        await other.send(Message("files.echo", b"", {LARGE: json.dumps(offer)}, f"{inbox}.reply"))
        await taken.wait()
        assert await client.call("files.echo", BIG, bytes, timeout=20) == BIG


async def test_signs_of_life_are_no_pieces() -> None:
    """Whoever offers a body, sends nothing of it and stays alive holds no room for ever."""
    files = Files()
    async with running(files) as client:
        offer = '{"address":"nowhere","stream":1,"keep_alive":100,"size":1000,"sha256":"%s"}' % ("0" * 64)
        with pytest.raises(ServiceError, match="did not come whole") as caught:
            await client.call("files.echo", b"", bytes, metadata={LARGE: offer})
        assert (caught.value.code, files.got) == (PeerLost.code, [])
        assert open_channels(files, client) == 0


async def test_cancelling_in_mid_way_ends_both_sides(until: Until) -> None:
    files = Files()
    async with running(files, large="stream") as client:
        node: Any = files.service._node
        calling = asyncio.create_task(client.call("files.echo", bytes(5_000_000), bytes))
        while not (node._making.large._opened and len(node._making.large._opened[0])):
            await asyncio.sleep(0)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await until(lambda: open_channels(files, client) == 0 and len(node._making.calls) == 0)
        assert files.got == []
        calling = asyncio.create_task(client.call("files.wait", BIG, int))
        await until(lambda: files.got == [BIG])
        calling.cancel()
        await until(lambda: files.cancelled == 1)


async def test_the_deadline_is_that_of_the_whole_call(until: Until) -> None:
    files = Files()
    async with running(files, large="stream") as client:
        with pytest.raises(CallTimeout, match=r"no reply from files\.wait"):
            await client.call("files.wait", BIG, int, timeout=0.3)
        await until(lambda: files.cancelled == 1)
        assert open_channels(files, client) == 0


async def test_cancelling_while_the_reply_comes_ends_both_sides(until: Until) -> None:
    files = Files()
    async with running(files, large="stream") as client:
        node: Any = files.service._node
        calling = asyncio.create_task(client.call("files.make", 20_000_000, bytes))
        while not (node._making.large._opened and len(node._making.large._opened[0]) and len(client._calls.streams)):
            await asyncio.sleep(0)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await until(lambda: open_channels(files, client) == 0 and len(node._making.calls) == 0)


async def test_who_does_not_know_of_pieces_has_not_answered_the_request() -> None:
    async with broker() as connection, Client(connection, large="stream") as client:

        async def answer(delivery: Delivery) -> None:
            assert (delivery.body, ACCEPT_LARGE in (delivery.headers or {})) == (b"", True)
            await connection.send(Message(delivery.reply, b"5"))

        await connection.subscribe("files.size", answer)
        with pytest.raises(UsageError, match="answered without its request"):
            await client.call("files.size", BIG, int)


async def test_an_offer_that_nobody_takes_is_given_up(monkeypatch: pytest.MonkeyPatch, until: Until) -> None:
    monkeypatch.setattr(giving, "KEEP_ALIVE", 0.1)
    files = Files()
    async with files.broker, files.service, broker() as connection:
        offers: list[Delivery] = []
        await connection.subscribe("inbox", offers.append)
        await connection.send(Message("files.make", b"50000", {ACCEPT_LARGE: "60000"}, "inbox"))
        await until(lambda: offers)
        node: Any = files.service._node
        await until(lambda: len(node._making.large._opened[0]) == 0 and len(node._making.calls) == 0)


async def test_a_reply_of_which_nothing_can_be_said_is_an_error() -> None:
    class Narrow(MemoryBroker):
        """Takes no headers that are long."""

        async def send(self, message: Message) -> None:
            if message.headers and LARGE in message.headers:
                raise MessageTooLarge("its headers")
            await super().send(message)

    files = Files(Narrow(URL, max_payload=LIMIT))
    async with running(files, large="stream") as client:
        with pytest.raises(InternalError, match="the reply is too large for the broker"):
            await client.call("files.make", 50_000, bytes)
        assert open_channels(files, client) == 0


@pytest.mark.timeout_seconds(120)
async def test_forty_calls_of_ten_megabytes_leave_no_memory_behind() -> None:
    body = bytes(10 * 1024 * 1024)
    service = Service("files", broker="memory://")

    @service.rpc
    async def echo(request: bytes) -> bytes:
        return request

    async with service, Client("memory://", large="stream", timeout=30) as client:
        for _ in range(3):
            await client.call("files.echo", body, bytes)
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(37):
                assert len(await client.call("files.echo", body, bytes)) == len(body)
            gc.collect()
            after, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 1024 * 1024
        assert most - before < 8 * len(body)
        node: Any = service._node
        assert len(node._making.large._opened[0]) == len(client._calls.streams) == len(client._calls) == 0
