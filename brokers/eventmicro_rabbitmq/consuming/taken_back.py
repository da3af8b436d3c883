"""Events that RabbitMQ has taken back while they were here: what became of them all the same."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from math import inf

from eventmicro_rabbitmq.consuming.incoming import RabbitDelivery, fingerprint

# How long one that comes again waits, in seconds, where nobody says how long a handler may take: for one that is about
# to end, or to become a dead letter.
BRIEF = 1.0
# Of how many events it is remembered what became of them.
REMEMBERED = 10_000

Key = tuple[str, str]


class TakenBack:
    """Settles what is not with us any more: what ended well is acknowledged when it comes again, and not run again.

    Only where it provably is that one: by the id that its publisher gave it and all else that it is, and for as long as
    RabbitMQ would take to take it back from another instance. An event without an id is run again, as it may be another
    one that says the same.

    Args:
        ack: acknowledges one that has come again.
        hand_over: hands one over that has come again.
        patience: how long one that comes again waits for the handler that is still at it, in seconds from when it was
            taken back; None: nobody says how long it may take.
        lifetime: for how long it is remembered what became of one, in seconds.
    """

    def __init__(
        self,
        ack: Callable[[RabbitDelivery], None],
        hand_over: Callable[[RabbitDelivery], None],
        patience: float | None,
        lifetime: float,
    ) -> None:
        self._ack = ack
        self._hand_over = hand_over
        self._patience = patience
        self._lifetime = lifetime
        self._clock = asyncio.get_running_loop().time
        self._well: OrderedDict[Key, float] = OrderedDict()  # until when it is remembered
        self._running: OrderedDict[Key, float] = OrderedDict()  # until when they are waited for
        self._wait: dict[Key, list[RabbitDelivery]] = {}
        self._not_counted: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how often, and until when

    def take(self, begun: Iterable[RabbitDelivery], *, too_slow: bool = False) -> None:
        """RabbitMQ has taken these back, at which handlers are.

        Args:
            too_slow: it says so; such are not run beside themselves, though nobody says how long they may take.
        """
        patience = self._patience if self._patience is not None else inf if too_slow else BRIEF
        until = self._clock() + patience
        for delivery in begun:
            delivery.holder = self
            self._running[_key(delivery)] = until
        while len(self._running) > REMEMBERED:
            self._running.popitem(last=False)

    def ended_well(self, deliveries: Iterable[RabbitDelivery]) -> None:
        """These have been acknowledged, and RabbitMQ does not know it."""
        for delivery in deliveries:
            self._remember(delivery)

    def not_counted(self, deliveries: Iterable[RabbitDelivery]) -> None:
        """These come again, and RabbitMQ counts that, though nobody has begun with them or it is not their fault."""
        for delivery in deliveries:
            times = self._times_not_counted(delivery) + 1
            self.counted(delivery)
            self._not_counted[delivery.id] = times, self._clock() + self._lifetime
            if len(self._not_counted) > REMEMBERED:
                self._not_counted.popitem(last=False)

    def counted(self, delivery: RabbitDelivery) -> None:
        """What is said of it from now on says all."""
        self._not_counted.pop(delivery.id, None)

    def was_not_begun(self, delivery: RabbitDelivery) -> bool:
        """Whether one that comes again was only held here; its attempts are put right."""
        times = self._times_not_counted(delivery)
        delivery.attempt = max(1, delivery.attempt - times)
        return times > 0

    def keeps(self, delivery: RabbitDelivery) -> bool:
        """Whether one that comes again is not to be handed over: it ended well, or is still being handled here."""
        if not (self._well or self._running):
            return False
        key = _key(delivery)
        if self._well.pop(key, 0.0) > self._clock():
            self._ack(delivery)
            return True
        until = self._running.get(key, 0.0)
        if until <= self._clock():
            return False
        delivery.waiting = True
        self._wait[key] = [*(other for other in self._wait.get(key, []) if not other.lapsed), delivery]
        if until < inf:
            asyncio.get_running_loop().call_at(until, self._waits_no_more, key, delivery)
        return True

    def ack(self, delivery: RabbitDelivery) -> None:
        """The handler of one that was taken back has ended well."""
        again = self._next(_key(delivery))
        if again is None:
            self._remember(delivery)
        elif _has_id(again):
            self._ack(again)
        else:
            self._hand_over(again)

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

    def _times_not_counted(self, delivery: RabbitDelivery) -> int:
        times, until = self._not_counted.get(delivery.id, (0, 0.0))
        return times if until > self._clock() else 0

    def _remember(self, delivery: RabbitDelivery) -> None:
        if not _has_id(delivery):
            return
        key = _key(delivery)
        self._well.pop(key, None)
        self._well[key] = self._clock() + self._lifetime
        if len(self._well) > REMEMBERED:
            self._well.popitem(last=False)


def _key(delivery: RabbitDelivery) -> Key:
    """What tells an event from others, also from one that its publisher has given the same id."""
    return delivery.id, fingerprint(delivery.subject, delivery.properties, delivery.body)


def _has_id(delivery: RabbitDelivery) -> bool:
    """Whether its publisher has given it an id; else it has one that others have which say the same."""
    made_up = fingerprint(delivery.subject, delivery.properties, delivery.body)
    return delivery.properties.message_id not in (None, "", made_up)
