"""An ordered queue that comes from another client, or from a server that led it: what is awaited, and for how long."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("nats")

from eventmicro_nats.jetstream import ordered

from tests.unit.nats.kit import Server
from tests.unit.nats.test_ordered import Api, facts, subscribed

PREFETCH = 10
NOW = datetime(2030, 1, 1, tzinfo=UTC)
WRONG_PIN = b"NATS/1.0 423 Nats-Wrong-Pin-Id\r\n\r\n"


def delivered(last: int, pin: str = "mine", **more: Any) -> dict[str, Any]:
    """The server has sent the first ones of the stream, and none of them is settled."""
    return facts(pin, **{"num_ack_pending": last, "delivered": {"stream_seq": last, "consumer_seq": last}, **more})


async def looked(api: Api, times: int = 1) -> None:
    """The server was asked so many times, and what it said is taken into account."""
    until = api.asked + times
    async with asyncio.timeout(20):
        while api.asked < until:
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)


async def asks(server: Server, number: int) -> int:
    """The request of this number, as soon as it is made."""
    async with asyncio.timeout(20):
        while len(server.asked()) <= number:
            await asyncio.sleep(0)
    return server.asked()[number]


async def test_all_that_is_awaited_comes_at_once_however_much_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "LOOK", 3600.0)
    subscription, server, api, _ = await subscribed()
    api.info, back = delivered(30 * PREFETCH), iter(range(1, 30 * PREFETCH + 1))
    number = 0
    while len(subscription.unsettled) < 30 * PREFETCH:
        for _ in range(await asks(server, number)):
            server.give(next(back), pin="mine", attempt=2)
        number += 1
    assert api.asked == 1
    assert max(server.asked()) == PREFETCH
    subscription.end()


@pytest.mark.parametrize("nacked", [False, True])
async def test_the_others_are_taken_ever_more_rarely_while_what_is_awaited_does_not_come(
    nacked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordered, "LOOK", 0.001)
    monkeypatch.setattr(ordered, "TOO_EARLY", 3600.0, raising=False)
    subscription, server, api, got = await subscribed()
    api.info = delivered(2)
    server.give(1, pin="mine")
    if nacked:
        server.give(2, pin="mine")
        await subscription._taking_over
        await got[1].nack()
        subscription._look_for_others()
    await looked(api)
    for sequence in range(3, 3 + PREFETCH):
        api.info = delivered(sequence)
        server.give(sequence, pin="mine")
    asked = len(server.asked())
    await looked(api, 20)
    assert len(server.asked()) <= asked + 1
    server.give(99, pin="mine")  # as this one is given for an awaited one
    asked = len(server.asked())
    await looked(api, 20)
    assert len(server.asked()) == asked
    api.info = delivered(99, num_ack_pending=len(subscription.unsettled) + 2)
    server.give(2, pin="mine", attempt=2)
    await asks(server, asked)
    subscription.end()


@pytest.mark.parametrize(("pinned", "waiting", "opens"), [("", 0, False), ("", 1, True), ("mine", 0, True)])
async def test_who_begins_to_lead_the_queue_is_not_believed_that_nothing_is_missing(
    pinned: str, waiting: int, opens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordered, "LOOK", 0.001)
    subscription, server, api, got = await subscribed()
    api.info = facts(pinned, num_waiting=waiting, delivered={"stream_seq": 9, "consumer_seq": 9})
    server.give(9, pin="mine")
    await looked(api)
    if not opens:
        await looked(api, 20)
    assert len(got) == opens
    api.info = delivered(9, num_ack_pending=1)
    async with asyncio.timeout(20):
        while not got:
            await asyncio.sleep(0)
    subscription.end()


@pytest.mark.parametrize(
    ("away", "led", "called_back"),
    [
        (9.0, None, True),
        (13.0, None, False),
        (13.0, 60.0, True),  # it has pinned nobody else in less than twice the time
        (19.0, 60.0, False),
        (13.0, 5.0, True),  # it leads since 8 s later, too late for the former one and too early for this one
        (13.0, 1.0, False),
        (25.0, 12.0, False),
    ],
)
async def test_what_can_be_with_nobody_else_is_called_back(away: float, led: float | None, called_back: bool) -> None:
    subscription, server, api, _ = await subscribed()
    api.info = facts("mine")
    server.give(1, pin="mine")
    await subscription._taking_over
    subscription._learn(facts("mine"), asyncio.get_running_loop().time() - away)
    server.take(b"x.1", b"", b"", WRONG_PIN)
    since = {"leader_since": (NOW - timedelta(seconds=led)).isoformat()} if led is not None else {}
    api.info = delivered(3, "again", ts=NOW.isoformat(), cluster={"leader": "n0", **since})
    server.give(3, pin="again")
    await looked(api)
    assert (2 in server.settled(b"-NAK")) is called_back
    subscription.end()


@pytest.mark.parametrize("how", ["another is pinned", "another leads", "reconnected"])
@pytest.mark.parametrize("fresh", [True, False])
async def test_what_was_given_back_is_given_back_again_where_that_may_be_lost(how: str, fresh: bool) -> None:
    subscription, server, api, got = await subscribed()
    api.info = facts("mine", cluster={"leader": "n0"})
    server.give(1, pin="mine")
    await subscription._taking_over
    await got[0].nack()
    server.sent.clear()
    if not fresh:
        got[0].leased -= 0.8 * subscription._queue.ack_wait  # type: ignore[attr-defined]
    if how == "another is pinned":
        server.take(b"x.1", b"", b"", WRONG_PIN)
        assert got[0].lapsed
    elif how == "another leads":
        subscription._learn(delivered(1, cluster={"leader": "n1"}), asyncio.get_running_loop().time())
    else:
        subscription.lost()
        subscription._learn(delivered(1, cluster={"leader": "n0"}), asyncio.get_running_loop().time())
    assert server.settled(b"-NAK") == ([1] if fresh else [])
    subscription.end()


async def test_who_waits_for_long_says_for_what(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ordered, "LOOK", 0.001)
    monkeypatch.setattr(ordered, "pin_timeout", lambda ack_wait: 0.01)
    subscription, server, api, _ = await subscribed()
    api.info = delivered(3)
    loop = asyncio.get_running_loop()
    with caplog.at_level(logging.WARNING):
        begun = loop.time()
        server.give(1, pin="mine")
        async with asyncio.timeout(20):
            while "waits for 2 events" not in caplog.text:
                await looked(api)
        await looked(api, 50)
    assert 0.01 * 2 ** (len(caplog.records) - 1) <= loop.time() - begun, "ever more rarely"
    subscription.end()
