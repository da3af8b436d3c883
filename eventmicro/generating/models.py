"""Pydantic models, as source, from the JSON Schemas that pydantic makes: the way back of `TypeAdapter.json_schema`."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from eventmicro.generating.source import INDENT, WIDTH, distinct, docstring, identifier, quoted

Schema = Mapping[str, Any]

# What a module of ours imports, so that no class in it may have this name.
IMPORTED = {
    *("Annotated", "Any", "AsyncIterator", "BaseModel", "ConfigDict", "Contract", "Decimal", "Enum", "Field"),
    *("IPv4Address", "IPv6Address", "IntEnum", "Literal", "Path", "Protocol", "SerializerFunctionWrapHandler"),
    *("StrEnum", "TypeAdapter", "UUID", "dt", "model_serializer", "rpc"),
}
# What a field may not be called, as a model has it already or its annotations need it.
RESERVED = (
    IMPORTED
    | {name for name in dir(BaseModel) if not name.startswith("__")}
    | {*("bool", "bytes", "dict", "float", "int", "list", "set", "str", "tuple")}
)

DECIMAL = ("Decimal", "from decimal import Decimal")
FORMATS = {
    "date-time": ("dt.datetime", "import datetime as dt"),
    "date": ("dt.date", "import datetime as dt"),
    "time": ("dt.time", "import datetime as dt"),
    "duration": ("dt.timedelta", "import datetime as dt"),
    "uuid": ("UUID", "from uuid import UUID"),
    "path": ("Path", "from pathlib import Path"),
    "ipv4": ("IPv4Address", "from ipaddress import IPv4Address"),
    "ipv6": ("IPv6Address", "from ipaddress import IPv6Address"),
    "binary": ("bytes", ""),
    "decimal": DECIMAL,
}
NUMBER_OR_TEXT, TEXT = ["number", "string"], ["string"]
PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
IN_JSON = {"str", "int", "float", "bool", "None", "list", "dict", "Any"}
# What is said of a value beside its type, and how pydantic says it.
LIMITS = {
    "minimum": "ge",
    "exclusiveMinimum": "gt",
    "maximum": "le",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
    "pattern": "pattern",
    "minItems": "min_length",
    "maxItems": "max_length",
}
LOOKAROUND = re.compile(r"\(\?<?[=!]")


class Models:
    """The classes that schemas need, written as they are met, each once, and what they import.

    Schemas that have one name and differ become two classes, the second with a number behind its name.

    Args:
        taken: names that no class may have.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.imports: set[str] = set()
        self.classes: dict[str, str] = {}
        self._taken = {*IMPORTED, *taken}
        self._taking_both: set[tuple[str, str]] = set()
        self._replied: dict[tuple[str, str], list[str]] = {}

    def look_at(self, request: Schema | None, reply: Schema | None) -> None:
        """See what is a Decimal, before anything is written: what takes a number or text, and is replied as text."""
        self._taking_both |= {place for place, kinds in _kinds(request or {}).items() if kinds == NUMBER_OR_TEXT}
        self._replied |= _kinds(reply or {})

    def annotation(self, schema: Schema) -> str:
        """The type that a schema is, as it is written; its classes are there then, too."""
        renamed: dict[str, str] = {}
        tried: Counter[str] = Counter()
        while True:
            batch = _Batch(self, schema, renamed)
            whole = batch.annotation(schema, is_root=True)
            if not (clashing := [name for name in batch.classes if self._clashes(name, batch)]):
                self.classes |= {made: source for made, source in batch.classes.items() if made not in self.classes}
                self.imports |= batch.imports
                return whole
            for origin in (batch.origins[name] for name in _first_of(clashing, batch.classes)):
                tried[origin] += 1
                renamed[origin] = f"{identifier(origin)}{tried[origin] + 1}"

    def _clashes(self, name: str, batch: _Batch) -> bool:
        return name in self._taken or not _are_one(self.classes.get(name, batch.classes[name]), batch.classes[name])

    def is_decimal(self, schema: Schema, model: str, field: str) -> bool:
        """Whether a field of a model is one."""
        kinds, place = _kinds_of(schema), (model, field)
        if kinds == NUMBER_OR_TEXT:
            return self._replied.get(place, TEXT) == TEXT
        return kinds == TEXT and place in self._taking_both

    def written(self) -> list[str]:
        """The source of all classes; enums first, as defaults name their members."""
        return sorted(self.classes.values(), key=lambda source: "(BaseModel):" in source)


class _Batch:
    """The classes of one schema, under the names that they are to have."""

    def __init__(self, models: Models, schema: Schema, renamed: Mapping[str, str]) -> None:
        self.classes: dict[str, str] = {}
        self.origins: dict[str, str] = {}
        self.imports: set[str] = set()
        self._models = models
        self._renamed = renamed
        self._definitions: Schema = schema.get("$defs", {})
        self._enums: dict[str, dict[Any, str]] = {}
        self._aliases: list[str] = []

    def annotation(self, schema: Any, *, is_root: bool = False) -> str:
        """The type that a schema is."""
        if not isinstance(schema, Mapping):
            return self._import("Any", "from typing import Any")
        if "$ref" in schema:
            return self._class(str(schema["$ref"]).rpartition("/")[2])
        if len(schema.get("allOf", ())) == 1:
            return self.annotation(schema["allOf"][0])
        if "anyOf" in schema or "oneOf" in schema:
            return self._union(schema)
        if "const" in schema or "enum" in schema:
            return self._literal(schema.get("enum", [schema.get("const")]))
        kind = schema.get("type")
        if isinstance(kind, list):
            return self._union({"anyOf": [{**schema, "type": each} for each in kind]})
        if kind == "object":
            return self._object(schema, is_root)
        if kind == "array":
            return self._array(schema)
        return self._plain(schema, kind)

    def _plain(self, schema: Schema, kind: Any) -> str:
        if kind == "string" and schema.get("format") in FORMATS:
            return self._import(*FORMATS[schema["format"]])
        return PLAIN[kind] if kind in PLAIN else self._import("Any", "from typing import Any")

    def _import(self, name: str, line: str) -> str:
        if line:
            self.imports.add(line)
        return name

    def _literal(self, values: Iterable[Any]) -> str:
        values = list(values)
        if not all(value is None or isinstance(value, str | int) for value in values):
            return self._import("Any", "from typing import Any")
        self.imports.add("from typing import Literal")
        return f"Literal[{', '.join(map(quoted, values))}]"

    def _union(self, schema: Schema) -> str:
        parts = list(dict.fromkeys(map(self.annotation, schema.get("anyOf") or schema["oneOf"])))
        union = " | ".join([*(part for part in parts if part != "None"), *(["None"] if "None" in parts else [])])
        by = schema.get("discriminator", {}).get("propertyName")
        if not by or len(parts) < 2:
            return union
        self.imports |= {"from typing import Annotated", "from pydantic import Field"}
        return f"Annotated[{union}, Field(discriminator={quoted(_attribute(by, ()))})]"

    def _array(self, schema: Schema) -> str:
        if "prefixItems" in schema:
            return f"tuple[{', '.join(map(self.annotation, schema['prefixItems']))}]"
        return f"{'set' if schema.get('uniqueItems') else 'list'}[{self.annotation(schema.get('items'))}]"

    def _object(self, schema: Schema, is_root: bool) -> str:
        if "properties" in schema or (is_root and schema.get("title") and "additionalProperties" not in schema):
            return self._write(str(schema.get("title") or "Model"), schema)
        others = schema.get("additionalProperties")
        return f"dict[str, {self.annotation(others)}]"

    def _class(self, name: str) -> str:
        """A class by the name of its definition."""
        schema = self._definitions.get(name, {})
        is_map = "properties" not in schema and schema.get("additionalProperties")
        if "enum" in schema or (schema.get("type") == "object" and not is_map):
            return self._write(name, schema)
        if name in self._aliases:  # a type within itself, which has no name here
            return self._import("Any", "from typing import Any")
        self._aliases.append(name)
        try:
            return self.annotation(schema)
        finally:
            self._aliases.pop()

    def _write(self, name: str, schema: Schema) -> str:
        made = self._renamed.get(name, identifier(name))
        if self.origins.get(made) not in (None, name):
            made = distinct(made, self.classes)
        if made not in self.classes:
            self.classes[made], self.origins[made] = "", name  # its place, before what it needs
            self.classes[made] = self._enum(made, schema) if "enum" in schema else self._model(name, made, schema)
        return made

    def _enum(self, made: str, schema: Schema) -> str:
        base = _enum_base(schema["enum"])
        self.imports.add(f"from enum import {base}")
        members: dict[str, str] = {}
        for value in schema["enum"]:
            name = distinct(_member(value), [*members, "name", "value", "mro", *dir(str)])
            members[name] = quoted(value)
            self._enums.setdefault(made, {})[quoted(value)] = name
        lines = [f"class {made}({base}):", *_doc(schema), *(f"{INDENT}{n} = {value}" for n, value in members.items())]
        return "\n".join(lines)

    def _model(self, name: str, made: str, schema: Schema) -> str:
        self.imports.add("from pydantic import BaseModel")
        fields, attributes, unset = list[str](), list[str](), list[str]()
        required = set(schema.get("required", ()))
        for field, each in schema.get("properties", {}).items():
            attribute = _attribute(field, {*attributes, *self.classes, *self._models.classes})
            attributes.append(attribute)
            is_given = field in required or "default" in each
            fields.append(self._field(name, field, attribute, each, is_required=field in required))
            unset += [] if is_given else [field]
        aliased = any(
            attribute != field for attribute, field in zip(attributes, schema.get("properties", {}), strict=True)
        )
        lines = [*_doc(schema), *self._config(schema, aliased), *fields, *self._leave_out(unset)]
        return "\n".join([f"class {made}(BaseModel):", *(lines or [f"{INDENT}pass"])]).rstrip()

    def _config(self, schema: Schema, aliased: bool) -> list[str]:
        others = schema.get("additionalProperties")
        words = [] if others is None else [f'extra="{"allow" if others else "forbid"}"']
        words += ["populate_by_name=True"] if aliased else []
        if not words:
            return []
        self.imports.add("from pydantic import ConfigDict")
        return [f"{INDENT}model_config = ConfigDict({', '.join(words)})", ""]

    def _field(self, model: str, field: str, attribute: str, schema: Schema, *, is_required: bool) -> str:
        kind = self.annotation(schema)
        if self._models.is_decimal(schema, model, field):
            kind = self._import(*DECIMAL) + (" | None" if kind.endswith("| None") else "")
        words = [] if is_required and "default" not in schema else [self._default(schema, kind)]
        if not is_required and "default" not in schema and not kind.endswith("None"):
            kind = f"{kind} | None" if kind != "Any" else kind
        if attribute != field:
            words += [f"validation_alias={quoted(field)}", f"serialization_alias={quoted(field)}"]
        words += [f"{LIMITS[name]}={quoted(value)}" for name, value in _limits(schema)]
        words += [f"description={quoted(schema['description'])}"] if "description" in schema else []
        start = f"{INDENT}{attribute}: {kind}"
        if not words:
            return start
        if len(words) == 1 and words[0].startswith("default="):
            return f"{start} = {words[0].removeprefix('default=')}"
        self.imports.add("from pydantic import Field")
        return _call(f"{start} = Field", words, INDENT)

    def _default(self, schema: Schema, kind: str) -> str:
        """A value that is written as it stands, or one that is made from JSON."""
        value = schema.get("default")
        if value is None:
            return "default=None"
        member = self._enums.get(kind.removesuffix(" | None"), {}).get(quoted(value))
        if member is not None:
            return f"default={kind.removesuffix(' | None')}.{member}"
        if _is_plain(kind) or (value in ([], {}) and kind.startswith(("list[", "dict["))):
            return f"default={quoted(value)}"
        self.imports.add("from pydantic import TypeAdapter")
        return f"default_factory=lambda: TypeAdapter({kind}).validate_python({quoted(value)})"

    def _leave_out(self, unset: list[str]) -> list[str]:
        """What keeps fields from being sent that are not given, where the service has a default of its own for them."""
        if not unset:
            return []
        self.imports |= {
            "from typing import Any",
            "from pydantic import SerializerFunctionWrapHandler",
            "from pydantic import model_serializer",
        }
        return [
            "",
            f'{INDENT}@model_serializer(mode="wrap")',
            f"{INDENT}def leave_out_what_is_not_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:",
            f"{INDENT * 2}given = handler(self)",
            *_call(f"{INDENT * 2}unset =", [quoted(name) for name in unset], INDENT * 2, "{}").splitlines(),
            f"{INDENT * 2}return {{k: v for k, v in given.items() if v is not None or k not in unset}}",
        ]


def _are_one(source: str, other: str) -> bool:
    """Whether two classes of one name are one; the members of an enum are in another order in msgspec's schemas."""
    is_enum = not source.partition("\n")[0].endswith("(BaseModel):")
    return source == other or (is_enum and sorted(source.splitlines()) == sorted(other.splitlines()))


def _first_of(names: list[str], classes: Mapping[str, str]) -> list[str]:
    """Of these classes those that need none of the others: what differs in these may differ by that alone."""
    needed = {name: set(re.findall(r"\w+", classes[name])) & set(names) - {name} for name in names}
    return [name for name in names if not needed[name]] or names


def _kinds(schema: Schema) -> dict[tuple[str, str], list[str]]:
    """The JSON types of each field of each model of a schema."""
    return {
        (name, field): _kinds_of(each)
        for name, model in _definitions(schema).items()
        for field, each in model.get("properties", {}).items()
    }


def _kinds_of(schema: Schema) -> list[str]:
    return [] if "format" in schema else [str(part.get("type")) for part in _parts(schema)]


def _definitions(schema: Schema) -> dict[str, Any]:
    """The models of a schema by their names, its own root too."""
    found = dict(schema.get("$defs", {}))
    if "properties" in schema and "title" in schema:
        found[schema["title"]] = schema
    return found


def _parts(schema: Schema) -> list[Any]:
    parts = schema.get("anyOf") or [schema]
    return [part for part in parts if part.get("type") != "null"]


def _doc(schema: Schema) -> list[str]:
    return [docstring(schema["description"], INDENT), ""] if schema.get("description", "").strip() else []


def _limits(schema: Schema) -> Iterable[tuple[str, Any]]:
    """What is said of a value, where all of it is said of the one type that it has beside None."""
    parts = _parts(schema)
    said = parts[0] if len(parts) == 1 else {}
    for name in LIMITS:
        if name in said and "prefixItems" not in said and not (name == "pattern" and LOOKAROUND.search(said[name])):
            yield name, said[name]


def _attribute(field: str, taken: Iterable[str]) -> str:
    name = identifier(field)
    return distinct(f"{name}_" if name in RESERVED else name, taken)


def _member(value: Any) -> str:
    name = re.sub(r"\W", "_", str(value)).strip("_") or "empty"
    return f"value_{name}" if name[0].isdigit() else f"{name}_" if keyword.iskeyword(name) else name


def _enum_base(values: Iterable[Any]) -> str:
    kinds = {type(value) for value in values}
    return {frozenset({str}): "StrEnum", frozenset({int}): "IntEnum"}.get(frozenset(kinds), "Enum")


def _is_plain(kind: str) -> bool:
    """Whether values of this type are in Python as they are in JSON."""
    return kind.startswith("Literal[") or set(re.findall(r"[\w.]+", kind)) <= IN_JSON


def _call(start: str, words: list[str], indent: str, brackets: str = "()") -> str:
    line = f"{start}{' ' if brackets == '{}' else ''}{brackets[0]}{', '.join(words)}{brackets[1]}"
    if len(line) <= WIDTH:
        return line
    inner = "".join(f"\n{indent}{INDENT}{word}," for word in words)
    return f"{start}{' ' if brackets == '{}' else ''}{brackets[0]}{inner}\n{indent}{brackets[1]}"
