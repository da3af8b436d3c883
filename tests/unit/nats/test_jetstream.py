"""The JetStream adapter's words: settings, names of consumers, what subjects and headers say."""

from __future__ import annotations

import pytest

pytest.importorskip("nats")

from eventmicro_nats import JetStreamBroker, JetStreamSettings
from eventmicro_nats.connection.headers import _is_known_name, is_order, read_event_headers, read_headers, write_headers
from eventmicro_nats.connection.subjects import covers
from eventmicro_nats.jetstream.api import read_error
from eventmicro_nats.jetstream.deliveries import read_settle_subject
from eventmicro_nats.jetstream.queues import consumer_name

from eventmicro.errors import Unsupported, UsageError
from eventmicro.retry import Retry
from eventmicro.service import Service


def test_a_url_says_the_settings_of_nats_and_of_jetstream() -> None:
    broker = JetStreamBroker("jetstream://joe:secret@a:4222,b:4222?tls=true&replicas=3&max_age=60&declare=check")
    assert broker.settings == JetStreamSettings(
        servers=("nats://a:4222", "nats://b:4222"),
        user="joe",
        password="secret",
        tls=True,
        replicas=3,
        max_age=60.0,
        declare="check",
    )
    assert broker.url == "jetstream://a:4222,b:4222"


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("declare=maybe", "declare='maybe': there are true, check, false"),
        ("storage=tape", "storage='tape': there are file, memory"),
        ("replicas=0", "replicas=0: write 1 to 5"),
        ("replicas=7", "replicas=7: write 1 to 5"),
        ("stream=a.b", "stream='a.b': write letters"),
        ("object_bucket=a.b", "object_bucket='a.b': write letters"),
        ("object_ttl=-1", "object_ttl"),
        ("ack_wait=0", "ack_wait=0: at least 0.2 s"),
        ("replica=3", "nothing is called 'replica'; there are .*replicas"),
    ],
)
def test_settings_that_cannot_be_are_refused(query: str, wanted: str) -> None:
    with pytest.raises(UsageError, match=wanted):
        JetStreamBroker(f"jetstream://a?{query}")


def test_the_settings_of_jetstream_are_none_of_nats() -> None:
    with pytest.raises(UsageError, match="write jetstream://host:4222"):
        JetStreamBroker("jetstream://")


NAMES = ["orders.bill", "orders=bill", "orders-bill", "orders_bill", "a%3Db", "a b", "a*", "a>b", "a/b", "ä", "a\\b"]


def test_every_queue_has_a_consumer_name_of_its_own_that_the_server_takes() -> None:
    names = [consumer_name(queue) for queue in NAMES]
    assert len(set(names)) == len(NAMES)
    assert not any(sign in name for name in names for sign in ". *>/\\")
    assert consumer_name("orders.bill") == "orders=bill"


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        (b"$JS.ACK.EVENTS.q.1.17.5.1795249045418392550.3", (1, 17, b"1795249045418392550")),
        (b"$JS.ACK.EVENTS.q.11.17.5.1795249045418392550.3", (11, 17, b"1795249045418392550")),
        (b"$JS.ACK.EVENTS.q.2.17.5.1795249045418392550.3", (2, 17, b"1795249045418392550")),
        (b"$JS.ACK._.ACCHASH.EVENTS.q.2.17.5.1795249045418392550.3", (2, 17, b"1795249045418392550")),
        (b"$JS.ACK.hub.ACCHASH.EVENTS.q.2.17.5.1795249045418392550.3.random", (2, 17, b"1795249045418392550")),
    ],
)
def test_both_forms_of_the_settling_subject_are_read(subject: bytes, said: tuple[int, int, bytes]) -> None:
    assert read_settle_subject(subject) == said


@pytest.mark.parametrize(
    ("wide", "narrow", "answer"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.b", "a.*", False),
        ("a.>", "a.*", True),
        ("a.*", "a.>", False),
        (">", "a.>", True),
        ("a.>", "a", False),
        ("a.*.c", "a.b.c", True),
        ("a", "a.b", False),
        ("a.b", "a", False),
    ],
)
def test_what_one_subject_covers_of_another(wide: str, narrow: str, answer: bool) -> None:
    assert covers(wide, narrow) is answer


def test_headers_are_read_as_they_were_written() -> None:
    headers = {"One": "1", "Text": "äöü€", "Empty": ""}
    assert read_headers(b"NATS/1.0\r\n" + write_headers(headers) + b"\r\n") == headers
    assert read_headers(b"NATS/1.0 409 Consumer Deleted\r\n\r\n") == {
        "Status": "409",
        "Description": "Consumer Deleted",
    }
    assert read_headers(b"NATS/1.0\r\nno header\r\n\xff: \xff\r\n\r\n") == {"\ufffd": "\ufffd"}
    assert write_headers({"A": "one\r\nB: two"}) == b"A: one  B: two\r\n"


def test_the_headers_of_an_event_are_its_publishers_alone() -> None:
    assert read_event_headers(b"NATS/1.0\r\nNats-Msg-Id: 7\r\n\r\n") is None
    assert read_event_headers(b"NATS/1.0\r\nNats-Msg-Id: 7\r\nNats-Pin-Id: x\r\n\r\n") is None
    assert read_event_headers(b"NATS/1.0\r\nNats-Msg-Id: 7\r\nOne: 1\r\n\r\n") == {"One": "1"}
    assert read_event_headers(b"NATS/1.0\r\nNats-Expected-Last-Sequence: 0\r\n\r\n") is None


def test_an_error_is_told_from_a_confirmation() -> None:
    assert read_error(b'{"stream":"error","seq":1}') is None
    assert read_error(b'{"stream":"E","seq":1,"x":"\\"error\\""}') is None
    error = read_error(b'{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"E"}')
    assert error is not None
    assert (error.number, str(error)) == (10077, "maximum bytes exceeded (JetStream error 10077)")


async def test_what_core_nats_does_not_keep_is_refused_with_the_scheme_that_does() -> None:
    service = Service("shop", broker="nats://127.0.0.1:4222")

    @service.subscribe("orders.placed", retry=Retry(attempts=2))
    async def bill(event: int) -> None: ...

    said = "; a durable queue is asked for by retry; where the server has JetStream, write jetstream:// in place"
    with pytest.raises(Unsupported, match=f"^shop.bill needs durable, which nats://127.0.0.1:4222 lacks; .*{said}"):
        await service.start()
    assert JetStreamBroker.capabilities.more == ""


def test_long_names_that_peers_send_are_not_remembered() -> None:
    """A peer may send names of a megabyte, each another one; a dead letter is written with them."""
    before = _is_known_name.cache_info()
    names = [f"{number}{'x' * 1000}" for number in range(10)]
    raw = b"NATS/1.0\r\n" + b"".join(b"%b: 1\r\n" % name.encode() for name in names) + b"\r\n"
    assert read_event_headers(raw) == dict.fromkeys(names, "1")
    assert raw == b"NATS/1.0\r\n" + write_headers(dict.fromkeys(names, "1")) + b"\r\n"
    assert _is_known_name.cache_info() == before
    assert not hasattr(is_order, "cache_info")
    with pytest.raises(UsageError):
        write_headers({"x" * 1000 + " y": "1"})
