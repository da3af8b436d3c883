"""The subscriber's side of an event: decode, run the handler, say what went wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from eventmicro.codec import Decoder
from eventmicro.codecs import Body
from eventmicro.context import Context, Side, enter_context
from eventmicro.errors import DecodeError, UnsupportedMediaType, describe_fields
from eventmicro.inflight import InFlight
from eventmicro.message import Delivery
from eventmicro.middleware import Handler
from eventmicro.wire import content_type

SUBSCRIBER = Side.SUBSCRIBER
log = logging.getLogger(__name__)


class Subscriber:
    """One handler of events at work. Lives from the start of its service to its stop.

    Args:
        service, name: its own names, `orders` and `bill`.
        handler: the compiled handler, middleware around it.
        body: the body of the events; None where the handler takes none.
        concurrency: how many events may wait for something at the same time; with 1 they are handled in order.
        state: what the service's lifespan yielded.
    """

    def __init__(
        self, service: str, name: str, handler: Handler, body: Body | None, concurrency: int, state: Any
    ) -> None:
        self.name = f"{service}.{name}"
        self.inflight = InFlight(concurrency)
        self._service = service
        self._endpoint = name
        self._handler = handler
        self._body = body
        self._decode: Decoder = _ignore if body is None else body.decode
        self._state = state

    def receive(self, delivery: Delivery) -> Awaitable[None] | None:
        """What the broker hands the events to."""
        task = self.inflight.start(self._handle(delivery))
        return None if task is None else self.inflight.room()

    async def _handle(self, delivery: Delivery) -> None:
        try:
            event = self._decode(delivery.body) if delivery.headers is None else self._read(delivery)
        except (DecodeError, UnsupportedMediaType) as error:
            log.warning("%s: event on %s skipped, %s", self.name, delivery.subject, _describe(error))
            return
        except Exception:
            log.exception("%s: event on %s skipped: it could not be decoded", self.name, delivery.subject)
            return
        context = Context(
            SUBSCRIBER,
            self._service,
            self._endpoint,
            delivery.subject,
            delivery.headers,
            None,
            delivery.attempt,
            self._state,
        )
        enter_context(context)
        try:
            await self._handler(event, context)
        except asyncio.CancelledError:
            log.warning("%s: event on %s cut off", self.name, delivery.subject)
        except (Exception, SystemExit):  # nothing that a message brings about ends the service
            log.exception("%s: event on %s failed", self.name, delivery.subject)

    def _read(self, delivery: Delivery) -> Any:
        """Decode a message with headers, one of which may name its content type."""
        named = content_type(delivery.headers)
        if self._body is None or named is None:
            return self._decode(delivery.body)
        return self._body.decoder(named)(delivery.body)


def _ignore(body: bytes) -> None:
    """The decoder for a handler that takes no message."""


def _describe(error: DecodeError | UnsupportedMediaType) -> str:
    if isinstance(error, UnsupportedMediaType):
        return f"it is in a form not taken here: {error.detail}"
    return f"it is {error}{describe_fields(error.errors)}"
