"""SyncClient on a real broker: from many threads, after a fork, over streams and stubs, at the end of a program."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import pytest

from eventmicro import Contract, Disconnected, NotFound, Service, SyncClient, Topic

Until = Callable[[Callable[[], object]], Awaitable[None]]


class Numbers(Contract, Protocol):
    async def double(self, number: int) -> int: ...
    def count(self, number: int) -> AsyncIterator[int]: ...
    async def total(self, numbers: AsyncIterator[int]) -> int: ...
    def doubled(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]: ...


class Handler:
    def __init__(self) -> None:
        self.ended: list[str] = []

    async def double(self, number: int) -> int:
        if number < 0:
            raise NotFound("no such number")
        return 2 * number

    async def count(self, number: int) -> AsyncIterator[int]:
        try:
            for each in range(number):
                yield each
        finally:
            self.ended.append("count")

    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([each async for each in numbers])

    async def doubled(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        async for each in numbers:
            yield 2 * each


def make(name: str, url: str) -> tuple[Service, Handler]:
    service, handler = Service(name, broker=url), Handler()
    for method in (handler.double, handler.count, handler.total, handler.doubled):
        service.rpc(method)
    return service, handler


async def test_many_threads_use_one_client(nats_url: str, subject: str) -> None:
    service, _ = make(subject, nats_url)
    topic, seen = Topic(f"{subject}.seen", int), list[int]()

    @service.subscribe(topic)
    async def see(number: int) -> None:
        seen.append(number)

    def use(number: int) -> int:
        client.publish(topic, number)
        with pytest.raises(NotFound, match="no such number"):
            client.call(f"{subject}.double", -1, int)
        return client.call(f"{subject}.double", number, int)

    def use_all() -> list[int]:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(use, range(40)))

    client = SyncClient(nats_url)
    async with service:
        assert await asyncio.to_thread(use_all) == [2 * number for number in range(40)]
        await asyncio.to_thread(client.publish_many, topic, range(40, 50))
        await asyncio.to_thread(client.close)
    assert sorted(seen) == list(range(50))


async def test_streams_are_plain_iterators(nats_url: str, subject: str, until: Until) -> None:
    service, handler = make(subject, nats_url)

    def use() -> None:
        with SyncClient(nats_url) as client:
            assert list(client.stream(f"{subject}.count", 4, int)) == [0, 1, 2, 3]
            with client.stream(f"{subject}.total", reply=int) as items:
                for number in range(4):
                    items.send(number)
                assert items.reply() == 6
            for number in client.stream(f"{subject}.count", 1_000_000, int):
                if number == 2:
                    break
            with client.stream(f"{subject}.count", 1_000_000, int) as counting:
                assert next(counting) == 0
            left = client.stream(f"{subject}.count", 1_000_000, int)
            assert next(left) == 0
        with pytest.raises(Disconnected, match="was closed meanwhile"):
            next(left)

    async with service:
        await asyncio.to_thread(use)
        await until(lambda: len(handler.ended) == 4)


async def test_a_stub_has_all_methods_of_its_contract(nats_url: str, subject: str) -> None:
    service, _ = make(subject, nats_url)

    def few() -> Iterator[int]:
        yield from range(4)

    def use() -> list[Any]:
        with SyncClient(nats_url) as client:
            numbers = client.stub(Numbers, service=subject)
            with pytest.raises(AttributeError, match="did you mean double"):
                numbers.duoble(1)
            typed = client.run(lambda each: each.stub(Numbers, service=subject).double(5))
            return [
                numbers.double(21),
                list(numbers.count(3)),
                numbers.total(few()),
                list(numbers.doubled([1, 2])),
                typed,
            ]

    async with service:
        assert await asyncio.to_thread(use) == [42, [0, 1, 2], 6, [2, 4], 10]


PROGRAM = """
    import os, sys
    from eventmicro import SyncClient
    url, subject, out = sys.argv[1:]
    client = SyncClient(url)
    def double(number):
        return client.call(f"{subject}.double", number, int)
    said = [double(1)]
    child = os.fork()
    if child == 0:
        said = [double(2), double(3)]
        client.close()
        os._exit(0 if said == [4, 6] else 1)
    said.append(double(4))
    _, status = os.waitpid(child, 0)
    said += [os.waitstatus_to_exitcode(status), double(5)]
    client.publish(f"{subject}.last", said)  # and ends without a close
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
async def test_a_forked_process_begins_anew_and_the_end_of_a_program_closes_it(
    nats_url: str, subject: str, until: Until
) -> None:
    service, _ = make(subject, nats_url)
    seen: list[list[int]] = []

    @service.subscribe(f"{subject}.last")
    async def see(said: list[int]) -> None:
        seen.append(said)

    async with service:
        arguments = [sys.executable, "-W", "error", "-c", textwrap.dedent(PROGRAM), nats_url, subject, ""]
        done = await asyncio.to_thread(subprocess.run, arguments, capture_output=True, text=True, timeout=25)
        assert (done.stderr, done.returncode) == ("", 0)
        await until(lambda: seen)
    assert seen == [[2, 8, 0, 10]]
