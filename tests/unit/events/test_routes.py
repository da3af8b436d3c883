"""Where the events of a topic go and how they travel."""

from __future__ import annotations

import pytest

from eventmicro import Topic, UsageError
from eventmicro.codecs import Codecs
from eventmicro.events.routes import MOST, Routes
from eventmicro.wire import CONTENT_TYPE


def test_subjects_that_are_made_up_are_not_kept_for_ever() -> None:
    routes = Routes(Codecs())
    for number in range(2 * MOST + 10):
        assert routes.find(f"orders.{number}").address(b"").subject == f"orders.{number}"
    assert len(routes._known) <= MOST


def test_topics_of_one_name_keep_their_types() -> None:
    routes = Routes(Codecs())
    numbers, texts = Topic("values", int), Topic("values", str)
    assert routes.find(numbers).body(1).kind is int
    assert routes.find(texts).body("a").kind is str
    assert routes.find(numbers) is routes.find(numbers)


def test_on_a_plain_subject_each_event_travels_as_its_own_type_does() -> None:
    route = Routes(Codecs()).find("values")
    assert [route.pack(route.address(event), event, None).body for event in ({"a": 1}, b"raw", 2)] == [
        b'{"a":1}',
        b"raw",
        b"2",
    ]


def test_a_subject_of_a_class_that_cannot_be_hashed_is_one() -> None:
    class Name(str):
        def __eq__(self, other: object) -> bool:
            return str.__eq__(self, other)

    routes = Routes(Codecs())
    assert routes.find(Name("orders")).address(b"").subject == "orders"


def test_messages_do_not_share_their_headers() -> None:
    route = Routes(Codecs()).find("values")
    metadata = {"A": "a"}
    first, second = (route.pack(route.address(1), 1, metadata).headers for _ in range(2))
    assert first is not None
    first[CONTENT_TYPE] = "text/plain"
    assert second == metadata == {"A": "a"}


@pytest.mark.parametrize("topic", [{"not": "hashable"}, 7, None, b"orders"])
def test_what_is_no_topic_is_refused(topic: object) -> None:
    with pytest.raises(UsageError, match=f"publish to a Topic or a subject, not to a {type(topic).__name__}"):
        Routes(Codecs()).find(topic)  # type: ignore[arg-type]
