"""What of a record is a JSON Schema: a peer may have put anything in the place of one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from eventmicro.registry import EndpointRecord, ServiceRecord
from eventmicro.wire import one_line

log = logging.getLogger(__name__)


def with_schemas(service: ServiceRecord) -> ServiceRecord:
    """The record, in which nothing stands in the place of a schema that is none; what did is said in the log."""
    return service.model_copy(update={"endpoints": [_with_schemas(service, each) for each in service.endpoints]})


def _with_schemas(service: ServiceRecord, endpoint: EndpointRecord) -> EndpointRecord:
    told = {"request": endpoint.request, "reply": endpoint.reply}
    wrong = [name for name, schema in told.items() if schema is not None and not _is_whole(schema)]
    if not wrong:
        return endpoint
    where = one_line(f"{service.name}.{endpoint.name}")
    log.warning("%s: what it says of its %s is no JSON Schema, so that is not known", where, " and its ".join(wrong))
    return endpoint.model_copy(update=dict.fromkeys(wrong))


def _is_whole(schema: Any) -> bool:
    """Whether it is one, and has all that it refers to."""
    if not is_schema(schema):
        return False
    known = schema.get("$defs", {}) if isinstance(schema, dict) else {}
    return all(_is_there(name, known) for name in _references(schema))


def is_schema(schema: Any) -> bool:
    """Whether it has the form of one, as far as anybody here looks into it."""
    if isinstance(schema, bool):
        return True
    return isinstance(schema, dict) and all(FORMS[word](each) for word, each in schema.items() if word in FORMS)


def _are_schemas(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(is_schema, value))


def _are_named(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_schema, value.values()))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_kind(value: Any) -> bool:
    return _is_text(value) or (_are_texts(value) and len(value) > 0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_values(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0


def _is_discriminator(value: Any) -> bool:
    mapping = value.get("mapping", {}) if isinstance(value, dict) else None
    return isinstance(mapping, dict) and _is_text(value.get("propertyName")) and all(map(_is_text, mapping.values()))


FORMS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("$ref", "title", "description", "format", "pattern"), _is_text),
    **dict.fromkeys(("$defs", "properties", "patternProperties"), _are_named),
    **dict.fromkeys(("items", "additionalProperties", "propertyNames", "not"), is_schema),
    **dict.fromkeys(("anyOf", "oneOf", "allOf", "prefixItems"), _are_schemas),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), _is_number),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _is_number),
    "required": _are_texts,
    "enum": _are_values,
    "type": _is_kind,
    "discriminator": _is_discriminator,
}


def _references(value: Any) -> list[str]:
    """What it and all below it refer to."""
    if isinstance(value, list):
        return [name for each in value for name in _references(each)]
    if not isinstance(value, dict):
        return []
    below = [
        name for word, each in value.items() if word not in ("const", "enum", "default") for name in _references(each)
    ]
    return [*below, value["$ref"]] if isinstance(value.get("$ref"), str) else below


def _is_there(reference: str, definitions: dict[str, Any]) -> bool:
    place, _, name = reference.rpartition("/")
    return place == "#/$defs" and name in definitions
