"""Publish: what a handler returns is published before its event is acknowledged, or its caller has the reply.

    @service.subscribe(PLACED)
    async def bill(order: OrderPlaced) -> Annotated[Invoice | None, Publish(BILLED)]: ...

None publishes nothing, a list each of its items; a tuple may have a topic for each of its places.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from eventmicro.context import Context
from eventmicro.errors import EncodeError, SignatureError
from eventmicro.handlers.depends import name_of
from eventmicro.handlers.unawaited import unawaited
from eventmicro.message import Delivery
from eventmicro.middleware import Handler
from eventmicro.topic import Topic
from eventmicro.wire import has_wildcards

PublishOne = Callable[[Topic[Any], Any], Awaitable[None]]
PublishMany = Callable[[Topic[Any], Iterable[Any]], Awaitable[None]]
Collect = Callable[[Topic[Any], Iterable[Any], Any], Awaitable[Any]]
Settle = Callable[[Any, Sequence[Delivery]], Awaitable[None]]

_SEVERAL = (list, Sequence, Iterable)


@dataclass(frozen=True, slots=True)
class Publish:
    """Marks what a handler returns as events of a topic: `-> Annotated[Invoice, Publish(BILLED)]`."""

    topic: Topic[Any]

    def __post_init__(self) -> None:
        if not isinstance(self.topic, Topic):
            raise SignatureError(f"Publish({self.topic!r}): write the Topic itself, Publish(BILLED)")
        if has_wildcards(self.topic.subject):
            raise SignatureError(
                f"Publish({self.topic!r}): an event goes to one exact subject; where the handler chooses it, "
                f"write `await service.publish(TOPIC.at(...), event)`"
            )


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where a part of what a handler returns is published.

    place: which part, of a tuple; None: all of it.
    several: whether it is a list of events.
    """

    topic: Topic[Any]
    place: int | None
    several: bool

    def events(self, returned: Any) -> Sequence[Any]:
        """What is to be published of what the handler has returned."""
        part = returned if self.place is None or returned is None else returned[self.place]
        if part is None:
            return ()
        return list(part) if self.several else (part,)


def outlets_of(returns: Any, name: str) -> tuple[Outlet, ...]:
    """Where what a handler returns is published; nowhere, where it does not say so.

    Raises:
        SignatureError: it returns what is no event of the topic.
    """
    if get_origin(returns) is tuple and Ellipsis not in get_args(returns):
        places = enumerate(get_args(returns))
        return tuple(outlet for place, part in places for outlet in _outlets(part, place, name))
    return tuple(_outlets(returns, None, name))


def without_publish(returns: Any) -> Any:
    """The type that a handler returns, without where it is published."""
    if get_origin(returns) is not Annotated:
        return returns
    kind, *others = get_args(returns)
    others = [each for each in others if not isinstance(each, Publish)]
    return Annotated[(kind, *others)] if others else kind


def publishes(handler: Handler, outlets: Sequence[Outlet], publish: PublishOne, publish_many: PublishMany) -> Handler:
    """A compiled handler that publishes what it returns: one event so that others may go with it."""

    async def run(message: Any, context: Context) -> Any:
        returned = await handler(message, context)
        try:
            for outlet in outlets:
                events = outlet.events(returned)
                if len(events) == 1:
                    await publish(outlet.topic, events[0])
                elif events:
                    await publish_many(outlet.topic, events)
        except (EncodeError, TypeError):
            _refuse_unawaited(returned)
            raise
        return returned

    return run


def publishes_with_ack(handler: Handler, outlets: Sequence[Outlet], collect: Collect, settle: Settle) -> Handler:
    """A compiled handler of events that publishes what it returns in one transaction with their acknowledgement; but
    where it has settled them itself they are, and what it returns is published as ever.

    Args:
        collect: makes messages of events, behind those that it has made before.
        settle: publishes messages, and acknowledges deliveries, if there are any.
    """

    async def run(message: Any, context: Context) -> Any:
        returned = await handler(message, context)
        messages = None
        try:
            for outlet in outlets:
                if events := outlet.events(returned):
                    messages = await collect(outlet.topic, events, messages)
        except (EncodeError, TypeError):
            _refuse_unawaited(returned)
            raise
        if messages:
            await settle(messages, _deliveries(context))
            context.settled = True
        return returned

    return run


def _refuse_unawaited(returned: Any) -> None:
    """Say it of what cannot be published, where it is because an `await` was left out."""
    if told := unawaited(returned, "write `return await ...`"):
        raise EncodeError(f"the handler returned {told}") from None


def _deliveries(context: Context) -> Sequence[Delivery]:
    """What is to be acknowledged with what the handler returns."""
    if context.settled:
        return ()
    return context.delivery if context.is_batch else (context.delivery,)


def _outlets(part: Any, place: int | None, name: str) -> Iterator[Outlet]:
    kind, marks = _marked(part)
    for mark in marks:
        topic = mark.topic
        single = [each for each in _members(kind) if each is not NoneType]
        several = topic.type not in single and all(get_origin(each) in _SEVERAL for each in single)
        for each in single:
            _check_event(get_args(each)[0] if several else each, topic, name)
        yield Outlet(topic, place, several)


def _marked(part: Any) -> tuple[Any, list[Publish]]:
    """A type and its marks; also of one that may be None beside: `Annotated[Invoice, Publish(BILLED)] | None`."""
    for each in (part, *(_members(part) if get_origin(part) in (Union, UnionType) else ())):
        if get_origin(each) is Annotated and (marks := [m for m in get_args(each)[1:] if isinstance(m, Publish)]):
            return get_args(each)[0], marks
    return part, []


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _check_event(kind: Any, topic: Topic[Any], name: str) -> None:
    carried = _members(topic.type)
    if Any in (kind, topic.type) or any(is_a(each, wanted) for each in _members(kind) for wanted in carried):
        return
    raise SignatureError(
        f"{name} returns {name_of(kind)} to be published to {topic!r}, which carries {name_of(topic.type)}; "
        f"write the same type in both"
    )


def is_a(kind: Any, wanted: Any) -> bool:
    """Whether values of one type are of another."""
    return kind == wanted or (inspect.isclass(kind) and inspect.isclass(wanted) and issubclass(kind, wanted))
