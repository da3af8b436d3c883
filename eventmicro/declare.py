"""Marks on the methods of a class: which of them are endpoints, which subscribers; `Service.add` reads them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from eventmicro.checks import refuse_name
from eventmicro.middleware import Middleware
from eventmicro.terms import ENDPOINT_CONCURRENCY
from eventmicro.topic import Topic

if TYPE_CHECKING:  # who only calls loads nothing of how handlers are read
    from eventmicro.events.options import DeliveryWords

F = TypeVar("F", bound=Callable[..., Any])
E = TypeVar("E", bound=Callable[..., Any])

_MARKS = "__eventmicro_marks__"


@dataclass(frozen=True, slots=True)
class Mark:
    """What a method of a class is declared to be; `Service.add` reads it. `topic` is None for an endpoint."""

    topic: Topic[Any] | str | Sequence[Topic[Any] | str] | None
    options: dict[str, Any]


@overload
def rpc(function: E, /) -> E: ...
@overload
def rpc(
    *,
    name: str | None = None,
    timeout: float | None = None,
    concurrency: int = ENDPOINT_CONCURRENCY,
    middleware: Iterable[Middleware] = (),
    internal: bool = False,
    idempotent: bool = False,
) -> Callable[[E], E]: ...
def rpc(function: E | None = None, **options: Any) -> E | Callable[[E], E]:
    """Mark a method as an endpoint of the service that its object is added to; options as in `Service.rpc`."""
    refuse_name(function)
    mark: Callable[[E], E] = _marker(Mark(None, options))
    return mark if function is None else mark(function)


def subscribe(
    topic: Topic[Any] | str | Sequence[Topic[Any] | str],
    *,
    name: str | None = None,
    middleware: Iterable[Middleware] = (),
    **options: Unpack[DeliveryWords],
) -> Callable[[F], F]:
    """Mark a method as a subscriber of the service that its object is added to; options as in `Service.subscribe`."""
    return _marker(Mark(topic, {"name": name, "middleware": middleware, **options}))


def _marker(mark: Mark) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        setattr(function, _MARKS, [*getattr(function, _MARKS, []), mark])
        return function

    return add


def marked_methods(target: object) -> Iterator[tuple[Callable[..., Any], Mark]]:
    """The methods of an object that are marked, bound to it, in the order in which its class lists them."""
    for attribute in dict.fromkeys(name for kind in reversed(type(target).__mro__) for name in vars(kind)):
        for mark in marks_of(inspect.getattr_static(target, attribute, None)):
            yield getattr(target, attribute), mark


def marks_of(function: object) -> tuple[Mark, ...]:
    """What a function, or a method of a class, is marked to be."""
    return tuple(getattr(function, _MARKS, ()))
