"""Topic[T]: an address and the type that travels on it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from types import UnionType
from typing import Any, Generic, TypeVar, overload

from eventmicro.errors import UsageError
from eventmicro.wire import check_subject

T = TypeVar("T")

Pick = Callable[[Any], Hashable]
"""Takes something out of an event: its key, its name."""


class Topic(Generic[T]):
    """A subject and the type of its events, written once and shared by publishers and subscribers.

    `Topic("orders.placed", OrderPlaced)`; a topic to subscribe to may hold wildcards: `*` for one token, `>` for the
    rest. Lives as long as the module that defines it.

    Args:
        name: the subject.
        type: the type of the events.
        key: the field of an event, or a function of it, that says to what it belongs, such as `order_id`. Kafka keeps
            the events of one key in order, and in one partition.
        id: the field of an event, or a function of it, that names it: published again under the same name it is
            recognised, where a subscriber asks for that by `dedupe`; JetStream recognises it in any case, for the
            `duplicate_window` of its stream.

    Raises:
        UsageError: the name is no subject, or the events have no such field.
    """

    __slots__ = ("id", "key", "name", "pick_id", "pick_key", "type")

    @overload
    def __init__(
        self,
        name: str,
        type: type[T],
        *,
        key: str | Callable[[T], Hashable] | None = None,
        id: str | Callable[[T], Hashable] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: Topic[Any],
        name: str,
        type: UnionType,
        *,
        key: str | Callable[[Any], Hashable] | None = None,
        id: str | Callable[[Any], Hashable] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: Topic[Any], name: str, type: Any, *, key: str | None = None, id: str | None = None
    ) -> None: ...  # no function here: a checker could not tell a wrong one of a class from one of this
    def __init__(self, name: str, type: Any, *, key: Any = None, id: Any = None) -> None:
        self.name = check_subject(name, wildcards=True)
        self.type = type
        self.key = key
        self.id = id
        check_field(type, key, "key")
        check_field(type, id, "id")
        self.pick_key = picker(key)
        self.pick_id = picker(id)

    def __repr__(self) -> str:
        return f"Topic({self.name!r}, {getattr(self.type, '__name__', self.type)})"


def check_field(kind: Any, what: object, word: str) -> None:
    """See that a type has the field that a setting names, where the type says which it has.

    Raises:
        UsageError: it has none of this name.
    """
    known = getattr(kind, "model_fields", None) or getattr(kind, "__dataclass_fields__", None)
    if not isinstance(what, str) or not known or what in known or hasattr(kind, what):
        return
    if getattr(kind, "model_config", {}).get("extra") != "allow":
        raise UsageError(f"{word}={what!r}: {kind.__name__} has no such field; there are {', '.join(known)}")


@overload
def picker(what: None) -> None: ...
@overload
def picker(what: str | Pick) -> Pick: ...
def picker(what: str | Pick | None) -> Pick | None:
    """What takes a field, or what a function says, out of an event; an event may be an object or a mapping."""
    if what is None or callable(what):
        return what

    def pick(event: Any) -> Any:
        return event[what] if isinstance(event, dict) else getattr(event, what)

    return pick
