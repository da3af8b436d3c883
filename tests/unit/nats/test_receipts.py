"""What is marked as stored: what has the form of a receipt and no header, and nothing that a peer can send."""

from __future__ import annotations

import pytest

pytest.importorskip("nats")

from eventmicro_nats.connection.driver import Driver
from eventmicro_nats.connection.headers import read_headers
from eventmicro_nats.receipts import Storage
from eventmicro_nats.settings import NatsSettings
from eventmicro_nats.subscription import NatsSubscription

from eventmicro.message import Delivery
from eventmicro.wire import STATUS, STORED

RECEIPT = b'{"stream":"ORDERS","seq":7}'


@pytest.mark.parametrize(
    ("headers", "body", "marked"),
    [
        (b"", RECEIPT, True),
        (b"", b'{"stream":"ORDERS"}', False),
        (b"NATS/1.0\r\nStatus: 202\r\nDescription: stream ORDERS\r\n\r\n", RECEIPT, False),
        (b"NATS/1.0 202 stream ORDERS\r\n\r\n", b"7", False),
        (b"NATS/1.0\r\nStatus: 202\n\r\n\r\n", b"7", False),
        (b"NATS/1.0\r\nStatus: 202\n \r\n\r\n", b"7", False),
        (b"NATS/1.0 202\n\r\n\r\n", b"7", False),
    ],
)
async def test_only_what_comes_without_a_header_is_marked(headers: bytes, body: bytes, marked: bool) -> None:
    def driver() -> Driver:
        raise AssertionError

    got: list[Delivery] = []
    mark = Storage(driver).mark
    subscription = NatsSubscription("_INBOX.1.>", None, got.append, NatsSettings(), read_headers, mark)
    subscription._take(b"_INBOX.1.1", b"", body, headers)
    assert [(delivery.headers or {}).get(STATUS) == STORED for delivery in got] == [marked]
    if headers:
        assert got[0].headers is not None
        assert got[0].headers[STATUS] == "202"


async def test_one_that_cannot_be_read_takes_none_of_those_that_came_with_it() -> None:
    def driver() -> Driver:
        raise AssertionError

    got: list[Delivery] = []
    mark = Storage(driver).mark
    subscription = NatsSubscription("_INBOX.1.>", None, got.append, NatsSettings(), read_headers, mark)
    deep = b'{"stream":' + b"[" * 100_000
    run = [(b"_INBOX.1.%d" % number, b"", body, b"") for number, body in enumerate([b"1", deep, b"\xff", b"3"])]
    subscription._take_run([*run, (b"\xff", b"", b"4", b""), (b"_INBOX.1.5", b"", b"5", b"")])
    assert [delivery.body for delivery in got] == [b"1", deep, b"\xff", b"3", b"5"]
