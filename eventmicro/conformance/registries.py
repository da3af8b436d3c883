"""What every registry must do, ours and anybody's; `eventmicro.registry` is the specification.

@pytest.mark.parametrize("case", conformance.registry_cases(), ids=str)
def test_registry(case):
    asyncio.run(case.run(lambda: ConsulRegistry("consul://127.0.0.1:8500"), ttl=2))
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

from eventmicro.conformance.bench import Server, raises
from eventmicro.conformance.registry_bench import SEEN, MakeRegistry, RegistryBench, sees, sees_none
from eventmicro.errors import NotFound, Unavailable, UsageError
from eventmicro.registry import Registry, ServiceRecord

# How long a case may take, in seconds.
TIMEOUT = 90.0
# How long a node is kept where its end is not what a case waits for, in seconds.
LONG = 60.0

Function = Callable[[RegistryBench], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RegistryCase:
    """One case of the suite: it holds an adapter to one promise of `eventmicro.registry`."""

    function: Function
    restarts: bool = False
    """Whether it ends the server and starts it again; it then needs it for itself."""

    def __str__(self) -> str:
        return self.function.__name__

    async def run(self, make: MakeRegistry, *, ttl: float = 1.0, server: Server | None = None) -> None:
        """Run the case.

        Args:
            make: makes a new, unconnected registry at each call, all of one server.
            ttl: the shortest time for which it can keep a node, in seconds.
            server: what they connect to, for cases that restart it.

        Raises:
            AssertionError: the adapter breaks a promise; the message says which.
            TimeoutError: something that was promised did not happen in time.
        """
        if self.restarts and server is None:
            raise UsageError(f"{self} restarts the server: pass server=, or leave it out")
        async with asyncio.timeout(TIMEOUT), AsyncExitStack() as stack:
            await self.function(RegistryBench(make, stack, ttl, server))


_CASES: list[RegistryCase] = []


def registry_cases(*, restartable: bool = False) -> list[RegistryCase]:
    """The cases for a registry that is written to; with `restartable` also those that need a server of their own."""
    return [case for case in _CASES if restartable or not case.restarts]


def _case(*, restarts: bool = False) -> Callable[[Function], Function]:
    def add(function: Function) -> Function:
        _CASES.append(RegistryCase(function, restarts))
        return function

    return add


# -- what is registered ----------------------------------------------------------------------------------------


@_case()
async def what_is_registered_is_found_as_it_was_written(bench: RegistryBench) -> None:
    one, other = await bench.registry(), await bench.registry()
    record = bench.record(labels={"zone": "eu"}, metadata={"team": "shop"})
    await one.register(record, ttl=LONG)
    assert await sees(other, bench.name, {"1"}) == [record]


@_case()
async def fields_of_a_later_version_are_kept(bench: RegistryBench) -> None:
    one, other = await bench.registry(), await bench.registry()
    written = bench.record().model_dump() | {"region": "eu", "nodes": [{"id": "1", "weight": 3}]}
    await one.register(ServiceRecord.model_validate(written), ttl=LONG)
    (found,) = await sees(other, bench.name, {"1"})
    assert (found.model_extra or {}).get("region") == "eu"
    assert (found.nodes[0].model_extra or {}).get("weight") == 3


@_case()
async def there_is_a_record_for_each_version(bench: RegistryBench) -> None:
    one, other = await bench.registry(), await bench.registry()
    for node, version in (("1", "1.0.0"), ("2", "1.0.0"), ("3", "2.0.0")):
        await one.register(bench.record(node, version), ttl=LONG)
    found = await sees(other, bench.name, {"1", "2", "3"})
    assert {(s.version, tuple(sorted(n.id for n in s.nodes))) for s in found} == {
        ("1.0.0", ("1", "2")),
        ("2.0.0", ("3",)),
    }


@_case()
async def what_is_not_there_is_not_found(bench: RegistryBench) -> None:
    await raises(NotFound, (await bench.registry()).get_service(bench.name))


@_case()
async def all_services_are_listed_in_the_order_of_names(bench: RegistryBench) -> None:
    one, other = await bench.registry(), await bench.registry()
    names = [f"{bench.name}-{letter}" for letter in "bac"]
    for name in names:
        await one.register(bench.record(name=name), ttl=LONG)
        await sees(other, name, {"1"})
    listed = [service.name for service in await other.list_services()]
    assert [name for name in listed if name in names] == sorted(names)


@_case()
async def a_second_node_of_one_id_replaces_the_first(bench: RegistryBench) -> None:
    one, two = await bench.registry(), await bench.registry()
    await one.register(bench.record(labels={"from": "one"}), ttl=LONG)
    await two.register(bench.record(labels={"from": "two"}), ttl=LONG)
    watching = await bench.watch(one)
    (found,) = await sees(one, bench.name, {"1"})
    if found.nodes[0].metadata != {"from": "two"}:
        await watching.until(lambda c: c.service is not None and c.service.nodes[0].metadata == {"from": "two"})


@_case()
async def bad_names_are_refused(bench: RegistryBench) -> None:
    registry = await bench.registry()
    for name in ("", "or ders", "or.ders", "or*", "or>", "or/ders", "ö", "a" * 129):
        await raises(UsageError, registry.register(bench.record(name=name), ttl=LONG))
        await raises(UsageError, registry.register(bench.record(name or ""), ttl=LONG))
    await raises(UsageError, registry.register(ServiceRecord(name=bench.name), ttl=LONG))


@_case()
async def long_names_and_ids_are_kept_apart(bench: RegistryBench) -> None:
    one, other = await bench.registry(), await bench.registry()
    names = [f"{'long-' * 20}{bench.name[-6:]}{letter}" for letter in "ab"]
    for name in names:
        await one.register(bench.record(f"{'node_' * 20}x", name=name), ttl=LONG)
        await one.register(bench.record(f"{'node_' * 20}y", name=name), ttl=LONG)
    for name in names:
        await sees(other, name, {f"{'node_' * 20}x", f"{'node_' * 20}y"})


@_case()
async def names_that_begin_alike_are_not_mixed(bench: RegistryBench) -> None:
    one, other = await bench.registry(), await bench.registry()
    await one.register(bench.record(name=f"{bench.name}-more"), ttl=LONG)
    await one.register(bench.record("2", name=bench.name), ttl=LONG)
    await sees(other, bench.name, {"2"})
    await one.deregister(bench.record("2"))
    await sees_none(other, bench.name)
    await sees(other, f"{bench.name}-more", {"1"})


@_case()
async def a_hundred_nodes_may_come_at_once(bench: RegistryBench) -> None:
    one, other = await bench.registry(), await bench.registry()
    watching = await bench.watch(other)
    await asyncio.gather(*(one.register(bench.record(str(n)), ttl=LONG) for n in range(100)))
    await sees(other, bench.name, {str(n) for n in range(100)})
    assert {await watching.next() for _ in range(100)} == {("create", str(n)) for n in range(100)}


# -- how long it stays -----------------------------------------------------------------------------------------


@_case()
async def who_deregisters_is_gone(bench: RegistryBench) -> None:
    one, other = await bench.registry(), await bench.registry()
    await one.register(bench.record("1"), ttl=LONG)
    await one.register(bench.record("2"), ttl=LONG)
    await sees(other, bench.name, {"1", "2"})
    await one.deregister(bench.record("1"))
    await sees(other, bench.name, {"2"})
    await one.deregister(bench.record("2"))
    await sees_none(other, bench.name)
    await one.deregister(bench.record("2"))


@_case()
async def who_has_deregistered_may_come_back(bench: RegistryBench) -> None:
    one, other = await bench.registry(), await bench.registry()
    for _ in range(3):
        await one.register(bench.record(), ttl=LONG)
        await sees(other, bench.name, {"1"})
        await one.deregister(bench.record())
        await sees_none(other, bench.name)


@_case()
async def who_is_not_renewed_is_forgotten(bench: RegistryBench) -> None:
    one, other = await bench.registry(), await bench.registry()
    watching = await bench.watch(other)
    await one.register(bench.record(), ttl=bench.ttl)
    assert await watching.next() == ("create", "1")
    assert await watching.next() == ("delete", "1")
    await sees_none(other, bench.name)
    await one.register(bench.record(), ttl=LONG)
    assert await watching.next() == ("create", "1")
    await sees(other, bench.name, {"1"})


@_case()
async def who_is_forgotten_though_its_registry_was_closed(bench: RegistryBench) -> None:
    """As after a kill -9: nobody says that it is gone."""
    one, other = await bench.registry(), await bench.registry()
    watching = await bench.watch(other)
    await one.register(bench.record(), ttl=bench.ttl)
    await one.close()
    assert await watching.next() == ("create", "1")
    assert await watching.next() == ("delete", "1")


@_case()
async def who_is_renewed_stays_and_nobody_hears_of_it(bench: RegistryBench) -> None:
    one, other = await bench.registry(), await bench.registry()
    watching = await bench.watch(other)
    for _ in range(8):
        await one.register(bench.record(), ttl=bench.ttl)
        await asyncio.sleep(bench.ttl / 4)
    await sees(other, bench.name, {"1"})
    await one.register(bench.record(labels={"zone": "eu"}), ttl=LONG)
    assert [await watching.next() for _ in range(2)] == [("create", "1"), ("update", "1")]


# -- watching --------------------------------------------------------------------------------------------------


@_case()
async def a_watch_tells_who_is_there_and_what_changes(bench: RegistryBench) -> None:
    one, other = await bench.registry(), await bench.registry()
    await one.register(bench.record("1"), ttl=LONG)
    await sees(other, bench.name, {"1"})
    watching = await bench.watch(other)
    assert [(c.action, c.service) for c in watching.told] == [("create", bench.record("1")), ("synced", None)]
    watching.told.clear()
    watching._taken = 0
    for step in (
        one.register(bench.record("2"), ttl=LONG),
        one.register(bench.record("2", "2.0.0"), ttl=LONG),
        one.deregister(bench.record("1")),
    ):
        await step
        await watching.next()
    assert [(c.action, c.service) for c in watching.told] == [
        ("create", bench.record("2")),
        ("update", bench.record("2", "2.0.0")),
        ("delete", bench.record("1")),
    ]


@_case()
async def a_watch_of_all_tells_of_all_services(bench: RegistryBench) -> None:
    one, other = await bench.registry(), await bench.registry()
    watching = await bench.watch(other, None)
    await one.register(bench.record(name=f"{bench.name}-other"), ttl=LONG)
    await one.register(bench.record("2"), ttl=LONG)
    assert await watching.next() == ("create", "2")


@_case()
async def a_watch_of_one_service_tells_of_no_other(bench: RegistryBench) -> None:
    one, other = await bench.registry(), await bench.registry()
    changes = other.watch(bench.name)
    async with aclosing(changes):  # type: ignore[type-var]
        assert (await anext(changes)).action == "synced"
        await one.register(bench.record(name=f"{bench.name}-other"), ttl=LONG)
        await one.register(bench.record("2"), ttl=LONG)
        change = await anext(changes)
        assert change.service == bench.record("2")


@_case()
async def many_may_watch_and_leave_at_any_time(bench: RegistryBench) -> None:
    one, other = await bench.registry(), await bench.registry()
    watching = [await bench.watch(other) for _ in range(20)]
    for left in watching[::2]:
        await left.close()
    await one.register(bench.record(), ttl=LONG)
    for stayed in watching[1::2]:
        assert await stayed.next() == ("create", "1")


# -- bad luck --------------------------------------------------------------------------------------------------


@_case()
async def one_that_is_closed_says_so(bench: RegistryBench) -> None:
    registry = await bench.registry()
    await registry.close()
    await registry.close()
    await raises(Unavailable, registry.register(bench.record(), ttl=LONG))
    await raises(Unavailable, registry.get_service(bench.name))
    await raises(Unavailable, registry.list_services())
    await raises(Unavailable, registry.deregister(bench.record()))
    await registry.connect()
    await raises(NotFound, registry.get_service(bench.name))


@_case(restarts=True)
async def while_it_is_away_it_says_so_and_not_that_nobody_is_there(bench: RegistryBench) -> None:
    one, other = await bench.registry(), await bench.registry()
    await one.register(bench.record(), ttl=LONG)
    watching = await bench.watch(other)
    await bench.server.kill()
    try:
        await watching.until(lambda change: change.action == "lost")
        await raises(Unavailable, other.get_service(bench.name))
        await raises(Unavailable, other.list_services())
        await raises(Unavailable, one.register(bench.record("2"), ttl=LONG))
    finally:
        await bench.server.start()
    await watching.until(lambda change: change.action == "synced")
    await _register_again(one, bench.record("1"))
    await _register_again(one, bench.record("2"))
    await sees(other, bench.name, {"1", "2"})


@_case(restarts=True)
async def a_watch_loses_nothing_over_a_restart(bench: RegistryBench) -> None:
    one, other = await bench.registry(), await bench.registry()
    await one.register(bench.record("1"), ttl=LONG)
    await one.register(bench.record("2"), ttl=LONG)
    watching = await bench.watch(other)
    for turn in range(2):
        await (bench.server.stop if turn else bench.server.kill)()
        await watching.until(lambda change: change.action == "lost")
        await bench.server.start()
        third = await bench.registry()
        await _register_again(third, bench.record(f"again-{turn}"))
        await third.deregister(bench.record(f"{turn + 1}"))
        await watching.until(lambda c: c.service is not None and c.service.nodes[0].id == f"again-{turn}")  # noqa: B023
    await _register_again(one, bench.record("last"))
    await watching.until(lambda c: c.service is not None and c.service.nodes[0].id == "last")
    known: set[str] = set()
    for change in watching.told:
        if change.service is not None:
            (known.discard if change.action == "delete" else known.add)(change.service.nodes[0].id)
    assert known >= {"last"}
    await sees(other, bench.name, known)


@_case(restarts=True)
async def one_that_is_not_there_cannot_be_connected(bench: RegistryBench) -> None:
    await bench.server.stop()
    try:
        await raises(Unavailable, bench.registry())
    finally:
        await bench.server.start()
    await raises(NotFound, (await bench.registry()).get_service(bench.name))


async def _register_again(registry: Registry, record: ServiceRecord) -> None:
    """As services do: again and again, until the registry is back."""
    async with asyncio.timeout(SEEN):
        while True:
            try:
                return await registry.register(record, ttl=LONG)
            except Unavailable:
                await asyncio.sleep(0.05)
