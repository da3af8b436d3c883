"""Whose id it is that a stream knows already: it tells events apart by their ids alone, whatever their subjects.

Two topics of one stream may use one id for two events, as that of an order which is placed and paid. The server takes
the second for the first, so the first is looked at: only where it is of the same subject is the second one its double.
"""

from __future__ import annotations

import asyncio
import json

from eventmicro.errors import Disconnected, Unconfirmed
from eventmicro_nats.jetstream.api import MESSAGE_NOT_FOUND, STREAM_NOT_FOUND, Api, ApiError, NotAllowed
from eventmicro_nats.jetstream.filled import renamed

# What the receipt says of one whose id is known.
DUPLICATE = b'"duplicate":'
# How long one look may take, in seconds.
TIMEOUT = 5.0


class Duplicates:
    """Looks at what streams have stored under an id."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def is_of(self, subject: str, receipt: bytes, deadline: float) -> bool:
        """Whether what the receipt names is an event of this subject, or cannot be one of another.

        Raises:
            Unconfirmed: that cannot be known, so nobody knows whether the event is stored.
        """
        told = json.loads(receipt)
        stream, sequence = str(told["stream"]), int(told["seq"])
        deadline = min(deadline, asyncio.get_running_loop().time() + TIMEOUT)
        try:
            stored = await self._stored_as(stream, sequence, subject, deadline)
            return stored == subject or await self._takes_for(stream, subject, stored, deadline)
        except (Disconnected, NotAllowed, ApiError) as error:
            raise Unconfirmed(
                f"{subject}: stream {stream} knows its id already; whether as an event of this subject could not be "
                f"looked up: {error}"
            ) from None

    async def _stored_as(self, stream: str, sequence: int, subject: str, deadline: float) -> str | None:
        """The subject of an event in a stream, ours where that cannot be asked for; None: it is gone."""
        try:
            found = await self._api.call(f"STREAM.MSG.GET.{stream}", {"seq": sequence}, deadline=deadline)
        except ApiError as error:
            if error.number == MESSAGE_NOT_FOUND:
                return None
            if error.number == STREAM_NOT_FOUND:  # its receipt came from where this cannot be asked
                return subject
            raise
        return str(found["message"]["subject"])

    async def _takes_for(self, stream: str, subject: str, stored: str | None, deadline: float) -> bool:
        """Whether a stream can have it by no other subject: it takes no other one, or stores this one under that."""
        config = (await self._api.call(f"STREAM.INFO.{stream}", deadline=deadline))["config"]
        if stored is None:
            return bool(config.get("subjects") == [subject] and not config.get("sources"))
        return renamed(config.get("subject_transform"), subject, stored)
