"""The RabbitMQ adapter's mappings, without a server: settings, names, delays, headers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count

import pytest
from eventmicro_rabbitmq import RabbitBroker, RabbitSettings
from eventmicro_rabbitmq.connection import link
from eventmicro_rabbitmq.connection.frames import ack_frame, nack_frame, publish_frames, read_frame
from eventmicro_rabbitmq.consuming.incoming import RabbitDelivery, for_retry, read_event, read_headers
from eventmicro_rabbitmq.consuming.returns import Returns
from eventmicro_rabbitmq.retry import SHORTEST, rung
from eventmicro_rabbitmq.settings import read_url
from eventmicro_rabbitmq.topology import binding_key, live_queue, message_id, queue_arguments, retry_queue
from pamqp import commands, frame, header
from pamqp.commands import Basic
from pamqp.common import FieldTable
from pamqp.exceptions import PAMQPException

from eventmicro.errors import ConnectionFailed, Disconnected, UsageError
from eventmicro.intake import Intake
from eventmicro.message import Delivery, Message

Properties = Basic.Properties

# -- settings --------------------------------------------------------------------------------------------------------


def test_a_url_says_where_and_who() -> None:
    settings = read_url("amqps://us%40er:p%2Fw%3A@a,b:1/v%2Fh?tls_ca=x&heartbeat=3&mandatory=true&declare=check")
    assert settings == RabbitSettings(
        servers=("a:5671", "b:1"),
        vhost="v/h",
        user="us@er",
        password="p/w:",
        tls=True,
        tls_ca="x",
        heartbeat=3,
        mandatory=True,
        declare="check",
    )


@pytest.mark.parametrize("url", ["amqp://h", "amqp://h/", "amqp://h:5672/?"])
def test_what_a_url_leaves_out_is_rabbitmqs_default(url: str) -> None:
    assert read_url(url) == RabbitSettings(servers=("h:5672",))


def test_an_address_of_version_6() -> None:
    assert read_url("amqp://[::1]:99").servers == ("[::1]:99",)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("amqp://", "write amqp://host:5672/vhost"),
        ("amqp://h/a/b", "%2F"),
        ("amqp://h:port", "port"),
        ("amqp://h?hearbeat=1", "nothing is called 'hearbeat'; there are .*heartbeat"),
        ("amqp://h?heartbeat=often", "heartbeat='often' is no int"),
        ("amqp://h?heartbeat=-1", "0 or more"),
        ("amqp://h?heartbeat=65536", "whole seconds"),
        ("amqp://h?declare=maybe", "true, check, false"),
        ("amqp://h?exchange=amq.topic", "a name of your own"),
        ("amqp://h?exchange=", "exchange '': write letters"),
        ("amqp://h?exchange=%C3%A4", "exchange 'ä': write letters"),
        (f"amqp://h?exchange={'x' * 121}", "exchange: .* up to 120 signs"),
        (f"amqp://h/{'x' * 121}", "vhost: .* up to 120 signs"),
        ("amqp://h?reconnect_wait=0", "at least 0.01 s"),
        ("amqp://h?tls_ca=x", "amqps://"),
        ("amqps://h?tls_cert=x", "belong together"),
    ],
)
def test_a_url_that_cannot_be_is_refused(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_url(url)


def test_tls_files_that_are_missing_are_named() -> None:
    with pytest.raises(UsageError, match="tls_ca"):
        read_url("amqps://h?tls_ca=missing.pem").ssl_context()


def test_no_secret_is_shown() -> None:
    broker = RabbitBroker("amqp://user:secret@h/v?name=x")
    same = RabbitBroker(settings=broker.settings)
    assert (broker.url, same.url) == ("amqp://h/v", "amqp://h:5672/v")
    assert "secret" not in repr(broker.settings)


async def test_a_broker_that_was_never_connected_takes_nothing() -> None:
    broker = RabbitBroker()
    await broker.close()
    for refused in (broker.publish(Message("a")), broker.subscribe("a", lambda _: None), broker.flush()):
        with pytest.raises(Disconnected, match="is not connected"):
            await refused


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "key"),
    [("a.b", "a.b"), ("a.*", "a.*"), ("a.>", "a.*.#"), (">", "*.#"), ("*.b.>", "*.b.*.#"), ("a>.b", "a>.b")],
)
def test_subjects_as_binding_keys(subject: str, key: str) -> None:
    assert binding_key(subject) == key


def test_the_arguments_of_a_queue_do_not_depend_on_its_dead_letters() -> None:
    plain, ordered = queue_arguments("events", "q"), queue_arguments("events", "q", ordered=True)
    assert ordered == plain | {"x-single-active-consumer": True}


@pytest.mark.parametrize("delay", [0.05, 0.06, 0.1, 1, 2.5, 10, 60, 3600, 86_400, 30 * 86_400])
def test_a_delay_is_kept_within_a_tenth(delay: float) -> None:
    assert rung(delay) / 1000 == pytest.approx(delay, rel=0.1)


def test_a_delay_has_bounds_and_few_steps() -> None:
    assert rung(0) == rung(0.001) == SHORTEST
    assert rung(1e12) < 2**32
    assert len({rung(second / 100) for second in range(1, 360_000)}) < 65
    assert retry_queue("orders.bill", 1000) == "orders.bill.retry.1000"


def test_names_of_shared_queues_are_names_and_each_another_one() -> None:
    pairs = [("q", "a.*"), ("q", "a.>"), ("q", "a.@2a"), ("q", "a.ä"), ("ä", "a"), ("q*", "a"), ("q", "a.b")]
    names = [live_queue("events", *pair) for pair in pairs]
    assert len(set(names)) == len(pairs)
    assert names[-1] == "events.live.q.a.b"
    for name in names:
        commands.Queue.Declare(queue=name)  # raises where it cannot be one


# -- frames ------------------------------------------------------------------------------------------------------------


def test_frames_are_those_of_pamqp() -> None:
    assert ack_frame(3, 7) == frame.marshal(commands.Basic.Ack(7), 3)
    assert ack_frame(3, 7, multiple=True) == frame.marshal(commands.Basic.Ack(7, multiple=True), 3)
    assert nack_frame(3, 7) == frame.marshal(commands.Basic.Nack(7, requeue=True), 3)


@pytest.mark.parametrize("size", [0, 1, 91, 92, 93, 1000])
def test_a_body_is_cut_into_frames_that_fit(size: int) -> None:
    data = publish_frames(1, "x", "k", Properties(), b"b" * size, False, 100)
    body = b""
    while data:
        used, _, part = frame.unmarshal(data)
        assert used <= 100
        body += getattr(part, "value", b"") or b""
        data = data[used:]
    assert body == b"b" * size


def header_frame(properties: Properties, *changes: tuple[bytes, bytes]) -> bytes:
    """As a publisher sends it that is not pamqp."""
    data = frame.marshal(header.ContentHeader(0, 5, properties), 3)
    for ours, theirs in changes:
        assert ours in data
        data = data.replace(ours, theirs)
    return data


def test_an_event_with_a_property_that_pamqp_cannot_read_has_those_before_it() -> None:
    now = datetime(2020, 1, 1, tzinfo=UTC)
    seconds, nanoseconds = (int(now.timestamp() * unit).to_bytes(8, "big") for unit in (1, 10**9))
    properties = Properties(content_type="x/y", headers={"a": "b"}, message_id="name", timestamp=now, app_id="app")
    for change in ((seconds, nanoseconds), (b"app", b"\xff\xff\xff")):
        data = header_frame(properties, change)
        used, channel, found = read_frame(data)
        assert (used, channel, found.body_size) == (len(data), 3, 5)
        assert (found.properties.content_type, found.properties.headers) == ("x/y", {"a": "b"})
        assert found.properties.message_id == "name"
    assert read_frame(header_frame(properties, (b"x/y", b"\xff\xff\xff")))[2].properties.message_id is None
    assert read_frame(header_frame(properties))[2].properties.app_id == "app"


def test_an_event_of_a_subject_that_is_no_text_is_read() -> None:
    data = frame.marshal(Basic.Deliver("tag", 7, True, "events", "key"), 3).replace(b"key", b"\xff\xff\xff")
    used, channel, found = read_frame(data)
    assert (used, channel, found.delivery_tag, found.redelivered) == (len(data), 3, 7, True)
    assert read(Properties(), key=found.routing_key).subject == ""


def test_other_frames_that_cannot_be_read_are_errors() -> None:
    refused = frame.marshal(commands.Connection.Close(320, "why", 0, 0), 0)
    with pytest.raises(PAMQPException):
        read_frame(refused.replace(b"why", b"\xff\xff\xff"))


# -- what comes in -----------------------------------------------------------------------------------------------------


class Holder:
    def ack(self, delivery: RabbitDelivery) -> None: ...

    async def nack(self, delivery: RabbitDelivery, delay: float) -> None: ...


def read(
    properties: Properties, exchange: str = "events", key: str = "a.b", body: bytes = b"", *, first: bool = False
) -> RabbitDelivery:
    deliver = Basic.Deliver("tag", 1, not first, exchange, key)
    return read_event(deliver, properties, body, Holder(), "queue", "events.dead")


def test_an_event_without_headers() -> None:
    delivery = read(Properties(message_id="1"))
    assert (delivery.subject, delivery.headers, delivery.attempt, delivery.id) == ("a.b", None, 1, "a.b 1")


def test_the_server_counts_deliveries_and_the_header_those_before_a_delay() -> None:
    counted: dict[str, object] = {"x-delivery-count": 2, "x-eventmicro-attempts": 3, "x-eventmicro-subject": "a.b"}
    assert read(Properties(headers=counted), "", "queue").attempt == 6
    assert read(Properties(headers=counted), "", "queue").subject == "a.b"
    assert read(Properties(headers=counted)).attempt == 3, "what a publisher writes does not count"


def test_a_first_delivery_has_no_count_of_this_queue() -> None:
    """RabbitMQ 4 leaves that of the queue before in a dead letter, and a publisher may write one."""
    counted: dict[str, object] = {"x-delivery-count": 2, "x-death": [{"queue": "q"}], "x-eventmicro-attempts": 3}
    assert read(Properties(headers=counted), first=True).attempt == 1
    assert read(Properties(headers=counted), "", "queue", first=True).attempt == 4
    letter = read(Properties(headers=counted), "events.dead", "queue", first=True)
    assert (letter.attempt, (letter.headers or {})["Dead-Letter-Attempts"]) == (1, "4")
    assert read(Properties(headers=counted), "events.dead", "queue").attempt == 3


@pytest.mark.parametrize("value", ["2", -1, None, 1.5, b"x", [1], {"a": 1}])
def test_a_count_that_is_none_counts_nothing(value: object) -> None:
    assert read(Properties(headers={"x-delivery-count": value, "x-eventmicro-attempts": value}), "").attempt == 1


def test_a_copy_carries_all_that_the_event_had() -> None:
    raw = {"a": "b", "n": 1, "raw": b"\xff", "list": [b"\xff"], "x-death": [{"queue": "q"}], "x-delivery-count": 4}
    theirs = Properties(headers=raw, content_type="x/y", message_id="1", priority=3, expiration="5", user_id="u")
    copy = for_retry(read(theirs))
    assert copy.headers == {
        "a": "b",
        "n": 1,
        "raw": bytearray(b"\xff"),
        "list": [bytearray(b"\xff")],
        "x-eventmicro-attempts": 5,
        "x-eventmicro-subject": "a.b",
    }
    assert (copy.content_type, copy.message_id, copy.priority, copy.delivery_mode) == ("x/y", "1", 3, 2)
    assert copy.expiration is None
    assert copy.user_id in (None, "")
    publish_frames(1, "", "q", copy, b"", True, 4096)


@pytest.mark.parametrize("id", ["7", None])
def test_an_id_is_of_its_subject_also_when_it_comes_from_elsewhere(id: str | None) -> None:
    event, other = read(Properties(message_id="7")), read(Properties(message_id="7"), key="a.c")
    assert event.id != other.id
    event = read(Properties(message_id=id))
    assert read(for_retry(event), exchange="", key="queue").id == event.id != ""
    deaths: list[FieldTable] = [{"routing-keys": ["a.b"], "queue": "queue"}]
    given_up = for_retry(event)
    given_up.headers = {"x-death": deaths}
    assert read(given_up, exchange="events.dead", key="queue").id == event.id


def test_an_id_that_is_too_long_is_sent_as_a_hash_of_it() -> None:
    assert [message_id(name) for name in ("1", "x" * 255)] == ["1", "x" * 255]
    one, other = message_id("ä" * 128), message_id("ä" * 129)
    assert one == message_id("ä" * 128) != other
    assert len(one) == 64


ORDERS = [
    *("CC", "BCC", "x-delay", "x-cache-ttl", "x-deduplication-header", "x-stream-filter-value", "x-received-from"),
    *("x-death", "x-first-death-queue", "x-last-death-reason", "x-delivery-count", "x-acquired-count", "x-opt-deaths"),
    *("x-shovelled", "x-mqtt-publish-qos", "x-amqp-1.0-properties"),
]


@pytest.mark.parametrize("name", ORDERS)
def test_no_copy_carries_an_order_to_the_server(name: str) -> None:
    """By dead letters and copies that wait, which are published from what is read here."""
    event = read(Properties(message_id="1", headers={name: ["x"], "x-request-id": "7", "x-delayed-by": "us"}))
    assert event.headers == {"x-request-id": "7", "x-delayed-by": "us"}
    assert name not in (for_retry(event).headers or {})


def test_a_copy_asks_for_no_direct_reply() -> None:
    """RabbitMQ would end the channel: only one that awaits such replies may."""
    assert not for_retry(read(Properties(message_id="1", reply_to="amq.rabbitmq.reply-to"))).reply_to
    assert for_retry(read(Properties(message_id="1", reply_to="answers"))).reply_to == "answers"


def test_headers_that_could_not_be_published_again_are_none() -> None:
    foreign = Properties(headers={"CC": ["x"], "BCC": ["x"], "ä" * 65: "too long", "Cc": "y"}, message_id="1")
    assert read_headers(foreign) == {"Cc": "y"}
    assert set(for_retry(read(foreign)).headers or {}) == {"Cc", "x-eventmicro-attempts", "x-eventmicro-subject"}


async def test_only_the_event_that_was_given_back_is_taken_for_it() -> None:
    came: list[RabbitDelivery] = []
    awaited = Returns("queue", came.extend)
    event, other, twice = (read(Properties(message_id="7"), key=key) for key in ("a.b", "a.c", "a.b"))
    awaited.expect(event)
    assert not awaited.takes(other)
    assert awaited.takes(twice)
    assert came == [twice]


def test_ids_made_up_are_the_same_each_time_and_differ_by_event() -> None:
    one, again, other = read(Properties(), body=b"1"), read(Properties(), body=b"1"), read(Properties(), body=b"2")
    assert one.id == again.id != other.id != ""


@pytest.mark.parametrize("deaths", [None, [], "x", [1], [{}], [{"routing-keys": []}], [{"routing-keys": 5}]])
def test_whatever_is_said_of_a_death_is_read(deaths: object) -> None:
    letter = read(Properties(headers={"x-death": deaths}), "events.dead", "q")
    assert letter.subject == "queue"
    assert set(letter.headers or {}) >= {"Dead-Letter-Reason", "Dead-Letter-Subject"}


def test_headers_of_any_type_are_text() -> None:
    headers = read_headers(Properties(headers={"n": 1, "b": True, "raw": b"\xff"}, content_type="x/y"))
    assert headers == {"n": "1", "b": "True", "raw": "\ufffd", "Content-Type": "x/y"}


# -- intake ------------------------------------------------------------------------------------------------------------


async def test_the_intake_hands_over_in_order_and_while_there_is_room() -> None:
    got: list[bytes] = []
    rooms: list[asyncio.Future[None]] = []

    def receive(delivery: Delivery) -> Awaitable[None]:
        got.append(delivery.body)
        rooms.append(asyncio.get_running_loop().create_future())
        return rooms[-1]

    intake: Intake[Delivery] = Intake(receive)
    for body in (b"1", b"2", b"3"):
        intake.take(Delivery("a", body))
    assert (got, len(intake)) == ([b"1"], 2)
    intake.put_first(Delivery("a", b"0"))
    rooms[0].set_result(None)
    await asyncio.sleep(0.01)
    assert got == [b"1", b"0"]
    assert [delivery.body for delivery in intake.take_back()] == [b"2", b"3"]
    rooms[1].set_result(None)
    await intake.join()
    intake.hold()
    intake.take(Delivery("a", b"4"))
    assert got == [b"1", b"0"]
    intake.go_on()
    await asyncio.sleep(0.01)
    assert got == [b"1", b"0", b"4"]
    intake.close()
    await intake.join()


async def test_a_consumer_that_raises_does_not_stop_the_intake() -> None:
    got: list[bytes] = []

    def receive(delivery: Delivery) -> None:
        got.append(delivery.body)
        raise ValueError

    intake: Intake[Delivery] = Intake(receive)
    intake.take(Delivery("a", b"1"))
    intake.take(Delivery("a", b"2"))
    assert got == [b"1", b"2"]


async def test_a_wait_for_room_that_fails_does_not_stop_the_intake() -> None:
    got: list[bytes] = []

    async def fail() -> None:
        raise ValueError

    def receive(delivery: Delivery) -> Awaitable[None]:
        got.append(delivery.body)
        return fail()

    intake: Intake[Delivery] = Intake(receive)
    for body in (b"1", b"2", b"3"):
        intake.take(Delivery("a", body))
    await intake.join()
    assert got == [b"1", b"2", b"3"]


async def test_a_wait_for_room_that_is_cancelled_does_not_stop_the_intake() -> None:
    """As where whoever was to say that there is room has ended."""
    got: list[bytes] = []
    rooms: list[asyncio.Future[None]] = []

    def receive(delivery: Delivery) -> Awaitable[None]:
        got.append(delivery.body)
        rooms.append(asyncio.get_running_loop().create_future())
        return rooms[-1]

    intake: Intake[Delivery] = Intake(receive)
    for body in (b"1", b"2", b"3"):
        intake.take(Delivery("a", body))
    for number in (1, 2, 3):
        await asyncio.sleep(0)
        rooms[-1].cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(got) == min(number + 1, 3)
    await intake.join()
    assert got == [b"1", b"2", b"3"]


# -- link --------------------------------------------------------------------------------------------------------------


class FakeConnection:
    def __init__(self) -> None:
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ended = False

    async def end(self) -> None:
        self.ended = True


async def test_a_link_closes_a_connection_that_is_made_while_it_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As aiormq may, it gives its answer together with a cancellation."""
    made: list[FakeConnection] = []
    again = asyncio.Event()

    async def connect(_: RabbitSettings) -> FakeConnection:
        if made:
            again.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        made.append(FakeConnection())
        return made[-1]

    monkeypatch.setattr(link, "connect", connect)
    settings = RabbitSettings(reconnect_wait=0.01)
    opened = link.Link(settings, lambda _: None, lambda _: None, lambda: None)
    await opened.open()
    made[0].lost.set_result("cut")
    await again.wait()
    await opened.close()
    assert [connection.ended for connection in made] == [True, True]


async def test_a_broker_makes_its_connections_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other they might take twice as long as `connect_timeout`."""
    both = asyncio.Barrier(2)

    async def connect(_: RabbitSettings) -> FakeConnection:
        await both.wait()
        return FakeConnection()

    monkeypatch.setattr(link, "connect", connect)
    async with asyncio.timeout(20), RabbitBroker() as broker:
        assert broker.online


@pytest.mark.parametrize("refused", [0, 1])
@pytest.mark.parametrize("other", ["made before", "made meanwhile", "not made"])
async def test_a_broker_that_gets_one_of_its_connections_leaves_none_open(
    refused: int, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = count()
    made: list[FakeConnection] = []
    is_asked = asyncio.Event()

    async def connect(_: RabbitSettings) -> FakeConnection:
        if next(numbers) == refused:
            await is_asked.wait()
            await asyncio.sleep(0)
            raise ConnectionFailed("refused")
        is_asked.set()
        if other != "made before":
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        if other == "not made":
            raise asyncio.CancelledError
        made.append(FakeConnection())
        return made[-1]

    monkeypatch.setattr(link, "connect", connect)
    broker = RabbitBroker()
    with pytest.raises(ConnectionFailed, match="refused"):
        async with asyncio.timeout(20):
            await broker.connect()
    assert not broker.connected
    assert [connection.ended for connection in made] == ([] if other == "not made" else [True])


async def test_a_connect_that_is_cancelled_leaves_no_connection_open(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[FakeConnection] = []
    is_asked = asyncio.Event()

    async def connect(_: RabbitSettings) -> FakeConnection:
        if made:
            is_asked.set()
            await asyncio.Event().wait()
        made.append(FakeConnection())
        return made[-1]

    monkeypatch.setattr(link, "connect", connect)
    connecting = asyncio.ensure_future(RabbitBroker().connect())
    async with asyncio.timeout(20):
        await is_asked.wait()
    connecting.cancel()
    await asyncio.wait([connecting])
    assert connecting.cancelled()
    assert [connection.ended for connection in made] == [True]
