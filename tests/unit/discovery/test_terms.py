"""Terms: what a service says of its endpoints, and how those who have looked it up go by it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventmicro import CallRetry, CallTimeout, Client, Context, InternalError, Service, Unavailable
from eventmicro.discovery.asking import ask_all
from eventmicro.discovery.cache import View
from eventmicro.information import read_information
from eventmicro.memory.registry import MemoryRegistry
from eventmicro.registry import Action, Change, EndpointRecord, NodeRecord, ServiceRecord
from eventmicro.terms import Terms

Until = Callable[[Callable[[], object]], Awaitable[None]]
URL = "memory://terms"
QUICK = CallRetry(attempts=3, backoff=0, jitter=0)


def orders(id: str, log: list[str], **options: Any) -> Service:
    service = Service("orders", id=id, broker=URL)

    @service.rpc(**options)
    async def fail() -> None:
        log.append(id)
        raise InternalError("failed")

    @service.rpc
    async def left(context: Context) -> float:
        return context.remaining() or 0.0

    @service.rpc(timeout=50)
    async def slow(context: Context) -> float:
        return context.remaining() or 0.0

    return service


async def test_they_are_in_the_record_and_in_what_the_services_api_says() -> None:
    async with orders("one", [], idempotent=True, timeout=2.5), Client(URL) as client:
        (record,) = await client.services("orders")
        terms = {each.name: each.terms for each in record.endpoints}
        assert terms == {"fail": Terms(True, 2.5), "left": None, "slow": Terms(False, 50.0)}
        assert next(e.metadata for e in record.endpoints if e.name == "fail") == {
            "idempotent": "true",
            "timeout": "2.5",
        }
        (answer,) = await ask_all(client.broker, "$SRV.INFO.orders", most=1)
        form = read_information(answer.body)
        assert form is not None
        said = {each["name"]: each["metadata"] for each in form["endpoints"]}
        assert (said["fail"]["idempotent"], said["fail"]["timeout"]) == ("true", "2.5")


async def test_a_directed_call_to_an_idempotent_endpoint_is_made_again_at_another_node() -> None:
    log: list[str] = []
    names = ("one", "two", "three")
    async with Client(URL, selector="round-robin", retry=QUICK) as client:
        services = [orders(name, log, idempotent=True) for name in names]
        async with services[0], services[1], services[2]:
            await client.call("orders.left", None, float)
            with pytest.raises(InternalError, match=r"\(3 attempts\)"):
                await client.call("orders.fail")
    assert sorted(log) == sorted(names)


async def test_one_that_is_not_is_not(until: Until) -> None:
    log: list[str] = []
    async with orders("one", log), Client(URL, selector="random", retry=QUICK) as client:
        await client.call("orders.left", None, float)
        with pytest.raises(InternalError):
            await client.call("orders.fail")
    assert log == ["one"]


async def test_a_node_that_was_tried_is_asked_again_where_there_is_no_other() -> None:
    log: list[str] = []
    async with orders("one", log, idempotent=True), Client(URL, selector="random", retry=QUICK) as client:
        await client.call("orders.left", None, float)
        with pytest.raises(InternalError):
            await client.call("orders.fail")
    assert log == ["one"] * 3


async def test_a_hedge_goes_to_another_node(until: Until) -> None:
    begun: list[str] = []
    gone: list[str] = []

    def node(id: str) -> Service:
        service = Service("pair", id=id, broker=URL)

        @service.rpc(idempotent=True)
        async def ask() -> str:
            begun.append(id)
            if len(begun) == 1:
                try:
                    await asyncio.Event().wait()
                finally:
                    gone.append(id)
            return id

        @service.rpc
        async def known() -> None: ...

        return service

    async with node("one"), node("two"), Client(URL, selector="random", hedge=0.001) as client:
        await client.call("pair.known")
        answer = await client.call("pair.ask", None, str)
        assert begun == [gone[0] if gone else begun[0], answer]
        assert begun[0] != answer
        await until(lambda: gone == begun[:1])


async def test_a_call_waits_as_long_as_its_endpoint_says_where_the_client_has_looked() -> None:
    async with orders("one", []), Client(URL, timeout=3) as client:
        assert await client.call("orders.slow", None, float) < 3
        assert client._caller.is_plain
        await client.call("orders.left", None, float, selector="random")
        assert not client._caller.is_plain
        assert 40 < await client.call("orders.slow", None, float) <= 50
        assert 40 < await client.call("orders.slow", None, float, selector="random") <= 50
        assert await client.call("orders.slow", None, float, timeout=2) <= 2
        assert await client.call("orders.left", None, float) <= 3


async def test_within_a_handler_it_never_outlives_that_handlers_deadline() -> None:
    outer = Service("outer", broker=URL)

    @outer.rpc
    async def ask() -> float:
        await outer.call("orders.left", None, float, selector="random")
        return await outer.call("orders.slow", None, float)

    async with orders("one", []), outer, Client(URL) as client:
        assert await client.call("outer.ask", None, float, timeout=2) <= 2


def record(node: str, *endpoints: tuple[str, dict[str, str]]) -> ServiceRecord:
    return ServiceRecord(
        name="orders",
        endpoints=[EndpointRecord(name=name, metadata=metadata) for name, metadata in endpoints],
        nodes=[NodeRecord(id=node, address=f"orders.{node}")],
    )


IDEMPOTENT = {"idempotent": "true"}


async def test_what_all_nodes_say_holds() -> None:
    known: dict[str, Terms | None] = {}
    view = View("orders", "memory://", known.__setitem__)
    view.apply(Change("create", record("a", ("quote", {**IDEMPOTENT, "timeout": "2"}), ("other", {}))))
    assert known == {"orders.quote": Terms(True, 2.0)}
    view.apply(Change("create", record("b", ("quote", {"timeout": "7"}))))
    assert known == {"orders.quote": Terms(False, 7.0)}
    view.apply(Change("create", record("c", ("other", {}))))
    assert known == {"orders.quote": Terms(False, 7.0)}
    view.apply(Change("delete", record("b")))
    assert known == {"orders.quote": Terms(True, 2.0)}
    view.apply(Change("update", record("a", ("quote", {}))))
    assert known == {"orders.quote": None}


async def test_nodes_that_went_between_two_watches_and_services_that_are_forgotten_say_nothing_more() -> None:
    known: dict[str, Terms | None] = {}
    view = View("orders", "memory://", known.__setitem__)
    view.apply(Change("create", record("a", ("quote", IDEMPOTENT))))
    view.apply(Change("synced"))
    view.begin()
    view.apply(Change("create", record("b", ("pay", IDEMPOTENT))))
    view.apply(Change("synced"))
    assert known == {"orders.quote": None, "orders.pay": Terms(True)}
    view.forget()
    assert known == {"orders.quote": None, "orders.pay": None}


@pytest.mark.parametrize("text", ["", "soon", "-1", "0", "nan", "inf", "1e99"])
def test_a_timeout_that_is_none_is_none(text: str) -> None:
    assert EndpointRecord(name="x", metadata={"timeout": text}).terms == Terms()


async def test_where_nobody_is_left_a_directed_call_ends_within_its_attempts() -> None:
    async with MemoryRegistry(URL) as registry, Client(URL, selector="random", retry=QUICK) as client:
        gone = [NodeRecord(id=f"n{number}", address=f"orders.$node.n{number}") for number in range(2)]
        await registry.register(ServiceRecord(name="orders", version="1.0.0", nodes=gone), ttl=30)
        with pytest.raises((Unavailable, CallTimeout), match=r"\(3 attempts\)"):
            await client.call("orders.quote")


async def test_nodes_of_one_version_are_looked_over_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, learnt, common = 0, dict[str, Terms | None](), View._common_terms

    def count(view: View) -> dict[str, Terms]:
        nonlocal looks
        looks += 1
        return common(view)

    def change(action: Action, id: str, timeout: str) -> Change:
        endpoints = [EndpointRecord(name="quote", metadata={"idempotent": "true", "timeout": timeout})]
        node = NodeRecord(id=id, address=f"orders.{id}")
        return Change(action, ServiceRecord(name="orders", nodes=[node], endpoints=endpoints))

    monkeypatch.setattr(View, "_common_terms", count)
    view = View("orders", URL, learnt.__setitem__)
    for number in range(100):
        view.apply(change("create", f"n{number}", "2"))
    assert (looks, learnt) == (1, {"orders.quote": Terms(True, 2.0)})
    view.apply(change("update", "n7", "5"))
    assert learnt == {"orders.quote": Terms(True, 5.0)}
    view.apply(change("delete", "n7", "5"))
    assert learnt == {"orders.quote": Terms(True, 2.0)}
    view.apply(Change("synced"))
    view.begin()
    view.apply(Change("synced"))
    assert (view.count, learnt) == (0, {"orders.quote": None})
