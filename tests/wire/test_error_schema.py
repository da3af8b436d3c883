"""The JSON Schema of the error body holds for the errors that travel, and the schemas can be read where they lie."""

from __future__ import annotations

import json
from typing import Any

import eventmicro_schemas
import pytest
from pydantic import BaseModel

from eventmicro import Client, MemoryBroker, Service
from eventmicro.errors import EventMicroError, NotFound, ServiceError
from eventmicro.message import Delivery

SCHEMA = json.loads(eventmicro_schemas.text("v1/error.schema.json"))
TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": float, "boolean": bool}


def mistakes(schema: dict[str, Any], value: Any, at: str = "body") -> list[str]:
    """What in a value is against a schema, as far as this schema's own words go."""
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    if names and not any(type(value) is TYPES[name] for name in names):
        return [f"{at} is a {type(value).__name__}, not {' or '.join(names)}"]
    found = []
    if isinstance(value, dict):
        found += [f"{at} has no {name}" for name in schema.get("required", []) if name not in value]
        for name, part in schema.get("properties", {}).items():
            found += mistakes(part, value[name], f"{at}.{name}") if name in value else []
    if isinstance(value, list):
        found += [f"{at} is empty"] if len(value) < schema.get("minItems", 0) else []
        for position, part in enumerate(value):
            found += mistakes(schema.get("items", {}), part, f"{at}[{position}]")
    return found


class Order(BaseModel):
    lines: list[int]


service = Service("schema", broker="memory://schema")


@service.rpc
async def check(request: Order) -> Order:
    return request


@service.rpc
async def find(request: Order) -> Order:
    raise NotFound("none", errors=[{"loc": ["lines", 0], "msg": "unknown", "type": "unknown"}])


@service.rpc
async def crash(request: Order) -> Order:
    raise KeyError("x")


@service.rpc(timeout=0.001)
async def slow(request: Order) -> Order:
    raise TimeoutError


FAILING: list[tuple[str, Any, dict[str, str] | None]] = [
    ("check", {"lines": ["x", 1, None]}, None),
    ("check", b"no json", None),
    ("find", {"lines": [1]}, None),
    ("crash", {"lines": [1]}, None),
    ("slow", {"lines": [1]}, None),
]


@pytest.mark.parametrize(("endpoint", "request_", "headers"), FAILING, ids=[f"{f[0]}-{f[1]!r}"[:30] for f in FAILING])
async def test_the_body_of_a_real_error_reply_is_as_the_schema_says(
    endpoint: str, request_: Any, headers: dict[str, str] | None, until: Any
) -> None:
    replies: list[Delivery] = []
    async with service, MemoryBroker("memory://schema") as wire, Client("memory://schema") as client:
        await wire.subscribe("_INBOX.>", replies.append)
        with pytest.raises(ServiceError):
            await client.call(f"schema.{endpoint}", request_, Order, metadata=headers)
        await until(lambda: replies)
    body = json.loads(replies[0].body)
    assert mistakes(SCHEMA, body) == []
    assert set(body) <= set(SCHEMA["properties"])
    assert (replies[0].headers or {})["Nats-Service-Error-Code"] == str(body["code"])


def kinds(root: type[EventMicroError]) -> list[type[ServiceError]]:
    return [kind for kind in root.__subclasses__() if issubclass(kind, ServiceError)]


@pytest.mark.parametrize("kind", [ServiceError, *kinds(ServiceError)])
def test_every_kind_of_service_error_travels_as_the_schema_says(kind: type[ServiceError]) -> None:
    assert mistakes(SCHEMA, json.loads(kind("words").to_json("a.b"))) == []


def test_one_that_says_when_to_come_again_does_so_too() -> None:
    assert mistakes(SCHEMA, json.loads(ServiceError("busy", code=429, retry_after=0.5).to_json("a.b"))) == []


def test_the_check_itself_finds_what_is_wrong() -> None:
    wrong = {"id": 5, "code": True, "status": "", "retryable": False, "errors": [{"loc": [None]}]}
    assert mistakes(SCHEMA, wrong) == [
        "body has no detail",
        "body.id is a int, not string",
        "body.code is a bool, not integer",
        "body.errors[0].loc[0] is a NoneType, not string or integer",
    ]
    assert mistakes(SCHEMA, []) == ["body is a list, not object"]


def test_a_schema_is_a_file_and_one_that_is_not_there_says_how_to_write_its_name() -> None:
    assert eventmicro_schemas.path("v1/error.schema.json").is_file()
    for missing in ("error.schema.json", "v1", "v2/error.schema.json"):
        with pytest.raises(FileNotFoundError, match=r"write it as 'v1/error.schema.json'"):
            eventmicro_schemas.path(missing)
