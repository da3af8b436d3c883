"""A stub calls what its contract says, with what was said of its calls, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Protocol

import pytest
from google.protobuf import wrappers_pb2

from eventmicro import (
    CallRetry,
    Client,
    Context,
    Contract,
    EncodeError,
    InternalError,
    MemoryBroker,
    NotFound,
    Service,
    Stream,
    Unavailable,
    UsageError,
    rpc,
)
from tests.unit.contracts.orders import URL, Handler, Number, Orders, Other, make_service

Words = wrappers_pb2.StringValue
Until = Callable[[Callable[[], object]], Awaitable[None]]


async def numbers(*values: int) -> AsyncIterator[Number]:
    for value in values:
        yield Number(value=value)


class Endless:
    """Gives a few numbers, and then nothing more for ever; notes that it is closed."""

    def __init__(self, *values: int) -> None:
        self.values = list(values)
        self.closed = 0

    def __aiter__(self) -> Endless:
        return self

    async def __anext__(self) -> Number:
        if self.values:
            return Number(value=self.values.pop(0))
        await asyncio.Event().wait()
        raise AssertionError

    async def aclose(self) -> None:
        self.closed += 1


async def test_all_four_kinds_of_calls() -> None:
    async with make_service(handler := Handler()), Client(URL) as client:
        orders = client.stub(Orders)
        assert await orders.quote(Number(value=3)) == Number(value=3)
        assert await orders.quote(request=Number(value=4)) == Number(value=4)
        assert await orders.ping() is None  # type: ignore[func-returns-value]
        assert [number.value async for number in orders.watch(Number(value=3))] == [0, 1, 2]
        assert await orders.total(numbers(1, 2, 3)) == Number(value=6)
        assert await orders.total(items=numbers()) == Number(value=0)
        assert [number.value async for number in orders.talk(numbers(1, 2))] == [-1, -2]
    assert handler.asked == ["ping", "watch ended", "talk ended"]


async def test_a_service_has_stubs_too_also_before_it_is_started() -> None:
    service = make_service(Handler())
    orders = service.stub(Orders)
    with pytest.raises(UsageError, match="is not started"):
        await orders.quote(Number())
    async with service:
        assert await orders.quote(Number(value=1)) == Number(value=1)


async def test_a_call_waits_as_long_as_the_stub_says_or_the_contract_or_the_client() -> None:
    async with make_service(handler := Handler()), Client(URL, timeout=50.0) as client:
        await client.stub(Orders).quote(Number())
        await client.stub(Orders, timeout=20.0).quote(Number())
        await client.stub(Orders, timeout=None).quote(Number())
    left = [context.remaining() for context in handler.contexts]
    assert [x is not None and round(x) for x in left] == [2, 2, 2]  # the server's own limit is the contract's, too


class Calls:
    """Notes what a stub calls."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def call(self, *arguments: Any, **words: Any) -> Any:
        self.seen.append((*arguments, words))

    def stream(self, *arguments: Any, **words: Any) -> Any:
        self.seen.append((*arguments, words))


class Recorder(Client):
    call = Calls.call  # type: ignore[assignment]
    stream = Calls.stream  # type: ignore[assignment]


def recorder() -> tuple[Any, list[tuple[Any, ...]]]:
    client: Any = Recorder(MemoryBroker(URL))
    client.seen = []
    return client, client.seen


def test_a_call_is_the_call_of_the_client_with_the_words_of_the_stub() -> None:
    client, seen = recorder()
    client.stub(Orders).ping()
    client.stub(Orders).quote(Number())
    client.stub(Orders, timeout=1.0, metadata={"a": "b"}, key="k", keep_alive=3.0, service="others").quote(Number())
    client.stub(Orders, selector="random", filters=[], keep_alive=3.0).watch(Number())
    assert seen == [
        ("orders.no-op", None, None, {}),
        ("orders.quote", Number(), Number, {"timeout": 2.0, "idempotent": True}),
        (
            "others.quote",
            Number(),
            Number,
            {"timeout": 1.0, "metadata": {"a": "b"}, "key": "k", "idempotent": True},
        ),
        ("orders.watch", Number(), Number, {"selector": "random", "filters": [], "keep_alive": 3.0}),
    ]


def test_a_retry_is_about_calls_and_a_hedge_about_those_that_are_idempotent() -> None:
    client, seen = recorder()
    orders = client.stub(Orders, retry=(retry := CallRetry(attempts=2)), hedge=0.1)
    orders.quote(Number())
    orders.ping()
    orders.watch(Number())
    client.stub(Orders, hedge=0.1, idempotent=True).ping()
    assert [words for *_, words in seen] == [
        {"retry": retry, "hedge": 0.1, "timeout": 2.0, "idempotent": True},
        {"retry": retry},
        {},
        {"hedge": 0.1, "idempotent": True},
    ]


async def test_a_call_that_is_idempotent_is_made_again_where_it_is_not_known_whether_it_ran() -> None:
    class Failing(Handler):
        async def quote(self, request: Number, context: Context) -> Number:
            self.contexts.append(context)
            raise LookupError

        async def ping(self) -> None:
            self.asked.append("ping")
            raise LookupError

    retry = CallRetry(attempts=3, backoff=0.001)
    async with make_service(handler := Failing()), Client(URL, retry=retry) as client:
        for call in (client.stub(Orders).quote(Number()), client.stub(Orders).ping()):
            with pytest.raises(InternalError):
                await call
    assert (len(handler.contexts), handler.asked) == (3, ["ping"])


def test_a_method_is_made_once_and_is_no_coroutine_function() -> None:
    client, _ = recorder()
    orders, again = client.stub(Orders), client.stub(Orders)
    assert orders.quote.__code__ is again.quote.__code__
    assert orders.quote is orders.quote
    assert not inspect.iscoroutinefunction(orders.quote)


@pytest.mark.parametrize("arguments", [(), (Number(), Number())])
def test_a_wrong_number_of_arguments_is_refused_by_its_name(arguments: tuple[Any, ...]) -> None:
    client, _ = recorder()
    with pytest.raises(TypeError, match=r"quote\(\) .*argument"):
        client.stub(Orders).quote(*arguments)


def test_a_word_that_belongs_to_the_stub_is_refused_by_a_name_that_says_where_it_goes() -> None:
    client, _ = recorder()
    with pytest.raises(TypeError, match=r"^client\.stub\(Orders, \*\*options\)\.quote\(\) .* argument 'timeout'"):
        client.stub(Orders).quote(Number(), timeout=1)  # type: ignore[call-arg]


def test_a_method_that_is_not_there_is_named_with_what_was_meant() -> None:
    client, _ = recorder()
    stub = client.stub(Orders)
    with pytest.raises(AttributeError, match=r"<stub of Orders, calls 'orders'> has no method 'qoute'; did you mean q"):
        _ = stub.qoute  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"'xyz'; there are quote, ping, watch, total, talk$"):
        _ = stub.xyz  # type: ignore[attr-defined]
    assert copy.copy(stub).quote is stub.quote


@pytest.mark.parametrize("wrong", [Other(value=1), None, Words(value="1")])
def test_a_message_of_another_class_is_refused_and_nothing_is_sent(wrong: Any) -> None:
    client, seen = recorder()
    with pytest.raises(UsageError, match=r"\.quote takes Number, and was given (None|Other|StringValue)$"):
        client.stub(Orders).quote(wrong)
    assert seen == []


class Spoken(Contract, Protocol, service="spoken"):
    async def say(self, words: Words) -> Words: ...


def test_a_protobuf_message_of_another_class_is_refused_as_its_bytes_would_not_tell() -> None:
    client, seen = recorder()
    with pytest.raises(UsageError, match=r"\.say takes StringValue, and was given BytesValue"):
        client.stub(Spoken).say(wrappers_pb2.BytesValue(value=b"x"))  # type: ignore[arg-type]
    assert seen == []
    client.stub(Spoken).say(Words(value="x"))
    assert seen[0][:2] == ("spoken.say", Words(value="x"))


def test_what_is_of_the_class_by_its_base_or_is_a_dict_is_given_on() -> None:
    class More(Number): ...

    client, seen = recorder()
    for message in (More(value=2), {"value": 2}):
        client.stub(Orders).quote(message)  # type: ignore[arg-type]
    assert [call[1] for call in seen] == [More(value=2), {"value": 2}]


@pytest.mark.parametrize("name", ["total", "talk"])
def test_a_list_as_a_stream_is_refused(name: str) -> None:
    client, seen = recorder()
    with pytest.raises(UsageError, match=rf"\.{name} takes an async iterator, and was given list: write an `async"):
        getattr(client.stub(Orders), name)([Number()])
    assert seen == []


async def test_a_wrong_message_within_a_stream_gives_it_up() -> None:
    async def some() -> AsyncIterator[Any]:
        yield Number(value=1)
        yield Other(value=1)

    async with make_service(Handler()), Client(URL) as client:
        with pytest.raises(UsageError, match=r"\.total takes Number, and was given Other"):
            await client.stub(Orders).total(some())
        with pytest.raises(UsageError, match=r"\.talk takes Number, and was given Other"):
            _ = [number async for number in client.stub(Orders).talk(some())]


def test_what_is_no_contract_and_no_option_is_refused() -> None:
    client, _ = recorder()
    with pytest.raises(UsageError, match="is no contract: write `class Orders"):
        client.stub(Handler)
    with pytest.raises(UsageError, match=r"stub\(\) has no option timeouts; there are content_type, filters, hedge, "):
        client.stub(Orders, timeouts=3)
    with pytest.raises(UsageError, match="service name 'a b'"):
        client.stub(Orders, service="a b")


class Odd(Contract, Protocol, service="odd"):
    async def annotated(self, number: Annotated[int, {"a": []}]) -> Annotated[dict[str, int], ["unhashable"]]: ...
    async def keyword(self, *, reply: int) -> None: ...


def test_types_that_cannot_be_hashed_and_parameters_of_all_kinds() -> None:
    client, seen = recorder()
    client.stub(Odd).annotated(number=3)
    assert seen.pop()[:2] == ("odd.annotated", 3)
    client.stub(Odd).keyword(reply=4)
    assert seen.pop()[:3] == ("odd.keyword", 4, None)


class Anywhere(Contract, Protocol):
    @rpc(name="quote")
    async def ask(self, number: Number, /) -> Number: ...


async def test_a_contract_without_a_service_is_called_at_the_one_that_is_named() -> None:
    async with make_service(Handler()), Client(URL) as client:
        with pytest.raises(UsageError, match=r"names no service: write stub\(Anywhere, service="):
            client.stub(Anywhere)
        assert await client.stub(Anywhere, service="orders").ask(Number(value=1)) == Number(value=1)
        assert repr(client.stub(Anywhere, service="orders")) == "<stub of Anywhere, calls 'orders'>"


async def test_errors_are_those_of_calls_and_streams() -> None:
    async with Client(URL) as client:
        orders = client.stub(Orders)
        with pytest.raises(Unavailable):
            await orders.quote(Number())
        with pytest.raises(Unavailable):
            await orders.total(numbers(1))
        async with make_service(Handler()):
            with pytest.raises(NotFound, match="no such number"):
                await orders.quote(Number(value=404))
            with pytest.raises(NotFound, match="no such number"):
                await orders.total(numbers(1, 404))
            with pytest.raises(NotFound, match="no such number"):
                _ = [number async for number in orders.talk(numbers(1, 404))]


async def test_an_error_of_the_endpoint_is_met_while_nothing_is_to_be_sent() -> None:
    async with make_service(Handler()), Client(URL) as client:
        items, lines = Endless(1, 404), Endless(1, 404)
        with pytest.raises(NotFound):
            await client.stub(Orders).total(items)  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            _ = [number async for number in client.stub(Orders).talk(lines)]  # type: ignore[arg-type]
        assert (items.closed, lines.closed) == (1, 1)


async def test_a_reply_that_comes_early_ends_the_sending() -> None:
    async with make_service(Handler()), Client(URL) as client:
        items = Endless(1, 2, 999)
        assert await client.stub(Orders).total(items) == Number(value=3)  # type: ignore[arg-type]
        assert items.closed == 1


async def failing() -> AsyncIterator[Number]:
    yield Number(value=1)
    raise LookupError("nothing more here")


async def test_what_the_iterator_raises_is_raised_and_the_handler_is_cancelled(until: Until) -> None:
    async with make_service(handler := Handler()), Client(URL) as client:
        with pytest.raises(LookupError, match="nothing more here"):
            await client.stub(Orders).total(failing())
        with pytest.raises(LookupError, match="nothing more here"):
            _ = [number async for number in client.stub(Orders).talk(failing())]
        await until(lambda: handler.asked == ["talk ended"])


async def test_what_cannot_be_sent_is_said() -> None:
    async def wrong() -> AsyncIterator[Any]:
        yield object()

    async with make_service(Handler()), Client(URL) as client:
        with pytest.raises(EncodeError, match="cannot be written as JSON"):
            await client.stub(Orders).total(wrong())


async def test_leaving_a_conversation_early_cancels_its_handler_and_leaves_no_task(until: Until) -> None:
    async with make_service(handler := Handler()), Client(URL) as client:
        before, items = asyncio.all_tasks(), Endless(1)
        async for number in client.stub(Orders).talk(items):  # type: ignore[arg-type]
            assert number.value == -1
            break
        await until(lambda: handler.asked == ["talk ended"] and items.closed == 1)
        await until(lambda: asyncio.all_tasks() == before)


async def test_a_call_that_is_cancelled_leaves_no_task(until: Until) -> None:
    async with make_service(Handler()), Client(URL) as client:
        before, items = asyncio.all_tasks(), Endless(1)
        call = asyncio.ensure_future(client.stub(Orders).total(items))  # type: ignore[arg-type]
        await until(lambda: not items.values)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert items.closed == 1
        await until(lambda: asyncio.all_tasks() == before)


async def test_a_stream_of_a_stub_may_be_opened_as_one() -> None:
    async with make_service(Handler()), Client(URL) as client:
        watching = client.stub(Orders).watch(Number(value=2))
        assert isinstance(watching, Stream)
        async with watching:
            assert [number.value async for number in watching] == [0, 1]


async def test_a_handler_or_anything_else_stands_in_for_a_stub() -> None:
    class Fake(Orders):
        async def quote(self, request: Number) -> Number:
            return Number(value=7)

    async def use(orders: Orders) -> int:
        return (await orders.quote(Number())).value

    assert await use(Fake()) == 7  # type: ignore[abstract]
    assert isinstance(Service("x", broker=URL).stub(Orders), object)
