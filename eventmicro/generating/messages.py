"""Messages of a `.proto` file for pydantic models: each field by its kind, in the order in which the model has them."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import inspect
import ipaddress
import pathlib
import textwrap
import types
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel, NaiveDatetime
from pydantic.fields import FieldInfo

from eventmicro.errors import UsageError
from eventmicro.generating.source import distinct, identifier, snake

TIMESTAMP, STRUCT, WRAPPERS, EMPTY = (
    f"google/protobuf/{name}.proto" for name in ("timestamp", "struct", "wrappers", "empty")
)

# The kinds of Python's own types; those in quotes in JSON are strings.
SCALARS: dict[Any, str] = {
    str: "string",
    bytes: "bytes",
    bool: "bool",
    int: "int64",
    float: "double",
    decimal.Decimal: "string",
    uuid.UUID: "string",
    dt.date: "string",
    dt.time: "string",
    dt.timedelta: "string",
    NaiveDatetime: "string",
    pathlib.Path: "string",
    ipaddress.IPv4Address: "string",
    ipaddress.IPv6Address: "string",
}
# The messages of Google that stand for a type, and where they are.
KNOWN: dict[Any, tuple[str, str]] = {
    dt.datetime: (".google.protobuf.Timestamp", TIMESTAMP),
    AwareDatetime: (".google.protobuf.Timestamp", TIMESTAMP),
    Any: (".google.protobuf.Value", STRUCT),
}
# What a scalar is where a message must stand.
WRAPPED = {"string": "String", "bytes": "Bytes", "bool": "Bool", "int64": "Int64", "double": "Double"}
KEYS = ("string", "bool", "int64")
LISTS = (list, set, frozenset, Sequence, Collection)
INT32 = range(-(2**31), 2**31)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a field is: its type, and `repeated` or `optional` before it where it is. A map is a type, too."""

    type: str
    label: str = ""
    is_message: bool = False


class Messages:
    """The messages and enums that models need, written as they are met, and the files that they import.

    Args:
        package: the package in which they are.
        taken: names that are taken in it.
    """

    def __init__(self, package: str, taken: Iterable[str] = ()) -> None:
        self.imports: set[str] = set()
        self._taken = list(taken)
        self._prefix = f".{package}." if package else "."
        self._names: dict[Any, str] = {}
        self._written: dict[Any, str] = {}

    def written(self) -> Iterator[str]:
        """The source of each."""
        yield from self._written.values()

    def whole(self, kind: Any, where: str) -> str:
        """The message that a request or a reply is, with the dot that says that its name is a full one.

        Raises:
            UsageError: a type has no counterpart; it says which, and where.
        """
        descriptor = getattr(kind, "DESCRIPTOR", None)
        if descriptor is not None:
            self.imports.add(descriptor.file.name)
            return f".{descriptor.full_name}"
        found = self._kind(kind, where)
        if found.label or found.type.startswith("map<"):
            raise UsageError(f"{where}: {_shown(kind)} is no message; put it into a model")
        if not found.is_message:
            if found.type not in WRAPPED:
                raise UsageError(f"{where}: {_shown(kind)} is no message; put it into a model")
            self.imports.add(WRAPPERS)
            return f".google.protobuf.{WRAPPED[found.type]}Value"
        return found.type

    def _kind(self, kind: Any, where: str) -> Kind:
        kind = _bare(kind)
        if kind in SCALARS:
            return Kind(SCALARS[kind])
        if kind in KNOWN:
            name, file = KNOWN[kind]
            self.imports.add(file)
            return Kind(name, is_message=True)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return Kind(self._name(kind, self._write_model), is_message=True)
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return Kind(self._name(kind, self._write_enum))
        return self._compound(kind, where)

    def _compound(self, kind: Any, where: str) -> Kind:
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Literal:
            kinds = {type(value) for value in arguments}
            if len(kinds) == 1 and kinds <= SCALARS.keys():
                return Kind(SCALARS[kinds.pop()])
        if origin in LISTS or (origin is tuple and len(arguments) == 2 and arguments[1] is ...):
            return self._repeated(arguments[0], where)
        if origin in (dict, Mapping):
            return self._map(arguments[0], arguments[1], where)
        if origin in (Union, types.UnionType):
            some = [each for each in arguments if each is not type(None)]
            if len(some) == 1:
                return self._optional(some[0], where)
        raise UsageError(f"{where}: {_shown(kind)} has no counterpart in a .proto file")

    def _repeated(self, kind: Any, where: str) -> Kind:
        item = self._kind(kind, where)
        if item.label or item.type.startswith("map<"):
            raise UsageError(f"{where}: a .proto file has no lists of {_shown(kind)}; put it into a model")
        return Kind(item.type, "repeated", item.is_message)

    def _map(self, key: Any, value: Any, where: str) -> Kind:
        if _bare(value) is Any and _bare(key) is str:
            self.imports.add(STRUCT)
            return Kind(".google.protobuf.Struct", is_message=True)
        keys, values = self._kind(key, where), self._kind(value, where)
        if keys.type not in KEYS or keys.label or values.label or values.type.startswith("map<"):
            raise UsageError(
                f"{where}: a .proto file has no maps from {_shown(key)} to {_shown(value)}; put it into a model"
            )
        return Kind(f"map<{keys.type}, {values.type}>")

    def _optional(self, kind: Any, where: str) -> Kind:
        found = self._kind(kind, where)
        if found.label or found.type.startswith("map<"):
            raise UsageError(f"{where}: a .proto file does not tell None from an empty {_shown(kind)}; leave one out")
        return Kind(found.type, "" if found.is_message else "optional", found.is_message)

    def _name(self, kind: Any, write: Callable[[Any, str], str]) -> str:
        if kind not in self._names:
            name = self._names[kind] = self._take(identifier(kind.__name__))
            self._written[kind] = ""  # its place, before those that it needs
            self._written[kind] = write(kind, name)
        return self._prefix + self._names[kind]

    def _take(self, name: str) -> str:
        self._taken.append(distinct(name, self._taken))
        return self._taken[-1]

    def _write_model(self, model: type[BaseModel], name: str) -> str:
        lines, taken = comment(_own_doc(model), ""), list[str]()
        lines.append(f"message {name} {{")
        for number, (attribute, field) in enumerate(model.model_fields.items(), 1):
            where = f"{model.__name__}.{attribute}"
            lines += comment(field.description or "", "  ")
            lines.append(f"  {self._field(attribute, field, number, where, taken)}")
        return "\n".join([*lines, "}"])

    def _field(self, attribute: str, field: FieldInfo, number: int, where: str, taken: list[str]) -> str:
        kind = self._kind(field.annotation, where)
        in_json = field.serialization_alias or field.alias or attribute
        name = distinct(_field_name(attribute), taken)
        taken.append(name)
        optional = not field.is_required() and not kind.is_message and not kind.type.startswith("map<")
        label = kind.label or ("optional" if optional else "")
        if 19_000 <= number < 20_000:
            raise UsageError(f"{where}: the numbers from 19000 to 19999 are not for fields; split the model")
        named = "" if _json_name(name) == in_json else f' [json_name = "{in_json}"]'
        return " ".join(part for part in (label, kind.type, name) if part) + f" = {number}{named};"

    def _write_enum(self, kind: type[enum.Enum], name: str) -> str:
        numbers = _numbers(kind)
        if len(set(numbers.values())) < len(numbers):
            raise UsageError(f"{kind.__name__}: two members have one number")
        if 0 not in numbers.values():
            numbers = {f"{snake(name).upper()}_UNSPECIFIED": 0} | numbers
        ordered = sorted(numbers.items(), key=lambda each: (each[1] != 0, each[1]))
        text = "\n".join([f"enum {name} {{", *(f"  {value} = {number};" for value, number in ordered), "}"])
        if not numbers.keys() & set(self._taken):
            self._taken += numbers
            return text
        scope = self._take(f"{name}Scope")  # the members of an enum share their names with all that is beside it
        self._names[kind] = f"{scope}.{name}"
        return f"message {scope} {{\n{textwrap.indent(text, '  ')}\n}}"


def comment(text: str, indent: str) -> list[str]:
    """A text as lines of comment."""
    return [f"{indent}// {line}".rstrip() for line in text.strip().splitlines()]


def _numbers(kind: type[enum.Enum]) -> dict[str, int]:
    """The members of an enum by the names that they have in JSON, where that is a string, and their numbers."""
    members = list(kind)
    if all(isinstance(member.value, int) and member.value in INT32 for member in members):
        return {f"{snake(kind.__name__).upper()}_{member.name}": member.value for member in members}
    for member in members:
        if not isinstance(member.value, str) or not member.value.isidentifier() or not member.value.isascii():
            raise UsageError(
                f"{kind.__name__}.{member.name}: {member.value!r} has no counterpart in a .proto file, "
                "whose enums have names of letters, digits and `_`"
            )
    return {member.value: number for number, member in enumerate(members, 1)}


def _bare(kind: Any) -> Any:
    """The type without what is said about it."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif hasattr(kind, "__value__"):  # an alias, by `type`
            kind = kind.__value__
        else:
            return kind


def _field_name(attribute: str) -> str:
    name = identifier(attribute)
    return name.rstrip("_") if name.isascii() and name.rstrip("_") else "field"


def _json_name(name: str) -> str:
    """What protoc calls a field in JSON where nothing else is said."""
    first, *others = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in others)


def _own_doc(kind: type) -> str:
    return inspect.cleandoc(kind.__dict__.get("__doc__") or "")


def _shown(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else repr(kind)
