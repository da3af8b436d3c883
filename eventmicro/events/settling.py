"""What becomes of an event when its handler has ended: acknowledged, tried again, or given up as a dead letter.

Publishing the dead letter comes before the acknowledgement, so that an event is in one place too many for a moment
rather than in none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from eventmicro.broker import Broker
from eventmicro.errors import (
    Ack,
    EventMicroError,
    MessageTooLarge,
    Nack,
    NotStored,
    Reject,
    ServiceError,
    Settlement,
    UsageError,
    unwrapped,
)
from eventmicro.events.options import AckMode, DeliveryOptions
from eventmicro.events.reasons import describe, kind_of, rejected
from eventmicro.fields import of_event, of_handler
from eventmicro.message import Copy, Delivery, Message
from eventmicro.repeating import Repeating, origin, readable
from eventmicro.retry import Retry
from eventmicro.wire import (
    CONTENT_ENCODING,
    CONTENT_TYPE,
    DEAD_ATTEMPTS,
    DEAD_QUEUE,
    DEAD_REASON,
    DEAD_SUBJECT,
    LARGE,
    MAX_REASON,
    header,
    header_line,
    one_line,
)

log = logging.getLogger(__name__)

# The headers without which nobody can read a body.
FORM = (CONTENT_TYPE, CONTENT_ENCODING, LARGE)

# An event that was delivered this many times as often as `retry` allows, and was settled not once, is given up without
# being handled: it ends the process that handles it. Only the first one in the life of a process is: those that waited
# behind it were delivered as often and are not to blame.
WORN_OUT = 2
# And no sooner than after this many: what an instance held and had not begun when it ended was delivered, too.
LEAST_WORN_OUT = 10

# How many events are remembered whose dead letter could not be published, and how soon at the earliest that is tried
# again, in seconds.
MAX_OWED = 10_000
LEAST_PAUSE = 1.0
# No event waits longer for its next attempt, in seconds: 30 days, which every broker can count.
LONGEST_DELAY = 30 * 86400.0

# What is said of many, in place of a line each.
AGAIN = "attempts failed and come again, the last by %s"
LAST = "last attempts failed, the last by %s"


class Settling(Protocol):
    """What a subscriber does with its events when they have been handled."""

    @property
    def dead_letters(self) -> int:
        """How many events were given up, into the dead letters."""
        ...

    @property
    def retried(self) -> int:
        """How many attempts failed and come again."""
        ...

    @property
    def ack(self) -> AckMode | None:
        """When an event is acknowledged; None where there is nothing to settle."""
        ...

    @property
    def told(self) -> Repeating:
        """What of its events was said in the log."""
        ...

    def refuses(self, delivery: Delivery) -> str | None:
        """Why an event is to be given up without being handled; None where it is to be handled."""
        ...

    async def failed(self, delivery: Delivery, error: BaseException, *, alone: bool = True) -> float | None:
        """Its handler has raised; in how many seconds it is to be delivered again, or None: it is settled.

        A CancelledError says nothing about the event: it is to be delivered again at once. Not `alone`: it was handled
        together with others, and the error may be of any of them.
        """
        ...

    async def give_up(self, delivery: Delivery, reason: str) -> float | None:
        """Settle one that is not to be handled: its handler has not begun with it. Returns as `failed`."""
        ...

    def close(self) -> None:
        """The subscriber stops: tell the numbers of what was not said."""
        ...


class Tells:
    """A base for what says in the log what became of events: the same again and again is counted.

    Args:
        name: the subscriber's.
        queue: the queue's, if it has a name.
    """

    def __init__(self, name: str, queue: str | None) -> None:
        self._name = name
        self._queue_name = queue
        self._told: Repeating | None = None

    @property
    def told(self) -> Repeating:
        """What of its events was said; made when there is something, as there may be very many subscribers."""
        if self._told is None:
            self._told = Repeating(log, self._name, of_handler(self._name, self._queue_name))
        return self._told

    def close(self) -> None:
        """Tell the numbers of what was not said."""
        if self._told is not None:
            self._told.close()

    def _say(
        self, level: int, delivery: Delivery, text: str, *arguments: object, error: BaseException | None = None
    ) -> None:
        fields = of_event(self.told.fields, delivery)
        subject, arguments = one_line(delivery.subject), tuple(map(readable, arguments))
        log.log(level, "%s: event on %s " + text, self._name, subject, *arguments, exc_info=error, extra=fields)


class Live(Tells):
    """For subscriptions whose broker keeps nothing: what went wrong is a line in the log."""

    dead_letters = retried = 0
    ack: AckMode | None = None

    def __init__(self, name: str, queue: str | None = None) -> None:
        super().__init__(name, queue)

    def refuses(self, delivery: Delivery) -> str | None:
        return None

    async def failed(self, delivery: Delivery, error: BaseException, *, alone: bool = True) -> float | None:
        raised, error = error, unwrapped(error)
        if isinstance(error, asyncio.CancelledError):
            if not self.told.counts(("cut off",), logging.WARNING, "events cut off"):
                self._say(logging.WARNING, delivery, "cut off")
        elif isinstance(error, Nack | Reject):
            what = describe(error)
            if not self.told.counts(("gone", type(error)), logging.WARNING, "events are gone: %s", what):
                self._say(logging.WARNING, delivery, "is gone: %s; this queue is not durable", what)
        elif not isinstance(error, Ack):
            what = describe(error)
            if not self.told.counts(("failed", *origin(error)), logging.ERROR, "events failed, the last by %s", what):
                self._say(logging.ERROR, delivery, "failed", error=raised if alone else None)
        return None

    async def give_up(self, delivery: Delivery, reason: str) -> float | None:
        if not self.told.counts(("skipped", kind_of(reason)), logging.WARNING, "events skipped, the last: %s", reason):
            self._say(logging.WARNING, delivery, "skipped, %s", reason)
        return None


@dataclass(frozen=True, slots=True)
class Letter:
    """What a dead letter says: why its event was given up, and after how many attempts."""

    reason: str
    attempts: int


class Kept(Tells):
    """For durable queues: an event is settled by what became of it, and given up only into the dead letters."""

    def __init__(self, name: str, broker: Broker, options: DeliveryOptions, wildcards: bool = False) -> None:
        super().__init__(name, options.queue_name)
        self.dead_letters = self.retried = 0
        self.ack: AckMode | None = options.ack
        self._broker = broker
        self._wildcards = wildcards
        self._queue = options.queue_name or ""
        self._retry = options.retry or Retry()
        self._dead_letter = options.dead_letter_subject()
        self._bearable = max(WORN_OUT * self._retry.attempts, LEAST_WORN_OUT)
        self._worn_out = ""
        self._owed: dict[str, Letter] = {}

    def refuses(self, delivery: Delivery) -> str | None:
        if self._owed and (owed := self._owed.get(delivery.id)) is not None:
            return owed.reason
        if delivery.attempt <= self._bearable or self._worn_out not in ("", delivery.id):
            return None
        if header(delivery.headers, DEAD_SUBJECT) not in (None, delivery.subject):
            return None  # a dead letter where it is kept: whoever looks at it there gives it back, which counts
        self._worn_out = delivery.id
        return f"delivered {delivery.attempt} times and never settled"

    async def failed(self, delivery: Delivery, error: BaseException, *, alone: bool = True) -> float | None:
        raised, error = error, unwrapped(error)
        if isinstance(error, Ack):
            await delivery.ack()
            return None
        if isinstance(error, Reject) and (alone or self.ack == "before"):
            return await self._give_up(delivery, rejected(error.reason), is_acked=self.ack == "before")
        if isinstance(error, asyncio.CancelledError):
            if delivery.attempt > self._bearable:
                why = f"cancelled, after {delivery.attempt} deliveries"
                return await self._give_up(delivery, why, is_acked=self.ack == "before")
            return self._cut_off(delivery)
        if self.ack == "before":
            shown = raised if alone and self.told.traced(error) else None
            self._say(logging.ERROR, delivery, "failed and is gone: %s", describe(error), error=shown)
            return None
        if not alone and not isinstance(error, Nack):
            self.retried += 1
            return self._delay(delivery.attempt)
        if self._again(error, delivery.attempt):
            delay = self._delay_after(error, delivery.attempt)
            self.retried += 1
            self._say_again(delivery, error, raised, delay)
            return delay
        self._say_last(delivery, error, raised)
        times = "once," if delivery.attempt == 1 else f"{delivery.attempt} times, the last time"
        return await self.give_up(delivery, f"failed {times} by {describe(error)}")

    async def give_up(self, delivery: Delivery, reason: str) -> float | None:
        return await self._give_up(delivery, reason, is_acked=False)

    async def _give_up(self, delivery: Delivery, reason: str, *, is_acked: bool) -> float | None:
        """Make it a dead letter, then acknowledge it; where that cannot be published it comes again, unless it was."""
        if self._dead_letter is None:
            self._say(logging.ERROR, delivery, "is given up: %s", reason)  # each, as nothing else is left of it
        elif self._is_letter(delivery):
            if not self.told.counts(("stays", kind_of(reason)), logging.WARNING, "dead letters stay there: %s", reason):
                subject, fields = one_line(delivery.subject), of_event(self.told.fields, delivery)
                log.warning(
                    "%s: dead letter on %s stays there: %s", self._name, subject, one_line(reason), extra=fields
                )
        else:
            letter = self._owed.get(delivery.id) or Letter(reason, delivery.attempt)
            try:
                await self._publish_dead_letter(self._dead_letter, delivery, letter)
            except Exception as error:
                return self._owe(delivery, letter, error, is_acked=is_acked)
            self._owed.pop(delivery.id, None)
            self._say_dead(delivery, self._dead_letter, letter.reason)
            self.dead_letters += 1
        await delivery.ack()
        return None

    def _owe(self, delivery: Delivery, letter: Letter, error: Exception, *, is_acked: bool) -> float | None:
        """Say why a dead letter could not be published; its event comes again for that, and is not handled again."""
        if not is_acked and delivery.id:
            self._owed[delivery.id] = letter
            if len(self._owed) > MAX_OWED:
                del self._owed[next(iter(self._owed))]
        if not isinstance(error, EventMicroError):
            raise error
        if is_acked:
            self._say(logging.ERROR, delivery, "is gone, its dead letter: %s", error)
            return None
        pause = max(self._retry.longest, LEAST_PAUSE)
        if not self.told.counts(("owed", *origin(error)), logging.ERROR, "events are kept, the last for: %s", error):
            self._say(logging.ERROR, delivery, "is kept, its dead letter: %s; tried again in %g s", error, pause)
        return pause

    def _cut_off(self, delivery: Delivery) -> float | None:
        is_gone = self.ack == "before"
        what_now = "and is gone" if is_gone else "it will be delivered again"
        self._say(logging.WARNING, delivery, "cut off, %s", what_now)
        return None if is_gone else 0.0

    def _again(self, error: BaseException, attempt: int) -> bool:
        if isinstance(error, Nack):
            return attempt < self._retry.attempts
        return self._retry.again(error, attempt)

    def _say_again(self, delivery: Delivery, error: BaseException, raised: BaseException, delay: float) -> None:
        """One line; with a traceback where this kind of error is new."""
        is_asked = isinstance(error, Settlement)
        level, what = logging.INFO if is_asked else logging.WARNING, describe(error)
        if not self.told.counts(("again", *origin(error)), level, AGAIN, what):
            shown = raised if not is_asked and self.told.traced(error) else None
            text = "failed, attempt %d of %d, comes again in %.3g s: %s"
            self._say(level, delivery, text, delivery.attempt, self._retry.attempts, delay, what, error=shown)

    def _say_last(self, delivery: Delivery, error: BaseException, raised: BaseException) -> None:
        is_asked = isinstance(error, Settlement)
        level, what = logging.INFO if is_asked else logging.ERROR, describe(error)
        if not self.told.counts(("last", *origin(error)), level, LAST, what):
            shown = None if is_asked else raised
            text = "failed, attempt %d of %d: %s"
            self._say(level, delivery, text, delivery.attempt, self._retry.attempts, what, error=shown)

    def _say_dead(self, delivery: Delivery, where: str, reason: str) -> None:
        if not self.told.counts(("dead", kind_of(reason)), logging.WARNING, "events went to %s: %s", where, reason):
            self._say(logging.WARNING, delivery, "went to %s: %s", where, reason)

    def _delay_after(self, error: BaseException, attempt: int) -> float:
        """The same after an error that may say when."""
        delay = self._delay(attempt, error.delay if isinstance(error, Nack) else None)
        after = error.retry_after if isinstance(error, ServiceError) else None
        return delay if after is None else min(max(delay, after), LONGEST_DELAY)

    def _delay(self, attempt: int, asked: float | None = None) -> float:
        """In how many seconds it comes again; a Retry of the user's own may say anything, and fails here if at all."""
        delay = self._retry.delay(attempt) if asked is None else asked
        return min(max(0.0, delay), LONGEST_DELAY)

    def _is_letter(self, delivery: Delivery) -> bool:
        """Whether it is a dead letter that a wildcard brought from where it is kept, not one that was published again.

        Of these new ones would be made without end.
        """
        return self._wildcards and header(delivery.headers, DEAD_SUBJECT) not in (None, delivery.subject)

    async def _publish_dead_letter(self, subject: str, delivery: Delivery, letter: Letter) -> None:
        about = {
            DEAD_REASON: header_line(letter.reason, MAX_REASON),
            DEAD_ATTEMPTS: str(letter.attempts),
            DEAD_SUBJECT: delivery.subject,
            DEAD_QUEUE: self._queue,
        }
        if not delivery.body and (where := header(delivery.headers, LARGE)) is not None:  # without it nothing is left
            about[LARGE] = where
        name = f"{self._queue}.{delivery.id}" if delivery.id else None
        headers, key = {**(delivery.headers or {}), **about}, delivery.key
        try:
            await self._broker.publish(Copy(subject, delivery.body, headers, key=key, id=name, of=delivery))
        except MessageTooLarge:  # by its headers: with its own, and its key, it just fitted
            await self._broker.publish(Message(subject, delivery.body, about, id=name))
        except UsageError:  # another client's header, or id, which cannot be sent from here
            await self._broker.publish(Message(subject, delivery.body, about, key=key))
        except NotStored:  # perhaps for one of its headers, which may be an order to a broker of another kind
            readable = {word: said for word in FORM if (said := header(delivery.headers, word))}
            await self._broker.publish(Message(subject, delivery.body, readable | about, key=key, id=name))


class ByHandler:
    """Settles what a handler settles itself, by its context's `ack`, `nack` and `reject`.

    again: has an event delivered again in so many seconds.
    settled: is told of each event that was settled.
    """

    def __init__(
        self,
        settling: Settling,
        again: Callable[[Delivery, float], Awaitable[None]],
        settled: Callable[[Delivery], None],
    ) -> None:
        self._settling = settling
        self._again = again
        self._settled = settled

    async def ack(self, event: Delivery) -> None:
        await event.ack()
        self._settled(event)

    async def nack(self, event: Delivery, delay: float | None) -> None:
        await self._finish(event, await self._settling.failed(event, Nack(delay)))

    async def reject(self, event: Delivery, reason: str) -> None:
        await self._finish(event, await self._settling.failed(event, Reject(reason)))

    async def _finish(self, event: Delivery, delay: float | None) -> None:
        if delay is not None:
            await self._again(event, delay)
        self._settled(event)
