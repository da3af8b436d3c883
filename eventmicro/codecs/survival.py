"""Whether the values of a type come back as they were sent, as far as its declaration says.

pydantic writes some of what it would not read again, or would read as something else: stars for a secret, a name that
no field is read by. That is told when the type is declared. Where a function of the user's stands in between, which may
make good what is lost, the type is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any

from eventmicro.codecs.protobuf import is_protobuf
from eventmicro.codecs.structs import handles_by_msgspec
from eventmicro.codecs.validation import make_adapter, name_of
from eventmicro.errors import UsageError

# What JSON has no form for, and is written in one that a type's configuration chooses, with a value of each.
_SAMPLES: dict[str, Any] = {
    "bytes": "a?>é".encode(),
    "date": date(2026, 1, 2),
    "datetime": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "time": time(3, 4, 5),
    "timedelta": timedelta(days=1, seconds=2),
}
_OF_FORM = ("ser_json_", "val_", "strict")
# What JSON makes of the kinds of schemas.
_ARRAYS = frozenset(("list", "tuple", "set", "frozenset", "generator"))
_OBJECTS = frozenset(("dict", "model", "dataclass", "typed-dict"))
_SCALARS = frozenset(
    ("str", "int", "float", "bool", "bytes", "decimal", "date", "datetime", "time", "timedelta", "uuid")
)
# The kinds that only hold another, with the place where that stands.
_AROUND = {
    "nullable": "schema",
    "default": "schema",
    "function-after": "schema",
    "custom-error": "schema",
    "lax-or-strict": "lax_schema",
    "json-or-python": "json_schema",
}
# Those in which a function of the user's sees what was written before anything else does.
_UNSURE = frozenset(("function-before", "function-wrap", "function-plain", "chain", "call"))
# What else a schema may hold, by the places where it stands.
_PARTS = ("schema", "items_schema", "keys_schema", "values_schema", "steps", "choices", "extras_schema")


def check_survives(kind: Any, *, in_json: bool = True) -> None:
    """Refuse a type of which a value does not come back as it was sent.

    Args:
        in_json: whether it travels in JSON, where more is written in a form that has to be chosen.

    Raises:
        UsageError: there is such a value, or the type cannot be a message.
    """
    if kind in (None, type(None), bytes, str, Any) or is_protobuf(kind) or handles_by_msgspec(kind):
        return
    try:
        lost = _what_is_lost(kind, in_json)
    except TypeError:  # it cannot be hashed
        lost = _what_is_lost.__wrapped__(kind, in_json)
    if lost is not None:
        raise UsageError(f"{name_of(kind)} does not come back as it is sent: {lost}")


@cache
def _what_is_lost(kind: Any, in_json: bool) -> str | None:
    """The first that is lost, and the mend; None: nothing that can be known."""
    return next(_Search(in_json).look(make_adapter(kind).core_schema, _At(name_of(kind))), None)


@dataclass(frozen=True, slots=True)
class _At:
    """Where a part of a type stands.

    place: its name.
    config: the pydantic configuration that holds there.
    sure: whether what was written reaches it as it was written.
    optional: whether None is taken there.
    """

    place: str
    config: Mapping[str, Any] = field(default_factory=dict)
    sure: bool = True
    optional: bool = False


class _Search:
    """The search through one type, and the types that it refers to."""

    def __init__(self, in_json: bool) -> None:
        self._in_json = in_json
        self._definitions: dict[str, Any] = {}

    def look(self, schema: Any, at: _At) -> Iterator[str]:
        """What is lost of the values of a schema."""
        kind, written = schema["type"], schema.get("serialization")
        if written is not None and written["type"].startswith("function-"):
            yield from _written_by_function(schema, written, at)
        elif kind == "definitions":
            self._definitions |= {each["ref"]: each for each in schema["definitions"]}
            yield from self.look(schema["schema"], at)
        elif kind == "definition-ref":
            if (referred := self._definitions.pop(schema["schema_ref"], None)) is not None:
                yield from self.look(referred, at)
        elif kind in _AROUND:
            yield from self.look(schema[_AROUND[kind]], replace(at, optional=at.optional or kind == "nullable"))
        elif kind in ("model", "dataclass", "typed-dict"):
            yield from self._look_at_record(schema, at)
        elif kind == "json" and at.sure:
            yield _JSON.format(at.place)
        else:
            yield from self._look_within(schema, at)

    def _look_at_record(self, schema: Any, at: _At) -> Iterator[str]:
        config = schema.get("config") or at.config
        inner = schema if schema["type"] == "typed-dict" else schema["schema"]
        sure = at.sure and not schema.get("custom_init") and inner["type"] not in _UNSURE
        at = _At(getattr(schema.get("cls"), "__name__", at.place), config, sure)
        while inner["type"] in _UNSURE or inner["type"] in _AROUND:
            if (inner := inner.get("schema")) is None:
                return
        if "fields" not in inner:  # the one value of a RootModel
            yield from self.look(inner, at)
            return
        record = _Record(inner, config)
        if sure:
            yield from record.lost(at.place)
        for name, each in record.fields.items():
            if not each.get("serialization_exclude"):
                yield from self.look(each["schema"], replace(at, place=f"{at.place}.{name}"))

    def _look_within(self, schema: Any, at: _At) -> Iterator[str]:
        kind = schema["type"]
        if self._in_json and at.sure:
            yield from _lost_in_json(schema, at)
        sure = at.sure and kind not in _UNSURE
        inside = replace(at, sure=sure, optional=at.optional and kind in _UNSURE)
        for place in _PARTS:
            for part in _several(schema.get(place)):
                # one choice of several may take what another has written
                unsure = kind == "union" and part["type"] == "json"
                yield from self.look(part, replace(inside, sure=False) if unsure else inside)


class _Record:
    """The fields of a model, a dataclass or a TypedDict: under which names they are written, and by which read."""

    def __init__(self, schema: Any, config: Mapping[str, Any]) -> None:
        fields = schema["fields"]
        self.fields: dict[str, Any] = fields if isinstance(fields, dict) else {each["name"]: each for each in fields}
        self._is_typed_dict = schema["type"] == "typed-dict"
        self._total = schema.get("total", True)
        extra = schema.get("extra_behavior") or config.get("extra_fields_behavior")
        self._forbids = extra == "forbid"
        self._by_name = any(
            each.get(word) for each in (schema, config) for word in ("validate_by_name", "populate_by_name")
        )
        self._by_alias = config.get("validate_by_alias") is not False
        self._computed = [each.get("alias", each["property_name"]) for each in schema.get("computed_fields", ())]
        self._written = {name: each.get("serialization_alias", name) for name, each in self.fields.items()}

    def lost(self, place: str) -> Iterator[str]:
        """What is lost as it is written under another name, or not at all."""
        read = set().union(*(self._read_by(name) for name in self.fields))
        for name, each in self.fields.items():
            its, written = self._read_by(name), self._written[name]
            if each.get("serialization_exclude") or each.get("init_only"):
                if self._is_required(each):
                    yield _EXCLUDED.format(f"{place}.{name}")
            elif each.get("init") is False:
                if self._forbids:
                    yield _COMPUTED.format(f"{place}.{name}", place)
            elif not its & {written, *self._written.values(), *self._computed}:
                yield _ALIAS.format(f"{place}.{name}", written, min(its))
        for written in self._computed:
            if self._forbids and written not in read:
                yield _COMPUTED.format(f"{place}.{written}", place)

    def _read_by(self, name: str) -> set[str]:
        """The names by which a field is read, or the first ones of the ways to it."""
        alias = self.fields[name].get("validation_alias")
        if alias is None or not self._by_alias:
            return {name}
        ways = [[alias]] if isinstance(alias, str) else alias if isinstance(alias[0], list) else [alias]
        return {way[0] for way in ways} | ({name} if self._by_name else set())

    def _is_required(self, field: Any) -> bool:
        if self._is_typed_dict:
            return bool(field.get("required", self._total))
        schema = field["schema"]
        while schema.get("type") != "default":
            if (schema := schema.get("schema")) is None or isinstance(schema, str):
                return True
        return False


def _several(part: Any) -> Iterator[Any]:
    """The schemas that stand in one place of another."""
    if isinstance(part, dict) and isinstance(part.get("type"), str):
        yield part
    elif isinstance(part, dict):
        for each in part.values():
            yield from _several(each)
    elif isinstance(part, list | tuple):
        for each in part:
            yield from _several(each)


def _written_by_function(schema: Any, written: Any, at: _At) -> Iterator[str]:
    function = written["function"]
    if getattr(function, "__module__", "") == "pydantic.types" and "serialize_secret" in function.__name__:
        yield _SECRET.format(at.place)
    elif at.sure and written.get("when_used") in (None, "always", "unless-none", "json", "json-unless-none"):
        made, taken = _form(written.get("return_schema") or {}), _form(schema)
        if made and taken and made != taken:
            yield _SERIALIZER.format(at.place, getattr(function, "__name__", "a function"), made, taken)


def _form(schema: Any) -> str:
    """What a schema takes in JSON, where that is one thing only."""
    kind = schema.get("type")
    if kind in _AROUND and kind != "nullable":
        return _form(schema[_AROUND[kind]])
    if kind in ("model", "dataclass") and (schema.get("root_model") or schema["schema"]["type"] in _UNSURE):
        return ""
    forms = {"an array": _ARRAYS, "an object": _OBJECTS, "a single value": _SCALARS}
    return next((form for form, kinds in forms.items() if kind in kinds), "")


def _lost_in_json(schema: Any, at: _At) -> Iterator[str]:
    kind = schema["type"]
    if kind in _SAMPLES:
        settings = {**at.config, "strict": schema.get("strict", at.config.get("strict", False))}
        relevant = {name: value for name, value in settings.items() if name.startswith(_OF_FORM)}
        if not _comes_back(kind, tuple(sorted(relevant.items()))):
            said = ", ".join(f"{name}={value!r}" for name, value in sorted(relevant.items()) if name != "strict")
            yield _FORM.format(at.place, kind, said or "the default")
    elif kind == "float" and _may_be_nan(schema, at):
        how, strict = at.config.get("ser_json_inf_nan"), schema.get("strict", at.config.get("strict", False))
        if (how == "null" and not at.optional) or (how == "strings" and strict):
            yield _NAN.format(at.place, how)
    elif kind == "dict" and _is_tuple(schema.get("keys_schema", {})):
        yield _KEYS.format(at.place)


def _is_tuple(schema: Any) -> bool:
    return schema.get("type") == "tuple" and "serialization" not in schema


def _may_be_nan(schema: Any, at: _At) -> bool:
    return bool(schema.get("allow_inf_nan", at.config.get("allow_inf_nan", True)))


@cache
def _comes_back(kind: str, settings: tuple[tuple[str, Any], ...]) -> bool:
    """Whether a value of a kind is read as it was, where a type's configuration says this."""
    from pydantic_core import SchemaSerializer, SchemaValidator, ValidationError

    schema: Any = {"type": kind}
    config: Any = dict(settings)
    try:
        written = SchemaSerializer(schema, config).to_json(_SAMPLES[kind])
        return bool(SchemaValidator(schema, config).validate_json(written) == _SAMPLES[kind])
    except ValidationError:
        return False
    except Exception:  # it cannot be tried
        return True


_SECRET = (
    "{} is a secret, and stars are sent in its place: where it is to be sent, say "
    "Annotated[SecretStr, PlainSerializer(lambda secret: secret.get_secret_value())]; SecretBytes and Secret likewise"
)
_JSON = (
    "{} is Json, which is read out of a text and written as what was in it: let it have the type of what is in it, "
    "without Json, or say Annotated[Json[...], PlainSerializer(lambda value: to_json(value).decode())]"
)
_EXCLUDED = "{} is needed and never written: give it a default, or leave exclude=True, or InitVar, out"
_COMPUTED = (
    "{} is written, and {} takes no field that it does not know, by extra='forbid': say extra='ignore', or let a "
    "model_validator(mode='before') take it out"
)
_ALIAS = (
    "{} is written as {!r} and read as {!r}: say alias= for both, or have "
    "validation_alias=AliasChoices(...) hold the name that is written"
)
_SERIALIZER = "{} is written by {}, as {}, and read from {}: say by a validator with mode='before' how it is read"
_FORM = "{} is written in one form of {} and read in another, by {}: say the same for ser_json_... and val_..."
_NAN = "{} may be NaN, for which ser_json_inf_nan={!r} writes what it does not take: say allow_inf_nan=False"
_KEYS = "{} has tuples for keys, which JSON writes as one text each: send a list of pairs"
