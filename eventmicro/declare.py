"""What a service declares: its endpoints and subscribers, checked when they are written down."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from eventmicro.depends import name_of
from eventmicro.errors import SignatureError, UsageError
from eventmicro.middleware import Middleware
from eventmicro.signature import MISSING, Signature, read_signature
from eventmicro.topic import Topic
from eventmicro.wire import check_name, check_subject

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

# How many calls of one endpoint may wait for something at the same time, where nothing else is said.
ENDPOINT_CONCURRENCY = 1000
# The queue of a subscriber that names none: its own, `<service>.<subscriber>`, so that its service gets one copy.
OWN_QUEUE = ""


@dataclass(frozen=True, slots=True)
class EndpointDeclaration:
    """An endpoint of a service; see `Service.rpc` for the words."""

    name: str
    signature: Signature
    timeout: float | None
    concurrency: int
    middleware: tuple[Middleware, ...]

    @property
    def request(self) -> Any:
        """The type of its request; MISSING where the handler takes none."""
        return self.signature.takes

    @property
    def reply(self) -> Any:
        """The type of its reply."""
        return self.signature.returns


@dataclass(frozen=True, slots=True)
class SubscriberDeclaration:
    """A subscriber of a service; see `Service.subscribe` for the words."""

    name: str
    subject: str
    event: Any
    queue: str | None
    signature: Signature
    concurrency: int
    middleware: tuple[Middleware, ...]


def declare_endpoint(
    function: Callable[..., Any],
    name: str | None = None,
    timeout: float | None = None,
    concurrency: int = ENDPOINT_CONCURRENCY,
    middleware: tuple[Middleware, ...] = (),
) -> EndpointDeclaration:
    """Check an endpoint's handler and options.

    Raises:
        SignatureError: the function cannot be an endpoint.
        UsageError: an option is out of range.
    """
    signature = read_signature(function, "endpoint")
    if signature.returns is MISSING:
        raise SignatureError(f"endpoint {name_of(function)}: say what it returns: `-> YourModel`, or `-> None`")
    _check_limits(concurrency, timeout)
    return EndpointDeclaration(
        check_name(name or _name(function), "endpoint"), signature, timeout, concurrency, tuple(middleware)
    )


def declare_subscriber(
    service: str,
    topic: Topic[Any] | str,
    function: Callable[..., Any],
    name: str | None = None,
    queue: str | None = OWN_QUEUE,
    concurrency: int = 1,
    middleware: tuple[Middleware, ...] = (),
) -> SubscriberDeclaration:
    """Check a subscriber's handler and options.

    Raises:
        SignatureError: the function cannot be a subscriber, or takes another type than the topic carries.
        UsageError: the topic is no subject, or an option is out of range.
    """
    signature = read_signature(function, "subscriber", topic.type if isinstance(topic, Topic) else MISSING)
    if signature.returns not in (MISSING, None, type(None)):
        raise SignatureError(
            f"subscriber {name_of(function)}: nobody takes what it returns; write `-> None`, and publish what should "
            f"go on by `await service.publish(topic, event)`"
        )
    event = signature.takes
    if isinstance(topic, Topic):
        event = _check_event(function, event, topic)
    own_name = check_name(name or _name(function), "subscriber")
    if queue == OWN_QUEUE:
        queue = f"{service}.{own_name}"
    elif queue is not None:
        check_subject(queue)
    _check_limits(concurrency, None)
    subject = topic.name if isinstance(topic, Topic) else check_subject(topic, wildcards=True)
    return SubscriberDeclaration(own_name, subject, event, queue, signature, concurrency, tuple(middleware))


def _name(function: Any) -> str:
    name = getattr(function, "__name__", None)
    if not isinstance(name, str):
        raise SignatureError(f"{name_of(function)} has no name of its own: give it one, by name=")
    return name


def _check_event(function: Callable[..., Any], takes: Any, topic: Topic[Any]) -> Any:
    """The type to decode events as: the topic's, or what the handler takes where that is the same or wider."""
    if takes in (MISSING, topic.type, Any):
        return takes if takes is MISSING else topic.type
    if inspect.isclass(takes) and inspect.isclass(topic.type) and issubclass(topic.type, takes):
        return topic.type
    raise SignatureError(
        f"subscriber {name_of(function)} takes {name_of(takes)}, but {topic!r} carries {name_of(topic.type)}; "
        f"write the same type in both"
    )


def _check_limits(concurrency: int, timeout: float | None) -> None:
    if concurrency < 1:
        raise UsageError(f"concurrency={concurrency}: write how many may run at the same time, 1 or more")
    if timeout is not None and timeout <= 0:
        raise UsageError(f"timeout={timeout}: write seconds, more than 0")


_MARKS = "__eventmicro_marks__"


@dataclass(frozen=True, slots=True)
class Mark:
    """What a method of a class is declared to be; `Service.add` reads it. `topic` is None for an endpoint."""

    topic: Topic[Any] | str | None
    options: dict[str, Any]


@overload
def rpc(function: F, /) -> F: ...
@overload
def rpc(
    *,
    name: str | None = None,
    timeout: float | None = None,
    concurrency: int = ENDPOINT_CONCURRENCY,
    middleware: tuple[Middleware, ...] = (),
) -> Callable[[F], F]: ...
def rpc(function: F | None = None, **options: Any) -> F | Callable[[F], F]:
    """Mark a method as an endpoint of the service that its object is added to; options as in `Service.rpc`."""
    mark = _marker(Mark(None, options))
    return mark if function is None else mark(function)


def subscribe(
    topic: Topic[Any] | str,
    *,
    name: str | None = None,
    queue: str | None = OWN_QUEUE,
    concurrency: int = 1,
    middleware: tuple[Middleware, ...] = (),
) -> Callable[[F], F]:
    """Mark a method as a subscriber of the service that its object is added to; options as in `Service.subscribe`."""
    options = {"name": name, "queue": queue, "concurrency": concurrency, "middleware": middleware}
    return _marker(Mark(topic, options))


def _marker(mark: Mark) -> Callable[[F], F]:
    def add(function: F) -> F:
        setattr(function, _MARKS, [*getattr(function, _MARKS, []), mark])
        return function

    return add


def marked_methods(target: object) -> Iterator[tuple[Callable[..., Any], Mark]]:
    """The methods of an object that are marked, bound to it, in the order in which its class lists them."""
    for attribute in dict.fromkeys(name for kind in reversed(type(target).__mro__) for name in vars(kind)):
        for mark in getattr(inspect.getattr_static(target, attribute, None), _MARKS, ()):
            yield getattr(target, attribute), mark
