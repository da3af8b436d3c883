"""Events of Kafka are gone when they are handled: Python need not look for them as garbage, which takes long."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from eventmicro_kafka.consuming.reading import POLL_RECORDS
from eventmicro_kafka.consuming.subscription import KafkaSubscription
from eventmicro_kafka.settings import KafkaSettings
from pydantic import BaseModel

from eventmicro.broker import Durable
from eventmicro.codecs import Codecs
from eventmicro.context import Context
from eventmicro.events.options import DeliveryOptions
from eventmicro.events.settling import Kept
from eventmicro.events.subscriber import Subscriber, Work
from tests.unit.kafka.kit import PLACE

POLLS = 5


class Reading(BaseModel):
    """It has what most events have: a few values, and a list."""

    number: int
    tags: list[str]


def batch(first: int) -> bytes:
    """As many records as are taken at a time."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, 0, 100_000)
    for number in range(POLL_RECORDS):
        value = Reading(number=first + number, tags=["a"]).model_dump_json().encode()
        builder.append(number, timestamp=1, key=None, value=value, headers=[])
    built = bytearray(builder.build())
    built[:8] = first.to_bytes(8, "big")
    return bytes(built)


def subscriber(handler: Any) -> Subscriber:
    settling, body = Kept("t.see", SimpleNamespace(), DeliveryOptions(queue="q")), Codecs().body(Reading)  # type: ignore[arg-type]
    return Subscriber(Work("t", "see", handler, body, None, None, settling), 1)


def subscription(receive: Any) -> KafkaSubscription:
    made = KafkaSubscription("t", "q", receive, Durable(), KafkaSettings(), SimpleNamespace(), {})  # type: ignore[arg-type]
    made.share({PLACE: (0, "")})
    return made


async def test_events_that_are_handled_at_once_leave_nothing_to_look_for() -> None:
    handled, looks, threshold = list[int](), list[int](), gc.get_threshold()

    async def see(reading: Reading, _: Context) -> None:
        handled.append(reading.number)

    def look(phase: str, about: dict[str, int]) -> None:
        looks.append(about["generation"])

    behind = subscriber(see)
    subject = subscription(behind)
    gc.set_threshold(700, 10, 10)  # Python's own before 3.13, the lowest there was
    try:
        for first in range(0, POLLS * POLL_RECORDS, POLL_RECORDS):
            data = batch(first)
            gc.collect()
            gc.callbacks.append(look)
            subject.take(subject.lanes[PLACE], list(DefaultRecordBatch(data)))
            await subject._hand_over_next()
            gc.callbacks.remove(look)
    finally:
        gc.set_threshold(*threshold)
        await behind.cut_off()
    assert handled == list(range(POLLS * POLL_RECORDS))
    assert subject.lanes[PLACE].progress() == (POLLS * POLL_RECORDS, "")
    assert looks == []
