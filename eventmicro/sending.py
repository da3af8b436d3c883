"""What is being sent: the contexts of a call and of an event on their way out, and how an event becomes a message."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from functools import lru_cache
from typing import Any

from eventmicro.codecs import Body, Codecs
from eventmicro.context import Context
from eventmicro.errors import UsageError
from eventmicro.message import Message
from eventmicro.topic import Pick, Topic
from eventmicro.wire import CONTENT_TYPE, check_subject, check_text, content_type


class OutgoingCall(Context):
    """The context of a call, with the body of its reply."""

    __slots__ = ("body",)
    body: Body


class OutgoingEvent(Context):
    """The context of an event that is being published.

    body: the body of its type.
    message: what it becomes.
    timeout: how long the broker is waited for, in seconds; None: as the client says.
    together: what collects the messages of several events; None where it goes alone.
    """

    __slots__ = ("body", "message", "timeout", "together")
    body: Body
    message: Message
    timeout: float | None
    together: list[Message] | None


_check_subject = lru_cache(4096)(check_subject)


def address(topic: Topic[Any] | str, event: Any, key: Hashable = None, id: Hashable = None) -> Message:
    """The message of an event, addressed and not yet encoded.

    Raises:
        UsageError: the topic is none, or has wildcards, or says of a key or an id what this event has not; or one of
            these is no text that can travel.
    """
    name = id
    if isinstance(topic, Topic):
        subject = topic.name
        if key is None and topic.pick_key is not None:
            key = _pick(topic.pick_key, event, topic, "key")
        if name is None and topic.pick_id is not None:
            name = _pick(topic.pick_id, event, topic, "id")
    elif isinstance(topic, str):
        subject = topic
    else:
        raise UsageError(f"publish to a Topic or a subject, not to a {type(topic).__name__}")
    message = Message(_check_subject(subject))
    if key is not None:
        message.key = check_text(key if type(key) is str else _as_text(key, "key"), "key")
    if name is not None:
        message.id = check_text(name if type(name) is str else _as_text(name, "id"), "id")
    return message


def addressed(
    topic: Topic[Any] | str, events: Iterable[Any], key: Pick | None, id: Pick | None
) -> Iterator[tuple[Any, Message]]:
    """Events, each with its message; `key` and `id` are functions of an event. Errors as of `address`."""
    for word, pick in (("key", key), ("id", id)):
        if pick is not None and not callable(pick):
            raise UsageError(
                f"{word}={pick!r}: each of many events has its own: write a function of the event, or "
                f"Topic(..., {word}=...)"
            )
    for event in events:
        yield event, address(topic, event, key and key(event), id and id(event))


def body_of(codecs: Codecs, topic: Topic[Any] | str, event: Any) -> Body:
    """How an event travels: as its topic says, or on a plain subject as its own type does."""
    return codecs.body(topic.type if isinstance(topic, Topic) else type(event))


def encode(body: Body, value: Any, headers: dict[str, str]) -> bytes:
    """Encode in the content type that the headers name, else in the type's own, and name that where it has to be."""
    named = content_type(headers) if headers else None
    if named is None:
        if body.announced:
            headers[CONTENT_TYPE] = body.content_type
        return body.encode(value)
    encode = body.encoder(named)
    if encode is None:
        raise UsageError(f"a value of type {type(value).__name__} cannot travel as {named}; leave Content-Type out")
    return encode(value)


def _as_text(value: Hashable, what: str) -> str:
    """A key or id of another kind, such as a number or a UUID.

    Raises:
        UsageError: it is one that may change, such as a list.
    """
    try:
        hash(value)
    except TypeError:
        raise UsageError(f"{what}={value!r}: write a string, a number or another value that is hashable") from None
    return str(value)


def _pick(pick: Pick, event: Any, topic: Topic[Any], what: str) -> Hashable:
    """An event's key or id, as its topic takes it out of it."""
    try:
        return pick(event)
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(f"{topic!r}: this event has no {what} as the topic says: {error!r}") from None
