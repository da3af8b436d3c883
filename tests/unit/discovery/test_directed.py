"""Calls to nodes that are chosen, and what is found out where nobody takes a call."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any, cast

import pytest

from eventmicro import (
    BadRequest,
    CallTimeout,
    Client,
    Context,
    InternalError,
    MemoryBroker,
    NotFound,
    Service,
    TooManyRequests,
    Unavailable,
    UsageError,
)
from eventmicro.discovery import directing
from eventmicro.discovery.filters import endpoint, explain, label, node, version
from eventmicro.memory.registry import MemoryRegistry
from eventmicro.message import Delivery, Message
from eventmicro.middlewares import CircuitBreaker
from eventmicro.registry import EndpointRecord, NodeRecord, ServiceRecord
from eventmicro.rpc import node_calls
from eventmicro.running.presence import Presence
from eventmicro.selector import Choice, Node
from tests.unit.discovery.kit import Steered

Until = Callable[[Callable[[], object]], Awaitable[None]]
URL = "memory://directed"


def orders(id: str, version: str = "1.0.0", **words: Any) -> Service:
    service = Service("orders", id=id, version=version, broker=URL, **words)

    @service.rpc
    async def who() -> str:
        return id

    @service.rpc
    async def refuse() -> None:
        raise BadRequest("no")

    @service.rpc
    async def fail() -> None:
        raise ZeroDivisionError

    return service


async def called(client: Client, times: int = 100, **words: Any) -> Counter[str]:
    return Counter([await client.call("orders.who", None, str, **words) for _ in range(times)])


async def test_round_robin_over_four_nodes_is_twenty_five_each() -> None:
    async with AsyncExitStack() as stack:
        for number in range(4):
            await stack.enter_async_context(orders(f"n{number}"))
        client = await stack.enter_async_context(Client(URL, selector="round-robin"))
        assert set((await called(client)).values()) == {25}
        together = await asyncio.gather(*(client.call("orders.who", None, str) for _ in range(100)))
        assert set(Counter(together).values()) == {25}


@pytest.mark.parametrize("middleware", [(), (CircuitBreaker(),)])
async def test_a_call_that_names_a_node_goes_there_whatever_its_client_would_choose(middleware: Any) -> None:
    client = Client(URL, selector="round-robin", middleware=list(middleware))
    async with orders("one"), orders("two"), client:
        assert [await client.call("orders.$node.one.who", None, str) for _ in range(4)] == ["one"] * 4
        assert (await client.call("orders.$node.two.health", None, dict))["node"] == "two"
        for words in ({"selector": "random"}, {"filters": [node("one")]}, {"key": "7"}):
            with pytest.raises(
                UsageError, match=r"'\$node\.one\.who' names a node: leave selector, filters and key out"
            ):
                await client.call("orders.$node.one.who", None, str, **words)  # type: ignore[call-overload]


async def test_a_canary_by_version_and_a_zone_by_label() -> None:
    async with (
        orders("old", "1.9.0", metadata={"zone": "eu"}),
        orders("new", "1.10.0", metadata={"zone": "us"}),
        Client(URL) as client,
    ):
        assert set(await called(client, filters=[version("^1.10")])) == {"new"}
        assert set(await called(client, selector="newest")) == {"new"}
        assert set(await called(client, filters=[label("zone", "eu")])) == {"old"}
        assert set(await called(client, filters=[lambda node: node.id == "old"])) == {"old"}
        assert set(await called(client, key="customer-7")) in ({"old"}, {"new"})
        with pytest.raises(Unavailable, match="none of the 2 nodes of 'orders' passes the filters"):
            await client.call("orders.who", None, str, filters=[version("^2")])


@pytest.mark.parametrize(
    ("filters", "why"),
    [
        ([node("orders-9")], "none is 'orders-9', there are new, old"),
        ([version("^3")], "no version is in '^3', there are 1.9.0, 2.0.0-rc.1"),
        (
            [version("^2")],
            "no version is in '^2', there are 1.9.0, 2.0.0-rc.1: a pre-release is taken only where the range names one "
            "of its release",
        ),
        ([label("zone", "xx", "yy")], "none has 'zone' = 'xx or yy', there are eu, us"),
        ([label("tier")], "none has a label 'tier', there are broker, framework, zone"),
        ([endpoint("what")], "none has an endpoint 'what', there are fail, refuse, who"),
        ([node("orders-9"), label("tier")], "none is 'orders-9', there are new, old; none has a label 'tier'"),
        ([lambda _: False], ""),
        ([node("old"), label("zone", "us")], ""),
    ],
)
async def test_where_no_node_passes_the_filters_the_error_says_what_there_is(filters: Any, why: str) -> None:
    async with (
        orders("old", "1.9.0", metadata={"zone": "eu"}),
        orders("new", "2.0.0-rc.1", metadata={"zone": "us"}),
        Client(URL) as client,
    ):
        with pytest.raises(Unavailable) as raised:
            await client.call("orders.who", None, str, filters=filters)
    before = "none of the 2 nodes of 'orders' passes the filters of this call"
    assert raised.value.detail.startswith(f"{before}: {why}" if why else before)
    assert raised.value.detail == before or why


async def test_an_error_shows_some_of_very_many_nodes() -> None:
    nodes = [Node("orders", f"n{number}") for number in range(9)]
    assert explain([node("x")], nodes) == "none is 'x', there are n0, n1, n2, n3, n4 and 4 more"


async def test_a_node_that_is_gone_is_said_to_be_gone() -> None:
    async with orders("here"), Client(URL) as client:
        with pytest.raises(Unavailable) as raised:
            await client.call("orders.$node.gone.who", None, str)
    assert raised.value.detail == (
        "nobody serves orders.$node.gone.who: node 'gone' of 'orders' does not answer any more, and is "
        "forgotten within its register_ttl"
    )


async def test_a_selector_of_ones_own_sees_the_nodes_and_what_is_called() -> None:
    seen: list[tuple[list[str], Choice]] = []

    def last(nodes: Any, choice: Choice) -> Node:
        seen.append(([node.id for node in nodes], choice))
        return nodes[-1]  # type: ignore[no-any-return]

    async with orders("one"), orders("two"), Client(URL, selector=last) as client:
        assert set(await called(client, 3, key="k")) == {"two"}
    assert seen[0] == (["one", "two"], Choice("orders", "who", "k"))


async def test_middleware_runs_once_around_a_directed_call() -> None:
    seen = []

    async def note(message: Any, context: Context, call_next: Any) -> Any:
        seen.append((context.service, context.endpoint))
        return await call_next(message, context)

    async with orders("one"), Client(URL, middleware=[note], selector="random") as client:
        await called(client, 2)
    assert seen == [("orders", "who")] * 2


async def test_a_node_that_is_gone_is_passed_over_though_it_is_still_registered(until: Until) -> None:
    async with MemoryRegistry(URL) as registry, orders("here"), Client(URL, selector="round-robin") as client:
        gone = NodeRecord(id="gone", address="orders.$node.gone")
        await registry.register(ServiceRecord(name="orders", version="1.0.0", nodes=[gone]), ttl=30)
        assert await called(client, 20) == {"here": 20}


async def test_where_all_are_gone_the_caller_is_told(until: Until) -> None:
    async with MemoryRegistry(URL) as registry, Client(URL, selector="random") as client:
        for number in range(3):
            gone = NodeRecord(id=str(number), address=f"orders.$node.{number}")
            await registry.register(ServiceRecord(name="orders", version="1.0.0", nodes=[gone]), ttl=30)
        with pytest.raises(Unavailable, match=r"nobody serves orders\.\$node\."):
            await client.call("orders.who", None, str)
        for number in range(3):
            await registry.deregister(ServiceRecord(name="orders", nodes=[NodeRecord(id=str(number))]))
        with pytest.raises(NotFound, match=r"no node of service 'payments' is registered in memory://directed"):
            await client.call("payments.pay")


async def test_errors_of_a_handler_are_the_callers_and_are_not_tried_elsewhere() -> None:
    async with orders("one"), orders("two"), Client(URL, selector="round-robin") as client:
        for endpoint, kind in (("refuse", BadRequest), ("fail", InternalError)):
            with pytest.raises(kind):
                await client.call(f"orders.{endpoint}")
        with pytest.raises(NotFound, match="this node has no endpoint 'wo'; did you mean 'who'"):
            await client.call("orders.wo")


async def test_one_that_fails_again_and_again_is_not_asked_for_a_while() -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(orders("well"))
        ill = Service("orders", id="ill", version="1.0.0", broker=URL)

        @ill.rpc
        async def who() -> str:
            raise ZeroDivisionError

        await stack.enter_async_context(ill)
        client = await stack.enter_async_context(Client(URL, selector="round-robin"))
        failed = 0
        for _ in range(40):
            try:
                await client.call("orders.who", None, str)
            except InternalError:
                failed += 1
        assert failed == 3


async def test_what_is_asked_at_once_is_bounded_at_each_node(monkeypatch: pytest.MonkeyPatch, until: Until) -> None:
    monkeypatch.setattr(node_calls, "LINE", 5)
    gate, begun = asyncio.Event(), []
    service = Service("orders", id="one", broker=URL)

    @service.rpc(concurrency=2)
    async def wait() -> str:
        begun.append(1)
        await gate.wait()
        return "done"

    async with service, Client(URL, selector="random") as client:
        calls = [asyncio.create_task(client.call("orders.wait", None, str)) for _ in range(20)]
        await until(lambda: sum(call.done() for call in calls) >= 13)
        assert len(begun) == 2
        assert (await client.call("orders.health", None, dict))["ready"]  # a full line holds up no other endpoint
        gate.set()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert Counter(map(type, outcomes)) == {str: 7, TooManyRequests: 13}


async def test_what_takes_the_calls_of_an_endpoint_is_found_once() -> None:
    class Parts:
        looks = 0

        def called(self) -> dict[str, Any]:
            self.looks += 1
            return {"who": lambda call: taken.append(call.subject)}

    taken, parts = list[str](), Parts()
    async with MemoryBroker(URL) as broker:
        calls = node_calls.NodeCalls(broker, "orders.$node.one", parts.called)
        for _ in range(5):
            calls(Delivery("orders.$node.one.who", b""))
    assert (len(taken), parts.looks) == (5, 1)


async def test_a_directed_call_is_cancelled_and_timed_out_as_any() -> None:
    cancelled, hangs = asyncio.Event(), asyncio.Event()
    service = Service("orders", id="one", broker=URL)

    @service.rpc
    async def hang() -> None:
        hangs.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with service, Client(URL, selector="random") as client:
        with pytest.raises(CallTimeout, match=r"no reply from orders\.\$node\.one\.hang within"):
            await client.call("orders.hang", timeout=0.05)
        await asyncio.wait_for(cancelled.wait(), 5)
        cancelled.clear()
        hangs.clear()
        call = asyncio.create_task(client.call("orders.hang"))
        await hangs.wait()
        call.cancel()
        await asyncio.wait_for(cancelled.wait(), 5)


async def test_nobody_is_looked_up_unless_a_call_asks_for_it() -> None:
    async with orders("one"), Client(URL) as client:
        await called(client)
        assert "registry" not in vars(client)
        assert "_directing" not in vars(client)


async def test_without_a_registry_a_directed_call_says_what_is_missing() -> None:
    async with orders("one"), Client(URL, registry="none") as client:
        assert await called(client, 1) == {"one": 1}
        with pytest.raises(
            UsageError, match=r"needs a registry, and memory://directed keeps none: name one by registry="
        ):
            await client.call("orders.who", None, str, selector="random")


async def test_a_wrong_endpoint_of_a_live_service_is_not_found_and_the_right_one_is_named() -> None:
    async with orders("one"), Client(URL) as client:
        with pytest.raises(
            NotFound, match=r"'orders' has no endpoint 'woh': there are fail, refuse, who; did you mean"
        ):
            await client.call("orders.woh", None, str)
        with pytest.raises(Unavailable, match=r"nobody serves payments\.pay"):
            await client.call("payments.pay")


async def test_one_question_is_asked_for_many_calls_that_nobody_takes() -> None:
    questions: list[str] = []
    async with MemoryBroker(URL) as wire, orders("one"), Client(URL) as client:
        await wire.subscribe("$SRV.INFO.orders", lambda question: questions.append(question.subject))
        outcomes = await asyncio.gather(*(client.call("orders.woh") for _ in range(50)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {NotFound}
    assert len(questions) == 1


async def test_the_question_takes_no_longer_than_the_call(until: Until) -> None:
    async with MemoryBroker(URL) as wire, Client(URL) as client:
        await wire.subscribe("$SRV.INFO.slow", lambda question: None)
        with pytest.raises(Unavailable):
            await client.call("slow.quote", timeout=0.1)


async def test_another_frameworks_endpoint_is_called_under_its_own_subject() -> None:
    info = (
        b'{"type":"io.nats.micro.v1.info_response","name":"greeter","id":"x","version":"1.0.0","description":"",'
        b'"endpoints":[{"name":"hello","subject":"hi.there","queue_group":"q"}]}'
    )
    async with MemoryBroker(URL) as wire, Client(URL) as client:

        def answer(body: bytes) -> Any:
            return lambda question: wire.try_send(question.reply, body)

        await wire.subscribe("$SRV.INFO.greeter", answer(info))
        await wire.subscribe("hi.there", answer(b'"hello"'), queue="q")
        for _ in range(3):
            assert await client.call("greeter.hello", None, str) == "hello"
        with pytest.raises(NotFound, match="there are hello"):
            await client.call("greeter.bye", None, str)


async def test_of_two_nodes_with_one_id_one_runs_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when both start at the same moment, and neither finds the other."""

    async def see_nobody(self: Presence) -> None: ...

    monkeypatch.setattr(Presence, "_check_id", see_nobody)
    runs: list[str] = []
    one, two = Service("orders", id="same", broker=URL), Service("orders", id="same", broker=URL)
    for service in (one, two):

        @service.rpc
        async def count() -> None:
            runs.append("")

    async with one, two, Client(URL, selector="random") as client:
        for _ in range(20):
            await client.call("orders.count")
        await asyncio.sleep(0)
    assert len(runs) == 20


@pytest.mark.parametrize("stop_timeout", [0, 5.0])
async def test_after_the_stop_no_call_is_taken_though_the_broker_stays_connected(stop_timeout: float) -> None:
    async with MemoryBroker(URL) as broker, Client(broker) as client:
        service = Service("orders", id="n", broker=broker, stop_timeout=stop_timeout)
        runs: list[str] = []

        @service.rpc
        async def count() -> None:
            runs.append("")

        async with service:
            await client.call("orders.$node.n.count")
        with pytest.raises(Unavailable):
            await client.call("orders.$node.n.count")
    assert len(runs) == 1


async def test_a_call_waits_for_no_registry_longer_than_it_has_time(until: Until) -> None:
    registry = Steered("slow to answer")
    registry.away = True
    async with orders("one"), Client(URL, registry=registry) as client:
        with pytest.raises(Unavailable, match=r"did not say within 0\.0"):
            await client.call("orders.who", None, str, timeout=0.05, selector="random")


async def test_a_call_that_has_no_time_left_says_nothing_of_its_node() -> None:
    async with orders("one"), orders("two"), Client(URL, selector="round-robin") as client:
        await called(client, 2)
        for _ in range(3):
            with pytest.raises(CallTimeout, match="no time is left"):
                await client.call("orders.who", None, str, timeout=0, filters=[lambda node: node.id == "one"])
        assert set(await called(client)) == {"one", "two"}


async def test_who_asks_what_is_there_while_the_client_is_closed_is_not_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(*arguments: Any, **words: Any) -> list[Any]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr("eventmicro.discovery.asking.ask_all", never)
    async with MemoryBroker(URL) as broker:
        client = Client(broker)
        await client.connect()
        calling = asyncio.create_task(client.call("orders.who"))
        while not client._directing._finding:
            await asyncio.sleep(0)
        await client.close()
        with pytest.raises(Unavailable):
            await calling


async def test_what_is_forgotten_before_it_was_found_out_is_asked_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*arguments: Any, **words: Any) -> list[Any]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr("eventmicro.discovery.asking.ask_all", hang)
    monkeypatch.setattr(directing, "FINDINGS", 2)
    async with MemoryBroker(URL) as broker, Client(broker) as client:
        calls = [asyncio.create_task(client.call(f"s{number}.who", timeout=60)) for number in range(5)]
        async with asyncio.timeout(20):
            outcomes = await asyncio.gather(*calls[:3], return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {Unavailable}
        assert not any(call.done() for call in calls[3:])
    await asyncio.gather(*calls, return_exceptions=True)


async def test_those_who_are_told_the_same_share_no_error() -> None:
    async with orders("one"), Client(URL) as client:
        errors = await asyncio.gather(*(client.call("orders.whom") for _ in range(3)), return_exceptions=True)
        assert len({id(error) for error in errors}) == 3
        assert {str(error) for error in errors} == {str(errors[0])}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"key": 7}, "goes by a key, and 7 is none"),
        ({"filters": label("zone")}, r"filters=.*: write a list"),
        ({"filters": "zone"}, r"filters='zone': write a list"),
        ({"filters": ["zone"]}, "filters: 'zone' is no function"),
        ({"selector": lambda nodes, choice: nodes}, "return one of the nodes"),
    ],
)
async def test_words_that_cannot_be_say_what_to_write(words: dict[str, Any], reason: str) -> None:
    async with orders("one"), Client(URL) as client:
        with pytest.raises(UsageError, match=reason):
            await client.call("orders.who", None, str, **words)


async def test_a_subject_that_is_none_in_anothers_answer_is_not_called() -> None:
    record = ServiceRecord(
        name="greeter",
        nodes=[NodeRecord(id="x", metadata={"foreign": "true"})],
        endpoints=[EndpointRecord(name="hello", metadata={"subject": "no subject"})],
    )
    answer = json.dumps({"type": "io.nats.micro.v1.info_response", "record": record.model_dump()}).encode()
    async with MemoryBroker(URL) as broker, Client(broker) as client:

        async def tell(question: Delivery) -> None:
            await broker.send(Message(question.reply, answer))

        await broker.subscribe("$SRV.INFO.greeter", tell)
        with pytest.raises(Unavailable):
            await client.call("greeter.hello")


async def test_an_internal_endpoint_of_a_service_that_stops_is_unavailable_and_not_unknown(until: Until) -> None:
    service, go_on = Service("orders", broker=URL), asyncio.Event()

    @service.rpc
    async def wait() -> None:
        await go_on.wait()

    @service.rpc(internal=True)
    async def hidden() -> None: ...

    async with service, Client(URL) as client:
        with pytest.raises(NotFound):
            await client.call("orders.hiden")
        waiting = asyncio.create_task(client.call("orders.wait"))
        await client.call("orders.hidden")
        stopping = asyncio.create_task(service.stop())
        await until(lambda: service._node is not None and service._node._parts.subscriptions[0].ended)
        for name in ("wait", "hidden", "health"):
            with pytest.raises(Unavailable):
                await client.call(f"orders.{name}")
        go_on.set()
        await waiting
        await stopping


@pytest.mark.parametrize("selector", [None, "round-robin", "two-choices", "sticky", "rendezvous"])
async def test_a_key_is_never_passed_over(selector: str | None) -> None:
    """Whatever the client's own selector is: the same node for the same key, unless a call says otherwise."""
    async with AsyncExitStack() as stack:
        for number in range(4):
            await stack.enter_async_context(orders(f"n{number}"))
        client = await stack.enter_async_context(Client(URL, selector=selector))
        for key in ("a", "b", "c"):
            assert len(await called(client, 20, key=key)) == 1
        assert len(await called(client, 20, key="a", selector="round-robin")) == 4


async def test_a_selector_of_a_clients_own_gets_the_key() -> None:
    keys: list[str | None] = []

    def choose(nodes: Sequence[Node], choice: Choice) -> Node:
        keys.append(choice.key)
        return nodes[0]

    async with orders("one"), Client(URL, selector=choose) as client:
        await called(client, 1, key="a")
        await called(client, 1)
    assert keys == ["a", None]


async def test_a_watch_that_is_left_is_over_and_a_name_that_cannot_be_is_refused() -> None:
    registry = Steered("left")
    async with Client(URL, registry=registry) as client:
        watching = client.watch("orders")
        async with aclosing(cast("AsyncGenerator[Any, None]", watching)) as changes:
            async for _ in changes:
                assert registry.watches == 1
                break
        assert registry.watches == 0
        for name in ("or ders", "or.ders", ">"):
            with pytest.raises(UsageError, match="service name"):
                await client.services(name)
            with pytest.raises(UsageError, match="service name"):
                await anext(client.watch(name))
