"""Feed: what stands in the bucket and what changes there, in order, until something of it is missing."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from nats.errors import Error

from eventmicro.errors import Unavailable
from eventmicro_nats.connection.headers import read_headers
from eventmicro_nats.connection.interest import Interest
from eventmicro_nats.registry.line import Line

# How often the server says that nothing has happened; who says nothing for three times as long is gone, in seconds.
HEARTBEAT = 2.0
SILENCE = 3 * HEARTBEAT
# When the server takes away a consumer that nobody listens to, in seconds.
UNHEARD = 10.0
NANO = 1_000_000_000
_ACK = b"$JS.ACK."


@dataclass(frozen=True, slots=True)
class Entry:
    """A key and what was written under it last; `headers` say whether it is the mark of an end."""

    subject: str
    body: bytes
    headers: dict[str, str]


class Feed:
    """A consumer of its own on the bucket's stream: first the last message of each subject, then all that come.

    Args:
        stream: the bucket's.
        pattern: of which subjects.
    """

    def __init__(self, line: Line, stream: str, pattern: str) -> None:
        self._line = line
        self._stream = stream
        self._pattern = pattern
        self._name = f"eventmicro-{secrets.token_hex(8)}"
        self._driver = line.check()
        self._interest: Interest | None = None
        self._waiting: deque[Entry | str | None] = deque()
        self._news = asyncio.Event()
        self._seen = 0
        self._cut = ""

    async def open(self) -> None:
        """Begin.

        Raises:
            ApiError, Silent, Disconnected: as of `Api.call`.
            Unavailable: the connection does not stand.
        """
        inbox = self._driver.new_inbox()
        self._line.on_loss[self._lose] = None
        try:
            self._interest = await self._driver.subscribe_to(inbox, "", self._take)
        except Error as error:
            raise Unavailable(str(error), id=self._line.url) from error
        config = {
            "name": self._name,
            "deliver_subject": inbox,
            "deliver_policy": "last_per_subject",
            "filter_subject": self._pattern,
            "ack_policy": "none",
            "max_deliver": 1,
            "replay_policy": "instant",
            "flow_control": True,
            "idle_heartbeat": int(HEARTBEAT * NANO),
            "inactive_threshold": int(UNHEARD * NANO),
            "mem_storage": True,
            "num_replicas": 1,
        }
        what, arguments = f"CONSUMER.CREATE.{self._stream}.{self._name}", {"stream_name": self._stream}
        made = await self._line.api.call(what, arguments | {"config": config}, deadline=self._line.deadline())
        if not made.get("num_pending") and not self._seen:
            self._put(None)

    def close(self) -> None:
        """End it; the consumer is taken away, at once if the connection stands."""
        self._line.on_loss.pop(self._lose, None)
        if self._interest is None:
            return
        self._driver.forget(self._interest)  # else it would be taken up again by the next connection
        if not self._cut:
            with suppress(Unavailable):
                self._driver.withdraw(self._interest)
                self._line.send(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}")

    async def next(self) -> Entry | None:
        """What comes next; None: all that was there has come, or nothing has happened for a while.

        Raises:
            Unavailable: something is missing, or no more comes.
        """
        while True:
            while not self._waiting:
                await self._wait()
            entry = self._waiting.popleft()
            if isinstance(entry, str):  # the server waits to hear that what it has sent so far is taken
                self._line.send(entry)
            else:
                return entry

    async def _wait(self) -> None:
        if not self._cut:
            self._news.clear()
            try:
                async with asyncio.timeout(SILENCE):
                    await self._news.wait()
            except TimeoutError:
                self._cut = "the server has fallen silent"
        if self._cut and not self._waiting:
            raise Unavailable(f"{self._line.url}: {self._cut}", id=self._line.url)

    def _take(self, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        if not reply.startswith(_ACK):
            self._take_word(reply.decode(errors="replace"), read_headers(headers) or {})
            return
        sequence, left = read_place(reply)
        if sequence != self._seen + 1:
            self._end("a message is missing")
            return
        self._seen = sequence
        self._put(Entry(subject.decode(errors="replace"), data, (read_headers(headers) or {}) if headers else {}))
        if not left:
            self._put(None)

    def _take_word(self, reply: str, headers: dict[str, str]) -> None:
        """The server says that it is there, or asks whether we are."""
        if headers.get("Status") != "100":
            self._end(f"the server ends it: {headers.get('Status')} {headers.get('Description')}")
            return
        for subject in (reply, headers.get("Nats-Consumer-Stalled", "")):
            if subject:
                self._put(subject)
        last = headers.get("Nats-Last-Consumer", "")
        if last.isdigit() and int(last) != self._seen:
            self._end("a message is missing")
        elif last:
            self._put(None)

    def _put(self, entry: Entry | str | None) -> None:
        if not self._cut and (entry is not None or not self._waiting or self._waiting[-1] is not None):
            self._waiting.append(entry)
            self._news.set()

    def _lose(self) -> None:
        self._end("the connection was lost")

    def _end(self, why: str) -> None:
        self._cut = self._cut or why
        self._news.set()


def read_place(reply: bytes) -> tuple[int, int]:
    """The number of a delivery, and how many are still to come, from the subject where it would be settled."""
    tokens = reply.split(b".")
    shift = 0 if len(tokens) == 9 else 2  # with the domain and the account in it
    return int(tokens[6 + shift]), int(tokens[8 + shift])
