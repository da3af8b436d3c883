"""A queue asks on: whatever comes between its events, it has no more of them than it may, and is never left without."""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from typing import Any

import pytest

pytest.importorskip("nats")

from eventmicro_nats.connection.reader import Raw
from eventmicro_nats.jetstream import durable
from eventmicro_nats.jetstream.durable import DurableSubscription
from eventmicro_nats.jetstream.queues import Place, Queue

from eventmicro.message import Delivery
from tests.unit.nats.kit import Server

HEARTBEAT = b"NATS/1.0 100 Idle Heartbeat\r\n\r\n"


class Stream(Server):
    """A server with so many events: it sends what it was asked for, and counts what is settled."""

    def __init__(self, events: int, prefetch: int) -> None:
        super().__init__()
        self.prefetch = prefetch
        self.left = deque((sequence, 1) for sequence in range(1, events + 1))
        self.asked_for: deque[int] = deque()  # of each request that is open
        self.unsettled: dict[int, int] = {}  # the attempt of each
        self.acked: list[int] = []
        self.most = 0
        self.take_run: Any = None

    async def subscribe_to(self, subject: str, queue: str, take: Any, take_run: Any = None) -> object:
        self.take_run = take_run
        return await super().subscribe_to(subject, queue, take)

    def push(self, command: bytes) -> None:
        super().push(command)
        subject, body = command.split(b" ")[1], command.split(b"\r\n")[1]
        if b".MSG.NEXT." in subject:
            self.asked_for.append(json.loads(body)["batch"])
            self.most = max(self.most, len(self.unsettled) + sum(self.asked_for))
        elif subject.startswith(b"$JS.ACK.") and body != b"+WPI":
            attempt = self.unsettled.pop(sequence := int(subject.split(b".")[5]), None)
            if body == b"+ACK":
                self.acked += [sequence] if attempt is not None else []
            elif attempt is not None:
                self.left.appendleft((sequence, attempt + 1))

    def send(self, chance: random.Random) -> None:
        """Some events, with what it says of its requests between them, all in one run."""
        run: list[Raw] = []
        for _ in range(chance.choice([1, 3, self.prefetch])):
            if chance.random() < 0.05:
                run.append((b"_INBOX.x.1", b"", b"", HEARTBEAT))
            if chance.random() < 0.05 and self.asked_for:
                left = self.asked_for.popleft()
                status = b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: %d\r\n\r\n" % left
                run.append((b"_INBOX.x.1", b"", b"", status))
            if self.asked_for and self.left:
                sequence, attempt = self.left.popleft()
                self.unsettled[sequence] = attempt
                run.append((b"a", self.settle_at(sequence), b"{}", b""))
                self.asked_for[0] -= 1
                if not self.asked_for[0]:
                    self.asked_for.popleft()
        self.take_run(run)

    def settle_at(self, sequence: int) -> bytes:
        return b"$JS.ACK.EVENTS.q.%d.%d.%d.1.0" % (self.unsettled[sequence], sequence, sequence)

    def cut(self, chance: random.Random) -> None:
        """The connection is away, and with it what was asked for, and the acks that were said last."""
        self.asked_for.clear()
        for sequence in self.acked[len(self.acked) - chance.randint(0, min(self.prefetch, len(self.acked))) :]:
            self.acked.remove(sequence)
            self.unsettled[sequence] = 1

    def tell_how_it_is(self) -> None:
        unsettled = [sequence for sequence, _ in self.left] + list(self.unsettled)
        self.tell(floor=min(unsettled, default=len(self.acked) + 1) - 1)


async def settle_some(got: list[Delivery], chance: random.Random, *, nacks: bool) -> list[int]:
    """Acknowledge or give back some of them, in any order; those that were given back."""
    chance.shuffle(got)
    back = []
    for _ in range(chance.randint(0, len(got))):
        delivery: Any = got.pop()
        if nacks and chance.random() < 0.1:
            back.append(delivery.sequence)
            await delivery.nack()
        else:
            delivery.try_ack()
    return back


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("prefetch", [1, 2, 3, 10, 256])
@pytest.mark.parametrize("faults", [False, True], ids=["", "cut off"])
async def test_each_event_comes_however_they_are_settled_and_no_more_are_here_than_may_be(
    seed: int, prefetch: int, faults: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "GATHER", 0.0)
    chance, events = random.Random(seed), 20 * min(prefetch, 50)
    server, got = Stream(events, prefetch), list[Delivery]()
    queue, came, given_back = Queue("EVENTS", "q", 30.0, Place(1, 0.0), created="then"), list[int](), list[int]()

    async def find(first: Place | None) -> Queue:
        return queue

    def receive(delivery: Any) -> None:
        came.append(delivery.sequence)
        got.append(delivery)

    subscription: Any = DurableSubscription(queue, find, receive, prefetch)
    await subscription.open(server)
    server.tell_how_it_is()
    for _ in range(100 * events):
        server.send(chance)
        given_back += await settle_some(got, chance, nacks=not faults)
        if faults and chance.random() < 0.02:
            subscription.lost()
            server.cut(chance)
            await subscription.open(server)
            await settle_some(got, chance, nacks=False)  # before it is known whose they are
            server.tell_how_it_is()
        await asyncio.sleep(0)
        if len(server.acked) == events:
            break
    assert sorted(server.acked) == list(range(1, events + 1))
    assert sorted(came) == sorted([*range(1, events + 1), *given_back])
    assert server.most <= prefetch or faults
    subscription.end()


@pytest.mark.parametrize(
    ("prefetch", "come", "settled", "at_once", "later"),
    [
        (10, 10, 10, [10, 5, 5], []),  # half of them is settled, then the other half
        (9, 9, 9, [9, 5], []),
        (10, 10, 3, [10], [3]),  # nothing is on its way
        (10, 4, 4, [10], []),  # enough are on their way
        (10, 7, 2, [10], []),
        (1, 1, 1, [1, 1], []),
    ],
)
async def test_it_asks_at_once_for_half_of_all_and_later_for_less_where_nothing_is_on_its_way(
    prefetch: int, come: int, settled: int, at_once: list[int], later: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "GATHER", 0.0)
    server, got = Server(), list[Delivery]()
    queue = Queue("EVENTS", "q", 30.0, Place(1, 0.0), created="then")

    async def find(first: Place | None) -> Queue:
        return queue

    subscription: Any = DurableSubscription(queue, find, got.append, prefetch)
    await subscription.open(server)
    server.tell()
    for sequence in range(1, come + 1):
        server.give(sequence)
    for delivery in got[:settled]:
        await delivery.ack()
    assert server.asked() == at_once
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert server.asked() == at_once + later
    subscription.end()
