"""Clients of other frameworks and ours on one subject: each gets what all publish. `make fleet` kills them, too."""

from __future__ import annotations

import asyncio
import importlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.fleet import words

Until = Callable[[Callable[[], object]], Awaitable[None]]
EACH = 60


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the members tell; those in threads end with the test."""
    lines: list[str] = []
    monkeypatch.setattr(words, "say", lines.append)
    words.ended.clear()
    yield lines
    words.ended.set()


@pytest.mark.timeout_seconds(90)
@pytest.mark.parametrize("broker", ["jetstream", "rabbitmq", "kafka"])
async def test_each_gets_what_all_have_published(
    broker: str, request: pytest.FixtureRequest, subject: str, said: list[str], until: Until
) -> None:
    url = request.getfixturevalue(f"{broker}_url")
    members = importlib.import_module(f"tests.fleet.{broker}")
    consuming: list[asyncio.Task[None]] = []

    async def begin(consume: Any) -> None:
        consuming.append(asyncio.create_task(consume(url, subject)))
        await until(lambda: consuming[-1].done() or said.count("ready") == len(consuming))
        assert not consuming[-1].done(), consuming[-1]

    try:
        for consume in members.CONSUMERS.values():  # ours first: it makes what the others find
            await begin(consume)
        publishers = enumerate(members.PUBLISHERS.values())
        shares = ((publish, range(place * EACH, (place + 1) * EACH)) for place, publish in publishers)
        await asyncio.gather(*(publish(url, subject, share) for publish, share in shares))
        await until(lambda: sum(line.startswith("got") for line in said) == whole(members))
    finally:
        words.ended.set()
        for task in consuming:
            task.cancel()
        await asyncio.gather(*consuming, return_exceptions=True)
    got: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for line in said:
        word, _, rest = line.partition(" ")
        assert word in ("ready", "got", "published"), line
        if word == "got":
            number, by = rest.split()
            got[by][int(number)] += 1
    assert set(got) == set(members.PUBLISHERS)
    times = {len(members.CONSUMERS)}
    assert all(len(numbers) == EACH and set(numbers.values()) == times for numbers in got.values())


def whole(members: Any) -> int:
    """How many times an event comes, all consumers together."""
    return EACH * len(members.PUBLISHERS) * len(members.CONSUMERS)
