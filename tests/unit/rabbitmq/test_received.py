"""What comes on a connection: the stream, what is left to aiormq, and how much of it may wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiormq.exceptions import AMQPConnectionError
from eventmicro_rabbitmq.connection.event import Event
from eventmicro_rabbitmq.connection.received import FRAMES, Frames, Stream
from pamqp import commands, frame, header
from pamqp.commands import Basic

QOS_OK = frame.marshal(Basic.QosOk(), 1)
DELIVERY = frame.marshal(Basic.Deliver("c", 7, False, "events", "a"), 1) + frame.marshal(header.ContentHeader(), 1)


class Channel:
    def __init__(self) -> None:
        self.tags: list[int | None] = []

    def take_events(self, events: list[Event]) -> None:
        self.tags += [event.delivery_tag for event in events]

    def take_confirm(self, tag: int, *, multiple: bool, stored: bool) -> None:
        self.tags.append(tag)

    def take_return(self, *_: Any) -> None: ...


class Connection:
    """What comes, and what is done about it."""

    def __init__(self) -> None:
        self.channel = Channel()
        self.lives = 0
        self.paused: list[bool] = []
        self.frames = Frames({1: self.channel}, self._live, self.paused.append)

    def _live(self) -> None:
        self.lives += 1


async def test_what_came_before_is_read_first_and_then_each_chunk_as_it_comes() -> None:
    connection, stream = Connection(), Stream(1000)
    stream.feed_data(b"greeting" + QOS_OK + DELIVERY[:20])
    assert await stream.readexactly(8) == b"greeting"
    await stream.read_by(connection.frames)
    assert connection.channel.tags == []
    stream.feed_data(DELIVERY[20:] + DELIVERY)
    assert connection.channel.tags == [7, 7]
    _, channel, left = await anext(connection.frames)
    assert (channel, type(left)) == (1, Basic.QosOk)


async def test_whatever_comes_is_a_sign_of_life() -> None:
    connection = Connection()
    for part in (QOS_OK[:1], QOS_OK[1:], DELIVERY):
        connection.frames.feed(part)
    assert connection.lives == 3


async def test_no_more_is_read_while_much_waits_for_aiormq() -> None:
    connection = Connection()
    for _ in range(2):
        connection.frames.feed(QOS_OK * FRAMES)
    assert connection.paused == [True]
    for _ in range(2 * FRAMES):
        await anext(connection.frames)
    assert connection.paused == [True]
    further = asyncio.ensure_future(anext(connection.frames))
    await asyncio.sleep(0)
    assert connection.paused == [True, False]
    connection.frames.feed(QOS_OK)
    await further


async def test_events_and_confirms_do_not_wait_for_aiormq() -> None:
    connection = Connection()
    connection.frames.feed((DELIVERY + frame.marshal(Basic.Ack(3), 1)) * 2 * FRAMES)
    assert connection.paused == []
    assert len(connection.channel.tags) == 4 * FRAMES


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", ["ended", "broken"])
async def test_the_end_comes_behind_what_came_before_it(when: str, how: str) -> None:
    connection, stream = Connection(), Stream(1000)
    if when == "after":
        await stream.read_by(connection.frames)
    stream.feed_data(QOS_OK)
    if how == "broken" and when == "before":  # asyncio's stream then says no more
        await stream.readexactly(len(QOS_OK))
    stream.feed_eof() if how == "ended" else stream.set_exception(ConnectionResetError("reset by peer"))
    if when == "before":
        await stream.read_by(connection.frames)
    if how == "ended" or when == "after":
        assert isinstance((await anext(connection.frames))[2], Basic.QosOk)
    with pytest.raises(AMQPConnectionError, match="the server has ended it" if how == "ended" else "reset by peer"):
        await anext(connection.frames)


async def test_a_frame_without_its_end_ends_it() -> None:
    connection = Connection()
    waiting = asyncio.ensure_future(anext(connection.frames))
    await asyncio.sleep(0)
    blocked = frame.marshal(commands.Connection.Blocked("why"), 0)
    connection.frames.feed(blocked[:-1] + b"x" + DELIVERY)
    with pytest.raises(Exception, match="Last byte error"):
        await waiting
    assert connection.channel.tags == []
    connection.frames.feed(DELIVERY)
    assert connection.channel.tags == []
