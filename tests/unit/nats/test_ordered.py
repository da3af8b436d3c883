"""An ordered queue, by what the server says of whose pin it is."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

pytest.importorskip("nats")

from eventmicro_nats.jetstream import ordered
from eventmicro_nats.jetstream.api import ApiError
from eventmicro_nats.jetstream.ordered import OrderedSubscription
from eventmicro_nats.jetstream.queues import Place, Queue

from eventmicro.message import Delivery
from tests.unit.nats.kit import Server


class Api:
    """Answers how it is with the queue, or refuses to."""

    def __init__(self) -> None:
        self.info: dict[str, Any] = facts("")
        self.refuses: Exception | None = None
        self.asked = 0

    async def call(self, what: str, arguments: Any = None, *, deadline: float) -> dict[str, Any]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.refuses is not None:
            raise self.refuses
        return self.info


def facts(pin: str, **more: Any) -> dict[str, Any]:
    return {
        "created": "then",
        "ack_floor": {"stream_seq": 0},
        "delivered": {"stream_seq": 0, "consumer_seq": 0},
        "ts": "2030-01-01T00:00:00Z",
        "config": {"ack_wait": 30_000_000_000},
        "num_pending": 0,
        "num_ack_pending": 0,
        "priority_groups": [{"pinned_client_id": pin}],
        **more,
    }


async def subscribed() -> tuple[Any, Server, Api, list[Delivery]]:
    server, api, got = Server(), Api(), list[Delivery]()
    queue = Queue("EVENTS", "q", 30.0, Place(1, 0.0), created="then")

    async def find(first: Place | None) -> Queue:
        return queue

    subscription: Any = OrderedSubscription(queue, find, got.append, 10, api)  # type: ignore[arg-type]
    await subscription.open(server)
    return subscription, server, api, got


def unpinned(server: Server) -> bool:
    return any(b".UNPIN." in command for command in server.sent)


@pytest.mark.parametrize(
    ("seen", "next_pin", "alone"),
    [
        ((), "mine again", True),
        (("mine again",), "mine again", True),  # its first event is on its way yet
        (("other",), "mine again", False),
        (("other", "mine again"), "mine again", False),
        (("other", "other"), "mine again", False),
    ],
)
async def test_who_has_seen_another_pinned_was_not_alone_until_now(
    seen: tuple[str, ...], next_pin: str, alone: bool
) -> None:
    subscription, server, api, _ = await subscribed()
    api.info = facts("mine")
    server.give(1, pin="mine")
    await subscription._taking_over
    assert subscription._alone
    subscription._learn(facts("mine"), asyncio.get_running_loop().time())
    server.take(b"x.1", b"", b"", b"NATS/1.0 423 Nats-Wrong-Pin-Id\r\n\r\n")
    for pin in seen:
        subscription._learn(facts(pin), asyncio.get_running_loop().time())
    server.give(2, pin=next_pin)
    assert subscription._alone is alone
    subscription.end()


@pytest.mark.parametrize("silent", [False, True])
async def test_who_was_silent_for_long_takes_the_pin_from_nobody(silent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    subscription, server, api, got = await subscribed()
    api.info = facts("mine")
    server.give(1, pin="mine")
    await subscription._taking_over
    assert len(got) == 1
    subscription.ended = True
    if silent:
        monkeypatch.setattr(ordered, "pin_timeout", lambda ack_wait: 0.0)
    await got[0].ack()
    assert unpinned(server) is not silent
    subscription.end()


@pytest.mark.parametrize(("unsettled_elsewhere", "waits"), [(0, True), (1, False)])
async def test_a_queue_whose_former_client_is_at_work_stands_not_still(unsettled_elsewhere: int, waits: bool) -> None:
    subscription, server, _, _ = await subscribed()
    server.give(2, pin="mine")
    info = facts(
        "mine",
        num_ack_pending=1 + unsettled_elsewhere,
        delivered={"stream_seq": 2, "consumer_seq": 2},
        num_pending=1,
    )
    assert subscription._waits(info) is waits
    subscription.end()


async def test_an_answer_that_is_refused_at_once_is_told_once_and_asked_for_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
        await sleep(0)

    subscription, server, api, got = await subscribed()
    subscription._watching.cancel()
    await sleep(0)
    monkeypatch.setattr(ordered.asyncio, "sleep", pause)
    api.refuses = ApiError(10000, "busy")
    with caplog.at_level(logging.WARNING):
        server.give(1, pin="mine")
        while len(pauses) < 20:
            await sleep(0)
    assert sum("cannot see" in record.getMessage() for record in caplog.records) == 1
    assert pauses[:3] == [2 * ordered.LOOK, 4 * ordered.LOOK, 8 * ordered.LOOK]
    assert max(pauses) == ordered.LONGEST_PAUSE
    api.refuses, api.info = None, facts("mine")
    await subscription._taking_over
    assert len(got) == 1
    subscription.end()
