"""Topic[T]: an address and the type that travels on it."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, overload

from eventmicro.wire import check_subject

T = TypeVar("T")


class Topic(Generic[T]):
    """A subject and the type of its events, written once and shared by publishers and subscribers.

    `Topic("orders.placed", OrderPlaced)`; a topic to subscribe to may hold wildcards: `*` for one token, `>` for the
    rest. Lives as long as the module that defines it.

    Raises:
        UsageError: the name is no subject.
    """

    __slots__ = ("name", "type")

    @overload
    def __init__(self, name: str, type: type[T]) -> None: ...
    @overload
    def __init__(self: Topic[Any], name: str, type: Any) -> None: ...
    def __init__(self, name: str, type: Any) -> None:
        self.name = check_subject(name, wildcards=True)
        self.type = type

    def __repr__(self) -> str:
        return f"Topic({self.name!r}, {getattr(self.type, '__name__', self.type)})"
