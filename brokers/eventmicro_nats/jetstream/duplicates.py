"""Whose id it is that a stream knows already: it tells events apart by their ids alone, whatever their subjects.

Two topics of one stream may use one id for two events, as that of an order which is placed and paid. The server takes
the second for the first, so the first is looked at: only where it is of the same subject is the second one its double.
Where the first is gone, as what was settled is from a work queue, it is known here only if it was published from here.
"""

from __future__ import annotations

import asyncio
import json

from eventmicro.errors import Disconnected, Unconfirmed
from eventmicro.message import Message
from eventmicro_nats.jetstream.api import MESSAGE_NOT_FOUND, STREAM_NOT_FOUND, Api, ApiError, NotAllowed
from eventmicro_nats.jetstream.filled import renamed

# What the receipt says of one whose id is known.
DUPLICATE = b'"duplicate":'
# How long one look may take, in seconds.
TIMEOUT = 5.0
# How many ids are remembered with what became of them.
REMEMBERED = 10_000


class Duplicates:
    """Looks at what streams have stored under an id."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._stored: dict[str, tuple[str, bytes]] = {}

    def note(self, event: Message, receipt: bytes) -> None:
        """Remember as what an event of this id was stored: later nobody may be able to tell."""
        self._stored[event.id or ""] = (event.subject, receipt)
        if len(self._stored) > REMEMBERED:
            del self._stored[next(iter(self._stored))]

    async def are_one(self, event: Message, receipt: bytes, deadline: float) -> bool:
        """Whether what the receipt names is an event of this one's subject, or cannot be one of another.

        Raises:
            Unconfirmed: that cannot be known, so nobody knows whether the event is stored.
        """
        stream, sequence = place = _place(receipt)
        subject, deadline = event.subject, min(deadline, asyncio.get_running_loop().time() + TIMEOUT)
        try:
            stored = await self._stored_as(stream, sequence, subject, deadline) or self._noted(event, place)
            if stored == subject or await self._takes_for(stream, subject, stored, deadline):
                return True
        except (Disconnected, NotAllowed, ApiError) as error:
            raise Unconfirmed(
                f"{subject}: stream {stream} knows its id already; whether as an event of this subject could not be "
                f"looked up: {error}"
            ) from None
        if stored is None:
            raise Unconfirmed(
                f"{subject}: stream {stream} knows its id already, of an event that is gone from it: nobody can tell "
                "whether that was of this subject: let no two subjects of a stream use one id"
            )
        return False

    def _noted(self, event: Message, place: tuple[str, int]) -> str | None:
        """The subject of what is or was at that place, where it was stored from here."""
        subject, receipt = self._stored.get(event.id or "", ("", b""))
        return subject if receipt and _place(receipt) == place else None

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


def _place(receipt: bytes) -> tuple[str, int]:
    """The stream and the number of what a receipt is about."""
    told = json.loads(receipt)
    return str(told["stream"]), int(told["seq"])
