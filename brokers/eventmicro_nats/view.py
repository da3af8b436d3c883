"""NatsMessage: all that NATS tells of a message, for handlers that need more than eventmicro hands over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from eventmicro.context import Context
from eventmicro.errors import UsageError
from eventmicro_nats.connection.headers import read_pairs
from eventmicro_nats.deliveries import NatsDelivery
from eventmicro_nats.jetstream.deliveries import JetStreamDelivery

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsMessage:
    """What a message was on NATS; as a dependency, `message: Annotated[NatsMessage, Depends(NatsMessage.of)]`.

    What only JetStream knows is None where the message came over core NATS.
    """

    subject: str
    reply: str
    """Where an answer is awaited; empty where none is, as of events."""
    headers: tuple[tuple[str, str], ...]
    """All of them in their order, those that repeat and those for the server, such as `Nats-Msg-Id`, too."""
    stream: str | None = None
    consumer: str | None = None
    stream_sequence: int | None = None
    consumer_sequence: int | None = None
    """None also where somebody has deleted the consumer since."""
    timestamp: datetime | None = None
    """When it was stored, in UTC, to the microsecond."""
    delivered: int | None = None
    """How many times it was delivered, this time included."""
    pending: int | None = None
    """How many events were to come behind it; None as `consumer_sequence`."""
    domain: str | None = None
    """The JetStream domain; None where the server names none."""

    @classmethod
    def of(cls, context: Context) -> Self:
        """The message that is being handled.

        Raises:
            UsageError: it came over another broker, or there are several, or none.
        """
        came = _came(context)
        if isinstance(came, list):
            raise UsageError("this is a batch: NatsMessage.all_of has its messages")
        return cls._read(came)

    @classmethod
    def all_of(cls, context: Context) -> list[Self]:
        """The messages of the batch that is being handled, in the order of its events; of a single one, that.

        Raises:
            UsageError: they came over another broker, or there are none.
        """
        came = _came(context)
        return [cls._read(each) for each in (came if isinstance(came, list) else [came])]

    def values(self, name: str) -> list[str]:
        """All values of a header, in their order, whatever the case of its name."""
        return [value for header, value in self.headers if header.lower() == name.lower()]

    @classmethod
    def _read(cls, came: object) -> Self:
        if not isinstance(came, NatsDelivery):
            raise UsageError(f"this came over another broker than NATS: as {_kind(came)}")
        headers = read_pairs(came.raw_headers)
        if not isinstance(came, JetStreamDelivery):
            return cls(subject=came.subject, reply=came.reply, headers=headers)
        origin = came.origin()
        return cls(
            subject=came.subject,
            reply="",
            headers=headers,
            stream=origin.stream,
            consumer=origin.consumer,
            stream_sequence=came.sequence,
            consumer_sequence=origin.consumer_sequence,
            timestamp=_EPOCH + timedelta(microseconds=int(came.stored) // 1000),
            delivered=came.attempt,
            pending=origin.pending,
            domain=origin.domain,
        )


def _came(context: Context) -> object:
    """What is handled: one delivery, or a list of them."""
    several = context.delivery
    came = several if isinstance(several, list) else getattr(context, "came", several)
    if came is None:
        raise UsageError("no message came here: NatsMessage is for handlers of events and calls")
    return came


def _kind(came: object) -> str:
    """The broker that a delivery is of, by the package of its class."""
    kind = type(came)
    return f"{kind.__name__} of {kind.__module__.partition('.')[0]}"
