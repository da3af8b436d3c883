"""What Kafka has of an event: KafkaRecord, and the Delivery that knows its record."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from eventmicro.context import Context
from eventmicro.errors import UsageError
from eventmicro.message import Delivery

TimestampType = Literal["create", "append"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RecordDelivery(Delivery):
    """An event as it came from Kafka.

    record: what the driver has of it: offset, key, value, headers, timestamp, timestamp_type; None: it is not known.
    place: the topic and partition of which it is.
    """

    __slots__ = ("record",)
    record: Any

    @property
    def place(self) -> tuple[str, int]:
        return self.record.topic, self.record.partition

    @property
    def stored_at(self) -> datetime | None:
        return None if self.record is None else moment(milliseconds_of(self.record))

    @property
    def null(self) -> bool:
        return self.record is not None and self.record.value is None


class LiveDelivery(RecordDelivery):
    """An event of a subscription that is not durable."""

    __slots__ = ()

    def __init__(self, record: Any, headers: dict[str, str] | None) -> None:
        super().__init__(record.topic, record.value or b"", headers)
        self.record = record

    @property
    def key(self) -> str | None:
        return key_text(self.record.key)


@dataclass(frozen=True, slots=True)
class KafkaRecord:
    """The record that an event came as: `record: Annotated[KafkaRecord, Depends(KafkaRecord.of)]`.

    An event that waited in a retry topic shows what it was in the topic that it was published to.
    """

    topic: str
    partition: int
    offset: int
    timestamp: datetime
    """When it was made, or stored, as `timestamp_type` says; in UTC."""
    timestamp_type: TimestampType
    """`create`: the time is its publisher's; `append`: the broker's."""
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    """As they came, in their order; a name may be there several times, and a value may be missing."""
    value: bytes | None = field(repr=False)
    """The body; None where there is none, as in a tombstone."""

    def values(self, name: str) -> list[bytes]:
        """All values of a header, in their order; a value that is missing is left out."""
        return [value for each, value in self.headers if each == name and value is not None]

    @classmethod
    def of(cls, context: Context) -> KafkaRecord:
        """The record of the event that is being handled.

        Raises:
            UsageError: it did not come over Kafka, or there are several, of a batch.
        """
        delivery = context.delivery
        if isinstance(delivery, list):
            raise UsageError(f"{len(delivery)} events are handled here together: take KafkaRecord.all_of(context)")
        return _record_of(delivery, context)

    @classmethod
    def all_of(cls, context: Context) -> list[KafkaRecord]:
        """The records of all events that are being handled, in their order; errors as of `of`."""
        delivery = context.delivery
        return [_record_of(each, context) for each in (delivery if isinstance(delivery, list) else [delivery])]


def key_text(key: bytes | None) -> str | None:
    """A record's key as text; one that is no text travels on unchanged."""
    return None if key is None else key.decode("utf-8", "surrogateescape")


def _record_of(delivery: object, context: Context) -> KafkaRecord:
    if not isinstance(delivery, RecordDelivery) or delivery.record is None:
        what = f"over another broker, as {type(delivery).__name__}" if isinstance(delivery, Delivery) else "as no event"
        raise UsageError(f"KafkaRecord: what is handled on {context.topic or 'this side'} came {what}, not over Kafka")
    record = delivery.record
    if isinstance(record, KafkaRecord):
        return record
    topic, partition = delivery.place
    is_append = record.timestamp_type == 1
    return KafkaRecord(
        topic,
        partition,
        record.offset,
        moment(record.timestamp),
        "append" if is_append else "create",
        record.key,
        tuple(record.headers),
        record.value,
    )


def moment(milliseconds: int) -> datetime:
    """A time stamp of Kafka's."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def milliseconds_of(record: Any) -> int:
    """The time stamp of a record, or of a KafkaRecord, as Kafka has it."""
    if isinstance(record, KafkaRecord):
        return round((record.timestamp - _EPOCH) / timedelta(milliseconds=1))
    return int(record.timestamp)
