"""A request that a person fills in: asked for field by field, as the JSON Schema of the endpoint has it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from eventmicro.cli.show import one_line
from eventmicro.errors import UsageError

Schema = Mapping[str, Any]
Ask = Callable[[str], str]
Tell = Callable[[str], None]

MAY_BE_EMPTY, ENDS = "may be empty", "an empty line ends them"
YES, NO = ("y", "yes", "true"), ("n", "no", "false")
# How deep in a request its parts are asked for one by one; below that they are JSON, as a schema may have no end.
DEEPEST = 20
# Where the definitions of a schema are, which its parts refer to.
DEFINITIONS = "$defs"


class Questions:
    """The questions about one request.

    Args:
        schema: the JSON Schema of the request, as a peer says it.
        ask: asks for a line; EOFError ends it all.
        tell: says what is wrong with an answer.

    Raises:
        UsageError: what checks answers is not installed.
    """

    def __init__(self, schema: Schema, ask: Ask, tell: Tell) -> None:
        self._schema = schema
        definitions = schema.get(DEFINITIONS)
        self._definitions: Schema = definitions if isinstance(definitions, dict) else {}
        self._ask = ask
        self._tell = tell
        self._check = _checker()

    def request(self) -> Any:
        """The whole request; what does not hold together is asked for again."""
        while True:
            value = self._value("", self._schema, required=True)
            wrong = self._wrong(value, self._schema)
            if wrong is None:
                return value
            self._tell(f"this is refused: {wrong}")

    def _value(self, place: str, schema: Schema, *, required: bool, left_out: str = MAY_BE_EMPTY) -> Any:
        """The value at a place; the ellipsis where it is left out."""
        if place.count(".") + place.count("[") >= DEEPEST:
            return self._plain(place, {}, required=required, left_out=left_out)
        schema = self._variant(place, self._resolved(schema))
        if "const" in schema:
            return schema["const"]
        if (fields := _fields(schema)) is not None:
            if not required and not self._agreed(f"{place}: fill it in?"):
                return ...
            return self._object(place, schema, fields)
        if _kind(schema) == "array" and isinstance(schema.get("items"), dict):
            return self._list(place, schema, required=required)
        return self._plain(place, schema, required=required, left_out=left_out)

    def _object(self, place: str, schema: Schema, fields: Mapping[str, Any]) -> dict[str, Any]:
        said = schema.get("required")
        needed = said if isinstance(said, list) else ()
        values = {
            name: self._value(f"{place}.{name}".lstrip("."), each, required=name in needed)
            for name, each in fields.items()
            if isinstance(each, dict)
        }
        return {name: value for name, value in values.items() if value is not ...}

    def _list(self, place: str, schema: Schema, *, required: bool) -> Any:
        items = self._resolved(schema["items"])
        while True:
            values = list(self._items(place or "items", items))
            if not values and not required:
                return ...
            wrong = self._wrong(values, schema)
            if wrong is None:
                return values
            self._tell(f"{place}: {wrong}")

    def _items(self, place: str, schema: Schema) -> Iterator[Any]:
        """The items, until an empty line; objects after a question each, as they have no line of their own."""
        number = 0
        has_line = _fields(schema) is None and "anyOf" not in schema and "oneOf" not in schema
        while has_line or self._agreed(f"{place}[{number}]: one more?"):
            value = self._value(f"{place}[{number}]", schema, required=not has_line, left_out=ENDS)
            if value is ...:
                return
            yield value
            number += 1

    def _plain(self, place: str, schema: Schema, *, required: bool, left_out: str) -> Any:
        """A value in a line; an empty one leaves it to the service, where that may be."""
        question = one_line(f"{place or 'request'} ({', '.join(_hints(schema, None if required else left_out))}): ")
        while True:
            text = self._ask(question)
            if not text and (not required or "default" in schema):
                return ...
            tried = [self._wrong(value, schema) for value in _readings(text, schema)]
            if None in tried:
                return list(_readings(text, schema))[tried.index(None)]
            self._tell(f"{place or 'request'}: {tried[0]}")

    def _variant(self, place: str, schema: Schema) -> Schema:
        """The schema itself, or the one of several that is meant; null is meant by an empty line."""
        several = schema.get("anyOf") or schema.get("oneOf")
        if not isinstance(several, list):
            return schema
        kinds = [self._resolved(each) for each in several if isinstance(each, dict) and each.get("type") != "null"]
        rest = {name: schema[name] for name in ("default", "description") if name in schema}
        if len(kinds) == 1:
            return {**kinds[0], **rest}
        if not any(_fields(kind) for kind in kinds):
            return schema
        names = [str(kind.get("title") or _kind(kind) or number) for number, kind in enumerate(kinds, 1)]
        while (name := self._ask(one_line(f"{place or 'request'} ({' | '.join(names)}): "))) not in names:
            self._tell(f"write one of {', '.join(names)}")
        return kinds[names.index(name)]

    def _agreed(self, question: str) -> bool:
        while True:
            text = self._ask(one_line(f"{question} [y/N] ")).lower()
            if not text or text in NO:
                return False
            if text in YES:
                return True
            self._tell("write y or n")

    def _resolved(self, schema: Schema) -> Schema:
        """What a schema refers to, of its own definitions; one that refers to itself, or elsewhere, is any value."""
        seen: set[str] = set()
        while (name := str(schema.get("$ref", ""))).startswith(f"#/{DEFINITIONS}/") and name not in seen:
            seen.add(name)
            found = self._definitions.get(name.rpartition("/")[2])
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**found, **rest} if isinstance(found, dict) else {}
        return {} if "$ref" in schema else schema

    def _wrong(self, value: Any, schema: Schema) -> str | None:
        """What is wrong with a value; None: nothing."""
        return self._check(value, {**schema, DEFINITIONS: self._definitions})


def _checker() -> Callable[[Any, Schema], str | None]:
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError, best_match
        from referencing import Registry
        from referencing.exceptions import Unresolvable
    except ModuleNotFoundError as error:
        raise UsageError(f"to fill in a request needs {error.name}: pip install 'eventmicro[shell]'") from None

    def check(value: Any, schema: Schema) -> str | None:
        try:
            Draft202012Validator.check_schema(schema)
            # An empty registry: what a peer's schema refers to is never fetched from anywhere.
            formats = Draft202012Validator.FORMAT_CHECKER
            checker = Draft202012Validator(schema, registry=Registry(), format_checker=formats)
            found = best_match(checker.iter_errors(value))
        except (SchemaError, Unresolvable, RecursionError):  # the service itself will say what is wrong
            return None
        return None if found is None else str(found.message)

    return check


def _kind(schema: Schema) -> str:
    kind = schema.get("type", "object" if isinstance(schema.get("properties"), dict) else "")
    return kind if isinstance(kind, str) else ""


def _fields(schema: Schema) -> Mapping[str, Any] | None:
    """The fields of an object; None: it has none of its own."""
    fields = schema.get("properties")
    return fields if isinstance(fields, dict) and fields else None


def _hints(schema: Schema, left_out: str | None) -> Iterator[str]:
    """What a person has to know to answer."""
    if isinstance(schema.get("enum"), list):
        yield " | ".join(each if isinstance(each, str) else json.dumps(each) for each in schema["enum"])
    else:
        kind = str(schema.get("format") or _kind(schema) or "JSON")
        yield f"{kind} as JSON" if kind in ("object", "array") else kind
    if schema.get("description"):
        yield str(schema["description"])
    if "default" in schema:
        yield f"default {json.dumps(schema['default'], ensure_ascii=False)}"
    elif left_out is not None:
        yield left_out


def _readings(text: str, schema: Schema) -> Iterator[Any]:
    """What a line may stand for: first what is most likely by the schema."""
    is_text = _kind(schema) == "string" and "enum" not in schema
    if is_text:
        yield text
    if _kind(schema) == "boolean" and text.lower() in (*YES, *NO):
        yield text.lower() in YES
    with suppress(ValueError, RecursionError):
        yield json.loads(text)
    if not is_text:
        yield text
