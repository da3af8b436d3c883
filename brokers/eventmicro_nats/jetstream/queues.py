"""Queues are durable pull consumers: their names, how they are made, and whether one that exists fits."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import UTC
from typing import Any
from urllib.parse import unquote

from eventmicro.broker import Durable
from eventmicro.errors import Missing, UsageError
from eventmicro_nats.connection.subjects import covers
from eventmicro_nats.jetstream.api import (
    CONSUMER_EXISTS,
    CONSUMER_NOT_FOUND,
    STREAM_NOT_FOUND,
    Api,
    ApiError,
    NotAllowed,
)
from eventmicro_nats.jetstream.filled import is_filled
from eventmicro_nats.jetstream.keeping import NANO
from eventmicro_nats.jetstream.streams import Streams, read_time
from eventmicro_nats.settings import JetStreamSettings

log = logging.getLogger(__name__)

# How long the server keeps a request for events open, in seconds.
LIFETIME = 30.0
# The one group of an ordered queue: the server pins it to one client, and to another if that one asks no more.
PIN_GROUP = "one"
# Of a shorter lease, in seconds, much would run out before it is extended.
SHORTEST_LEASE = 0.1
# How long a client that was pinned may ask for nothing, in seconds; shorter where ack_wait is.
PIN_TIMEOUT = 10.0

CHANGE = "stop its instances and run `eventmicro declare --change`"
_FORBIDDEN = re.compile(r"[\s*>%=/\\]|[^\x21-\x7e]")


@dataclass(frozen=True, slots=True)
class Queue:
    """A consumer that is there.

    Attributes:
        ack_wait: how long its lease on a delivery is, in seconds.
        begin: with what it begins if somebody deletes it and it is made anew; None: it is not made from here.
        is_new: whether it was made just now.
        max_deliver: after how many deliveries it gives an event up; -1: it does not.
        created: when it was made, in the server's words: one of its name that is made later is another one.
    """

    stream: str
    consumer: str
    ack_wait: float
    begin: Place | None = None
    is_new: bool = False
    max_deliver: int = -1
    created: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a queue is to go on.

    Attributes:
        sequence: the first event's.
        seen: when the stream was there for sure, by the server's clock, in seconds: one made later is another one.
    """

    sequence: int
    seen: float


def first_unsettled(info: dict[str, Any]) -> Place:
    """What follows the ack floor of a consumer, up to which all of its events are settled."""
    return Place(info["ack_floor"]["stream_seq"] + 1, read_time(info["ts"]))


def queue_name(consumer: str) -> str:
    """What users call the queue of a consumer."""
    return unquote(consumer.replace("=", "."))


def consumer_name(queue: str) -> str:
    """The name of a queue's consumer, where no dot may be: `orders.bill` is `orders=bill`; other signs as in a URL."""
    return _FORBIDDEN.sub(lambda sign: "".join(f"%{b:02X}" for b in sign[0].encode()), queue).replace(".", "=")


class Queues:
    """The queues of one connection's streams."""

    def __init__(self, api: Api, streams: Streams, settings: JetStreamSettings) -> None:
        self._api = api
        self._streams = streams
        self._settings = settings

    async def have(
        self,
        subject: str,
        queue: str,
        durable: Durable,
        deadline: float,
        *,
        first: Place | None = None,
        published: bool = False,
    ) -> Queue:
        """The queue, made where it is missing and that is allowed.

        Args:
            deadline: until when to try, in seconds of the loop's clock.
            first: with which event to begin if it is made, in place of `durable.start`; it was there before.
            published: whether what it gets is published from here, so that its stream is one that listens to it.

        Raises:
            UsageError: it is missing and not to be made from here, or made otherwise than asked for.
        """
        stream = await (self._streams.of if published else self._streams.holding)(subject, deadline)
        consumer = consumer_name(queue)
        if self._streams.fixed:
            return Queue(stream, consumer, self._settings.ack_wait)
        if durable.dedupe is not None:
            await self._streams.remember_ids(stream, durable.dedupe, deadline)
        is_new = False
        while (info := await self._info(stream, consumer, deadline)) is None:
            if self._settings.declare == "check":
                mend = _how_to_make(stream, consumer, subject, durable)
                raise Missing(f"there is no queue {queue}: {mend}", [f"queue {queue}"])
            start = await self._start(stream, subject, durable, first, deadline)
            await self._make(stream, consumer, subject, start, deadline)
            is_new = True
            if first is not None:
                log.warning("queue %s was gone and is made anew; events may come twice", queue, extra={"queue": queue})
        config = info["config"]
        what = f"queue {queue} (consumer {consumer} of stream {stream})"
        mend = f"nats consumer rm {stream} {consumer}"
        other = f"name another queue, or, if it is yours, delete it and what waits in it: {mend}"
        filters = config.get("filter_subjects") or [config.get("filter_subject") or ">"]
        if filters != [subject] and not (filters == [">"] and await self._only(stream, subject, deadline)):
            raise UsageError(f"{what} takes {', '.join(filters)}, not {subject}: {other}")
        _check(what, other, config, durable, self._settings.storage)
        ack_wait = lease_of(config)
        max_deliver, created = config.get("max_deliver", -1), info["created"]
        return Queue(stream, consumer, ack_wait, first_unsettled(info), is_new, max_deliver, created)

    async def change_order(self, subject: str, queue: str, durable: Durable, deadline: float) -> bool:
        """Make a queue anew where it is ordered and is not to be, or the other way round; whether it was.

        It goes on with the first event that is not settled, so that some which were settled behind it come again.

        Raises:
            UsageError: instances are at it.
        """
        stream, consumer = await self._streams.holding(subject, deadline), consumer_name(queue)
        info = None if self._streams.fixed else await self._info(stream, consumer, deadline)
        if info is None or bool(info["config"].get("priority_groups")) == durable.ordered:
            return False
        if info.get("num_waiting"):
            raise UsageError(f"queue {queue} is made anew to change its order: stop all of its instances first")
        await self._api.call(f"CONSUMER.DELETE.{stream}.{consumer}", deadline=deadline)
        await self.have(subject, queue, durable, deadline, first=first_unsettled(info))
        return True

    async def _info(self, stream: str, consumer: str, deadline: float) -> dict[str, Any] | None:
        try:
            return await self._api.call(f"CONSUMER.INFO.{stream}.{consumer}", deadline=deadline)
        except ApiError as error:
            if error.number == CONSUMER_NOT_FOUND:
                return None
            if error.number == STREAM_NOT_FOUND:
                raise UsageError(f"there is no stream {stream}") from error
            raise UsageError(f"consumer {consumer} of stream {stream}: {error}") from error

    async def _only(self, stream: str, subject: str, deadline: float) -> bool:
        """Whether a stream has no other subjects, so that a queue of all that it has is one of these."""
        config = await self._streams.config_of(stream, deadline)
        subjects = config.get("subjects") or ()
        return bool(subjects) and not is_filled(config) and all(covers(subject, has) for has in subjects)

    async def _start(
        self, stream: str, subject: str, durable: Durable, first: Place | None, deadline: float
    ) -> dict[str, Any]:
        """How a queue that is made begins, and whether it is ordered."""
        order = _pinned(self._settings) if durable.ordered else {}
        if first is None and durable.start == "all":
            return order | {"deliver_policy": "all"}
        try:
            info = await self._streams.info(stream, deadline)
        except NotAllowed:
            if first is not None:
                raise
            return order | _start(durable)
        if info["config"].get("retention") == "workqueue":
            if first is None:
                raise UsageError(
                    f"{subject}: stream {stream} is a work queue (retention=workqueue), whose queues begin with all "
                    'that is there: set start="all"'
                )
            return order | {"deliver_policy": "all"}  # what was settled is there no more
        if first is None:
            return order | _start(durable, info["state"]["last_seq"] + 1)
        if read_time(info["created"]) > first.seen:
            return order | {"deliver_policy": "all"}  # the stream is another one, of which nothing was seen
        return order | _from(first.sequence)

    async def _make(self, stream: str, consumer: str, subject: str, more: dict[str, Any], deadline: float) -> None:
        config = {
            "name": consumer,
            "durable_name": consumer,
            "filter_subject": subject,
            "ack_policy": "explicit",
            "ack_wait": int(self._settings.ack_wait * NANO),
            "max_deliver": -1,
            "max_ack_pending": -1,
            **more,
        }
        arguments = {"stream_name": stream, "action": "create", "config": config}
        try:
            await self._api.call(f"CONSUMER.CREATE.{stream}.{consumer}", arguments, deadline=deadline)
        except ApiError as error:
            if error.number != CONSUMER_EXISTS:  # which somebody else has just made
                raise UsageError(f"consumer {consumer} of stream {stream} cannot be made: {error}") from error


def _start(durable: Durable, following: int | None = None) -> dict[str, Any]:
    """As what it is made; `following` is the sequence of the stream's next event.

    An administrator can reset a queue that begins with a sequence to any event from there on, and never one that is to
    begin with what is new.
    """
    if isinstance(durable.start, str):
        return {"deliver_policy": durable.start} if following is None else _from(following)
    since = durable.start.astimezone(UTC)
    return {"deliver_policy": "by_start_time", "opt_start_time": since.isoformat().replace("+00:00", "Z")}


def _from(sequence: int) -> dict[str, Any]:
    return {"deliver_policy": "by_start_sequence", "opt_start_seq": max(1, sequence)}


def _pinned(settings: JetStreamSettings) -> dict[str, Any]:
    return {
        "priority_groups": [PIN_GROUP],
        "priority_policy": "pinned_client",
        "priority_timeout": int(pin_timeout(settings.ack_wait) * NANO),
    }


def pin_timeout(ack_wait: float) -> float:
    """After how many seconds without a sign of the pinned client another one is."""
    return min(ack_wait, PIN_TIMEOUT)


def _check(what: str, other: str, config: dict[str, Any], durable: Durable, storage: str) -> None:
    """Refuse a consumer that cannot do what is asked for."""
    if config.get("deliver_subject") or config.get("ack_policy") != "explicit":
        raise UsageError(f"{what} is not a pull consumer with explicit acknowledgement: make it so")
    if config.get("headers_only"):
        raise UsageError(f"{what} gives headers only: set headers_only to false")
    if config.get("inactive_threshold"):
        raise UsageError(f"{what} is deleted when nobody asks: unset inactive_threshold, for it is to keep its events")
    if config.get("mem_storage") and storage == "file":
        raise UsageError(f"{what} keeps in memory what was settled: set mem_storage to false, or {other}")
    if 0 < config.get("max_batch", 0) < durable.prefetch:
        raise UsageError(f"{what} gives max_batch={config['max_batch']} at once: set prefetch to that, or raise it")
    if 0 < config.get("max_expires", 0) < LIFETIME * NANO:
        raise UsageError(f"{what} has max_expires={config['max_expires'] / NANO:g} s: it takes {LIFETIME:g} s")
    if config.get("replay_policy", "instant") != "instant":
        raise UsageError(f"{what} gives events as slowly as they came: set replay_policy to instant, or {other}")
    if min(config.get("backoff") or [config["ack_wait"]]) < SHORTEST_LEASE * NANO:
        raise UsageError(f"{what} has an ack_wait or backoff of less than {SHORTEST_LEASE:g} s: make it longer")
    groups = config.get("priority_groups") or []
    is_ordered = (config.get("priority_policy"), groups) == ("pinned_client", [PIN_GROUP])
    if groups and not is_ordered:
        raise UsageError(f"{what} has priority_groups, of which none is of eventmicro: {other}")
    if durable.ordered and not is_ordered:
        raise UsageError(f"{what} was made without order: {CHANGE}, or {other}")
    if is_ordered and not durable.ordered:
        raise UsageError(f"{what} was made with order: ask for it, or {CHANGE}, or {other}")
    if config.get("max_deliver", -1) > 0 and durable.dead_letter is None:
        raise UsageError(
            f"{what} gives an event up after max_deliver={config['max_deliver']}: set it to -1, or name a dead_letter"
        )


def _how_to_make(stream: str, consumer: str, subject: str, durable: Durable) -> str:
    """By NATS' own command where that makes such queues: ordered ones it does not."""
    ours = "let it be made by `eventmicro declare`, or set declare=true"
    if durable.ordered:
        return ours
    return (
        f"nats consumer add {stream} {consumer} --pull --filter {subject!r} --ack explicit --deliver new "
        f"--max-deliver=-1 --max-pending=-1 --wait 30s --defaults, or {ours}"
    )


def lease_of(config: dict[str, Any]) -> float:
    """How long the lease on a delivery of a queue that is so made is at least, in seconds."""
    return float(min(config.get("backoff") or [config["ack_wait"]]) / NANO)
