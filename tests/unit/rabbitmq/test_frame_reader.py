"""The reader of frames gives what pamqp gives, frame by frame, however they are cut on their way."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from eventmicro_rabbitmq.connection.event import Event
from eventmicro_rabbitmq.connection.frames import Properties, publish_frames, read_frame
from eventmicro_rabbitmq.connection.properties import Limited, Persistent
from eventmicro_rabbitmq.connection.reader import FrameReader
from pamqp import body, commands, frame, header, heartbeat
from pamqp.commands import Basic

from eventmicro.errors import MessageTooLarge

CHANNELS = (1, 2, 700)
CLOSED = 9  # nobody has this one open
FRAME_MAX = 4096

Said = tuple[Any, ...]
All = tuple[list[Said], dict[int, tuple[list[Said], list[Said]]]]
"""What was left to aiormq, and of each channel its events and what else it said."""


class Channel:
    """Notes what it is handed: events, which come when all else of a chunk has been read, and the rest."""

    def __init__(self) -> None:
        self.events: list[Said] = []
        self.said: list[Said] = []
        self.runs: list[int] = []

    def take_events(self, events: list[Event]) -> None:
        self.runs.append(len(events))
        for event in events:
            method = event.delivery_tag, event.redelivered, event.exchange, event.routing_key
            self.events.append((method, values(event.properties), event.body))

    def take_confirm(self, tag: int, *, multiple: bool, stored: bool) -> None:
        self.said.append(("confirm", tag, multiple, stored))

    def take_return(self, frame: Basic.Return, properties: Properties) -> None:
        self.said.append(("return", values(frame), values(properties)))


def values(of: Any) -> dict[str, str]:
    """What a frame or its properties say; as text, since NaN is not equal to itself."""
    inside = {name: getattr(of, name) for name in getattr(of, "__slots__", ()) or vars(of)}
    return {name: repr(values(value) if isinstance(value, Properties) else value) for name, value in inside.items()}


class Read:
    """What the reader makes of chunks."""

    def __init__(self) -> None:
        self.channels = {number: Channel() for number in CHANNELS}
        self.left: list[Said] = []
        self._reader = FrameReader(self.channels, self._leave)

    def feed(self, *chunks: bytes) -> Read:
        for chunk in chunks:
            self._reader.feed(chunk)
        return self

    def _leave(self, size: int, channel: int, left: Any) -> None:
        self.left.append((size, channel, type(left), values(left)))

    @property
    def all(self) -> All:
        return self.left, {number: (channel.events, channel.said) for number, channel in self.channels.items()}


def expected(data: bytes) -> All:
    """What pamqp makes of it, and aiormq's channels: the same without any haste."""
    said: dict[int, tuple[list[Said], list[Said]]] = {number: ([], []) for number in CHANNELS}
    left: list[Said] = []
    open_: dict[int, list[Any]] = defaultdict(list)
    position = 0
    while position < len(data):
        whole = 8 + int.from_bytes(data[position + 3 : position + 7], "big")
        size, channel, found = read_frame(data[position : position + whole])
        position += whole
        parts = open_[channel]
        if channel not in said:
            left.append((size, channel, type(found), values(found)))
        elif parts or isinstance(found, Basic.Deliver | Basic.Return):
            parts.append(found)
            if len(parts) > 1 and sum(len(part.value) for part in parts[2:]) >= parts[1].body_size:
                said[channel][isinstance(parts[0], Basic.Return)].append(message(*parts))
                parts.clear()
        elif isinstance(found, Basic.Ack | Basic.Nack):
            said[channel][1].append(("confirm", found.delivery_tag, found.multiple, isinstance(found, Basic.Ack)))
        else:
            left.append((size, channel, type(found), values(found)))
    return left, said


def message(method: Any, head: header.ContentHeader, *parts: body.ContentBody) -> Said:
    if isinstance(method, Basic.Return):
        return "return", values(method), values(head.properties)
    about = method.delivery_tag, method.redelivered, method.exchange, method.routing_key
    return about, values(head.properties), b"".join(bytes(part.value) for part in parts)


# -- what a server may send --------------------------------------------------------------------------------------------

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NO_TEXT = "what pamqp can read, and cannot write"
VALUES: list[Any] = [
    *("text", "ä", "", 0, -1, 2**31, 2**40, True, 1.5, Decimal("1.25"), NOW, None, NO_TEXT, bytearray(b"x")),
    *([], [1, "a", [None]], {}, {"a": {"b": [{"c": 1}]}}, [{"queue": "q", "reason": "rejected", "count": 1}]),
]
TEXTS = ("content_type", "content_encoding", "correlation_id", "reply_to", "expiration", "message_id", "message_type")


def properties(dice: random.Random) -> Properties:
    """Any of them, in any number."""
    kind = dice.random()
    if kind < 0.3:
        return Properties(delivery_mode=2, message_id=f"{dice.getrandbits(64):x}")
    found = Properties()
    for name in (*TEXTS, "user_id", "app_id"):
        if dice.random() < 0.3:
            setattr(found, name, dice.choice(["x", "some text", "ü" * 40, "y" * 255]))
    if dice.random() < 0.4:
        names = dice.sample(["a", "x-death", "Content-Type", "ö", "z" * 128, "trace"], dice.randrange(6))
        found.headers = {name: dice.choice(VALUES) for name in names}
    if dice.random() < 0.4:
        found.delivery_mode = dice.choice([1, 2])
    if dice.random() < 0.2:
        found.priority = dice.randrange(10)
    if dice.random() < 0.2:
        found.timestamp = NOW
    return found


def content(dice: random.Random, channel: int) -> list[bytes]:
    """The frames of a message behind the one that says what it is."""
    size = dice.choice([0, 1, 7, 100, 2000, dice.randrange(12_000)])
    payload = dice.randbytes(size)
    cut = dice.choice([FRAME_MAX - 8, dice.randrange(1, FRAME_MAX - 8)]) if dice.random() < 0.5 else FRAME_MAX - 8
    parts = [payload[start : start + cut] for start in range(0, size, cut)]
    head = frame.marshal(header.ContentHeader(0, size, properties(dice)), channel)
    head = head.replace(NO_TEXT.encode(), b"\xff" * len(NO_TEXT))
    return [head, *(frame.marshal(body.ContentBody(part), channel) for part in parts)]


def one(dice: random.Random, channel: int) -> list[bytes]:
    """The frames of one thing that a server says on a channel."""
    tag, key = dice.randrange(1, 2**40), dice.choice(["a.b", "", "k" * 255, "ä.ö", "orders.placed"])
    exchange = dice.choice(["events", "", "events.dead"])
    kind = dice.random()
    if kind < 0.6:
        name = dice.choice(["eventmicro", "", "c" * 255])
        deliver = Basic.Deliver(name, tag, dice.random() < 0.2, exchange, key)
        return [frame.marshal(deliver, channel), *content(dice, channel)]
    if kind < 0.7:
        return [frame.marshal(Basic.Return(312, "NO_ROUTE", exchange, key), channel), *content(dice, channel)]
    if kind < 0.85:
        confirm = dice.choice([Basic.Ack, Basic.Nack])(tag, multiple=dice.random() < 0.5)
        return [frame.marshal(confirm, channel)]
    others = [
        Basic.ConsumeOk("eventmicro"),
        Basic.Cancel("eventmicro"),
        Basic.CancelOk("eventmicro"),
        Basic.QosOk(),
        Basic.GetEmpty(),
        commands.Queue.DeclareOk("q", 1, 2),
        commands.Channel.CloseOk(),
        commands.Channel.Close(404, "NOT_FOUND", 60, 40),
        commands.Channel.Flow(active=True),
        commands.Confirm.SelectOk(),
    ]
    if kind < 0.95:
        return [frame.marshal(dice.choice(others), channel)]
    return [frame.marshal(Basic.GetOk(tag, False, exchange, key, 3), channel), *content(dice, channel)]


def on_none(dice: random.Random) -> bytes:
    blocked = commands.Connection.Blocked("low on memory")
    return dice.choice([heartbeat.Heartbeat().marshal(), frame.marshal(blocked, 0)])


def stream(dice: random.Random, count: int) -> list[bytes]:
    """Frames of all channels, those of each in its order."""
    ways: list[Iterator[bytes]] = [
        iter([part for _ in range(count) for part in one(dice, channel)]) for channel in (*CHANNELS, CLOSED)
    ]
    frames: list[bytes] = []
    while ways:
        way = dice.choice(ways)
        for _ in range(dice.choice([1, 3, 30])):
            following = next(way, None)
            if following is None:
                ways.remove(way)
                break
            frames.append(following)
        if dice.random() < 0.1:
            frames.append(on_none(dice))
    return frames


def cut(dice: random.Random, data: bytes) -> list[bytes]:
    """The same in chunks of all sizes."""
    most = dice.choice([3, 50, 1500, 65_536])
    chunks: list[bytes] = []
    while data:
        size = dice.randrange(1, most + 1)
        chunks.append(data[:size])
        data = data[size:]
    return chunks


# -- that it is the same -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_whatever_comes_is_read_as_pamqp_reads_it(seed: int) -> None:
    dice = random.Random(seed)
    data = b"".join(stream(dice, 12))
    should = expected(data)
    assert Read().feed(data).all == should
    assert Read().feed(*cut(dice, data)).all == should


def test_wherever_it_is_cut_it_is_the_same() -> None:
    event = [
        frame.marshal(Basic.Deliver("c", 7, True, "events", "a"), 1),
        *small(1, Properties(message_id="1"), b"xyz"),
    ]
    data = b"".join([*event, frame.marshal(Basic.Ack(3, multiple=True), 2), *event])
    should = expected(data)
    for first in range(len(data)):
        for second in range(first, len(data)):
            assert Read().feed(data[:first], data[first:second], data[second:]).all == should


@pytest.mark.parametrize("seed", range(40))
def test_what_is_broken_is_read_as_pamqp_reads_it(seed: int) -> None:
    """A byte of what a frame says is another one: a length, a text, a flag; the frames themselves are whole."""
    dice = random.Random(seed)
    for _ in range(50):
        frames = [frame.marshal(Basic.Deliver("c", 7, True, "events", "a.b"), 1), *content(dice, 1)]
        broken = dice.randrange(2)
        change = bytearray(frames[broken])
        skipped = (13, 19)[broken]  # which method it is and for which consumer; how long its body is
        change[dice.randrange(skipped, len(change) - 1)] = dice.choice([0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)])
        frames[broken] = bytes(change)
        data = b"".join(frames + frames)
        assert outcome(lambda data=data: Read().feed(data).all) == outcome(lambda data=data: expected(data))


def outcome(read: Any) -> Any:
    try:
        return read()
    except Exception as error:
        return type(error)


def small(channel: int, properties: Properties, payload: bytes) -> list[bytes]:
    head = frame.marshal(header.ContentHeader(0, len(payload), properties), channel)
    return [head, frame.marshal(body.ContentBody(payload), channel)] if payload else [head]


# -- how it hands over -------------------------------------------------------------------------------------------------


def events(channel: int, count: int, payload: bytes = b"x") -> bytes:
    delivers = [frame.marshal(Basic.Deliver("c", number, False, "events", "a"), channel) for number in range(count)]
    rest = b"".join(small(channel, Properties(), payload))
    return b"".join(deliver + rest for deliver in delivers)


def test_the_events_of_a_chunk_come_together_those_of_each_channel() -> None:
    data = events(1, 5) + events(2, 3) + events(1, 5) + heartbeat.Heartbeat().marshal() + events(2, 2)
    read = Read().feed(data, events(1, 1))
    assert [read.channels[number].runs for number in CHANNELS] == [[10, 1], [5], []]


def test_a_body_in_many_pieces_is_joined_once() -> None:
    payload = random.Random(1).randbytes(200_000)
    pieces = [payload[start : start + 4000] for start in range(0, len(payload), 4000)]
    frames = [
        frame.marshal(Basic.Deliver("c", 1, False, "events", "a"), 1),
        frame.marshal(header.ContentHeader(0, len(payload), Properties()), 1),
        *(frame.marshal(body.ContentBody(piece), 1) for piece in pieces),
    ]
    read = Read()
    for part in frames:
        assert not read.channels[1].events
        read.feed(part)
    assert read.channels[1].events[0][-1] == payload


def test_a_channel_that_ends_amid_an_event_ends_without_it() -> None:
    begun = events(1, 1, b"x" * 50)[:60]
    closed = frame.marshal(commands.Channel.Close(404, "NOT_FOUND", 60, 40), 1)
    whole = frame.marshal(Basic.Deliver("c", 1, False, "events", "a"), 1)
    read = Read().feed(whole, closed, events(1, 1))
    assert [kind for _, _, kind, _ in read.left] == [commands.Channel.Close]
    assert read.channels[1].runs == [1]
    assert not Read().feed(begun).left


@pytest.mark.parametrize(
    "wrong",
    [
        frame.marshal(Basic.QosOk(), 1),
        frame.marshal(Basic.Deliver("c", 1, False, "events", "a"), 1),
        frame.marshal(body.ContentBody(b"x"), 1),
    ],
    ids=["another method", "another event", "a body at once"],
)
def test_what_must_not_come_amid_an_event_ends_the_connection(wrong: bytes) -> None:
    with pytest.raises(ConnectionError, match="unexpected frame"):
        Read().feed(frame.marshal(Basic.Deliver("c", 1, False, "events", "a"), 1), wrong)


def test_a_frame_may_be_longer_than_was_agreed() -> None:
    """RabbitMQ adds headers of its own to what just fitted."""
    properties = Properties(headers={"long": "x" * 200_000})
    data = frame.marshal(Basic.Deliver("c", 1, False, "events", "a"), 1) + b"".join(small(1, properties, b"y"))
    assert Read().feed(data).all == Read().feed(data[:1000], data[1000:]).all == expected(data)


def test_names_and_sets_of_properties_are_remembered_within_bounds() -> None:
    read = Read()
    for number in range(5000):
        deliver = frame.marshal(Basic.Deliver("c", number, False, "events", f"key.{number}"), 1)
        read.feed(b"".join([deliver, *small(1, Properties(message_id="1"), b"x")]))
    assert [method[3] for method, *_ in read.channels[1].events] == [f"key.{number}" for number in range(5000)]
    assert len(read._reader._events._names) <= 1024


# -- what is published -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [None, "", "application/x", "ü" * 127])
@pytest.mark.parametrize("headers", [None, {}, {"b": "1", "a": "ä"}, {"n": 1, "deep": {"x": [None]}}])
def test_properties_are_written_as_pamqp_writes_them(content_type: str | None, headers: dict[str, Any] | None) -> None:
    ours = Persistent("an id", content_type, headers)
    theirs = Properties(delivery_mode=2, message_id="an id", content_type=content_type, headers=headers)
    assert ours.marshal() == theirs.marshal()
    assert values(ours) == values(theirs)


@pytest.mark.parametrize("headers", [None, {"b": "1"}])
@pytest.mark.parametrize(("expiration", "priority"), [(1500, None), (None, 0), (1, 255)])
def test_how_long_and_how_urgent_is_written_as_pamqp_writes_it(
    headers: dict[str, Any] | None, expiration: int | None, priority: int | None
) -> None:
    plain = Persistent("an id", "application/json", headers, "utf-8", "c", since=1_700_000_000)
    theirs = Properties(
        content_type="application/json",
        content_encoding="utf-8",
        headers=headers,
        delivery_mode=2,
        priority=priority,
        correlation_id="c",
        expiration=None if expiration is None else str(expiration),
        message_id="an id",
        timestamp=datetime.fromtimestamp(1_700_000_000, UTC),
    )
    assert Limited(plain, expiration, priority).marshal() == theirs.marshal()


def test_what_is_published_is_written_as_pamqp_writes_it() -> None:
    head = header.ContentHeader(0, 3, Properties(delivery_mode=2, message_id="1"))
    for mandatory in (True, False):
        method = Basic.Publish(exchange="events", routing_key="a.ä", mandatory=mandatory)
        parts = (method, head, body.ContentBody(b"xyz"))
        ours = publish_frames(7, "events", "a.ä", Persistent("1"), b"xyz", mandatory, FRAME_MAX)
        assert ours == b"".join(frame.marshal(part, 7) for part in parts)


def test_headers_that_just_fit_into_a_frame_are_sent() -> None:
    def size(length: int) -> int:
        return len(frame.marshal(header.ContentHeader(0, 0, Properties(headers={"a": "x" * length})), 1))

    fits = FRAME_MAX - size(0)
    publish_frames(1, "events", "a", Properties(headers={"a": "x" * fits}), b"", False, FRAME_MAX)
    with pytest.raises(MessageTooLarge, match="headers of 4097 bytes, over the 4096"):
        publish_frames(1, "events", "a", Properties(headers={"a": "x" * (fits + 1)}), b"", False, FRAME_MAX)


def test_properties_that_are_not_there_have_their_defaults_and_other_names_are_errors() -> None:
    assert values(Persistent("1")) == values(Properties(delivery_mode=2, message_id="1"))
    assert Persistent("1") == Properties(delivery_mode=2, message_id="1")
    with pytest.raises(AttributeError, match="nonsense"):
        Persistent("1").nonsense
