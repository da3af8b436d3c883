"""Events in other content types, and compressed: on every broker handled, retried and given up as any other."""

from __future__ import annotations

from collections import Counter

import pytest

from eventmicro import Client, Retry, Topic
from eventmicro.compression import decompress
from tests.delivery.bench import Bench, Number, Until

pytestmark = pytest.mark.timeout_seconds(60)

CONTENT_TYPES = ["json", "msgpack", "cbor", "bson"]
LONG = "x" * 20_000


async def test_they_are_handled_whatever_they_are_written_in_and_given_up_as_they_came(
    bench: Bench, until: Until
) -> None:
    handled: Counter[int] = Counter()

    async def fail_odd(event: Number) -> None:
        assert event.key == LONG
        handled[event.value] += 1
        if event.value % 2:
            raise ValueError("unlucky")

    pressed = Topic(bench.topic.name, Number, compression="zstd")
    retry = Retry(attempts=2, backoff=0.05, factor=1)
    async with bench.letters() as letters, bench.run(fail_odd, retry=retry), Client(bench.url) as client:
        for turn, content_type in enumerate(CONTENT_TYPES):
            some = [Number(value=2 * turn + value, key=LONG) for value in range(2)]
            await client.publish_many(pressed, some, content_type=content_type)
        await until(lambda: len(letters) == len(CONTENT_TYPES))
    assert handled == {value: 1 + value % 2 for value in range(2 * len(CONTENT_TYPES))}
    body = {(letter.headers or {}).get("Content-Type"): letter for letter in letters}
    assert set(body) == {f"application/{content_type}" for content_type in CONTENT_TYPES}
    assert {(letter.headers or {}).get("Content-Encoding") for letter in letters} == {"zstd"}
    plain = decompress(body["application/json"].body, "zstd", 10**6)
    assert Number.model_validate_json(plain) == Number(value=1, key=LONG)


async def test_what_is_in_none_that_is_known_is_a_dead_letter_at_once(bench: Bench, until: Until) -> None:
    async def never(event: Number) -> None:
        raise AssertionError("it is not to be read")

    async with bench.letters() as letters, bench.run(never) as client:
        for metadata in ({"Content-Type": "text/xml"}, {"Content-Encoding": "br"}):
            await client.publish(bench.topic.name, b"<number/>", metadata=metadata)
        await until(lambda: len(letters) == 2)
    reasons = sorted((letter.headers or {})["Dead-Letter-Reason"] for letter in letters)
    assert [reason.partition(" is not taken here")[0] for reason in reasons] == [
        "it is in a form not taken here: content encoding 'br'",
        "it is in a form not taken here: content type 'text/xml'",
    ]
