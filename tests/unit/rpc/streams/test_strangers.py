"""Peers that reach for streams of others, or read none: a stream is its two sides' alone, and never for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from eventmicro import Client, MemoryBroker
from eventmicro.message import Delivery, Message
from eventmicro.rpc.streams import answering
from eventmicro.rpc.streams.frames import Frame, write_frame
from eventmicro.wire import NO_RESPONDERS, STATUS
from tests.unit.rpc.streams.kit import Number, Streaming, open_streams, raw_caller, raw_server

Until = Callable[[Callable[[], object]], Awaitable[None]]
URL = "memory://streams"
NEAR = [number for number in range(-50, 51) if number]


async def last(numbers: AsyncIterator[Number]) -> Number:
    """What comes last, when the stream ends cleanly."""
    return [number async for number in numbers][-1]


async def test_a_caller_cannot_guess_the_streams_of_others_at_a_node(until: Until) -> None:
    async with (streaming := Streaming()).service, Client(URL) as client, raw_caller() as stranger:
        await stranger.open("numbers.hold")
        await until(lambda: stranger.frames)
        async with client.stream("numbers.wait", Number(value=1), Number) as numbers:
            await anext(numbers)
            first = stranger.frames[0]
            for step in NEAR:
                await stranger.send_bytes(write_frame(Frame(max(0, first.peer_stream + step), 1, cancel=True)))
            await stranger.send(cancel=True)  # its own: what came before has been dealt with
            await until(lambda: streaming.ended == ["hold"])
            streaming.gate.set()
            assert await last(numbers) == Number(value=1)


async def test_a_server_cannot_guess_the_other_streams_of_a_caller(until: Until) -> None:
    async with (streaming := Streaming()).service, Client(URL) as client, raw_server() as stranger:
        stream = client.stream("raw.talk", reply=Number)
        opening = asyncio.ensure_future(stream.__aenter__())
        await until(lambda: stranger.openings)
        async with client.stream("numbers.wait", Number(value=1), Number) as numbers:
            await anext(numbers)
            own = stranger.openings[0].stream
            for step in NEAR:
                await stranger.send_bytes(write_frame(Frame(max(0, own + step), 2, cancel=True)))
            await stranger.accept(end=True)
            await opening
            await until(lambda: open_streams(client) == 1)
            streaming.gate.set()
            assert await last(numbers) == Number(value=1)


async def test_a_plain_client_cannot_say_of_others_that_they_have_gone(until: Until) -> None:
    async with (streaming := Streaming()).service, MemoryBroker(URL) as broker:
        readers: list[list[Delivery]] = [[], []]
        for reader in readers:
            inbox = broker.inbox()
            await broker.subscribe(inbox, reader.append)
            await broker.send(Message("numbers.wait", b"{}", None, inbox))
            await until(lambda reader=reader: reader)  # type: ignore[misc]
        prefix, _, _ = readers[1][0].reply.rpartition(".")
        for number in range(100):
            await broker.send(Message(f"{prefix}.{number}", headers={STATUS: NO_RESPONDERS}))
        await broker.send(Message(readers[1][0].reply, headers={STATUS: NO_RESPONDERS}))
        await until(lambda: streaming.ended)
        streaming.gate.set()
        await until(lambda: len(readers[0]) == 3)
        assert len(streaming.ended) == 2
        assert streaming.outcomes[1] is None


async def test_what_nobody_can_read_does_not_run_for_ever(until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "UNREAD_SECONDS", 0.05)
    async with (streaming := Streaming()).service, MemoryBroker(URL) as broker:
        for endpoint in ("count", "wait"):
            await broker.send(Message(f"numbers.{endpoint}", b"{}"))
        await until(lambda: sorted(streaming.ended) == ["count", "wait"])
        assert 0 < streaming.given < 10_000  # it has a pace, too
