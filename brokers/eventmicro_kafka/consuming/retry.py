"""Retry: events that are to be delivered again later go, as copies, to a topic of their own, and wait there.

The copy says in its headers when it is due, which attempt it will be, and which event it is. Kafka delivers it at once,
so it waits on this side, within bounds, until it is due.
"""

from __future__ import annotations

import heapq
import logging
import time
from dataclasses import dataclass
from hashlib import sha256
from math import isfinite
from typing import Any

from eventmicro.message import Copy
from eventmicro_kafka.consuming.lane import KafkaDelivery, Lane
from eventmicro_kafka.patterns import LONGEST, as_name, as_topic, is_topic, matches
from eventmicro_kafka.received import KafkaRecord, TimestampType, milliseconds_of, moment
from eventmicro_kafka.records import delivery_headers, id_of

log = logging.getLogger(__name__)

AT = "Retry-At"
ATTEMPT = "Retry-Attempt"
ID = "Retry-Id"
QUEUE = "Retry-Queue"
SUBJECT = "Retry-Subject"
TIMESTAMP = "Retry-Timestamp"
_OURS = (AT, ATTEMPT, ID, QUEUE, SUBJECT, TIMESTAMP)
# What stands behind the time stamp of an event that its broker has set.
_APPEND = "a"
# What stands before the name of a header of the event's own that is called as one of these.
_KEPT = "Retry-Kept-"


def retry_topic(queue: str, subject: str) -> str:
    """Where a queue's events wait to be delivered again: one topic for each subject that the queue's group reads.

    A group may have a name that no topic may have: then the topic's is as near to that as can be.
    """
    rest = ".retry" if queue == subject else f".{as_name(subject)}.retry"
    if is_topic(queue + rest):
        return queue + rest
    digest = sha256(queue.encode()).hexdigest()[:8]
    return f"{as_topic(queue)[: LONGEST - len(rest) - len(digest) - 1]}-{digest}{rest}"


def retry_copy(delivery: KafkaDelivery, topic: str, queue: str, due: float) -> Copy:
    """The event as it is put aside until `due`, in seconds of `time.time()`."""
    headers = {_kept(name): value for name, value in (delivery.headers or {}).items()}
    record = delivery.record
    headers |= {
        AT: f"{due:.3f}",
        ATTEMPT: str(delivery.attempt + 1),
        ID: delivery.id,
        QUEUE: queue,
        SUBJECT: delivery.subject,
    }
    if record is not None:
        headers[TIMESTAMP] = f"{milliseconds_of(record)}{_APPEND if record.timestamp_type in (1, 'append') else ''}"
    name = None if record is None else id_of(record.headers)
    return Copy(topic, delivery.body, headers, key=delivery.key, id=name, of=delivery)


def read_copy(record: Any, lane: Lane, queue: str, subject: str) -> tuple[float, KafkaDelivery] | None:
    """When an event that was put aside is due, and the event; None: it is another queue's, or no copy at all."""
    headers = delivery_headers(record.headers) or {}
    at, attempt, name, whose, of, published = (headers.pop(name, "") for name in _OURS)
    if whose != queue or not (of == subject or matches(subject, of)):
        return None
    try:
        due, number = float(at), int(attempt)
        if not isfinite(due) or number < 1:
            raise ValueError("no time, or no attempt")
    except ValueError:
        text = "queue %r: %s at offset %d is no copy of an event of it, and passed by: who else writes to that topic?"
        log.warning(text, queue, lane.name, record.offset, extra={"queue": queue})
        return None
    number += lane.repeats.get(record.offset, 0)
    headers = {name.removeprefix(_KEPT): value for name, value in headers.items()}
    body = record.value or b""
    found = headers or (None if record.value is not None else {})
    event = _original(record, name, published)
    return due, KafkaDelivery(of, body, found, number, None, lane, record.offset, record.key, name, event)


def _original(copy: Any, name: str, published: str) -> KafkaRecord | None:
    """The record that an event was before it was put aside; None: the copy does not say."""
    place, _, offset = name.rpartition("-")
    topic, _, partition = place.rpartition("-")
    try:
        at = moment(int(published.removesuffix(_APPEND) or copy.timestamp))
        headers = tuple((name.removeprefix(_KEPT), value) for name, value in copy.headers if name not in _OURS)
        kind: TimestampType = "append" if published.endswith(_APPEND) else "create"
        return KafkaRecord(topic, int(partition), int(offset), at, kind, copy.key, headers, copy.value)
    except (ValueError, OverflowError, AttributeError):
        return None


def _kept(name: str) -> str:
    return _KEPT + name if name in _OURS or name.startswith(_KEPT) else name


@dataclass(order=True, slots=True)
class _Entry:
    due: float
    number: int
    delivery: KafkaDelivery


class Waiting:
    """Events that are not due yet.

    Args:
        messages, size: how many may wait, and how many bytes, before `full` is true.
    """

    def __init__(self, messages: int, size: int) -> None:
        self._messages = messages
        self._size = size
        self._entries: list[_Entry] = []
        self._bytes = 0
        self._number = 0

    @property
    def full(self) -> bool:
        """Whether no more may wait; never with nothing that waits, as nothing would make room then."""
        return bool(self._entries) and (len(self._entries) >= self._messages or self._bytes >= self._size)

    @property
    def crowded(self) -> bool:
        """Whether it is nearer to full than to empty."""
        return len(self._entries) > self._messages // 2 or self._bytes > self._size // 2

    @property
    def next_due(self) -> float | None:
        """When the next one is due, in seconds of `time.time()`."""
        return self._entries[0].due if self._entries else None

    def add(self, due: float, delivery: KafkaDelivery) -> None:
        self._number += 1
        self._bytes += len(delivery.body)
        heapq.heappush(self._entries, _Entry(due, self._number, delivery))

    def take_due(self) -> KafkaDelivery | None:
        """The next one, if it is due."""
        if not self._entries or self._entries[0].due > time.time():
            return None
        delivery = heapq.heappop(self._entries).delivery
        self._bytes -= len(delivery.body)
        return delivery

    def drop_gone(self) -> None:
        """Forget those whose partitions are somebody else's."""
        self._entries = [entry for entry in self._entries if not entry.delivery.lane.gone]
        heapq.heapify(self._entries)
        self._bytes = sum(len(entry.delivery.body) for entry in self._entries)
