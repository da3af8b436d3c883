"""Which bodies are CloudEvents where nothing says so, and what a topic of CloudEvents makes of the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventmicro import MemoryBroker, Service, Topic
from eventmicro.codecs.cloudevents import is_structured
from eventmicro.message import Message

Until = Callable[[Callable[[], object]], Awaitable[None]]
EVENT = b'{"specversion":"1.0","id":"1","source":"/a","type":"t","data":{"id":"7"}}'


@pytest.mark.parametrize(
    ("body", "is_one"),
    [
        (EVENT, True),
        (EVENT.replace(b'"data":{"id":"7"}', b'"data_base64":"e30="'), True),
        (EVENT.replace(b'"id":"1",', b""), False),
        (EVENT.replace(b',"data":{"id":"7"}', b""), False),
        (EVENT[:-1], False),
        (b'["specversion"]', False),
        (b'{"note":"\\"specversion\\""}', False),
        (b'\xff"specversion"', False),
        (b'{"specversion"' * 10_000, False),
        (b"[" * 100_000 + b'"specversion"', False),
        (b"", False),
    ],
)
def test_only_a_whole_event_is_one(body: bytes, is_one: bool) -> None:
    assert is_structured(body) is is_one


@pytest.mark.parametrize("label", [None, "text/plain", "application/json", "application/octet-stream"])
async def test_a_topic_of_cloudevents_reads_them_whatever_their_label(label: str | None) -> None:
    service, got = Service("shop", broker="memory://unlabelled"), list[Any]()

    @service.subscribe(Topic("orders", dict[str, str], cloudevents="structured"), queue=None)
    async def take(event: dict[str, str]) -> None:
        got.append(event)

    @service.subscribe(Topic("plain", dict[str, Any]), queue=None)
    async def whole(event: dict[str, Any]) -> None:
        got.append(sorted(event))

    @service.subscribe(Topic("bytes", bytes, cloudevents=True), queue=None)
    async def as_it_is(event: bytes) -> None:
        got.append(event)

    headers = None if label is None else {"Content-Type": label}
    async with service, MemoryBroker("memory://unlabelled") as others:
        for subject in ("orders", "plain", "bytes"):
            await others.publish(Message(subject, EVENT, headers))
        await others.publish(Message("orders", b'{"id":"8"}', headers))
    assert {"id": "7"} in got
    assert {"id": "8"} in got
    assert ["data", "id", "source", "specversion", "type"] in got
    assert EVENT in got


async def test_data_that_looks_like_an_event_is_data_where_the_attributes_are_in_headers(until: Until) -> None:
    topic, got = Topic("audit", dict[str, Any], cloudevents=True), list[dict[str, Any]]()
    service = Service("auditor", broker="memory://unlabelled")
    inner = {"specversion": "1.0", "id": "1", "source": "/a", "type": "b", "data": {"inner": 1}}

    @service.subscribe(topic)
    async def note(event: dict[str, Any]) -> None:
        got.append(event)

    async with service:
        await service.publish(topic, inner)
        await until(lambda: got)
    assert got == [inner]
