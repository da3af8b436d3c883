"""Events that RabbitMQ has taken back while they were here: what became of them all the same."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from hashlib import blake2b

from eventmicro_rabbitmq.consuming.incoming import RabbitDelivery

# Of how many events it is remembered what became of them.
REMEMBERED = 10_000
# How long one that comes again waits, in seconds, where nobody says how long a handler may take: for one that is about
# to end, or to become a dead letter.
BRIEF = 1.0

Key = tuple[str, bytes]


class TakenBack:
    """Settles what is not with us any more: what ended well is acknowledged when it comes again, and not run again.

    Args:
        ack: acknowledges one that has come again.
        hand_over: hands one over that has come again.
        patience: how long one that comes again waits for the handler that is still at it, in seconds from when it was
            taken back.
    """

    def __init__(
        self,
        ack: Callable[[RabbitDelivery], None],
        hand_over: Callable[[RabbitDelivery], None],
        patience: float,
    ) -> None:
        self._ack = ack
        self._hand_over = hand_over
        self._patience = patience
        self._well: OrderedDict[Key, int] = OrderedDict()
        self._running: OrderedDict[Key, float] = OrderedDict()  # until when they are waited for
        self._wait: dict[Key, list[RabbitDelivery]] = {}
        self._not_counted: OrderedDict[str, int] = OrderedDict()

    def take(self, begun: Iterable[RabbitDelivery]) -> None:
        """RabbitMQ has taken these back, at which handlers are."""
        until = asyncio.get_running_loop().time() + self._patience
        for delivery in begun:
            delivery.holder = self
            self._running[_key(delivery)] = until
        while len(self._running) > REMEMBERED:
            self._running.popitem(last=False)

    def ended_well(self, deliveries: Iterable[RabbitDelivery]) -> None:
        """These have been acknowledged, and RabbitMQ does not know it."""
        for delivery in deliveries:
            self._remember(_key(delivery))

    def not_counted(self, deliveries: Iterable[RabbitDelivery]) -> None:
        """These come again, and RabbitMQ counts that, though nobody has begun with them or it is not their fault."""
        for delivery in deliveries:
            times = self._not_counted.pop(delivery.id, 0) + 1
            self._not_counted[delivery.id] = times
            if len(self._not_counted) > REMEMBERED:
                self._not_counted.popitem(last=False)

    def counted(self, delivery: RabbitDelivery) -> None:
        """What is said of it from now on says all."""
        self._not_counted.pop(delivery.id, None)

    def was_not_begun(self, delivery: RabbitDelivery) -> bool:
        """Whether one that comes again was only held here; its attempts are put right."""
        times = self._not_counted.get(delivery.id, 0)
        delivery.attempt = max(1, delivery.attempt - times)
        return times > 0

    def keeps(self, delivery: RabbitDelivery) -> bool:
        """Whether one that comes again is not to be handed over: it ended well, or is still being handled here."""
        if not (self._well or self._running):
            return False
        key = _key(delivery)
        if self._well.get(key):
            self._forget_one(key)
            self._ack(delivery)
            return True
        loop = asyncio.get_running_loop()
        until = self._running.get(key, 0.0)
        if until <= loop.time():
            return False
        delivery.waiting = True
        self._wait.setdefault(key, []).append(delivery)
        loop.call_at(until, self._waits_no_more, key, delivery)
        return True

    def ack(self, delivery: RabbitDelivery) -> None:
        """The handler of one that was taken back has ended well."""
        key = _key(delivery)
        if (again := self._next(key)) is not None:
            self._ack(again)
        else:
            self._remember(key)

    async def nack(self, delivery: RabbitDelivery, delay: float) -> None:
        """It has failed; that counts, whyever RabbitMQ took it back."""
        self.counted(delivery)
        if (again := self._next(_key(delivery))) is not None:
            self._hand_over(again)

    def _next(self, key: Key) -> RabbitDelivery | None:
        """Which of those that came again is for the settlement of the one that has ended."""
        self._running.pop(key, None)
        waiting = self._wait.pop(key, [])
        live = [again for again in waiting if not again.lapsed]
        for again in live:
            again.waiting = False
        for surplus in live[1:]:
            self._hand_over(surplus)
        return live[0] if live else None

    def _waits_no_more(self, key: Key, delivery: RabbitDelivery) -> None:
        waiting = self._wait.get(key, [])
        if delivery in waiting:
            waiting.remove(delivery)
            delivery.waiting = False
            if not delivery.lapsed:
                self._hand_over(delivery)

    def _remember(self, key: Key) -> None:
        self._well[key] = self._well.pop(key, 0) + 1
        if len(self._well) > REMEMBERED:
            self._well.popitem(last=False)

    def _forget_one(self, key: Key) -> None:
        if self._well[key] == 1:
            del self._well[key]
        else:
            self._well[key] -= 1


def _key(delivery: RabbitDelivery) -> Key:
    """What tells an event from others, also from one that its publisher has given the same id."""
    return delivery.id, blake2b(delivery.body, digest_size=16).digest()
