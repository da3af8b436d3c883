"""compression: large bodies, on every way, and what is done about those that are bombs, cut or in some other form."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel

from eventmicro import (
    Client,
    Compression,
    ContentTooLarge,
    Context,
    DecodeError,
    MemoryBroker,
    Service,
    ServiceError,
    Topic,
    compression,
)
from eventmicro.codecs import Codecs
from eventmicro.compression import accepts, decompress
from eventmicro.errors import UnsupportedMediaType, UsageError
from eventmicro.message import Delivery, Message

Until = Callable[[Callable[[], object]], Awaitable[None]]
URL = "memory://compression"
LARGE = "large " * 10_000
ENCODINGS = ["gzip", "zstd"]
zstd: Any = compression.find_zstd()  # of Python itself from 3.14 on


class Text(BaseModel):
    text: str


service = Service("press", broker=URL, compression="gzip")


@service.rpc
async def echo(request: Text) -> Text:
    return request


@service.rpc
async def count(request: Text) -> int:
    return len(request.text)


@service.rpc
async def write(number: int) -> Text:
    return Text(text="x" * number)


@service.rpc
async def blob(request: bytes) -> bytes:
    return request


async def seen_at(until: Until, subject: str, what: Callable[[], Awaitable[object]], messages: int) -> list[Delivery]:
    """What travels on a subject meanwhile."""
    seen: list[Delivery] = []
    async with MemoryBroker(URL) as broker:
        await broker.subscribe(subject, seen.append)
        await what()
        await until(lambda: len(seen) >= messages)
    return seen


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_is_compressed_comes_back(encoding: Any) -> None:
    body = LARGE.encode()
    smaller = Compression(encoding).compress(body)
    assert smaller is not None
    assert len(smaller) < len(body) / 50
    assert decompress(smaller, encoding, len(body)) == body
    assert decompress(smaller, f" {encoding.upper()} ", len(body)) == body
    assert decompress(body, "identity", 1) == body


def test_what_is_small_or_does_not_become_smaller_travels_as_it_is() -> None:
    assert Compression().compress(b"x" * 4095) is None
    assert Compression().compress(b"x" * 4096) is not None
    assert Compression(threshold=10).compress(b"x" * 9) is None
    assert Compression(threshold=1).compress(b"x") is None


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bomb_is_refused_and_no_more_of_it_is_made_than_is_allowed(encoding: Any) -> None:
    limit = 1_000_000
    bombs = [Compression(encoding).compress(bytes(200_000_000))]
    if encoding == "zstd":  # one that does not say how large it is
        frame = zstd.ZstdCompressor()
        bombs.append(b"".join([*(frame.compress(bytes(1_000_000)) for _ in range(200)), frame.flush()]))
    for bomb in bombs:
        assert bomb is not None
        assert len(bomb) < 250_000
        tracemalloc.start()
        with pytest.raises(ContentTooLarge, match=f"over {limit} bytes when it is decompressed"):
            decompress(bomb, encoding, limit)
        assert tracemalloc.get_traced_memory()[1] < 4 * limit
        tracemalloc.stop()


def test_a_frame_that_asks_for_gigabytes_of_memory_is_refused() -> None:
    parameter = zstd.CompressionParameter
    frame = zstd.ZstdCompressor(options={parameter.window_log: 30, parameter.content_size_flag: 0})
    body = frame.compress(b"x") + frame.flush()
    with pytest.raises(DecodeError, match="not valid zstd"):
        decompress(body, "zstd", 1_000_000)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_is_cut_damaged_or_followed_by_more_is_refused(encoding: Any) -> None:
    body = Compression(encoding).compress(LARGE.encode())
    assert body is not None
    for wrong in (b"", body[:-1], body[:20], body + b"x", body + body, b"\x00" + body, LARGE.encode()):
        with pytest.raises(DecodeError, match=f"not valid {encoding}"):
            decompress(wrong, encoding, 10**9)


ACCEPTS = [
    ("gzip", True),
    ("zstd, gzip", True),
    ("GZIP;q=0.1", True),
    ("*", True),
    ("gzip;q=0, *", False),
    ("gzip;q=0", False),
    ("gzip;q=x", False),
    ("br", False),
    ("", False),
    (None, False),
]


@pytest.mark.parametrize(("accept", "gzip_"), ACCEPTS)
def test_a_caller_says_what_it_accepts(accept: str | None, gzip_: bool) -> None:
    assert accepts(accept, "gzip") is gzip_


@pytest.mark.parametrize("value", ["br", 7, True, "gzip, zstd"])
def test_what_is_no_compression_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match=r"encoding=|compression="):
        Codecs(compression=value)


@pytest.mark.parametrize("options", [{"threshold": 0}, {"threshold": "4K"}])
def test_a_threshold_is_a_number_of_bytes(options: Any) -> None:
    with pytest.raises(UsageError, match="threshold="):
        Compression(**options)


def test_where_zstd_is_not_installed_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "find_zstd", lambda: None)
    monkeypatch.setattr(compression, "accepted", compression.accepted.__wrapped__)
    with pytest.raises(UsageError, match=r"needs backports.zstd: pip install 'eventmicro\[zstd\]'"):
        Compression("zstd")
    assert compression.accepted() == "gzip"
    with pytest.raises(UnsupportedMediaType, match="content encoding 'zstd' is not taken here; taken: gzip"):
        decompress(b"x", "zstd", 100)


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_large_requests_are_compressed_and_replies_where_the_caller_says_that_it_can(
    encoding: Any, until: Until
) -> None:
    async def talk() -> None:
        async with service, Client(URL, compression=encoding) as client:
            assert (await client.call("press.echo", Text(text=LARGE), Text)).text == LARGE
            assert (await client.call("press.echo", Text(text="small"), Text)).text == "small"
            assert (await client.call("press.write", 10_000, Text)).text == "x" * 10_000
            assert await client.call("press.blob", LARGE.encode(), bytes) == LARGE.encode()

    seen = await seen_at(until, ">", talk, 8)
    spoken = [
        (each.headers or {}).get("Content-Encoding") for each in seen if each.subject.startswith(("press", "_INBOX"))
    ]
    assert spoken == [encoding, "gzip", None, None, None, "gzip", encoding, "gzip"]
    assert [(each.headers or {}).get("Accept-Encoding") for each in seen[:2]] == ["gzip, zstd", None]
    assert len(seen[0].body) < 1000


async def test_nobody_gets_a_compressed_reply_who_has_not_asked_for_it(until: Until) -> None:
    async def talk() -> None:
        async with service, Client(URL) as client:
            assert (await client.call("press.write", 10_000, Text)).text == "x" * 10_000
            accept = {"Accept-Encoding": "br"}
            assert (await client.call("press.write", 10_000, Text, metadata=accept)).text == "x" * 10_000

    seen = await seen_at(until, "_INBOX.>", talk, 2)
    assert [each.headers for each in seen] == [None, None]


async def test_a_client_reads_a_compressed_reply_also_where_it_compresses_nothing_itself(until: Until) -> None:
    async with service, Client(URL) as client:
        accept = {"accept-encoding": "zstd, gzip"}
        assert (await client.call("press.write", 10_000, Text, metadata=accept)).text == "x" * 10_000


async def test_a_request_that_is_a_bomb_is_answered_by_413_and_one_in_another_encoding_by_415() -> None:
    careful = Service("careful", broker=URL, max_decompressed=10_000)

    @careful.rpc
    async def count(request: Text) -> int:
        return len(request.text)

    async with careful, Client(URL, compression="gzip") as client:
        assert await client.call("careful.count", Text(text="x" * 9_000), int) == 9_000
        with pytest.raises(ContentTooLarge, match="over 10000 bytes when it is decompressed") as caught:
            await client.call("careful.count", Text(text="x" * 10_000), int)
        assert caught.value.code == 413
        for name, code in (("br", 415), ("gzip, gzip", 400), ("gzip", 400)):
            with pytest.raises(ServiceError) as refused:
                await client.call("careful.count", b"\x1f\x8b", int, metadata={"Content-Encoding": name})
            assert refused.value.code == code


async def test_a_reply_that_is_a_bomb_is_a_decode_error() -> None:
    bomb = Compression().compress(b'{"text":"' + b"x" * 1_000_000 + b'"}')
    assert bomb is not None
    async with MemoryBroker(URL) as broker, Client(URL, max_decompressed=10_000) as client:

        async def answer(delivery: Delivery) -> None:
            await broker.send(Message(delivery.reply, bomb, {"Content-Encoding": "gzip"}))

        await broker.subscribe("their.text", answer, queue="q")
        with pytest.raises(DecodeError, match=r"the reply of their.text: the body is over 10000 bytes"):
            await client.call("their.text", None, Text)


@pytest.mark.parametrize("content_type", ["msgpack", "json-rpc"])
async def test_what_is_compressed_may_be_in_any_content_type(content_type: str) -> None:
    async with service, Client(URL, compression="zstd", content_type=content_type) as client:
        assert (await client.call("press.echo", Text(text=LARGE), Text)).text == LARGE


async def test_events_are_compressed_as_the_topic_says_or_the_client(until: Until) -> None:
    got: list[str] = []
    listening = Service("listening", broker=URL)
    plain, pressed = Topic("texts.plain", Text), Topic("texts.pressed", Text, compression=Compression("zstd", 100))

    @listening.subscribe("texts.*")
    async def take(event: Text) -> None:
        got.append(event.text)

    async def talk() -> None:
        async with listening, Client(URL) as client, Client(URL, compression="gzip") as other:
            await client.publish(plain, Text(text=LARGE))
            await client.publish(pressed, Text(text=LARGE))
            await other.publish(plain, Text(text=LARGE))
            await other.publish_many(pressed, [Text(text=LARGE), Text(text="small")])
            await other.publisher(plain).publish(Text(text=LARGE), metadata={"tenant": "acme"})
            await until(lambda: len(got) == 6)

    seen = await seen_at(until, "texts.*", talk, 6)
    assert [(each.headers or {}).get("Content-Encoding") for each in seen] == [
        None,
        "zstd",
        "gzip",
        "zstd",
        None,
        "gzip",
    ]
    assert sorted(got) == sorted([*[LARGE] * 5, "small"])


async def test_an_event_that_is_a_bomb_or_unreadable_is_a_dead_letter_that_says_why(until: Until) -> None:
    careful = Service("careful", broker=URL, max_decompressed=10_000)
    dead: list[Delivery] = []

    @careful.subscribe("texts.kept", durable=True, dead_letter="texts.dead")
    async def take(event: Text) -> None:
        raise AssertionError("it is not to be read")

    bodies = [(gzip.compress(b"x" * 10_001), "gzip"), (b"{}", "gzip"), (b"{}", "br")]
    async with careful, MemoryBroker(URL) as broker:
        await broker.subscribe("texts.dead", dead.append)
        for body, encoding in bodies:
            await broker.publish(Message("texts.kept", body, {"Content-Encoding": encoding}))
        await until(lambda: len(dead) == 3)
    assert [(each.headers or {})["Dead-Letter-Reason"] for each in dead] == [
        "the body is over 10000 bytes when it is decompressed",
        "it is not valid gzip, and as it is not a valid Text (text: Field required)",
        "it is in a form not taken here: content encoding 'br' is not taken here; taken: gzip, zstd; "
        "as it is, it is not a valid Text (text: Field required)",
    ]
    assert [(each.body, (each.headers or {})["Content-Encoding"]) for each in dead] == bodies


async def test_metadata_that_is_passed_on_does_not_say_that_what_it_goes_with_is_compressed(until: Until) -> None:
    passing = Service("passing", broker=URL)

    @passing.rpc
    async def forward(request: Text) -> int:
        from eventmicro import current_context

        metadata = dict(current_context().metadata)
        await passing.publish("texts.passed", request, metadata=metadata)
        return await passing.call("press.count", request, int, metadata=metadata)

    async def talk() -> None:
        async with service, passing, Client(URL, compression="gzip") as client:
            assert await client.call("passing.forward", Text(text=LARGE), int) == len(LARGE)

    seen = await seen_at(until, "texts.passed", talk, 1)
    assert (seen[0].headers or {}).get("Content-Encoding") is None
    assert json.loads(seen[0].body) == {"text": LARGE}


async def test_bytes_that_their_sender_has_compressed_are_sent_as_they_are(until: Until) -> None:
    body = zlib.compress(LARGE.encode(), wbits=31)
    async with service, Client(URL, compression="zstd") as client:
        sent = await client.call("press.blob", body, bytes, metadata={"Content-Encoding": "gzip"})
        assert sent == LARGE.encode()


async def test_bytes_that_are_passed_on_with_the_metadata_they_came_with_arrive_as_they_are(until: Until) -> None:
    bridge, got = Service("bridge", broker=URL), list[bytes]()

    @bridge.subscribe("files.come")
    async def take(event: bytes, context: Context) -> None:
        await bridge.publish("files.go", event, metadata=context.metadata)

    @bridge.subscribe("files.go")
    async def keep(event: bytes) -> None:
        got.append(event)

    async with bridge, Client(URL, compression="gzip") as client:
        await client.publish("files.come", LARGE.encode())
        await client.publish("files.come", b"small")
        await until(lambda: len(got) == 2)
    assert got == [LARGE.encode(), b"small"]
