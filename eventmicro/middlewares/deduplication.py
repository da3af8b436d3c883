"""De-duplication of requests by an id: what comes twice runs once, and both get its reply."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from copy import deepcopy
from functools import partial
from threading import Lock
from typing import Any, NamedTuple
from uuid import uuid4

from eventmicro.checks import check_count, check_seconds, check_several, names_words
from eventmicro.context import Context, Side
from eventmicro.errors import Conflict, ServiceError
from eventmicro.middleware import Handler
from eventmicro.middlewares.failures import is_failure
from eventmicro.middlewares.flights import Flights
from eventmicro.middlewares.keys import short_key
from eventmicro.middlewares.watched import is_stream, refuse_stream
from eventmicro.wire import check_headers, header

REQUEST_ID = "Request-Id"

Key = tuple[str, ...]


class _Done(NamedTuple):
    request: Any
    outcome: Any
    until: float


@names_words
class Deduplicate:
    """Around an endpoint: a request whose id was there within the window is not handled again and gets the same
    outcome; one that comes while the first still runs waits for it. Requests without an id are handled as they come.
    On the client's side each call without an id gets one, the same for all its attempts.

    Each instance of a service knows its own requests: a `key` brings a call that is made again to the same one. The
    reply is kept, and an error that would be the same again; after a failure the request may run once more. The same
    id with another request is a `Conflict`. Streams are refused. Services in several event loops, each in a thread, may
    share one: then they know the requests of all of them.

    Args:
        window: for how long an outcome is kept, in seconds.
        size: how many are; the oldest are forgotten.
        header: the header that holds the id.
        vary: headers that make an id another one: nobody gets what was replied to another caller.

    Raises:
        UsageError: one of these is out of range.
    """

    __eventmicro_sides__ = frozenset({Side.CLIENT, Side.ENDPOINT})
    __eventmicro_refuses_streams__ = True

    def __init__(
        self,
        window: float = 60.0,
        *,
        size: int = 10_000,
        header: str = REQUEST_ID,
        vary: Iterable[str] = ("Authorization",),
    ) -> None:
        check_seconds("window", window)
        check_count("size", size)
        check_headers({header: ""})
        self._window = window
        self._size = size
        self._header = header
        self._vary = check_several("vary", vary, "'Tenant'")
        self._done: OrderedDict[Key, _Done] = OrderedDict()
        self._keeping = Lock()
        self._flights = Flights()

    async def __call__(self, message: Any, context: Context, call_next: Handler) -> Any:
        if context.side is Side.CLIENT:
            if header(context.metadata, self._header) is None:
                context.metadata[self._header] = uuid4().hex
            return await call_next(message, context)
        key = self._key(context)
        if key is None:
            return await call_next(message, context)
        if is_stream(message.__class__):
            await refuse_stream(message, key[0], "Deduplicate cannot keep")
        done = self._find(key)
        if done is not None:
            _check_same(done.request, message)
            return _outcome(done.outcome)
        if (flight := self._flights.get(key)) is not None:
            _check_same(flight.about, message)
        asked = deepcopy(message)  # the handler may change what it gets
        handle = partial(self._handle, key, asked, message, context, call_next)
        return await self._flights.join(key, handle, context, about=asked)

    def __len__(self) -> int:
        """How many outcomes are kept."""
        return len(self._done)

    def _key(self, context: Context) -> Key | None:
        named = header(context.metadata, self._header)
        if not named:
            return None
        varying = (header(context.metadata, name) or "" for name in self._vary)
        return (f"{context.service}.{context.endpoint}", *map(short_key, (named, *varying)))

    async def _handle(self, key: Key, asked: Any, message: Any, context: Context, call_next: Handler) -> Any:
        try:
            reply = await call_next(message, context)
            await refuse_stream(reply, key[0], "Deduplicate cannot keep")
        except ServiceError as error:
            if not (error.received or error.retryable or is_failure(error)):
                with suppress(TypeError, ValueError, RecursionError):  # JSON cannot hold its parts
                    self._keep(key, asked, _Refused(error.code, error.to_json(key[0])))
            raise
        self._keep(key, asked, reply)
        return reply

    def _keep(self, key: Key, request: Any, outcome: Any) -> None:
        now = time.monotonic()
        with self._keeping:
            while self._done and next(iter(self._done.values())).until <= now:
                self._done.popitem(last=False)
            self._done[key] = _Done(request, outcome, now + self._window)
            while len(self._done) > self._size:
                self._done.popitem(last=False)

    def _find(self, key: Key) -> _Done | None:
        done = self._done.get(key)
        return None if done is None or done.until <= time.monotonic() else done


class _Refused(NamedTuple):
    """An error, as it travels: raised again it is another one, with a traceback of its own."""

    code: int
    body: bytes


def _outcome(outcome: Any) -> Any:
    if isinstance(outcome, _Refused):
        raise ServiceError.from_json(outcome.body, code=outcome.code, detail="", id="")
    return outcome


def _check_same(first: Any, again: Any) -> None:
    if first != again:
        raise Conflict("this id was used for another request: give each request one of its own")
