"""What users do in their first hour: it works as they expect, or is refused in words that say what to write."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, Optional

import pytest
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from eventmicro.client import Client
from eventmicro.context import Context
from eventmicro.declare import rpc
from eventmicro.errors import (
    BadRequest,
    DecodeError,
    EncodeError,
    InternalError,
    NotFound,
    SignatureError,
    Unavailable,
    UsageError,
)
from eventmicro.handlers.depends import Depends
from eventmicro.memory import MemoryBroker
from eventmicro.middlewares import LogMessages
from eventmicro.service import Service
from eventmicro.topic import Topic

URL = "memory://first-hour"


class Asked(BaseModel):
    sku: str


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)
    order_id: int


async def test_a_model_with_aliases_travels_by_them() -> None:
    service = Service("shop", broker=URL)
    seen: asyncio.Queue[Camel] = asyncio.Queue()
    topic = Topic("shop.camels", Camel)
    raw: asyncio.Queue[bytes] = asyncio.Queue()

    @service.rpc
    async def same(camel: Camel) -> Camel:
        return camel

    service.subscribe(topic)(seen.put)
    service.subscribe(Topic("shop.camels", bytes), name="raw")(raw.put)
    async with service:
        assert await service.call("shop.same", Camel(orderId=3), Camel) == Camel(orderId=3)
        await service.publish(topic, Camel(orderId=4))
        assert await seen.get() == Camel(orderId=4)
        assert await raw.get() == b'{"orderId":4}'


@pytest.mark.parametrize("made", [Service, Client], ids=["service", "client"])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"broker": 5}, "^broker=5: write a URL such as 'nats://127.0.0.1:4222', or a Broker$"),
        ({"broker": MemoryBroker}, "^broker=<class .*>: write a URL"),
        ({"broker": URL, "rpc_broker": 5}, "^rpc_broker=5: write a URL"),
        ({"broker": URL, "publishing": 5}, r"^publishing=5: write Publishing\(timeout=\.\.\.\)$"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused_by_its_name_when_it_is_given(
    made: Any, words: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        made("shop", **words) if made is Service else made(**words)


async def test_a_broker_that_is_none_is_refused_where_the_service_is_started_or_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    service: Any = Service("shop")
    with pytest.raises(UsageError, match=r"^broker=5: write a URL"):
        await service.start(5)
    with pytest.raises(SystemExit):
        service.run(5)
    assert "eventmicro: broker=5: write a URL" in capsys.readouterr().err


async def answer(number: int) -> int:
    return number


async def untyped(number: int, ctx) -> int:  # type: ignore[no-untyped-def]
    return number


DECLARED: list[tuple[Callable[[Any], Any], str]] = [
    (lambda service: service.rpc(timout=3)(answer), r"^rpc\(\) has no option timout; there are name, timeout, conc"),
    (lambda service: service.rpc(timout=3)(answer), "; did you mean 'timeout'\\?$"),
    (lambda service: service.subscribe("a.b", retries=3)(answer), "^subscribe.*; did you mean 'retry'\\?$"),
    (lambda service: service.rpc("price"), r"^@rpc\('price'\): a name is said by its word, @rpc\(name='price'\)$"),
    (lambda service: rpc("price"), r"@rpc\(name='price'\)$"),  # type: ignore[arg-type,type-var,return-value]
    (lambda service: service.rpc(untyped), "parameter 'ctx' has no type; write `ctx: Context`$"),
    (lambda service: service.add(Marked()), r"^rpc\(\) has no option timout"),
    (lambda service: service.before_start(5), "^before_start: 5 is no function"),
    (lambda service: service.after_stop(None), "^after_stop: None is no function"),
    (lambda service: service.override(5, answer), "^override: 5 is no function"),
    (lambda service: service.override(answer, by=5), "^override: 5 is no function"),
    (lambda service: service.publisher(5), "^publish to a Topic or a subject, not to a int"),
    (lambda service: Service("shop", version=2), "^version=2: write '1.0.0'"),  # type: ignore[arg-type]
    (lambda service: Depends(5), r"^Depends\(5\): write the function itself, Depends\(session\)"),  # type: ignore[arg-type]
    (lambda service: NotFound("none", code="404"), "^code='404': write a number"),  # type: ignore[arg-type]
]


class Marked:
    @rpc(timout=3)  # type: ignore[call-overload]
    async def answer(self, number: int) -> int:
        return number


@pytest.mark.parametrize(("declare", "said"), DECLARED, ids=[said for _, said in DECLARED])
def test_an_option_of_a_wrong_name_or_kind_is_refused_where_it_is_written(
    declare: Callable[[Any], Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        declare(Service("shop", broker=URL))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"timeout": "2"}, "^timeout='2': write seconds"),
        ({"timeout": float("nan")}, "^timeout=nan: write seconds"),
        ({"metadata": 5}, "^metadata=5: write a dict of strings"),
        ({"metadata": "tenant=acme"}, "^metadata='tenant=acme': write a dict of strings"),
        ({"metadata": [("tenant", "acme")]}, "^metadata=.*: write a dict of strings"),
    ],
)
@pytest.mark.parametrize("how", ["call", "publish", "publish_many"])
async def test_an_argument_of_a_call_or_a_publish_is_refused_by_its_name(
    how: str, words: dict[str, Any], said: str
) -> None:
    async with Client(URL) as client:
        with pytest.raises(UsageError, match=said):
            await getattr(client, how)("shop.quote", [1], **words)


@pytest.mark.parametrize("endpoint", [5, None, [], b"shop.quote"])
async def test_an_endpoint_that_is_no_string_is_refused(endpoint: Any) -> None:
    async with Client(URL) as client:
        with pytest.raises(UsageError, match=r"^endpoint .*: write 'service.endpoint', such as 'orders.quote'$"):
            await client.call(endpoint)


def test_a_name_that_is_no_string_is_refused() -> None:
    with pytest.raises(UsageError, match="service name 5: write letters"):
        Service(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("word", ["key", "id"])
async def test_a_key_or_an_id_is_what_does_not_change(word: str) -> None:
    topic: Topic[Any] = Topic("shop.seen", dict[str, Any], **{word: "value"})
    seen: asyncio.Queue[Any] = asyncio.Queue()
    service = Service("shop", broker=URL)
    service.subscribe(topic)(seen.put)
    async with service:
        words: dict[str, Any] = {word: [1]}
        with pytest.raises(UsageError, match=rf"^{word}=\[1\]: write a string, a number"):
            await service.publish("shop.seen", {}, **words)
        with pytest.raises(UsageError, match=rf"^{word}=\{{\}}: write a string, a number"):
            await service.publish(topic, {"value": {}})
        await service.publish(topic, {"value": 5})
        assert await seen.get() == {"value": 5}
    assert seen.empty()


async def test_what_a_nested_call_answers_is_not_our_answer_unless_the_handler_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Service("front", broker=URL)

    @service.rpc
    async def back(number: int) -> int:
        raise NotFound("no such number")

    @service.rpc
    async def careless(number: int) -> int:
        return await service.call("front.back", number, int)

    @service.rpc
    async def misspelt(number: int) -> int:
        return await service.call("front.bakc", number, int)

    @service.rpc
    async def careful(number: int) -> int:
        try:
            return await service.call("front.back", number, int)
        except NotFound as error:
            raise NotFound(error.detail) from error

    async with service:
        for endpoint in ("front.careless", "front.misspelt"):
            with pytest.raises(InternalError) as caught:
                await service.call(endpoint, 1, int)
            assert caught.value.id == endpoint
        assert "service 'front' has no endpoint 'bakc'" in caplog.text
        with pytest.raises(NotFound, match="no such number") as passed_on:
            await service.call("front.careful", 1, int)
        assert passed_on.value.id == "front.careful"


async def test_none_can_be_sent_where_the_type_takes_it() -> None:
    service = Service("maybe", broker=URL)

    @service.rpc
    async def same(number: Optional[int]) -> Optional[int]:  # noqa: UP045  as users still write it
        return number

    @service.rpc
    async def strict(number: int) -> int:
        return number

    async with service:
        assert await service.call("maybe.same", None, Optional[int]) is None  # noqa: UP045
        assert await service.call("maybe.same", 3, Optional[int]) == 3  # noqa: UP045
        with pytest.raises(BadRequest):
            await service.call("maybe.strict", None, int)


async def test_a_call_without_the_type_of_its_reply_says_how_to_give_it() -> None:
    service = Service("typed", broker=URL)

    @service.rpc
    async def number() -> int:
        return 12

    async with service:
        with pytest.raises(
            DecodeError, match=r"2 bytes, but no type .* call\('typed.number', request, TypeOfTheReply\)"
        ):
            await service.call("typed.number")


@pytest.mark.parametrize("error", [SystemExit(3), RuntimeError("odd")])
async def test_nothing_that_a_handler_raises_ends_the_service(error: BaseException) -> None:
    service = Service("tough", broker=URL)
    handled: asyncio.Queue[int] = asyncio.Queue()

    @service.rpc
    async def leave() -> None:
        raise error

    @service.subscribe("tough.events")
    async def go(number: int) -> None:
        handled.put_nowait(number)
        sys.exit(number)

    async with service:
        for _ in range(2):
            with pytest.raises(InternalError):
                await service.call("tough.leave")
            await service.publish("tough.events", 1)
            assert await handled.get() == 1


async def test_a_lifespan_may_be_a_plain_generator() -> None:
    async def lifespan() -> AsyncIterator[str]:
        yield "ready"

    service = Service("alive", broker=URL, lifespan=lifespan)

    @service.rpc
    async def state(context: Context) -> str:
        return str(context.state)

    async with service:
        assert await service.call("alive.state", None, str) == "ready"


def test_subscribe_without_a_topic_is_refused() -> None:
    service = Service("slips")

    async def bare(number: int) -> None: ...

    with pytest.raises(UsageError, match=r"write @service.subscribe\(TOPIC\)"):
        service.subscribe(bare)  # type: ignore[arg-type]


def test_a_default_for_the_message_is_refused() -> None:
    service = Service("slips")

    async def number(number: int = 5) -> int:
        return number

    with pytest.raises(SignatureError, match="leave the default out"):
        service.rpc(number)


def test_a_type_that_cannot_travel_is_refused_with_the_name_of_its_handler() -> None:
    service = Service("slips")

    class Odd: ...

    async def odd(number: int) -> list[Odd]:
        return []

    odd.__annotations__["return"] = list[Odd]
    with pytest.raises(UsageError, match=r"endpoint odd: list\[Odd\] cannot be a message"):
        service.rpc(odd)


async def test_what_is_declared_after_the_start_is_refused() -> None:
    service = Service("late", broker=URL)

    async def number() -> int:
        return 1

    async with service:
        with pytest.raises(UsageError, match="is started: declare 'number' before"):
            service.rpc(number)
    service.rpc(number)


def test_a_service_left_running_in_a_loop_that_has_ended_is_not_taken_for_running() -> None:
    service = Service("left", broker=URL)

    async def start() -> None:
        await service.start()

    asyncio.run(start())
    with pytest.raises(UsageError, match="started in another event loop"):
        asyncio.run(start())


async def test_a_middleware_of_the_wrong_form_is_refused_at_the_start() -> None:
    async def two(message: Any, call_next: Any) -> Any:
        return await call_next(message)

    with pytest.raises(UsageError, match=r"async def .*two\(message, context, call_next\)"):
        Client(URL, middleware=[two])  # type: ignore[list-item]


async def test_an_error_of_the_broker_itself_is_received_too() -> None:
    async with Client(URL) as client:
        with pytest.raises(Unavailable) as caught:
            await client.call("nobody.there")
        assert caught.value.received


class Forgetful(MemoryBroker):
    """A broker that recognises no event by its id."""

    capabilities = replace(MemoryBroker.capabilities, dedupe=False)


@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
async def test_ids_that_the_broker_makes_nothing_of_are_said_once_and_not_for_each_event(
    many: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "eventmicro")
    topics = [Topic(f"shop.named-{number}", dict[str, Any], id="id", key="id") for number in range(2)]
    for broker, said in ((Forgetful("memory://forgets"), 1), (MemoryBroker("memory://remembers"), 0)):
        caplog.clear()
        async with Client(broker) as client:
            await client.publish("shop.plain", 1)
            assert "recognises" not in caplog.text
            for topic in topics:
                for number in range(3):
                    await (client.publish_many(topic, [{"id": number}]) if many else client.publish(topic, {"id": 1}))
            await client.publish("shop.plain", 1, id="7")
        assert caplog.text.count("memory://forgets recognises no event by its id") == said


@pytest.mark.parametrize("how", ["publish", "publish_many", "bound", "keyed", "with headers", "around"])
async def test_an_event_of_another_type_is_refused_with_its_topic_and_the_mend(how: str) -> None:
    topic = Topic("shop.asked", Asked, key="sku") if how == "keyed" else Topic("shop.asked", Asked)
    wrong: Any = {"sku": "a"}
    async with Client(URL, middleware=[LogMessages()] if how == "around" else []) as client:
        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "publish_many": lambda: client.publish_many(topic, [wrong]),
            "bound": lambda: client.publisher(topic).publish(wrong),
            "with headers": lambda: client.publish(topic, wrong, metadata={"a": "b"}),
        }
        with pytest.raises(EncodeError) as caught:
            await ways.get(how, lambda: client.publish(topic, wrong))()
    assert str(caught.value) == ("expected Asked, got dict; Topic('shop.asked', Asked) carries Asked: write Asked(...)")


@pytest.mark.filterwarnings("error")
async def test_an_event_that_nobody_has_awaited_is_refused_with_the_mend() -> None:
    async def make() -> Asked:
        return Asked(sku="a")

    event: Any = make()
    async with Client(URL) as client:
        with pytest.raises(EncodeError, match=r"^Topic\('shop.asked', Asked\): the event is a coroutine.*: await it"):
            await client.publish(Topic("shop.asked", Asked), event)
        event = make()
        with pytest.raises(UsageError, match=r"^coroutine cannot be a message: await it$"):
            await client.publish("shop.asked", event)
        event.close()


async def test_the_object_of_a_type_where_the_type_is_to_be_is_refused_without_showing_it() -> None:
    reply: Any = Asked(sku="secret")
    async with Client(URL) as client:
        with pytest.raises(
            UsageError, match=r"^an object of Asked cannot be a message's type: write the class, Asked$"
        ):
            await client.call("shop.quote", 1, reply)
        with pytest.raises(UsageError, match=r"^an object of dict cannot be a message's type"):
            await client.call("shop.quote", 1, {"a": 1})  # type: ignore[call-overload]


async def test_run_within_a_running_loop_is_refused_with_what_to_write_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        Service("shop", broker=URL).run()
    said = "eventmicro: run() has an event loop of its own, and one runs here already: write `async with service:`\n"
    assert capsys.readouterr().err == said
