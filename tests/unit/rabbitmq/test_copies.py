"""Copies of events: what a publisher said by properties and typed headers is what they say, and its orders are gone."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from eventmicro_rabbitmq.connection.properties import Copied, read_properties
from eventmicro_rabbitmq.connection.table import join_entries, read_entries
from eventmicro_rabbitmq.consuming.incoming import RabbitDelivery, for_retry, read_event
from pamqp.commands import Basic

Properties = Basic.Properties


class Holder:
    def ack(self, delivery: RabbitDelivery) -> None: ...

    async def nack(self, delivery: RabbitDelivery, delay: float) -> None: ...


def read(properties: Properties) -> Any:
    return read_event(Basic.Deliver("tag", 1, True, "events", "a.b"), properties, b"", Holder(), "queue", "events.dead")


def through(properties: Properties) -> Properties:
    """What a server hands over of properties that were published."""
    written = properties.marshal()
    found = read_properties(written, 2, len(written), int.from_bytes(written[:2], "big"))
    assert found is not None
    return found


def test_the_numbers_of_a_copy_are_what_they_were() -> None:
    """pamqp would write 19.989999771118164 for the first, and nothing at all for the second."""
    numbers = {"price": 19.99, "far": 1e300, "count": 2**40}
    event = read(Properties(message_id="1", headers=dict(numbers)))
    again = read(through(for_retry(event)))
    assert again.headers == event.headers == {"price": "19.99", "far": "1e+300", "count": "1099511627776"}
    assert numbers.items() <= (again.properties.headers or {}).items()


TYPED = {
    "yes": True,
    "small": -1,
    "large": 2**40,
    "half": 1.5,
    "price": 19.99,
    "far": 1e300,
    "none": None,
    "text": "ä",
    "bytes": bytearray(b"\x00\xff"),
    "when": datetime(2026, 1, 1, tzinfo=UTC),
    "exact": Decimal("1.25"),
    "list": [1, "a", [2.5, None]],
    "table": {"deep": {"list": [{"n": 1}]}},
    "no text": b"\xff",
}


def test_typed_headers_go_through_a_copy_in_their_types() -> None:
    """To the last bit: of a copy of a copy the bytes are the same."""
    theirs = Properties(message_id="1", headers={"x-delay": 5})
    first = read(through(Copied(theirs, (), lambda _: True, dict(TYPED))))
    assert {name: first.properties.headers[name] for name in TYPED} == TYPED
    again = read(through(for_retry(first)))
    assert {name: again.properties.headers[name] for name in TYPED} == TYPED
    assert [type(again.properties.headers[name]) for name in TYPED] == [type(value) for value in TYPED.values()]
    assert "x-delay" not in again.properties.headers
    was, now = (dict(read_entries(each.properties.table)) for each in (first, again))
    assert {name: was[name] for name in TYPED} == {name: now[name] for name in TYPED}


def test_types_that_pamqp_never_writes_go_through_a_copy() -> None:
    odd = {"byte": b"B\xff", "unsigned": b"L" + b"\xff" * 8, "single": b"f\x3f\x80\x00\x00", "short": b"s\x80\x00"}
    entries = [bytes((len(name),)) + name.encode() + value for name, value in odd.items()]
    table = join_entries(entries)
    written = (Properties.flags["headers"]).to_bytes(2, "big") + table
    found = read_properties(written, 2, len(written), Properties.flags["headers"])
    assert found is not None
    assert [entry for _, entry in read_entries(through(for_retry(read(found))).table)][:4] == entries  # type: ignore[attr-defined]


def test_a_header_of_no_known_type_costs_no_copy() -> None:
    """What could be read of the others goes on."""
    event = read(Properties(message_id="1", headers={"a": "b"}))
    event.properties.table = join_entries([b"\x01aQ"])
    assert (through(for_retry(event)).headers or {})["a"] == "b"


def test_all_properties_go_through_a_copy_but_for_orders() -> None:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    kept: dict[str, Any] = {
        "content_type": "x/y",
        "content_encoding": "utf-8",
        "priority": 3,
        "correlation_id": "c",
        "reply_to": "r",
        "message_id": "1",
        "timestamp": when,
        "message_type": "t",
        "app_id": "a",
    }
    theirs = Properties(**kept, headers={"a": 1}, expiration="5", user_id="guest", delivery_mode=1)
    for event in (read(theirs), read(through(theirs))):
        copy = through(for_retry(event))
        assert {name: getattr(copy, name) for name in kept} == kept
        assert (copy.delivery_mode, copy.expiration, copy.user_id) == (2, None, None)
