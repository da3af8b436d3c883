"""fields: parameters that are the fields of a message, on the wire, in contracts and in what others see of them."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import uuid
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Annotated, Any, Protocol, TypedDict

import pytest
from pydantic import BaseModel, Field

from eventmicro import (
    BadRequest,
    Batch,
    Client,
    Context,
    Contract,
    Depends,
    EncodeError,
    Service,
    SignatureError,
    Topic,
    rpc,
)
from eventmicro.events.declare import declare_subscriber
from eventmicro.rpc.declare import declare_endpoint

URL = "memory://fields"


class Quote(BaseModel):
    total: Decimal = Decimal(0)


class Line(BaseModel):
    sku: str
    count: int = 1


class Colour(enum.Enum):
    RED = "red"


def tenant(context: Context) -> str:
    return context.metadata.get("Tenant", "none")


async def quote(sku: str, quantity: int = 1) -> Quote:
    return Quote(total=Decimal(len(sku) * quantity))


async def everything(
    id: uuid.UUID,
    context: Context,
    colour: Colour,
    tenant: Annotated[str, Depends(tenant)],
    lines: list[Line],
    schema: str = "plain",
    *,
    share: Annotated[Decimal, Field(gt=0, description="of the whole")] = Decimal(1),
    labels: dict[str, str] = Field(default_factory=dict),  # noqa: B008
) -> list[str]:
    assert isinstance(id, uuid.UUID)
    return [colour.name, tenant, str(sum(line.count for line in lines)), schema, str(share), str(labels), context.topic]


def plain(sku: str, quantity: int = 1) -> Quote:
    return Quote(total=Decimal(len(sku) * quantity))


async def one(sku: str) -> str:
    return sku


def make(*functions: Callable[..., Any]) -> Service:
    service = Service("orders", broker=URL)
    for function in functions:
        service.rpc(function)
    return service


async def test_fields_are_parameters_and_defaults_hold() -> None:
    async with make(quote, plain), Client(URL) as client:
        for name in ("orders.quote", "orders.plain"):
            assert await client.call(name, {"sku": "tea"}, Quote) == Quote(total=Decimal(3))
            assert await client.call(name, {"sku": "tea", "quantity": 2}, Quote) == Quote(total=Decimal(6))
    assert await quote("tea", quantity=2) == Quote(total=Decimal(6))  # it stays callable itself


async def test_fields_stand_beside_context_and_dependencies() -> None:
    request = {"id": str(uuid.uuid4()), "colour": "red", "lines": [{"sku": "a", "count": 2}, {"sku": "b"}]}
    async with make(everything), Client(URL) as client:
        said = await client.call("orders.everything", request, list[str], metadata={"Tenant": "shop"})
        assert said == ["RED", "shop", "3", "plain", "1", "{}", "orders.everything"]
        more = request | {"share": "0.5", "schema": "odd", "labels": {"a": "b"}}
        said = await client.call("orders.everything", more, list[str])
        assert said == ["RED", "none", "3", "odd", "0.5", "{'a': 'b'}", "orders.everything"]


async def test_what_does_not_fit_is_a_bad_request_that_names_the_fields() -> None:
    async with make(quote), Client(URL) as client:
        with pytest.raises(BadRequest) as caught:
            await client.call("orders.quote", {"quantity": "many"}, Quote)
    assert [error["loc"] for error in caught.value.errors] == [["sku"], ["quantity"]]


async def test_one_parameter_is_the_body_itself_whatever_its_type() -> None:
    assert declare_endpoint(one).request is str
    async with make(one), Client(URL) as client:
        assert await client.call("orders.one", "tea", str) == "tea"


def test_others_see_an_ordinary_model_named_after_the_handler() -> None:
    request = declare_endpoint(quote).request
    assert (request.__name__, request.__module__) == ("QuoteRequest", __name__)
    assert request.model_json_schema() == {
        "title": "QuoteRequest",
        "type": "object",
        "properties": {
            "sku": {"title": "Sku", "type": "string"},
            "quantity": {"title": "Quantity", "type": "integer", "default": 1},
        },
        "required": ["sku"],
    }


async def test_the_services_api_shows_their_schema() -> None:
    async with make(quote) as service:
        (record,) = await service.client.services("orders")
        (endpoint,) = (each for each in record.endpoints if each.name == "quote")
    assert endpoint.request is not None
    assert (endpoint.request["title"], endpoint.request["required"]) == ("QuoteRequest", ["sku"])


async def test_events_have_fields_too() -> None:
    service, seen = make(), list[tuple[str, int]]()

    @service.subscribe("orders.placed")
    async def bill(order_id: str, total: int = 0) -> None:
        seen.append((order_id, total))

    assert service.subscribers["bill"].event.__name__ == "BillEvent"
    async with service:
        await service.publish("orders.placed", {"order_id": "7", "total": 3})
        await service.publish("orders.placed", {"order_id": "8"})
        while len(seen) < 2:
            await asyncio.sleep(0.001)
    assert seen == [("7", 3), ("8", 0)]


async def test_events_that_do_not_fit_are_dead_letters_that_name_the_field() -> None:
    service, letters = make(), list[str]()

    @service.subscribe("orders.placed")
    async def bill(order_id: str, total: int = 0) -> None:
        raise AssertionError

    @service.subscribe("dead.orders.bill")
    async def look(letter: dict[str, Any], context: Context) -> None:
        letters.append(context.metadata["Dead-Letter-Reason"])

    async with service:
        await service.publish("orders.placed", {"total": 3})
        while not letters:
            await asyncio.sleep(0.001)
    assert "order_id: Field required" in letters[0]


# -- refusals ------------------------------------------------------------------------------------------------------


class Typed(TypedDict):
    sku: str


@dataclasses.dataclass
class Data:
    sku: str = ""


async def defaulted_model(request: Line = Line(sku="")) -> None: ...  # noqa: B008
async def defaulted_union(request: Line | None = None) -> None: ...
async def defaulted_typed(request: Typed = Typed(sku="")) -> None: ...  # noqa: B008
async def defaulted_data(request: Data = Data()) -> None: ...  # noqa: B008
async def private(_sku: str, count: int) -> None: ...
async def untyped(sku: str, count) -> None: ...  # type: ignore[no-untyped-def]
async def stream_and_more(lines: AsyncIterator[Line], count: int) -> None: ...


class Opaque: ...


async def opaque(sku: str, thing: Opaque) -> None: ...
async def taken(model_dump: str, count: int) -> None: ...


REFUSED: list[tuple[Any, str]] = [
    (defaulted_model, "'request' has a default, but the message always comes"),
    (defaulted_union, "'request' has a default, but the message always comes"),
    (defaulted_typed, "'request' has a default, but the message always comes"),
    (defaulted_data, "'request' has a default, but the message always comes"),
    (private, "endpoint private: '_sku' cannot be the field of a message: give it another name"),
    (untyped, "endpoint untyped: parameter 'count' has no type; write `count: YourModel`"),
    (stream_and_more, "endpoint stream_and_more: 'lines' is a stream of messages, so nothing else can be of one"),
    (opaque, "endpoint opaque: its parameters cannot be the fields of a message: .*Opaque"),
    (taken, "endpoint taken: 'model_dump' cannot be the field of a message"),
]


@pytest.mark.parametrize(("function", "words"), REFUSED)
def test_what_cannot_be_fields_is_refused_with_what_to_write(function: Any, words: str) -> None:
    with pytest.raises(SignatureError, match=words):
        declare_endpoint(function)


async def bill(sku: str, count: int) -> None: ...


def test_a_topic_says_itself_what_its_events_are() -> None:
    with pytest.raises(SignatureError, match=r"sku, count would be the fields .* write one parameter, `event: Line`"):
        declare_subscriber("orders", Topic("orders.placed", Line), bill)
    with pytest.raises(SignatureError, match=r"bill has batch=: write `events: list\[YourModel\]` in place of sku"):
        declare_subscriber("orders", "orders.placed", bill, batch=Batch())


# -- contracts -----------------------------------------------------------------------------------------------------


class Orders(Contract, Protocol, service="orders"):
    async def quote(self, sku: str, quantity: int = 1) -> Quote: ...

    @rpc(name="other")
    async def find(self, id: uuid.UUID, /, *, colour: Colour = Colour.RED) -> str: ...

    def watch(self, sku: str, many: int = 2) -> AsyncIterator[str]: ...


class Handler:
    async def quote(self, sku: str, context: Context, quantity: int = 1) -> Quote:
        return Quote(total=Decimal(len(sku) * quantity))

    async def find(self, id: uuid.UUID, /, *, colour: Colour = Colour.RED) -> str:
        return f"{id} {colour.name}"

    async def watch(self, sku: str, many: int = 2) -> AsyncIterator[str]:
        for _ in range(many):
            yield sku


async def test_a_contract_s_method_takes_fields_and_a_stub_s_does() -> None:
    service = make()
    service.implements(Orders, Handler())
    async with service, Client(URL) as client:
        orders = client.stub(Orders)
        assert await orders.quote("tea") == Quote(total=Decimal(3))
        assert await orders.quote(quantity=2, sku="tea") == Quote(total=Decimal(6))
        number = uuid.uuid4()
        assert await orders.find(number) == f"{number} RED"
        assert [each async for each in orders.watch("tea", many=3)] == ["tea"] * 3
        with pytest.raises(EncodeError, match=r"Orders, \*\*options\).quote: its arguments are wrong \(quantity: "):
            await orders.quote("tea", quantity="many")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"quote\(\) missing 1 required positional argument: 'sku'"):
            await orders.quote()  # type: ignore[call-arg]


class Differs(Handler):
    async def quote(self, sku: str, context: Context, quantity: int = 2) -> Quote:
        return Quote()


def test_what_differs_from_the_contract_is_named_field_by_field() -> None:
    words = "takes the fields sku: str, quantity: int = 2, and the contract says the fields sku: str, quantity: int = 1"
    with pytest.raises(SignatureError, match=words):
        make().implements(Orders, Differs())
