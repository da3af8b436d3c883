"""What a peer puts in the place of a JSON Schema, and in names: no document, page or code of ours is taken in by it."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import yaml

from eventmicro.cli.asyncapi import Form, _as_text
from eventmicro.generating.asyncapi import write_document
from eventmicro.generating.client import write_client
from eventmicro.generating.schemas import is_schema, with_schemas
from eventmicro.registry import EndpointRecord, ServiceRecord

EVIL = "a\x1b[31mred\x9b2J\u202e\r\nforged 1 line <b>"
WORDS = ["type", "properties", "required", "title", "$ref", "$defs", "enum", "const", "anyOf", "items", "description"]
VALUES = ["string", "object", "array", "#/$defs/a", "#", "", None, True, 3, 1.5]


def shop(schema: Any) -> ServiceRecord:
    subscriber = {"subscriber": "true", "topic": "orders"}
    return ServiceRecord(
        name="shop",
        version="1.0.0",
        endpoints=[
            EndpointRecord(name="quote", request=schema, reply=schema),
            EndpointRecord(name="bill", request=schema, metadata=subscriber),
        ],
    )


def steering(text: str) -> set[str]:
    return {sign for sign in text if sign != "\n" and not sign.isprintable()}


@pytest.mark.parametrize("form", list(Form))
def test_names_and_descriptions_steer_no_terminal_and_turn_no_letters_round(form: Form) -> None:
    of = {"type": "object", "title": EVIL, "description": EVIL, "properties": {EVIL: {"enum": [EVIL]}}}
    document = write_document([shop(of)])
    text = _as_text(document, form)
    assert steering(text) == set()
    assert "\\u202e" in text.lower()
    if form is not Form.html:  # and it is the same document all the same
        assert (json.loads(text) if form is Form.json else yaml.safe_load(text)) == document


def test_the_code_that_is_generated_has_nothing_that_steers_either() -> None:
    of = {"type": "object", "title": EVIL, "description": EVIL, "properties": {"sku": {"type": EVIL, "default": EVIL}}}
    assert steering(write_client(shop(of))) == set()


def test_yaml_is_written_as_before_where_it_can_be_read() -> None:
    assert _as_text({"name": "größer", "about": "two\nlines"}, Form.yaml) == "name: größer\nabout: 'two\n\n  lines'\n"


def junk(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(12) if depth < 4 else 12
    if kind < 3:
        return {chance.choice(WORDS): junk(chance, depth + 1) for _ in range(chance.randrange(4))}
    if kind < 5:
        return [junk(chance, depth + 1) for _ in range(chance.randrange(3))]
    return chance.choice(VALUES)


def test_whatever_stands_in_the_place_of_a_schema_a_document_and_a_contract_are_written() -> None:
    taken = 0
    for seed in range(150):
        chance = random.Random(seed)
        schema = {chance.choice(WORDS): junk(chance) for _ in range(chance.randrange(1, 4))}
        record, taken = shop(schema), taken + is_schema(schema)
        for form in (Form.html, Form.json):
            assert _as_text(write_document([record]), form)
        compile(write_client(record), "shop.py", "exec")
    assert 10 < taken < 140


def test_what_is_no_schema_is_said_once_a_handler_and_hinders_no_other(caplog: pytest.LogCaptureFixture) -> None:
    record = shop({"type": "object", "properties": {"sku": {"type": "string"}}})
    record.endpoints.append(EndpointRecord(name="evil\n1", request={"properties": []}, reply={"$ref": "#/$defs/Gone"}))
    quote, bill, evil = with_schemas(record).endpoints
    assert (quote, bill) == tuple(record.endpoints[:2])
    assert (evil.request, evil.reply) == (None, None)
    assert [each.getMessage() for each in caplog.records] == [
        "shop.evil\\n1: what it says of its request and its reply is no JSON Schema, so that is not known"
    ]
