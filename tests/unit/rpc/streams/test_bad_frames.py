"""Peers that break the rules, by frames made by hand: each costs one stream, which ends with an error on both sides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from eventmicro import Client, Service
from eventmicro.errors import (
    CallTimeout,
    DecodeError,
    NotFound,
    PeerLost,
    ServiceError,
    StreamBroken,
    StreamCancelled,
    StreamEnded,
    Unavailable,
)
from eventmicro.rpc.streams.credit import HIGHEST_BYTES, HIGHEST_ITEMS, WINDOW_BYTES, WINDOW_ITEMS
from eventmicro.rpc.streams.frames import Frame, write_frame
from eventmicro.rpc.streams.stream import Stream
from tests.unit.rpc.streams.kit import Number, RawServer, Streaming, open_streams, raw_caller, raw_server

Until = Callable[[Callable[[], object]], Awaitable[None]]
URL = "memory://streams"
ONE = b'{"value":1}'


# -- to a node -------------------------------------------------------------------------------------------------

OUT_OF_ORDER: list[tuple[str, list[tuple[int, dict[str, Any]]], str]] = [
    ("missing", [(1, {}), (3, {})], "frame 3 came where 2 was awaited: what is between was lost"),
    ("missing, and noticed by a sign of life", [(1, {}), (3, {"items": []})], "frame 3 came where 2 was awaited"),
    ("doubled", [(1, {}), (1, {})], "frame 1 came again"),
    ("reordered", [(2, {}), (1, {})], "frame 2 came where 1 was awaited"),
    ("without a number", [(0, {})], "frame 0 came again"),
    ("a message after the end", [(1, {"end": True}), (2, {})], "a message came after the end"),
    ("two ends", [(1, {"end": True}), (2, {"items": [], "end": True})], "ended twice"),
    ("credit that becomes less", [(1, {"item_limit": 999, "byte_limit": 1})], "credit became less"),
    ("credit that is huge", [(1, {"item_limit": 1 << 40, "byte_limit": 1 << 40})], "credit is over"),
    ("more messages than credit", [(1, {"items": [ONE] * (WINDOW_ITEMS + 1)})], "more came than there was credit"),
    (
        "more bytes than credit",
        [(1, {"items": [b"a" * (WINDOW_BYTES - 100)]}), (2, {"items": [b"b" * 100, b"c"]})],
        "more came than there was credit",
    ),
]


@pytest.mark.parametrize(("frames", "why"), [case[1:] for case in OUT_OF_ORDER], ids=[case[0] for case in OUT_OF_ORDER])
async def test_a_frame_that_breaks_the_rules_ends_the_stream(
    frames: list[tuple[int, dict[str, Any]]], why: str, until: Until
) -> None:
    async with (streaming := Streaming()).service, raw_caller() as caller:
        await caller.open("numbers.hold")
        await until(lambda: caller.frames)
        for number, fields in frames:
            items = fields.pop("items", [ONE])
            await caller.send(*items, number=number, **fields)
        await until(lambda: streaming.ended)
        assert why in caller.last.broken
        assert streaming.open_streams == 0
        await until(lambda: streaming.service._node is not None and streaming.service._node._parts.handlers)
        statistics = streaming.service._node._parts.statistics()["hold"]  # type: ignore[union-attr]
        await until(lambda: statistics.count == 1)
        assert dict(statistics.errors) == {502: 1}


async def test_a_reader_gets_what_came_before_a_gap_and_then_the_error(until: Until) -> None:
    async with (streaming := Streaming()).service, raw_caller() as caller:
        await caller.open("numbers.double")
        await until(lambda: caller.frames)
        await caller.send(ONE)
        await until(lambda: caller.items)
        await caller.send(ONE, number=7)
        await until(lambda: streaming.ended)
        assert isinstance(streaming.outcomes[0], StreamBroken)
        assert caller.items == [b'{"value":2}']


async def test_frames_that_cannot_be_read_are_missed_at_the_next(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    async with (streaming := Streaming()).service, raw_caller() as caller:
        await caller.open("numbers.hold")
        await until(lambda: caller.frames)
        for data in (b"", b"\xff" * 100, b"\x1a\x00" * 5000, write_frame(Frame(caller.frames[0].peer_stream, 1))[:-1]):
            await caller.send_bytes(data)
        await caller.send(number=2)
        await until(lambda: caller.last.broken)
        assert "frame 2 came where 1 was awaited" in caller.last.broken
        await until(lambda: streaming.ended)
        assert 1 <= len([r for r in caplog.records if r.levelno == logging.WARNING]) <= 3


async def test_frames_for_a_stream_that_is_not_known_do_nothing(until: Until) -> None:
    async with (streaming := Streaming()).service, raw_caller() as caller:
        await caller.open("numbers.double")
        await until(lambda: caller.frames)
        for stream in (0, 77, 1 << 61):
            await caller.send_bytes(write_frame(Frame(stream, 1, [ONE])))
        await caller.send(ONE)
        await caller.send(end=True)
        await until(lambda: caller.last.end)
        assert caller.items == [b'{"value":2}']
        await caller.send(ONE)  # it is over
        await caller.send(error=b"{}")
        assert streaming.outcomes == [None]


async def test_the_error_of_a_caller_is_that_of_the_handlers_reading(until: Until) -> None:
    async with (streaming := Streaming()).service, raw_caller() as caller:
        await caller.open("numbers.total")
        await until(lambda: caller.frames)
        await caller.send(error=b'{"code": 404, "detail": "not what you want"}')
        await until(lambda: streaming.ended)
        error = streaming.outcomes[0]
        assert isinstance(error, NotFound)
        assert error.detail == "not what you want"
        assert len(caller.frames) == 1


@pytest.mark.parametrize("error", [b"", b"x", b"[]", b"[" * 5000, b'{"code": -1}', b'{"code": true}', b'{"code": "x"}'])
async def test_an_error_of_any_form_is_one(error: bytes, until: Until) -> None:
    async with (streaming := Streaming()).service, raw_caller() as caller:
        await caller.open("numbers.total")
        await until(lambda: caller.frames)
        await caller.send(error=error)
        await until(lambda: streaming.ended)
        assert isinstance(streaming.outcomes[0], ServiceError)
        assert streaming.outcomes[0].code == 500


async def test_a_caller_that_gives_up_cancels_also_who_reads(until: Until) -> None:
    async with (streaming := Streaming()).service, raw_caller() as caller:
        await caller.open("numbers.total")
        await until(lambda: streaming.begun and caller.frames)
        await caller.send(cancel=True)
        await until(lambda: streaming.ended)
        assert isinstance(streaming.outcomes[0], asyncio.CancelledError)


async def test_a_content_type_that_is_not_taken_ends_the_stream(until: Until) -> None:
    async with (streaming := Streaming()).service, raw_caller() as caller:
        await caller.open("numbers.double")
        await until(lambda: caller.frames)
        for _ in range(100):  # nothing is kept of these
            await caller.send(content_type="application/x-unknown")
        await caller.send(ONE)
        await until(lambda: caller.last.error)
        assert b'"code": 415' in (caller.last.error or b"")
        await until(lambda: streaming.ended)


async def test_a_wrong_opening_is_answered_as_a_call_is(until: Until) -> None:
    async with (streaming := Streaming()).service, raw_caller() as caller:
        await caller.open("numbers.double", headers={"Stream": "{}"})
        await until(lambda: caller.replies)
        assert (caller.replies[0].headers or {})["Nats-Service-Error-Code"] == "400"
        assert (streaming.begun, streaming.open_streams) == ([], 0)


async def test_a_caller_that_never_reads_stops_the_writer(until: Until) -> None:
    async with raw_caller() as caller:
        async with (streaming := Streaming(stop_timeout=0.01)).service:
            await caller.open("numbers.count", b"{}", item_limit=10)
            await until(lambda: len(caller.items) == 10)
            await asyncio.sleep(0.02)
            assert streaming.given == 10
            await caller.send(item_limit=15, byte_limit=1000_000)
            await until(lambda: len(caller.items) == 15)
            assert streaming.given == 15
        assert streaming.ended == ["count"]
        await until(lambda: caller.last.error)
        assert b'"code": 503' in (caller.last.error or b"")


async def test_a_caller_that_gives_credit_for_a_million_does_not_stop_the_service(until: Until) -> None:
    async with (streaming := Streaming()).service, raw_caller() as caller, Client(URL) as client:
        await caller.open("numbers.count", b"{}", item_limit=HIGHEST_ITEMS, byte_limit=HIGHEST_BYTES)
        assert await client.call("numbers.echo", Number(value=1), Number) == Number(value=1)
        assert 0 < streaming.given < 100_000  # of a million
        await caller.send(cancel=True)
        await until(lambda: streaming.ended)


async def test_bytes_are_credit_too_and_one_message_of_any_size_gets_through(until: Until) -> None:
    async with Streaming().service, raw_caller() as caller:
        await caller.open("numbers.count", b"{}", byte_limit=25)
        await until(lambda: len(caller.items) == 3)  # of eleven bytes each
        await caller.send(item_limit=1000, byte_limit=34)
        await until(lambda: len(caller.items) == 4)
        await caller.send(cancel=True)


async def test_a_caller_of_which_nothing_is_heard_is_lost(until: Until) -> None:
    async with (streaming := Streaming()).service, raw_caller() as caller:
        for count, (endpoint, body) in enumerate((("total", b""), ("wait", b"{}"), ("count", b"{}")), 1):
            caller.frames.clear()
            await caller.open(f"numbers.{endpoint}", body, keep_alive=0.1)
            await until(lambda count=count: len(streaming.ended) == count and caller.last.cancel)  # type: ignore[misc]
            assert [frame.number for frame in caller.frames] == list(range(1, len(caller.frames) + 1))
        assert isinstance(streaming.outcomes[0], PeerLost)  # as it was reading
        assert isinstance(streaming.outcomes[1], asyncio.CancelledError)
        assert streaming.open_streams == 0
        assert dict(streaming.service._node._parts.statistics()["wait"].errors) == {504: 1}  # type: ignore[union-attr]


async def test_a_handler_whose_reading_is_a_task_of_its_own_ends_with_the_stream(until: Until) -> None:
    service, outcomes = Service("apart", broker=URL), list[str]()

    @service.rpc
    async def talk(requests: AsyncIterator[Number]) -> AsyncIterator[Number]:
        async def read_all() -> None:
            async for _ in requests:
                pass

        reading = asyncio.create_task(read_all())
        try:
            yield Number()
            await asyncio.Event().wait()
        except BaseException as error:
            outcomes.append(type(error).__name__)
            raise
        finally:
            await asyncio.wait([reading])
            outcomes.append(type(reading.exception()).__name__)

    async with service, raw_caller() as caller:
        await caller.open("apart.talk")
        await until(lambda: caller.items)
        await caller.send(number=5)
        await until(lambda: len(outcomes) == 2)
        assert outcomes == ["CancelledError", "StreamBroken"]


# -- to a client -----------------------------------------------------------------------------------------------


async def opened(client: Client, server: RawServer, until: Until, **how: Any) -> Stream[Number]:
    """A stream that a raw server has accepted."""
    stream = client.stream("raw.talk", reply=Number, **how)
    opening = asyncio.ensure_future(stream.__aenter__())
    await until(lambda: server.openings)
    await server.accept()
    return await opening


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ([(3, {})], "frame 3 came where 2 was awaited"),
        ([(2, {}), (2, {})], "frame 2 came again"),
        ([(2, {"items": [ONE] * (WINDOW_ITEMS + 1)})], "more came than there was credit"),
        ([(2, {"item_limit": 1})], "credit became less"),
    ],
)
async def test_a_server_that_breaks_the_rules_ends_the_stream(
    frames: list[tuple[int, dict[str, Any]]], why: str, until: Until
) -> None:
    async with Client(URL) as client, raw_server() as server:
        stream = await opened(client, server, until)
        for number, fields in frames:
            items = fields.pop("items", [ONE])
            await server.send(*items, number=number, **fields)
        await until(lambda: server.frames and server.frames[-1].broken)
        assert why in server.frames[-1].broken
        with pytest.raises(StreamBroken, match=why):
            async for _ in stream:
                pass
        with pytest.raises(StreamBroken, match=why):
            await stream.send(Number())
        assert open_streams(client) == 0


@pytest.mark.parametrize("fields", [{}, {"address": "a.*"}, {"address": "a b"}, {"peer_stream": 4}])
async def test_a_server_that_does_not_say_where_it_is_is_left(fields: dict[str, Any], until: Until) -> None:
    async with Client(URL) as client, raw_server() as server:
        stream = asyncio.ensure_future(anext(client.stream("raw.talk", reply=Number)))
        await until(lambda: server.openings)
        await server.send(**fields)
        with pytest.raises(StreamBroken, match="where the stream is served"):
            await stream
        assert open_streams(client) == 0


async def test_the_ends_of_a_stream_are_told_apart(until: Until) -> None:
    async with Client(URL) as client, raw_server() as server:
        ends: list[tuple[dict[str, Any], type[Exception] | None]] = [
            ({"end": True}, None),
            ({"error": b'{"code": 404, "detail": "gone"}'}, NotFound),
            ({"error": b'{"code": 503, "detail": "stopped", "retryable": true}'}, Unavailable),
            ({"broken": "frame 7 came where 6 was awaited"}, StreamBroken),
            ({"cancel": True}, StreamCancelled),
        ]
        for fields, kind in ends:
            server.openings.clear()
            stream = await opened(client, server, until)
            await server.send(ONE, **fields)
            assert await anext(stream) == Number(value=1)
            for _ in range(2):  # what was no clean end never looks like one
                with pytest.raises(kind or StopAsyncIteration):
                    await anext(stream)
            with pytest.raises(kind or StreamEnded):
                await stream.send(Number())
        assert open_streams(client) == 0


async def test_a_server_of_which_nothing_is_heard_is_lost(until: Until) -> None:
    async with Client(URL) as client, raw_server() as server:
        stream = await opened(client, server, until, keep_alive=0.1)
        with pytest.raises(PeerLost, match=r"nothing was heard of the other side for 0\.1 s") as lost:
            await anext(stream)
        assert isinstance(lost.value, ConnectionError)
        await until(lambda: server.frames[-1].cancel)
        assert [frame.number for frame in server.frames] == list(range(1, len(server.frames) + 1))


async def test_signs_of_life_keep_a_silent_stream(until: Until) -> None:
    async with (streaming := Streaming()).service, Client(URL) as client:
        numbers = client.stream("numbers.wait", Number(value=1), Number, keep_alive=0.1)
        await anext(numbers)
        await asyncio.sleep(0.35)
        streaming.gate.set()
        assert await anext(numbers) == Number(value=1)


async def test_a_server_that_never_reads_stops_who_sends(until: Until) -> None:
    async with Client(URL) as client, raw_server() as server:
        stream = await opened(client, server, until)  # a credit of 1000 messages and 1000 bytes
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                await stream.send(Number(value=1))
                sent += 1

        sending = asyncio.ensure_future(send())
        await asyncio.sleep(0.02)
        assert sent == 91  # of eleven bytes each: the last one begins below the limit
        await server.send(item_limit=1000, byte_limit=2000)
        await until(lambda: sent > 91)
        assert sent == 182
        await server.send(end=True)
        with pytest.raises(StreamEnded):
            await sending


async def test_an_opening_that_nobody_answers_is_given_up_at_all_instances(until: Until) -> None:
    async with Client(URL, timeout=0.05) as client, raw_server() as server:
        with pytest.raises(CallTimeout, match=r"no reply from raw\.talk"):
            await anext(client.stream("raw.talk", reply=Number))
        await until(lambda: server.cancelled)
        assert server.cancelled == [server.replies[0].encode()]
        reading = asyncio.ensure_future(anext(client.stream("raw.talk", reply=Number, timeout=10.0)))
        await until(lambda: len(server.openings) == 2)
        reading.cancel()
        await until(lambda: len(server.cancelled) == 2)
        assert server.replies[1].endswith("ms")
        await asyncio.wait([reading])
        await server.accept()  # too late
        assert open_streams(client) == 0


async def test_a_client_that_is_closed_gives_its_streams_up(until: Until) -> None:
    async with (streaming := Streaming()).service:
        async with Client(URL) as client:
            stream = await client.stream("numbers.wait", Number(), Number).__aenter__()
            await anext(stream)
        with pytest.raises(StreamCancelled):
            await anext(stream)
        await until(lambda: streaming.ended)


async def test_what_a_server_sends_in_another_type_is_refused(until: Until) -> None:
    async with Client(URL) as client, raw_server() as server:
        stream = await opened(client, server, until)
        await server.send(ONE, content_type="application/x-unknown")
        with pytest.raises(DecodeError, match="application/x-unknown"):
            await anext(stream)
        await until(lambda: server.frames)
        assert b"could not be sent or read" in (server.frames[-1].error or b"")
