"""Calls in other content types: the server answers in the caller's, errors included."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec
import pytest
from google.protobuf import wrappers_pb2
from pydantic import BaseModel

from eventmicro import (
    BadRequest,
    Client,
    Context,
    DecodeError,
    EncodeError,
    InternalError,
    MemoryBroker,
    NotFound,
    Service,
    ServiceError,
    UsageError,
)
from eventmicro.codec import Opened
from eventmicro.message import Delivery, Message

Until = Callable[[Callable[[], object]], Awaitable[None]]
URL = "memory://negotiated"
Words = wrappers_pb2.StringValue


class Order(BaseModel):
    sku: str
    at: datetime = datetime(2026, 11, 30, tzinfo=UTC)
    blob: bytes = b"text"


class Price(BaseModel):
    total: float
    at: datetime


class Line(msgspec.Struct):
    sku: str
    count: int = 1


@attrs.define
class Parcel:
    weight: float


service = Service("shop", broker=URL)


@service.rpc
async def quote(request: Order) -> Price:
    return Price(total=4.5, at=request.at)


@service.rpc
async def missing(request: Order) -> Price:
    raise NotFound(f"no {request.sku}", errors=[{"loc": ["sku"], "msg": "unknown", "type": "unknown"}])


@service.rpc
async def fails(request: Order) -> Price:
    raise KeyError("hunter2")


@service.rpc
async def names() -> list[str]:
    return ["a", "b"]


@service.rpc
async def forget(request: Order) -> None:
    return None


@service.rpc
async def ping() -> None:
    return None


@service.rpc
async def echo(request: bytes) -> bytes:
    return request


@service.rpc
async def shout(request: Words) -> Words:
    return Words(value=request.value.upper())


@service.rpc
async def pack(request: Line) -> Parcel:
    return Parcel(weight=request.count * 0.5)


@service.rpc
async def pack_all(request: list[Line]) -> list[Parcel]:
    return [await pack(line) for line in request]


@service.rpc
async def pack_by_name(request: dict[str, Line]) -> dict[str, Parcel]:
    return {name: await pack(line) for name, line in request.items()}


@service.rpc
async def upper(request: str) -> str:
    return request.upper()


@service.rpc
async def says(request: Order, context: Context) -> dict[str, str]:
    return context.metadata


BINARY = ["msgpack", "cbor", "bson"]
ENVELOPES = ["json-rpc", "bson-rpc"]


async def exchange(broker: MemoryBroker, until: Until, subject: str, body: bytes, **headers: str) -> Delivery:
    """What a foreign client gets."""
    replies: list[Delivery] = []
    inbox = broker.inbox()
    subscription = await broker.subscribe(inbox, replies.append)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    await broker.send(Message(subject, body, named or None, inbox))
    await until(lambda: replies)
    await subscription.drain()
    return replies[0]


@pytest.mark.parametrize("content_type", ["json", *BINARY, *ENVELOPES, "application/msgpack"])
async def test_a_call_is_answered_in_its_content_type(content_type: str) -> None:
    async with service, Client(URL) as client:
        order = Order(sku="a", blob=b"b")
        price = await client.call("shop.quote", order, Price, content_type=content_type)
        assert price == Price(total=4.5, at=order.at)
        assert await client.call("shop.forget", order, content_type=content_type) is None
        await client.call("shop.ping", content_type=content_type)
        with pytest.raises(NotFound) as caught:
            await client.call("shop.missing", order, Price, content_type=content_type)
        error = caught.value
        assert (error.detail, error.id, error.received) == ("no a", "shop.missing", True)
        assert [entry["msg"] for entry in error.errors] == ["unknown"]
        with pytest.raises(InternalError, match="the log of its service says why") as failed:
            await client.call("shop.fails", order, Price, content_type=content_type)
        assert "hunter2" not in str(failed.value)


@pytest.mark.parametrize("content_type", ["json", *BINARY, *ENVELOPES])
async def test_a_wrong_request_is_told_field_by_field_whatever_it_is_written_in(content_type: str) -> None:
    async with service, Client(URL) as client:
        with pytest.raises(BadRequest, match="the request is not a valid Order") as caught:
            await client.call("shop.quote", {"at": "soon"}, Price, content_type=content_type)
        assert [entry["loc"] for entry in caught.value.errors] == [["sku"], ["at"]]


@pytest.mark.parametrize("content_type", ["json", "msgpack", "cbor", "json-rpc"])
async def test_an_endpoint_without_a_request_answers_in_the_content_type_that_the_caller_names(
    content_type: str,
) -> None:
    async with service, Client(URL) as client:
        assert await client.call("shop.names", None, list[str], content_type=content_type) == ["a", "b"]


async def test_a_reply_that_does_not_travel_in_the_callers_content_type_names_its_own() -> None:
    async with service, Client(URL) as client:
        assert await client.call("shop.names", {}, list[str], content_type="bson") == ["a", "b"]


@pytest.mark.parametrize("content_type", ["json", *BINARY, "json-rpc"])
async def test_structs_and_attrs_classes_are_messages(content_type: str) -> None:
    async with service, Client(URL) as client:
        parcel = await client.call("shop.pack", Line("a", 3), Parcel, content_type=content_type)
        assert parcel == Parcel(weight=1.5)
        with pytest.raises(BadRequest) as caught:
            await client.call("shop.pack", {"sku": 5}, Parcel, content_type=content_type)
        assert caught.value.errors == [{"loc": ["sku"], "msg": "Expected `str`, got `int`", "type": "invalid"}]


@pytest.mark.parametrize("content_type", ["json", *BINARY, "json-rpc"])
async def test_lists_and_dicts_of_structs_are_requests_too(content_type: str) -> None:
    """A request is written by its class, and that of a list does not say what is in it."""
    async with service, Client(URL, content_type=content_type) as client:
        lines = {"one": Line("a", 3), "two": Line("b", 2)}
        packed = {"one": Parcel(weight=1.5), "two": Parcel(weight=1.0)}
        assert await client.call("shop.pack_by_name", lines, dict[str, Parcel]) == packed
        assert await client.call("shop.pack_all", list(lines.values()), list[Parcel]) == list(packed.values())
        for wrong in ([Line("a"), object()], [object()], [Parcel(weight=float("nan")), Line("a", count=object())]):  # type: ignore[arg-type]
            with pytest.raises(EncodeError):
                await client.call("shop.pack_all", wrong, list[Parcel])


@pytest.mark.parametrize("content_type", ["protobuf", "proto-rpc", "json", "json-rpc"])
async def test_protobuf_messages_travel_in_their_own_formats_and_in_json(content_type: str) -> None:
    async with service, Client(URL) as client:
        reply = await client.call("shop.shout", Words(value="hey"), Words, content_type=content_type)
        assert reply == Words(value="HEY")


async def test_text_travels_as_it_is(until: Until) -> None:
    async with service, Client(URL) as client, MemoryBroker(URL) as broker:
        assert await client.call("shop.upper", "hey", str, content_type="text") == "HEY"
        reply = await exchange(broker, until, "shop.upper", b"hey", Content_Type="text/plain; charset=utf-8")
        assert (reply.body, reply.headers) == (b"HEY", None)


async def test_the_client_says_it_once_for_all_calls_whose_types_travel_in_it(until: Until) -> None:
    seen: list[Delivery] = []
    async with service, MemoryBroker(URL) as broker, Client(URL, content_type="msgpack") as client:
        await broker.subscribe("shop.*", seen.append)
        assert (await client.call("shop.quote", Order(sku="a"), Price)).total == 4.5
        assert await client.call("shop.names", None, list[str]) == ["a", "b"]
        assert await client.call("shop.echo", b"\x00", bytes) == b"\x00"
        assert await client.call("shop.shout", Words(value="hey"), Words) == Words(value="HEY")
        assert await client.call("shop.quote", Order(sku="a"), Price, content_type="json") is not None
        await until(lambda: len(seen) == 5)
    assert [(each.headers or {}).get("Content-Type") for each in seen] == [
        "application/msgpack",
        "application/msgpack",
        None,
        "application/protobuf",
        "application/json",
    ]


async def test_a_service_says_it_for_its_own_calls_and_answers_as_it_is_asked(until: Until) -> None:
    seen: list[Delivery] = []
    asking = Service("asking", broker=URL, content_type="msgpack")

    @asking.rpc
    async def total(request: Order) -> float:
        return (await asking.call("shop.quote", request, Price)).total

    async with service, asking, MemoryBroker(URL) as broker, Client(URL) as client:
        await broker.subscribe("shop.quote", seen.append)
        assert await client.call("asking.total", Order(sku="a"), float) == 4.5
        await until(lambda: seen)
    assert seen[0].headers == {"Content-Type": "application/msgpack"}


async def test_a_reply_in_its_own_content_type_has_no_envelope_that_nobody_has_asked_for() -> None:
    enveloped = Service("enveloped", broker=URL, content_type="json-rpc")

    @enveloped.rpc
    async def numbers() -> list[int]:
        return [1, 2]

    async with enveloped, Client(URL) as client, Client(URL, content_type="json-rpc") as other:
        assert await client.call("enveloped.numbers", {}, list[int], content_type="bson") == [1, 2]
        assert await client.call("enveloped.numbers", None, list[int]) == [1, 2]
        assert await other.call("enveloped.numbers", None, list[int]) == [1, 2]


async def test_what_is_said_of_one_call_goes_before_its_metadata_and_changes_nothing_of_that() -> None:
    metadata = {"content-type": "application/json", "tenant": "acme"}
    async with service, Client(URL) as client:
        said = await client.call("shop.says", Order(sku="a"), dict[str, str], metadata=metadata, content_type="cbor")
    assert said == {"tenant": "acme", "Content-Type": "application/cbor"}
    assert metadata == {"content-type": "application/json", "tenant": "acme"}


WRONG_NAMES = [
    ("msgpac", "did you mean 'msgpack'"),
    ("zzz", "there are bson, bson-rpc, bytes, cbor, json, json-rpc, msgpack"),
    (7, "write a name such as 'msgpack'"),
]


@pytest.mark.parametrize(("content_type", "says"), WRONG_NAMES)
async def test_a_name_that_is_none_is_refused_before_anything_is_sent(content_type: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Client(URL, content_type=content_type)
    async with Client(URL) as client:
        with pytest.raises(UsageError, match=says):
            await client.call("shop.quote", Order(sku="a"), Price, content_type=content_type)


async def test_a_request_that_cannot_travel_so_is_refused_with_how_it_can() -> None:
    async with Client(URL) as client:
        for content_type, request in (("bson", [1]), ("image/png", Order(sku="a")), ("proto-rpc", Order(sku="a"))):
            with pytest.raises(UsageError, match=r"cannot travel as .*; leave Content-Type out, or write one of "):
                await client.call("shop.quote", request, Price, content_type=content_type)


async def test_an_unknown_content_type_is_answered_with_all_that_are_known(until: Until) -> None:
    async with service, MemoryBroker(URL) as broker:
        reply = await exchange(broker, until, "shop.quote", b"<order/>", Content_Type="text/xml")
    assert reply.headers is not None
    assert reply.headers["Nats-Service-Error-Code"] == "415"
    assert json.loads(reply.body)["detail"] == (
        "content type 'text/xml' is not taken here; taken: application/json, application/bson, application/bson-rpc, "
        "application/cbor, application/json-rpc, application/msgpack, application/vnd.masstransit+json; as it is, it "
        "is not a valid Order (the body: Invalid JSON: expected value at line 1 column 1)"
    )


# -- JSON-RPC, as a foreign client speaks it ---------------------------------------------------------------------

NEW, OLD = '"jsonrpc":"2.0",', ""
REQUESTS: list[tuple[str, Any]] = [
    # the request, and what is answered
    ('{%s"id":1,"method":"quote","params":{"sku":"a"}}', "id 1"),
    ('{%s"id":1,"method":"shop.quote","params":[{"sku":"a"}]}', "id 1"),
    (' { %s "params" : [ {"sku":"a"} ] , "method":"quote", "id" : "x\\u00e4" } ', 'id "x\\u00e4"'),
    ('{%s"id":null,"method":"quote","params":{"sku":"a"}}', "id null"),
    ('{%s"id":12345678901234567890123,"method":"quote","params":{"sku":"a"}}', "id 12345678901234567890123"),
]


@pytest.mark.parametrize(("text", "answer"), REQUESTS)
@pytest.mark.parametrize("version", [NEW, OLD], ids=["2.0", "1.0"])
async def test_a_json_rpc_client_is_answered_in_its_version_with_its_id(
    text: str, answer: str, version: str, until: Until
) -> None:
    request = text.replace("%s", version)
    async with service, MemoryBroker(URL) as broker:
        reply = await exchange(broker, until, "shop.quote", request.encode(), Content_Type="application/json-rpc")
    result = '"result":{"total":4.5,"at":"2026-11-30T00:00:00Z"}'
    whose = answer.replace("id ", '"id":')
    expected = f'{{"jsonrpc":"2.0",{whose},{result}}}' if version else f'{{{whose},{result},"error":null}}'
    assert (reply.body.decode(), reply.headers) == (expected, None)


WRONG_REQUESTS: list[tuple[str, int, Any, str]] = [
    # the request, the code, the id, and what is said
    ("{", -32700, None, "it is no JSON object"),
    ("[" * 100_000, -32700, None, "it is no JSON object"),
    ('{"id":' + "9" * 5000 + "}", -32700, None, "it is no JSON object"),
    ('[{"jsonrpc":"2.0","id":1,"method":"quote"}]', -32700, None, "calls are sent one by one"),
    ('{"jsonrpc":"2.0","id":1,"method":"quote","params":{"sku":"a"}} x', -32700, None, "it is no JSON object"),
    ('{"jsonrpc":"2.0","id":{},"method":"quote"}', -32600, None, "its id is no string, number or null"),
    ('{"jsonrpc":"2.0","id":true,"method":"quote"}', -32600, None, "its id is no string, number or null"),
    ('{"jsonrpc":"2.0","id":1}', -32600, 1, "it has no method"),
    ('{"jsonrpc":"2.0","id":1,"method":7}', -32600, 1, "it has no method"),
    ('{"jsonrpc":"1.5","id":1,"method":"quote"}', -32600, 1, 'a jsonrpc that is not "2.0"'),
    ('{"jsonrpc":"2.0","method":"quote","params":{"sku":"a"}}', -32600, None, "a call without an id is answered by"),
    ('{"jsonrpc":"2.0","id":1,"method":"missing","params":{"sku":"a"}}', -32601, 1, "'missing' is not what is called"),
    ('{"jsonrpc":"2.0","id":1,"method":"other.quote","params":{}}', -32601, 1, "here: shop.quote"),
    ('{"jsonrpc":"2.0","id":1,"method":"quote","params":[1,2]}', -32602, 1, "params are 2 values"),
    ('{"jsonrpc":"2.0","id":1,"method":"quote","params":"a"}', -32602, 1, "neither an object nor a list"),
    ('{"jsonrpc":"2.0","id":1,"method":"quote","params":{}}', -32602, 1, "the request is not a valid Order"),
    ('{"jsonrpc":"2.0","id":1,"method":"quote"}', -32602, 1, "the request is not a valid Order"),
]


@pytest.mark.parametrize(("text", "code", "id", "says"), WRONG_REQUESTS, ids=[r[3][:30] for r in WRONG_REQUESTS])
async def test_a_wrong_json_rpc_request_is_answered_by_an_error_object(
    text: str, code: int, id: Any, says: str, until: Until
) -> None:
    async with service, MemoryBroker(URL) as broker:
        reply = await exchange(broker, until, "shop.quote", text.encode(), Content_Type="application/json-rpc")
    told = json.loads(reply.body)
    assert (told["jsonrpc"], told["id"], told["error"]["code"]) == ("2.0", id, code)
    assert says in told["error"]["message"]
    assert reply.headers is not None
    assert reply.headers["Content-Type"] == "application/json-rpc"
    assert reply.headers["Nats-Service-Error-Code"] == str(told["error"]["data"]["code"])


async def test_the_errors_of_a_handler_are_json_rpc_errors(until: Until) -> None:
    said = {}
    async with service, MemoryBroker(URL) as broker:
        for name in ("missing", "fails"):
            request = json.dumps({"jsonrpc": "2.0", "id": "x", "method": name, "params": {"sku": "a"}})
            reply = await exchange(broker, until, f"shop.{name}", request.encode(), Content_Type="application/json-rpc")
            said[name] = json.loads(reply.body)["error"]
        old = json.dumps({"id": 7, "method": "Shop.Missing", "params": [{"sku": "a"}]})
        refused = await exchange(broker, until, "shop.missing", old.encode(), Content_Type="application/json-rpc")
        old = old.replace("Shop.Missing", "shop.missing")
        reply = await exchange(broker, until, "shop.missing", old.encode(), Content_Type="application/json-rpc")
    assert (said["missing"]["code"], said["missing"]["message"]) == (404, "no a")
    assert said["missing"]["data"]["errors"] == [{"loc": ["sku"], "msg": "unknown", "type": "unknown"}]
    assert (said["fails"]["code"], said["fails"]["data"]["id"]) == (-32603, "shop.fails")
    assert json.loads(json.loads(refused.body)["error"])["code"] == 404
    told = json.loads(reply.body)  # 1.0: a text, as go-micro and Go's own clients have it
    assert (told["id"], told["result"], json.loads(told["error"])["detail"]) == (7, None, "no a")


async def test_a_notification_runs_and_is_answered_by_nothing(until: Until) -> None:
    ran: list[str] = []
    quiet = Service("quiet", broker=URL)

    @quiet.rpc
    async def note(request: str) -> None:
        ran.append(request)

    async with quiet, MemoryBroker(URL) as broker:
        body = b'{"jsonrpc":"2.0","method":"note","params":["hey"]}'
        await broker.send(Message("quiet.note", body, {"Content-Type": "application/json-rpc"}))
        await until(lambda: ran)
    assert ran == ["hey"]


FOREIGN_REPLIES: list[tuple[bytes, dict[str, str] | None, Any]] = [
    (b'{"jsonrpc":"2.0","id":1,"result":{"total":1,"at":"2026-11-30T00:00:00Z"}}', None, 1.0),
    (b'{"id":"1","result":{"total":1,"at":"2026-11-30T00:00:00Z"},"error":null}', None, 1.0),
    (
        b'{"jsonrpc":"2.0","id":1,"result":{"total":1,"at":"2026-11-30T00:00:00Z"}}',
        {"Content-Type": "application/json-rpc"},
        1.0,
    ),
    (b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}', None, (404, "no such method")),
    (b'{"jsonrpc":"2.0","id":1,"error":{"code":-32050,"message":"broken"}}', None, (500, "broken")),
    (b'{"jsonrpc":"2.0","id":1,"error":{"code":409,"message":"taken"}}', None, (409, "taken")),
    (b'{"id":1,"result":null,"error":"it broke"}', None, (500, "it broke")),
    (b'{"id":1,"result":null,"error":"{\\"code\\":404,\\"detail\\":\\"gone\\"}"}', None, (404, "gone")),
    (b'{"id":1}', None, "neither a result nor an error"),
    (b"not at all", None, "it is no JSON object"),
    (b'{"id":1,"result":{}}', None, "not a valid Price"),
]


@pytest.mark.parametrize(("body", "headers", "outcome"), FOREIGN_REPLIES, ids=[str(r[2]) for r in FOREIGN_REPLIES])
async def test_a_foreign_json_rpc_service_is_understood(
    body: bytes, headers: dict[str, str] | None, outcome: Any, until: Until
) -> None:
    asked: list[Delivery] = []
    async with MemoryBroker(URL) as broker, Client(URL) as client:

        async def answer(delivery: Delivery) -> None:
            asked.append(delivery)
            await broker.send(Message(delivery.reply, body, headers))

        await broker.subscribe("their.quote", answer, queue="q")
        call = client.call("their.quote", Order(sku="a"), Price, content_type="json-rpc")
        if isinstance(outcome, float):
            assert (await call).total == outcome
        elif isinstance(outcome, tuple):
            with pytest.raises(ServiceError) as caught:
                await call
            assert (caught.value.code, caught.value.detail, caught.value.received) == (*outcome, True)
        else:
            with pytest.raises(DecodeError, match=outcome):
                await call
    request = json.loads(asked[0].body)
    assert (request["jsonrpc"], request["method"], request["params"][0]["sku"]) == ("2.0", "their.quote", "a")


async def test_bytes_have_no_envelope(until: Until) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"echo","params":[]}'
    async with service, MemoryBroker(URL) as broker, Client(URL) as client:
        reply = await exchange(broker, until, "shop.echo", body, Content_Type="application/json-rpc")
        assert (reply.body, reply.headers) == (body, None)
        assert await client.call("shop.echo", b"\x00", bytes, content_type="image/png") == b"\x00"


class Quoted:
    """An envelope of somebody's own: quotation marks around JSON."""

    content_type = "application/quoted"
    inner = "application/json"

    def request(self, method: str, body: bytes) -> bytes:
        return b"%s:'%s'" % (method.encode(), body)

    def open_request(self, envelope: bytes) -> Opened:
        method, _, body = envelope.partition(b":")
        return Opened(body.strip(b"'"), method.decode(), id="")

    def reply(self, request: Opened, body: bytes) -> bytes:
        return b"'%s'" % body

    def error(self, request: Opened, error: ServiceError, form: dict[str, Any]) -> bytes:
        return b"!%s" % error.detail.encode()

    def open_reply(self, envelope: bytes, endpoint: str) -> bytes:
        if envelope[:1] == b"!":
            raise ServiceError.from_form(None, code=500, detail=envelope[1:].decode(), id=endpoint)
        return envelope.strip(b"'")


async def test_an_envelope_of_ones_own_is_given_as_a_codec_is() -> None:
    own = Service("own", broker=URL, codecs=[Quoted()])

    @own.rpc
    async def double(number: int) -> int:
        if number > 9:
            raise NotFound("too large")
        return 2 * number

    async with own, Client(URL, codecs=[Quoted()]) as client:
        assert await client.call("own.double", 4, int, content_type="quoted") == 8
        with pytest.raises(NotFound, match="too large"):
            await client.call("own.double", 10, int, content_type="application/quoted")


async def test_a_directed_call_names_the_endpoint_in_its_envelope_as_any_other() -> None:
    async with service, Client(URL, registry="memory") as client:
        price = await client.call("shop.quote", Order(sku="a"), Price, selector="random", content_type="json-rpc")
        assert price.total == 4.5


class Careless(Quoted):
    """An envelope that fails where it is to hold an error."""

    def error(self, request: Opened, error: ServiceError, form: dict[str, Any]) -> bytes:
        raise ZeroDivisionError


async def test_an_error_that_somebodys_envelope_cannot_write_is_answered_as_json(
    until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    careless = Service("careless", broker=URL, codecs=[Careless()])

    @careless.rpc
    async def fail(request: Order) -> Price:
        raise NotFound("no such order")

    async with careless, MemoryBroker(URL) as broker:
        body = Careless().request("careless.fail", b'{"sku": "a"}')
        reply = await exchange(broker, until, "careless.fail", body, Content_Type=Careless.content_type)
    assert reply.headers is not None
    assert reply.headers["Nats-Service-Error-Code"] == "404"
    assert json.loads(reply.body)["detail"] == "no such order"
    assert [record.exc_info is not None for record in caplog.records] == [True]
