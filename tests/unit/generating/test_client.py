"""The contract of a service that runs, written from its record: it compiles, passes mypy, and calls the service."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from eventmicro import Client, Service, UsageError
from eventmicro.generating.client import write_client
from eventmicro.generating.models import Models
from eventmicro.registry import EndpointRecord, ServiceRecord
from tests.checkers import mypy
from tests.unit.generating import shop_contracts
from tests.unit.generating.shop_models import TREE, Order, make_service

GOLDEN = Path(__file__).parent / "shop_contracts.py"
URL = "memory://generated"


async def written() -> str:
    async with make_service(URL) as service:
        (record,) = await service.client.services("gen-shop")
    return write_client(record)


async def test_it_is_written_as_it_was() -> None:
    assert await written() == GOLDEN.read_text()


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", *arguments, str(GOLDEN)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_passes_mypy_strict_and_ruff() -> None:
    done = mypy(Path.cwd(), str(GOLDEN))
    assert done.returncode == 0, done.stdout + done.stderr
    run("ruff", "check", "--isolated", "--line-length", "120", "--select", "E,F,UP,B,PIE,N801,RUF")
    run("ruff", "format", "--check", "--isolated", "--line-length", "120")


async def cats(*lives: int) -> AsyncIterator[shop_contracts.Cat]:
    for each in lives:
        yield shop_contracts.Cat(kind="cat", lives=each)


ORDER = shop_contracts.Order(
    id=uuid.UUID(int=7),
    at=dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC),
    span=dt.timedelta(seconds=90),
    price=Decimal("12345678901234567.89"),
    raw=b"raw",
    level=shop_contracts.Level.value_7,
    tree=shop_contracts.Node(name="root", children=[shop_contracts.Node(name="leaf")]),
    pet=shop_contracts.Dog(kind="dog", bark=0.5),
    pair=(1, "a"),
    seen={1, 2},
    anything=None,
    word=3,
    class_="c",
    a_b=1,
    schema_="s",
)


async def test_it_calls_the_service() -> None:
    async with make_service(URL), Client(URL) as client:
        shop = client.stub(shop_contracts.GenShop)
        quoted = await shop.quote(ORDER)
        assert quoted.model_copy(update={"made": None}) == ORDER
        assert quoted.made == 4  # what was not given is not sent, so the service's own default holds
        assert Order.model_validate_json(quoted.model_dump_json(by_alias=True)).color.value == "red"
        assert await shop.no_op() is None  # type: ignore[func-returns-value]
        assert await shop.weigh(shop_contracts.Node2(weight=2.5)) == [2.5]
        assert [root.model_dump() for root in await shop.roots("x")] == [TREE.model_dump()]
        assert [each.name async for each in shop.watch(shop_contracts.Node(name="a"))] == ["a"]
        assert await shop.total(cats(1, 2)) == 3
        assert [cat.lives async for cat in shop.talk(cats(1, 2))] == [1, 2]


def test_a_service_of_protobuf_messages_or_without_endpoints_is_refused() -> None:
    schema = {"title": "shop.v1.Quote", "contentMediaType": "application/protobuf"}
    record = ServiceRecord(name="shop", endpoints=[EndpointRecord(name="quote", request=schema)])
    with pytest.raises(UsageError, match=r"shop.quote speaks protobuf \(shop.v1.Quote\): .* `eventmicro gen"):
        write_client(record)
    with pytest.raises(UsageError, match="service 'shop' has no endpoints that can be called"):
        write_client(ServiceRecord(name="shop"))


@pytest.mark.parametrize(
    ("kind", "annotation"),
    [
        (int, "int"),
        (int | None, "int | None"),
        (None | list[str], "list[str] | None"),
        (dict[str, float], "dict[str, float]"),
        (dict[str, dict[str, int]], "dict[str, dict[str, int]]"),
        (tuple[int, ...], "list[int]"),
        (set[bytes], "set[bytes]"),
        (Any, "Any"),
        (bool, "bool"),
        (uuid.UUID, "UUID"),
        (dict[str, Any], "dict[str, Any]"),
    ],
)
def test_types_without_models(kind: Any, annotation: str) -> None:
    assert Models().annotation(TypeAdapter(kind).json_schema()) == annotation


FOREIGN: list[tuple[dict[str, Any], str]] = [
    ({}, "Any"),
    ({"type": "array", "items": True}, "list[Any]"),
    ({"type": "thing"}, "Any"),
    ({"$ref": "#/$defs/Missing"}, "Any"),
    ({"type": ["null", "string"]}, "str | None"),
    ({"type": "object"}, "dict[str, Any]"),
    ({"allOf": [{"type": "integer"}]}, "int"),
    ({"enum": [1.5, "a"]}, "Any"),
    ({"const": None}, "Literal[None]"),
    ({"$ref": "#/$defs/J", "$defs": {"J": {"type": "array", "items": {"$ref": "#/$defs/J"}}}}, "list[Any]"),
]


@pytest.mark.parametrize(("schema", "annotation"), FOREIGN)
def test_what_another_framework_writes_is_taken_as_far_as_it_is_understood(
    schema: dict[str, Any], annotation: str
) -> None:
    assert Models().annotation(schema) == annotation


def test_a_name_that_is_taken_gets_a_number() -> None:
    class Field(BaseModel):
        value: int

    models = Models({"Shop"})
    assert models.annotation(TypeAdapter(Field).json_schema()) == "Field2"
    assert models.annotation(TypeAdapter(Field).json_schema()) == "Field2"
    assert models.annotation({"title": "Shop", "type": "object", "properties": {"a": {"type": "integer"}}}) == "Shop2"
    assert list(models.classes) == ["Field2", "Shop2"]


def test_a_title_cannot_write_code() -> None:
    models, evil = Models(), '"""\nimport os\n"""'
    schema = {
        "title": "A\nimport os",
        "description": evil,
        "type": "object",
        "properties": {"x = 1\nimport os": {"type": "string", "description": evil, "default": evil}},
    }
    models.annotation(schema)
    source = "from pydantic import BaseModel, ConfigDict, Field\n\n\n" + models.written()[0]
    code = compile(source, "<written>", "exec")
    assert "os" not in code.co_names
    names: dict[str, Any] = {}
    exec(code, names)
    made = next(value for name, value in names.items() if name.startswith("A_import"))
    assert made().model_dump(by_alias=True) == {"x = 1\nimport os": evil}


EVIL = '1"); import os\\nos.abort() #\x00\ud800"""'


def test_a_record_of_a_stranger_cannot_write_code() -> None:
    endpoints = [
        EndpointRecord(name="a" + EVIL, metadata={"timeout": EVIL, "idempotent": EVIL, "stream": EVIL}),
        EndpointRecord(name="a\u00b2", request={"enum": [EVIL]}, metadata={"timeout": "-1"}),
        EndpointRecord(name="b", reply={"title": EVIL, "properties": {EVIL: {"description": EVIL, "minimum": EVIL}}}),
        EndpointRecord(name="c", reply={"$ref": "#/$defs/A", "$defs": {"A": {"enum": [EVIL, 1], "description": EVIL}}}),
    ]
    code = compile(write_client(ServiceRecord(name="shop" + EVIL, version=EVIL, endpoints=endpoints)), "<>", "exec")
    inside = [each for each in code.co_consts if hasattr(each, "co_names")]
    assert not any({"os", "abort"} & set(each.co_names) for each in [code, *inside])
    assert inside  # the classes


async def test_a_service_without_models() -> None:
    service = Service("gen-plain", broker=URL)

    @service.rpc
    async def double(request: int) -> int:
        return 2 * request

    async with service:
        (record,) = await service.client.services("gen-plain")
    assert write_client(record).splitlines()[2:] == [
        "from __future__ import annotations",
        "",
        "from typing import Protocol",
        "",
        "from eventmicro import Contract",
        "",
        "",
        'class GenPlain(Contract, Protocol, service="gen-plain", version="0.0.0"):',
        "    async def double(self, request: int) -> int: ...",
    ]
