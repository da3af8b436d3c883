"""The subscriber's side of an event: decode, run the handler, say what went wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from eventmicro.codecs import Body
from eventmicro.context import Context, Side, enter_context
from eventmicro.errors import DecodeError, UnsupportedMediaType
from eventmicro.inflight import InFlight
from eventmicro.message import Delivery
from eventmicro.middleware import Handler
from eventmicro.wire import content_type

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
        self._state = state

    def receive(self, delivery: Delivery) -> Awaitable[None] | None:
        """What the broker hands the events to."""
        self.inflight.start(self._handle(delivery))
        return self.inflight.room()

    async def _handle(self, delivery: Delivery) -> None:
        try:
            event = None if self._body is None else _read(self._body, delivery)
            context = Context(
                Side.SUBSCRIBER,
                self._service,
                self._endpoint,
                delivery.subject,
                delivery.headers,
                None,
                delivery.attempt,
                self._state,
            )
            enter_context(context)
            await self._handler(event, context)
        except _Unreadable as error:
            log.warning("%s: event on %s skipped, it is %s", self.name, delivery.subject, error)
        except asyncio.CancelledError:
            log.warning("%s: event on %s cut off", self.name, delivery.subject)
        except Exception:
            log.exception("%s: event on %s failed", self.name, delivery.subject)


class _Unreadable(Exception):
    """The body is not of the subscriber's type."""


def _read(body: Body, delivery: Delivery) -> Any:
    try:
        if delivery.headers is None:
            return body.decode(delivery.body)
        named = content_type(delivery.headers)
        return (body.decode if named is None else body.decoder(named))(delivery.body)
    except DecodeError as error:
        fields = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors)
        raise _Unreadable(f"{error}{f' ({fields})' if fields else ''}") from None
    except UnsupportedMediaType as error:
        raise _Unreadable(f"in a form not taken here: {error.detail}") from None
