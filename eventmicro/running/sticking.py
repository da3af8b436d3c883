"""Sticking: events of one key are handled by one instance, on brokers that spread a queue's events over all of them.

Whichever instance gets an event hands it over to the one that its key belongs to, by rendezvous over those that are
registered, and settles it by what became of it there. So nothing is lost where that one dies, and a key moves only when
its instance goes, or a new one takes it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from eventmicro.client import Client
from eventmicro.codecs import Body
from eventmicro.context import Context, Side
from eventmicro.discovery.strategies import rendezvous
from eventmicro.errors import Ack, Nack, NotFound, Reject, ServiceError, Settlement, Unavailable
from eventmicro.middleware import Handler
from eventmicro.running.identity import Identity
from eventmicro.selector import Choice, Node
from eventmicro.topic import Pick
from eventmicro.wire import ACCEPT_LARGE, CONTENT_ENCODING, header_line, without

log = logging.getLogger(__name__)

# Headers of an event that is handed over: its subject, how often it was delivered, and its id in a durable queue.
TOPIC = "Sticky-Topic"
ATTEMPT = "Sticky-Attempt"
ID = "Sticky-Id"
LONGEST = 2000
# How long the instance of a key may take for an event where the subscriber says no `timeout`, in seconds.
PATIENCE = 60.0
# The code under which a settlement travels from there: the request was understood, and is not done.
SETTLED = 422
# How long the first look at the registry may take, in seconds; then the event is handled where it is.
LOOK = 2.0


class Sticking:
    """What a sticky subscriber does with an event that its broker has given to this instance.

    Args:
        name: the subscriber's name, under which each instance takes events from the others.
        pick: takes the key out of an event.
        handler: what handles an event here.
        body: the body of the events.
        timeout: how long the handling may take, in seconds.
    """

    def __init__(
        self,
        client: Client,
        identity: Identity,
        name: str,
        pick: Pick,
        handler: Handler,
        body: Body,
        timeout: float | None,
    ) -> None:
        self._client = client
        self._identity = identity
        self._name = name
        self._pick = pick
        self._handler = handler
        self._body = body
        self._timeout = PATIENCE if timeout is None else timeout
        self._nothing = client._caller.codecs.body(None)
        self._myself = Node(identity.service, identity.id)

    async def __call__(self, event: Any, context: Context) -> None:
        choice = Choice(self._identity.service, self._name, str(self._pick(event)))
        gone: list[Node] = []
        while (node := await self._find(choice, gone)) is not None:
            try:
                await self._hand_over(node, event, context)
                return
            except Unavailable as error:
                if not error.nobody:
                    raise
            except NotFound as error:  # an older version, which has no such subscriber
                if not error.id.startswith(node.address):
                    raise
            gone.append(node)
        await self._handler(event, context)

    async def _find(self, choice: Choice, gone: list[Node]) -> Node | None:
        """The instance that a key belongs to; None: this one, also where nobody can say."""
        try:
            view = await self._client._directing.view(choice.service, LOOK)
        except Unavailable:
            return None
        others = [node for node in view.nodes() if node.id != self._identity.id and node not in gone]
        node = rendezvous([*others, self._myself], choice)
        return None if node is self._myself else node

    async def _hand_over(self, node: Node, event: Any, context: Context) -> None:
        headers = context.metadata | {TOPIC: header_line(context.topic, LONGEST), ATTEMPT: str(context.attempt)}
        if context.settles is not None:
            headers[ID] = header_line(context.id, LONGEST)
        without(headers, CONTENT_ENCODING)  # that of the event as it came
        headers[ACCEPT_LARGE] = str(self._client.max_large)  # it may have come out of an object store
        body, now = self._body.pack(event, headers), time.monotonic()
        try:
            await self._client._caller.exchange(
                self._identity.service,
                f"{node.address}.{self._name}",
                body,
                headers,
                now,
                now + self._timeout,
                self._nothing,
                explained=False,
            )
        except ServiceError as error:
            raise _settlement(error) or error from None


class HandedOver:
    """An event that another instance has: how the handler settles it is kept, and travels back when that has ended."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.said: Settlement | None = None

    async def ack(self, event: object) -> None:
        self.said = Ack()

    async def nack(self, event: object, delay: float | None) -> None:
        self.said = Nack(delay)

    async def reject(self, event: object, reason: str) -> None:
        self.said = Reject(reason)


def taking(handler: Handler) -> Callable[[Any, Context], Awaitable[None]]:
    """The handler of what other instances hand over: how it settles an event travels back to the one that has it."""

    async def take(event: Any, context: Context) -> None:
        handed = _show_as_it_came(context)
        try:
            await handler(event, context)
        except Settlement as error:
            handed.said = handed.said or error
        except Exception:
            if handed.said is None:
                raise
            log.exception("%s.%s failed after it had settled its event", context.service, context.endpoint)
        if handed.said is not None and not isinstance(handed.said, Ack):
            raise _error(handed.said)

    return take


def _show_as_it_came(context: Context) -> HandedOver:
    """Let a handler see what it would see where the event came."""
    said = context.metadata
    handed = HandedOver(said.pop(ID, ""))
    context.side, context.topic = Side.SUBSCRIBER, said.pop(TOPIC, context.topic)
    attempt = said.pop(ATTEMPT, "")
    context.attempt = int(attempt) if attempt.isdecimal() and len(attempt) < 10 else 1
    if handed.id:
        context.delivery = context.settles = handed
    return handed


def _error(said: Settlement) -> ServiceError:
    """The error as which a settlement travels."""
    form = {"type": type(said).__name__.lower(), "delay": getattr(said, "delay", None)}
    return ServiceError(said.reason, code=SETTLED, errors=[form])


def _settlement(error: ServiceError) -> Settlement | None:
    """The settlement that an error stands for."""
    if error.code != SETTLED or not error.errors:
        return None
    said = error.errors[0]
    if said.get("type") == "reject":
        return Reject(error.detail)
    return Nack(said.get("delay"), error.detail) if said.get("type") == "nack" else None
