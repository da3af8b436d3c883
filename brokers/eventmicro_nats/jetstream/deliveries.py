"""A delivery of JetStream: what its reply subject says, and how it is settled."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from eventmicro_nats.deliveries import NatsDelivery
from eventmicro_nats.jetstream.queues import Queue

ACK = b"+ACK"
NAK = b"-NAK"
IN_PROGRESS = b"+WPI"

# An attempt as it is written, of nearly all events.
_FIRST = b"1"

# How many tokens the subject has where an event is settled, in its earlier form.
SHORT = 9


class Settles(Protocol):
    """Where a delivery is settled: the subscription that it came by."""

    @property
    def queue(self) -> Queue: ...
    def settle(self, delivery: JetStreamDelivery, word: bytes) -> None: ...


class Origin(NamedTuple):
    """Where a delivery is of, as far as that is known."""

    stream: str
    consumer: str
    consumer_sequence: int | None = None
    pending: int | None = None
    domain: str | None = None


class JetStreamDelivery(NatsDelivery):
    """An event that is to be settled.

    Attributes:
        sequence: its place in the stream.
        stored: when it was stored, as the server writes it: with the sequence it tells apart any two events.
        settle_at: the subject where it is settled.
        leased: when the server's lease on it began, in seconds of the loop's clock.
    """

    __slots__ = ("_home", "leased", "raw_headers", "sequence", "settle_at", "stored")

    def __init__(
        self,
        home: Settles,
        sequence: int,
        stored: bytes,
        settle_at: bytes,
        leased: float,
        subject: str,
        body: bytes,
        headers: dict[str, str] | None,
        attempt: int,
        raw_headers: bytes = b"",
    ) -> None:
        self.subject = subject  # here and not by Delivery's own, which would be another call for each event
        self.body = body
        self.headers = headers
        self.reply = ""
        self.attempt = attempt
        self.arrived = None
        self.lapsed = self.waiting = False
        self.sequence = sequence
        self.stored = stored
        self.settle_at = settle_at
        self.leased = leased
        self.raw_headers = raw_headers
        self._home = home

    @property
    def id(self) -> str:  # type: ignore[override]  # put together at a look: most events are settled without one
        return f"{self.sequence}-{self.stored.decode()}"

    @property
    def stored_at(self) -> datetime | None:
        return datetime.fromtimestamp(int(self.stored) / 1e9, UTC)

    def command(self, word: bytes) -> bytes:
        """What tells the server a word on it; an ack, as of nearly all events, `Settling.settle` writes in place."""
        return b"PUB %b %d\r\n%b\r\n" % (self.settle_at, len(word), word)

    def origin(self) -> Origin:
        """Where it is of; what its queue says of it is not known any more where that was deleted."""
        if not self.settle_at:
            return Origin(self._home.queue.stream, self._home.queue.consumer)
        tokens = self.settle_at.decode().split(".")
        domain = tokens[2] if len(tokens) > SHORT and tokens[2] != "_" else None
        stream, consumer, _, _, number, _, left = tokens[2:9] if len(tokens) == SHORT else tokens[4:11]
        return Origin(stream, consumer, int(number), int(left), domain)

    def try_ack(self) -> bool:
        self._home.settle(self, ACK)
        return True

    async def ack(self) -> None:
        self._home.settle(self, ACK)

    async def nack(self, delay: float = 0.0) -> None:
        self._home.settle(self, b'-NAK {"delay": %d}' % int(delay * 1e9) if delay > 0 else NAK)


def read_settle_subject(subject: bytes) -> tuple[int, int, bytes]:
    """The attempt, the sequence and the time of storing that it names.

    `$JS.ACK.<stream>.<consumer>.<attempt>.<sequence>.<sequence in the queue>.<time>.<left>` has nine tokens; the later
    form has domain and account before the stream, and may have a token more at the end.
    """
    try:
        _, _, _, _, attempt, sequence, _, stored, _ = subject.split(b".")
    except ValueError:
        _, attempt, sequence, _, stored, *_ = subject.split(b".", 10)[5:]
    return 1 if attempt == _FIRST else int(attempt), int(sequence), stored
