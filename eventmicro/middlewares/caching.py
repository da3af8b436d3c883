"""The cache of replies: what was asked before is answered without asking, for a while."""

from __future__ import annotations

import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable, Iterable
from functools import partial
from threading import Lock
from typing import Any, NamedTuple

from eventmicro.checks import check_count, check_function, check_seconds, check_several, names_words
from eventmicro.context import Context, Side
from eventmicro.errors import UsageError
from eventmicro.middleware import Handler
from eventmicro.middlewares.flights import Flights
from eventmicro.middlewares.keys import short_key
from eventmicro.middlewares.watched import is_stream, refuse_stream
from eventmicro.repeating import readable
from eventmicro.wire import header

log = logging.getLogger(__name__)


Key = tuple[str, Side, Hashable, Hashable, Hashable]
"""Endpoint, side, request, type of the reply, headers."""


class _Kept(NamedTuple):
    request: Any
    reply: Any
    fresh: float
    """Until when it is, in `time.monotonic()` seconds."""
    stale: float
    """Until when it is better than none."""


@names_words
class ReplyCache:
    """Answers a request that is equal to an earlier one with its reply, the same object: do not change what it returns.

    Of equal requests at the same time one is made, for all of them; that one's caller may give up. Errors are not kept,
    and streams are refused. Services and clients in several event loops, each in a thread, may share one.

    Args:
        ttl: for how long a reply is fresh, in seconds.
        stale: for how long after that it is returned while a new one is fetched, in seconds; also where that fails.
            Around an endpoint whoever finds it stale first waits for the new one.
        size: how many replies are kept; those not asked for the longest are forgotten.
        vary: the headers that make a request another one, beside its body.
        key: gives a request's key, in place of its body, from the request and the context.

    Raises:
        UsageError: one of these is out of range.
    """

    __eventmicro_sides__ = frozenset({Side.CLIENT, Side.ENDPOINT})
    __eventmicro_refuses_streams__ = True

    def __init__(
        self,
        ttl: float,
        *,
        stale: float = 0.0,
        size: int = 1000,
        vary: Iterable[str] = ("Authorization",),
        key: Callable[[Any, Context], Hashable] | None = None,
    ) -> None:
        check_seconds("ttl", ttl)
        check_seconds("stale", stale, or_none_at_all=True)
        check_count("size", size)
        if key is not None:
            check_function("key", key)
        self._ttl = ttl
        self._stale = stale
        self._size = size
        self._vary = check_several("vary", vary, "'Tenant'")
        self._key = key or body_key
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._keeping = Lock()
        self._flights = Flights()
        self.hits = 0
        """How many requests were answered without asking."""
        self.misses = 0
        """How many were not."""

    async def __call__(self, message: Any, context: Context, call_next: Handler) -> Any:
        if is_stream(message.__class__):
            await refuse_stream(message, context.topic, "a ReplyCache cannot keep")
        key = self._whole_key(message, context)
        kept, now = self._kept.get(key), time.monotonic()
        fetch = partial(self._fetch, key, message, context, call_next)
        flight = self._flights.get(key)
        if flight is not None and not self._is_same(flight.about, message):
            self.misses += 1
            return await fetch()
        if kept is not None and now < kept.stale and self._is_same(kept.request, message):
            self.hits += 1
            try:  # noqa: SIM105  suppress costs a tenth of a hit
                self._kept.move_to_end(key)
            except KeyError:  # another thread has forgotten it meanwhile
                pass
            return kept.reply if now < kept.fresh else await self._renew(key, kept, fetch, context)
        self.misses += 1
        return await self._flights.join(key, fetch, context, about=message)

    def __len__(self) -> int:
        """How many replies are kept."""
        return len(self._kept)

    def clear(self, endpoint: str | None = None) -> None:
        """Forget the replies of an endpoint, `service.endpoint`, or all; what is being fetched is kept later."""
        with self._keeping:
            for key in list(self._kept):
                if endpoint in (None, key[0]):
                    del self._kept[key]

    async def _renew(
        self, key: Key, kept: _Kept, fetch: Callable[[], Coroutine[Any, Any, Any]], context: Context
    ) -> Any:
        """The stale reply, or the new one where this is who waits for that."""
        flight, is_new = self._flights.begin(key, fetch, about=kept.request)
        if not is_new:
            return kept.reply
        if context.side is Side.CLIENT:  # it ends by the deadline of this call, and with its client
            flight.task.add_done_callback(_say_failure)
            return kept.reply
        try:
            return await flight.wait()
        except Exception as error:
            log.warning("%s.%s: a stale reply is returned: %s", context.service, context.endpoint, readable(error))
            return kept.reply

    async def _fetch(self, key: Key, message: Any, context: Context, call_next: Handler) -> Any:
        reply = await call_next(message, context)
        await refuse_stream(reply, key[0], "a ReplyCache cannot keep")
        now = time.monotonic()
        with self._keeping:
            self._kept[key] = _Kept(message, reply, now + self._ttl, now + self._ttl + self._stale)
            self._kept.move_to_end(key)
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return reply

    def _is_same(self, former: Any, message: Any) -> bool:
        """Whether requests of one key are one: JSON shows no secrets, for example. A key of the user's says it all."""
        return self._key is not body_key or former is message or bool(former == message)

    def _whole_key(self, message: Any, context: Context) -> Key:
        varying = tuple(short_key(header(context.metadata, name)) for name in self._vary)
        kind = context.reply if isinstance(context.reply, Hashable) else str(context.reply)
        return (
            f"{context.service}.{context.endpoint}",
            context.side,
            short_key(self._key(message, context)),
            kind,
            varying,
        )


def body_key(message: Any, context: Context) -> Hashable:
    """What is the same for equal requests: their body, as JSON or protobuf.

    Raises:
        UsageError: the request is neither.
    """
    if message is None or isinstance(message, bytes | str):
        return message
    if hasattr(message, "SerializeToString"):
        packed: bytes = message.SerializeToString(deterministic=True)
        return packed
    from pydantic_core import PydanticSerializationError, to_json

    try:
        return to_json(message)
    except PydanticSerializationError:
        if (written := _struct_key(message)) is not None:
            return written
        kind = type(message).__name__
        raise UsageError(f"a {kind} has no JSON by which requests could be told apart: write key=...") from None


def _struct_key(message: Any) -> bytes | None:
    """The same of Structs and attrs classes, which msgspec knows; None: it does not know them either."""
    if "msgspec" not in sys.modules:  # then there are none
        return None
    from msgspec.json import encode

    try:
        return encode(message)
    except (TypeError, ValueError, RecursionError):
        return None


def _say_failure(task: Any) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("a stale reply was returned, as no new one came: %s", readable(error))
