"""Kinds: how events of several types are told apart where their bodies do not say it: by a header."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from eventmicro.checks import check_kind
from eventmicro.errors import DecodeError, EncodeError, UsageError
from eventmicro.wire import check_headers, header


@dataclass(frozen=True, slots=True)
class TypeHeader:
    """The header by which the events of a topic with several types are told apart, `Topic(..., told_by=...)`.

        Topic("orders.events", OrderPlaced | OrderPaid, told_by="Event-Type")
        told_by=TypeHeader("Event-Type", {"order.placed": OrderPlaced, "order.paid": OrderPaid})

    header: its name.
    names: what it says, and of which type the event then is; default: each type's own name.
    """

    header: str
    names: Mapping[str, type] = field(default_factory=dict[str, type])

    @property
    def words(self) -> str:
        """The types, for a person."""
        return ", ".join(kind.__name__ for kind in self.names.values())

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the headers that an event has for it."""
        return {"type": "object", "required": [self.header], "properties": {self.header: {"enum": [*self.names]}}}

    def name_of(self, event: object) -> str:
        """What the header says of an event.

        Raises:
            EncodeError: it is of none of the types.
        """
        found = [name for name, kind in self.names.items() if type(event) is kind]
        found = found or [name for name, kind in self.names.items() if isinstance(event, kind)]
        if not found:
            raise EncodeError(f"a {type(event).__name__} is none of {self.words}")
        return found[0]

    def read(self, headers: Mapping[str, str] | None) -> str:
        """What it says of an event that has come.

        Raises:
            DecodeError: nothing, or the name of no type.
        """
        said = header(headers, self.header)
        if said is None:
            raise DecodeError(f"none of {self.words}, as far as is known: it has no header {self.header}")
        if said not in self.names:
            raise DecodeError(f"none of {self.words}: its header {self.header} says {said[:100]!r}")
        return said


def members_of(kind: Any) -> tuple[Any, ...]:
    """The types of a union; of any other type itself."""
    if get_origin(kind) is Annotated:
        return members_of(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return tuple(member for each in get_args(kind) for member in members_of(each))
    return (kind,)


def check_told_by(told_by: object, kind: Any) -> TypeHeader | None:
    """What tells the events of a type apart, with the name of each.

    Raises:
        UsageError: it is no header, the type is no union of classes, or the names are not those of its classes.
    """
    if told_by is None:
        check_told_apart(kind)
        return None
    check_kind("told_by", told_by, str | TypeHeader, "the name of a header, 'Event-Type', or a TypeHeader")
    said = told_by if isinstance(told_by, TypeHeader) else TypeHeader(str(told_by))
    members = members_of(kind)
    if len(members) < 2 or not all(inspect.isclass(each) and each is not type(None) for each in members):
        raise UsageError(f"told_by={said.header!r} tells types apart: write Topic(..., OrderPlaced | OrderPaid)")
    names = said.names or {each.__name__: each for each in members}
    if set(names.values()) != set(members) or len(names) != len(members):
        raise UsageError(f"told_by: name each of {', '.join(each.__name__ for each in members)}, by a name of its own")
    for name in names:
        check_headers({said.header: name})
    return TypeHeader(said.header, MappingProxyType(dict(names)))


def check_told_apart(kind: Any) -> None:
    """Refuse a union of which two have the same fields, so that one would be taken for the other.

    Raises:
        UsageError: it is such.
    """
    if get_origin(kind) is Annotated or len(members := members_of(kind)) < 2:  # what is annotated may tell them apart
        return
    seen: list[tuple[dict[str, Any], type]] = []
    for each in members:
        fields = _fields(each)
        for others, other in seen:
            if fields == others and other is not each:
                tag = each.__name__.lower()
                raise UsageError(
                    f"{other.__name__} and {each.__name__} have the same fields, so that one is taken for the other: "
                    f"give each a field such as `kind: Literal['{tag}'] = '{tag}'`, or those of a topic a header, "
                    f"Topic(..., told_by='Event-Type')"
                )
        if fields:
            seen.append((fields, each))


def _fields(kind: Any) -> dict[str, Any] | None:
    """The fields of a model, or a dataclass, each with what it may be; None where more than that is looked at."""
    fields = getattr(kind, "model_fields", None) or getattr(kind, "__dataclass_fields__", None)
    if not inspect.isclass(kind) or not fields or _has_validators(kind):
        return None
    return {getattr(one, "alias", None) or name: _of_field(one) for name, one in fields.items()}


def _has_validators(kind: Any) -> bool:
    own = getattr(kind, "__pydantic_decorators__", None)
    words = ("validators", "field_validators", "model_validators", "root_validators")
    return any(getattr(own, word, None) for word in words)


def _of_field(field: Any) -> Any:
    """Its type, and what bounds it."""
    return (field.annotation, repr(field.metadata)) if hasattr(field, "annotation") else field.type
