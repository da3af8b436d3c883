"""Values that hold one of a subclass of what is declared, as a list of `Animal` that holds a `Dog`.

pydantic writes the fields of what is declared, unless it is told otherwise, which costs a twentieth of the time. So it
is told where a class within the type has subclasses. That is looked at when the first value is written, as by then what
a program has is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from eventmicro.errors import EncodeError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

# Parts of a schema in which no schemas are.
_ASIDE = frozenset(("metadata", "config", "default", "function", "cls"))


def keeping_subclasses(adapter: TypeAdapter[Any], write: Callable[..., Any]) -> Callable[..., Any]:
    """A method of the type's serializer such that no field of what is within a value is lost; itself where none can be.

    What it returns raises EncodeError for what cannot be written with all its fields.
    """
    records = set(_records(adapter.core_schema))
    parents = {each for each in records if each.__subclasses__()}
    if not parents:
        return write
    kept = {each for each in parents if hasattr(each, "__pydantic_serializer__")}
    writing = partial(write, polymorphic_serialization=True) if kept else write
    return _refusing(writing, records, tuple(parents - kept)) if parents - kept else writing


def is_polymorphic(write: Callable[..., Any]) -> bool:
    """Whether what `keeping_subclasses` returned writes more than the type declares."""
    return isinstance(write, partial)


def _records(schema: Any) -> Iterator[type]:
    """The classes of records that pydantic writes by their declaration."""
    if isinstance(schema, list | tuple):
        for part in schema:
            yield from _records(part)
    elif isinstance(schema, dict) and "serialization" not in schema:
        if schema.get("type") in ("model", "dataclass"):
            yield schema["cls"]
        for name, part in schema.items():
            if name not in _ASIDE:
                yield from _records(part)


def _refusing(write: Callable[..., Any], records: set[type], parents: tuple[type, ...]) -> Callable[..., Any]:
    """The same where fields would be lost of what is in the subclasses of these."""

    def check(value: Any, within: str) -> None:
        kind = type(value)
        if isinstance(value, parents) and kind not in records:
            parent = next(each for each in parents if isinstance(value, each))
            if len(fields(kind)) > len(fields(parent)):
                raise EncodeError(
                    f"{within} has a {parent.__name__} that is a {kind.__name__}, whose further fields would be lost: "
                    f"let the field have the type {parent.__name__} | {kind.__name__}"
                )
        for part in _parts(value):
            check(part, within)

    def checked(value: Any, **options: Any) -> Any:
        check(value, type(value).__name__)
        return write(value, **options)

    return checked


def _parts(value: Any) -> Iterator[Any]:
    """What is in a value."""
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif is_dataclass(value) and not isinstance(value, type):
        yield from (getattr(value, each.name, None) for each in fields(value))
    elif hasattr(type(value), "model_fields"):
        yield from vars(value).values()
