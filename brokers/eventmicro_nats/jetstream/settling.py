"""What is here of a queue and not settled: its leases, and what settles it, said to no other queue of the same name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from eventmicro_nats.connection.driver import Driver, Perishable
from eventmicro_nats.jetstream.deliveries import ACK, IN_PROGRESS, JetStreamDelivery
from eventmicro_nats.jetstream.last_acks import LastAcks
from eventmicro_nats.jetstream.queues import Queue

# The start of a subject where an event is settled.
SETTLE = b"$JS.ACK."
# How such a subject ends where it is of none.
_NO_EVENT = "1.0.0.0.0"
# After which part of its time a lease that was not extended counts as lost: it was extended on the way there.
LAPSE = 0.75


class Settling:
    """The unsettled events of a subscription.

    What came before the connection was lost is settled when it is known that the queue is still the same: in one that
    was made anew the word for event 5 would settle another event 5, which nobody has handled.

    Attributes:
        ended: whether no more are taken.
        unsettled: they, by their sequence.
    """

    def __init__(self, queue: Queue, prefetch: int) -> None:
        self.ended = False
        self.unsettled: dict[int, JetStreamDelivery] = {}
        self._loop = asyncio.get_running_loop()
        self._queue = queue
        self._driver: Driver | None = None
        self._acks = LastAcks(2 * prefetch)
        self._held: dict[int, bytes | None] = {}  # what came before, each with the word for it once there is one
        self._asks_for_info = True  # unless that is not permitted
        self._leader = ""  # the server of a cluster that leads the queue

    @property
    def queue(self) -> Queue:
        """Where they come from."""
        return self._queue

    def _ask_soon(self) -> None:
        """One is settled, so there is room for another."""
        raise NotImplementedError

    def lost(self) -> None:
        """The connection is away."""
        self._acks.in_doubt = self._asks_for_info = True
        self._held = dict.fromkeys(self.unsettled) | self._held
        if self._driver is not None:
            self._driver.drop_unsent(b"PUB " + SETTLE)  # acks are said again when it is known whose they are

    def _is_last(self, delivery: JetStreamDelivery) -> bool:
        """Whether the server would give it up now, and nobody here hear of that; when its lease ends, somebody may."""
        return self.ended and delivery.attempt == self._queue.max_deliver

    def _may_give_back(self, delivery: JetStreamDelivery) -> bool:
        """Whether a NAK does no harm: one whose lease is over comes again by itself, and a NAK would take it from who
        has it by then.
        """
        in_time = self._loop.time() - delivery.leased <= LAPSE * self._queue.ack_wait
        return bool(delivery.settle_at) and in_time and not self._is_last(delivery)

    def settle(self, delivery: JetStreamDelivery, word: bytes) -> None:
        sequence = delivery.sequence
        if self.unsettled.get(sequence) is not delivery:
            return
        if self._held and sequence in self._held:
            self._held[sequence] = self._held[sequence] or word
            return
        del self.unsettled[sequence]
        settle_at = delivery.settle_at
        if word is ACK:
            if settle_at:
                command = b"PUB %b 4\r\n+ACK\r\n" % settle_at
                self._acks.note(command)
                if self._driver is not None:
                    self._driver.push(command)
            else:
                self._acks.remember((sequence, delivery.stored))
        elif self._driver is not None and self._may_give_back(delivery):
            self._driver.push(delivery.command(word))
        self._ask_soon()

    def _settle_what_waits(self, first: int, leader: str) -> None:
        """The queue is the same, or what was held is disowned.

        Args:
            first: the sequence behind its ack floor.
            leader: who has just said so, and is there to hear acks again that may be lost.
        """
        self._acks.forget_before(first)
        if self._driver is not None and (self._acks.in_doubt or leader != self._leader):
            self._say_acks_again(self._driver, first)
            self._acks.in_doubt, self._leader = False, leader
        self._let_go_of_held()

    def _let_go_of_held(self) -> None:
        """It is known by now to which queue they belong."""
        held, self._held = self._held, {}
        for sequence, word in held.items():
            delivery = self.unsettled.get(sequence)
            if word is not None and delivery is not None:
                self.settle(delivery, word)

    def _come_from(self, found: Queue) -> None:
        """A request was lost, and this is the queue from now on; those that were acked may come again."""
        before, self._queue = self._queue, replace(found, created=found.created or self._queue.created)
        if before.created in ("", self._queue.created):
            self._acks.remember_events()
            self._acks.in_doubt = True
        else:
            self._disown(self.unsettled)

    def _disown(self, sequences: Iterable[int]) -> None:
        """Their queue is gone: what settles them would in another one settle what nobody has handled."""
        self._acks.forget_commands()
        for sequence in sequences:
            if sequence in self.unsettled:
                self.unsettled[sequence].settle_at = b""

    def refused(self, text: str) -> bool:
        """The server has refused to take something, in these words. Acks are said again until it does; whether it was a
        question that is not needed.
        """
        text, name = text.lower(), f"{self._queue.stream}.{self._queue.consumer}".lower()
        self._acks.in_doubt |= f"$js.ack.{name}." in text
        if self._queue.begin is not None or f'$js.api.consumer.info.{name}"' not in text:
            return False
        self._asks_for_info = False
        self._do_without_info()
        return True

    @property
    def rights(self) -> list[str]:
        """The subjects to which this user must be able to publish."""
        name = f"{self._queue.stream}.{self._queue.consumer}"
        return [f"$JS.API.CONSUMER.MSG.NEXT.{name}", f"$JS.ACK.{name}.{_NO_EVENT}"]

    def try_rights(self, driver: Driver) -> None:
        """Say to the server what it may refuse, and what changes nothing: it has no such event."""
        name = f"{self._queue.stream}.{self._queue.consumer}"
        driver.push(Perishable(b"PUB $JS.API.CONSUMER.MSG.NEXT.%b 0\r\n\r\n" % name.encode()))
        subject = f"$JS.ACK.{name}.{_NO_EVENT}".encode()
        driver.push(Perishable(b"PUB %b %d\r\n%b\r\n" % (subject, len(IN_PROGRESS), IN_PROGRESS)))

    def _do_without_info(self) -> None:
        """Whose queue it is cannot be known here: it is taken for the same one."""
        if self._acks.in_doubt and self._driver is not None:
            self._say_acks_again(self._driver)
            self._acks.in_doubt = False
        self._let_go_of_held()

    def _say_acks_again(self, driver: Driver, first: int = 0) -> None:
        """For what was on its way to a connection that is lost, or to the former leader of a cluster, is gone."""
        for command in self._acks.to_say_again(first):
            driver.push(command)

    def _extend_leases(self, driver: Driver, age: float) -> None:
        """Extend the lease of all that have one of this age, in seconds, or more.

        One that is over is another's, perhaps: what extends it would hold the event there.
        """
        now, longest = self._loop.time(), LAPSE * self._queue.ack_wait
        for delivery in self.unsettled.values():
            if age <= now - delivery.leased < longest and delivery.settle_at:
                delivery.leased = now
                driver.push(Perishable(delivery.command(IN_PROGRESS)))
