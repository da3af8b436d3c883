"""How it is with queues, as the server tells of its consumers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from eventmicro.broker import QueueState
from eventmicro.errors import UsageError
from eventmicro_nats.jetstream.api import CONSUMER_NOT_FOUND, STREAM_NOT_FOUND, Api, ApiError, NotAllowed
from eventmicro_nats.jetstream.queues import consumer_name, queue_name
from eventmicro_nats.jetstream.streams import read_time

# What is the case where a stream was deleted while it was looked through.
_GONE = (CONSUMER_NOT_FOUND, STREAM_NOT_FOUND)


class States:
    """What is told of the queues of all streams that may be seen from here.

    Args:
        stream: the one that is looked into where nothing is to be looked up, as with declare=false.
    """

    def __init__(self, api: Api, stream: str | None) -> None:
        self._api = api
        self._stream = stream

    async def of(self, queue: str, subject: str | None, deadline: float) -> QueueState | None:
        """How it is with one; None: there is none."""
        async for stream in self._streams(subject, deadline):
            try:
                info = await self._api.call(f"CONSUMER.INFO.{stream}.{consumer_name(queue)}", deadline=deadline)
            except ApiError as error:
                if error.number not in _GONE:
                    raise UsageError(f"queue {queue} in stream {stream}: {error}") from error
            else:
                return await self._state(stream, info, deadline)
        return None

    async def all(self, deadline: float) -> list[QueueState]:
        """How it is with each, by name: all consumers that are durable and asked for their events."""
        found: list[QueueState] = []
        async for stream in self._streams(None, deadline):
            async for info in self._listed(f"CONSUMER.LIST.{stream}", "consumers", {}, deadline):
                config = info["config"]
                if config.get("durable_name") and not config.get("deliver_subject"):
                    found.append(await self._state(stream, info, deadline))
        return sorted(found, key=lambda state: state.queue)

    async def _streams(self, subject: str | None, deadline: float) -> AsyncIterator[str]:
        if self._stream is not None:
            yield self._stream
            return
        wanted = {} if subject is None else {"subject": subject}
        async for name in self._listed("STREAM.NAMES", "streams", wanted, deadline):
            if not name.startswith(("KV_", "OBJ_")):
                yield name

    async def _listed(self, what: str, part: str, wanted: dict[str, Any], deadline: float) -> AsyncIterator[Any]:
        """What a list has, which the server gives in pages."""
        offset = 0
        while True:
            try:
                answer = await self._api.call(what, wanted | {"offset": offset}, deadline=deadline)
            except ApiError as error:
                if error.number in _GONE:
                    return
                raise UsageError(f"{what}: {error}") from error
            page = answer.get(part) or []
            for each in page:
                yield each
            offset += len(page)
            if not page or offset >= answer.get("total", 0):
                return

    async def _state(self, stream: str, info: dict[str, Any], deadline: float) -> QueueState:
        waiting, unsettled = int(info["num_pending"]), int(info["num_ack_pending"])
        return QueueState(
            queue=queue_name(str(info["name"])),
            waiting=waiting,
            unsettled=unsettled,
            consumers=int(info["num_waiting"]),
            oldest=await self._oldest(stream, info, deadline) if waiting or unsettled else None,
        )

    async def _oldest(self, stream: str, info: dict[str, Any], deadline: float) -> datetime | None:
        """When the first one behind what is all settled was stored; None: that may not be asked, or it is gone."""
        config = info["config"]
        filters = config.get("filter_subjects") or [config.get("filter_subject") or ">"]
        wanted = {"seq": info["ack_floor"]["stream_seq"] + 1, "next_by_subj": filters[0]}
        if len(filters) > 1:
            return None
        with suppress(ApiError, NotAllowed):
            answer = await self._api.call(f"STREAM.MSG.GET.{stream}", wanted, deadline=deadline)
            return datetime.fromtimestamp(read_time(answer["message"]["time"]), UTC)
        return None
