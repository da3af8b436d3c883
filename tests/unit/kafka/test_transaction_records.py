"""The records of a transaction: each is made once, and what cannot be one holds up nobody else."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import MessageSizeTooLargeError
from eventmicro_kafka.consuming import transactions
from eventmicro_kafka.producing import transactor
from eventmicro_kafka.producing.transactor import Refused, Transactor
from eventmicro_kafka.records import to_record
from eventmicro_kafka.settings import KafkaSettings

from eventmicro.errors import MessageTooLarge, NotStored, Unsupported
from eventmicro.message import Message
from tests.unit.kafka.test_transactions import Bench


class Batch(list[dict[str, Any]]):
    """What aiokafka builds a batch in, of two records at most."""

    def append(self, **record: Any) -> object:  # type: ignore[override]
        return None if len(self) == 2 else super().append(record) or self


@pytest.fixture
def subject(monkeypatch: pytest.MonkeyPatch) -> Transactor:
    """One whose topics are ready, with a producer that is made."""
    missing: Any = SimpleNamespace()
    subject: Any = Transactor(KafkaSettings(max_message=200), missing, missing, "q", "t")
    inner = SimpleNamespace(create_batch=Batch)

    async def made(*_: str) -> Any:
        return inner

    place = TopicPartition("out", 0)
    subject._producer = SimpleNamespace(
        inner=inner, made=made, ready=made, place=lambda *_: place, next_place=lambda _: place
    )
    return subject  # type: ignore[no-any-return]


async def test_each_message_is_made_a_record_once(subject: Transactor, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []

    def count(message: Message, limit: int) -> object:
        made.append(message.body)
        return to_record(message, limit)

    monkeypatch.setattr(transactor, "to_record", count)
    messages = [Message("out", b"%d" % number) for number in range(5)]
    await subject.ready(messages)
    _, batches = await subject._fill(messages)
    assert made == [b"0", b"1", b"2", b"3", b"4"]
    assert [[record["value"] for record in batch.builder] for batch in batches] == [[b"0", b"1"], [b"2", b"3"], [b"4"]]


async def test_what_is_no_record_is_told_of_each_message_before_anything_is_begun(subject: Transactor) -> None:
    messages = [Message("out", b"x"), Message("out", b"x" * 200), Message("out", b"x"), Message("out", reply="r")]
    with pytest.raises(Refused) as refused:
        await subject.run(messages, lambda _: pytest.fail("it commits"))
    assert {at: type(error) for at, error in refused.value.failed.items()} == {1: MessageTooLarge, 3: Unsupported}
    assert not subject.is_open


async def test_what_is_too_large_in_one_batch_goes_in_more_of_them(
    subject: Transactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another transaction, as this one has failed; what is too large by itself is refused."""

    async def send(_: object, builder: Batch, __: object) -> asyncio.Future[None]:
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        is_too_large = len(builder) > 1 or builder[0]["value"] == b"large"
        stored.set_exception(MessageSizeTooLargeError()) if is_too_large else stored.set_result(None)
        stored.exception()  # as where all are looked at
        return stored

    monkeypatch.setattr(Batch, "close", lambda _: None, raising=False)
    monkeypatch.setattr(transactor, "send_batch", send)
    messages = [Message("out", b"0"), Message("out", b"1"), Message("out", b"large")]
    subject._producer.lacking = lambda _: ""  # type: ignore[method-assign]
    with pytest.raises(MessageSizeTooLargeError):
        await subject._send(*await subject._fill(messages))
    inner, batches = await subject._fill(messages)
    assert [batch.positions for batch in batches] == [[0], [1], [2]]
    with pytest.raises(Refused) as refused:
        await subject._send(inner, batches)
    assert {at: type(error) for at, error in refused.value.failed.items()} == {2: MessageTooLarge}


async def test_the_others_are_made_again_at_once_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    monkeypatch.setattr(transactions, "AGAIN_INTERVAL", 3600.0)
    async with bench:
        bench.made.may_end.clear()
        waiting = [bench.start(b"%d" % number, bench.take(bench.first, number)) for number in range(2)]
        bench.made.ends.append(Refused({0: NotStored("no")}))
        bench.made.may_end.set()
        with pytest.raises(NotStored):
            await waiting[0]
        await waiting[1]
        assert (bench.made.began, bench.made.held) == ([[b"0", b"1"], [b"1"]], [[b"1"]])
