"""DeadLetters: the letters of one queue, to look at them, to publish their events again, to drop them.

They are read as any consumer reads them, held while they are looked at, and given back; only those that were published
again, or are to be dropped, are acknowledged, one by one. So whatever ends the work in the middle, what was not done
stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sized
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from math import inf
from typing import Any

from eventmicro.broker import Broker, Capabilities, QueueState, TellsQueues
from eventmicro.checks import check_count, check_seconds, did_you_mean
from eventmicro.errors import Disconnected, EventMicroError, NotAllPublished, TransportError, UsageError
from eventmicro.events.browsing import AHEAD, HOLD, QUIET, Browsing
from eventmicro.message import Copy, Delivery
from eventmicro.plugins import brokers_with
from eventmicro.wire import DEAD_ATTEMPTS, DEAD_QUEUE, DEAD_REASON, DEAD_SUBJECT, header

DEAD = "dead."
# How many events are published together, and then waited for.
WINDOW = AHEAD
# How long is waited at the end until the broker knows of it, and how often it is asked, in seconds.
LEAVE_TIMEOUT = 15.0
LOOK_INTERVAL = 0.05
# How often in a second the rate is kept, so that a small one is no burst.
PACE = 10
ABOUT = frozenset(name.lower() for name in (DEAD_REASON, DEAD_ATTEMPTS, DEAD_SUBJECT, DEAD_QUEUE))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that was given up, and what is said of its end."""

    id: str
    """The same each time this letter is read."""
    subject: str
    """Where its event was published; empty: it does not say."""
    queue: str
    """Whose event it was."""
    reason: str
    attempts: int
    """How often the event had been delivered."""
    time: datetime | None
    """When the broker stored it; on RabbitMQ when the event was published; None: the broker does not say."""
    headers: Mapping[str, str]
    """Those of the event, without what is said of its end."""
    body: bytes
    delivery: Delivery
    """How the broker has delivered it."""

    @classmethod
    def read(cls, delivery: Delivery) -> DeadLetter:
        """The letter that a delivery is, whoever has written it."""
        said = delivery.headers
        attempts = header(said, DEAD_ATTEMPTS) or ""
        return cls(
            delivery.id,
            header(said, DEAD_SUBJECT) or "",
            header(said, DEAD_QUEUE) or "",
            header(said, DEAD_REASON) or "",
            int(attempts) if attempts.isascii() and attempts.isdigit() and len(attempts) < 10 else 0,
            delivery.stored_at,
            {name: text for name, text in (said or {}).items() if name.lower() not in ABOUT},
            delivery.body,
            delivery,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which letters are meant: those of which all that is said here is true.

    reason, subject: a pattern as of a shell, in which `*` stands for any text; case does not matter in a reason. One
        without `*`, `?` and `[` is to be found anywhere in the reason, and is the whole of the subject, whose last
        token may be `>` as where it is subscribed to.
    since, before: when the letter was stored. One of which that is not known is not meant where either is asked for.
    id: that of one letter.
    """

    reason: str | None = None
    subject: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        for name in ("since", "before"):
            moment: datetime | None = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise UsageError(f"{name}={moment.isoformat()}: say in which time zone, as by datetime.now(UTC)")

    def __call__(self, letter: DeadLetter) -> bool:
        return (
            (self.id is None or letter.id == self.id)
            and (self.reason is None or _is_like(letter.reason.lower(), self.reason.lower(), anywhere=True))
            and (self.subject is None or _is_like(letter.subject, _with_tokens_behind(self.subject)))
            and (self.since is None or (letter.time is not None and letter.time >= self.since))
            and (self.before is None or (letter.time is not None and letter.time < self.before))
        )


ALL = LetterFilter()


@dataclass(slots=True)
class Outcome:
    """What has become of the letters: of those that were `read`, `done` were published again or dropped."""

    expected: int | None = None
    """How many there were at the beginning, as the broker says."""
    read: int = 0
    meant: int = 0
    done: int = 0
    failed: int = 0
    """Those that could not be published; they stay, as do all that were not meant."""
    error: Exception | None = None
    """Why the first of these could not."""
    absent: int = 0
    """How many were to be there and did not come: another consumer has them, or had them and is gone, so that they
    come again when its lease ends."""
    is_full: bool = False
    """It ended because no more may be held that stay; behind them there may be others."""


Progress = Callable[[Outcome], object]
Finish = Callable[[list[DeadLetter]], Awaitable[Mapping[int, Exception]]]


class DeadLetters:
    """The dead letters of one queue.

    Args:
        broker: where they are kept, connected: `client.broker`.
        queue: whose events they were, as `orders.bill`; `dead.orders.bill` is the same.
        subject: where they are, if its subscribers name a `dead_letter` of their own; default: `dead.<queue>`.
        hold: how many are held at most, on this side, that stay where they are.
        quiet: after how many seconds without another letter there are no more, though there were to be.

    Raises:
        UsageError: the broker keeps none.
    """

    def __init__(
        self, broker: Broker, queue: str, *, subject: str | None = None, hold: int = HOLD, quiet: float = QUIET
    ) -> None:
        if broker.capabilities.missing(needed := Capabilities(durable=True)):
            raise UsageError(f"{broker.url} keeps no dead letters; those that do: {', '.join(brokers_with(needed))}")
        check_count("hold", hold)
        check_seconds("quiet", quiet)
        self.queue = queue.removeprefix(DEAD)
        self.subject = subject or f"{DEAD}{self.queue}"
        self._broker = broker
        self._hold = hold
        self._quiet = quiet

    async def state(self) -> QueueState | None:
        """How many there are; None: this broker does not say it.

        Raises:
            UsageError: there is no such queue; it says which there are.
        """
        if not isinstance(self._broker, TellsQueues):
            return None
        state = await self._broker.queue_state(self.subject, subject=self.subject)
        if state is None:
            raise UsageError(f"there is no queue {self.subject} on {self._broker.url}{await self._others()}")
        return state

    async def read(self, which: LetterFilter = ALL, outcome: Outcome | None = None) -> AsyncGenerator[DeadLetter, None]:
        """Those that are there and are meant; all stay. They are held until it is closed, as by `aclosing`; where no
        more than `hold` may be, it ends. How many there are is counted in `outcome`.
        """
        outcome = outcome or Outcome()
        async with self._open(outcome) as browsing:
            async for letter, again in self._letters(browsing, outcome):
                if not again and which(letter):
                    outcome.meant += 1
                    yield letter

    async def replay(
        self,
        which: LetterFilter = ALL,
        *,
        to: str | None = None,
        rate: float | None = None,
        limit: int | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Outcome:
        """Publish the events again as they were, and acknowledge each letter when its event is stored.

        An event goes to its queue alone where the broker can do that, RabbitMQ; elsewhere to its subject, and so to
        all queues of that once more. It is published under an id that is the same for the same letter: killed and run
        again, JetStream stores it once, within its duplicate_window; elsewhere what was stored and not acknowledged
        yet, up to a few hundred, is published twice. Cancelled, it first finishes what it is about to publish.

        Args:
            to: publish to this subject, and to whoever subscribes to it.
            rate: how many a second at most.
            limit: how many at most.
            dry_run: count them, and do nothing.
            progress: called after each window with what has been done.
        """

        async def publish(letters: list[DeadLetter]) -> Mapping[int, Exception]:
            failed: dict[int, Exception] = {
                n: UsageError(f"letter {letter.id} does not say where its event was published: name a subject, by to=")
                for n, letter in enumerate(letters)
                if not (to or letter.subject)
            }
            numbers = [n for n in range(len(letters)) if n not in failed]
            refused = await self._publish([self._event(letters[n], to) for n in numbers])
            return failed | {numbers[n]: error for n, error in refused.items()}

        return await self._finish(which, publish, rate, limit, dry_run, progress)

    async def drop(
        self,
        which: LetterFilter = ALL,
        *,
        rate: float | None = None,
        limit: int | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Outcome:
        """Acknowledge the letters, so that they are gone; arguments as of `replay`."""

        async def nothing(letters: list[DeadLetter]) -> Mapping[int, Exception]:
            return {}

        return await self._finish(which, nothing, rate, limit, dry_run, progress)

    # -- how ---------------------------------------------------------------------------------------------------

    async def _finish(
        self,
        which: LetterFilter,
        finish: Finish,
        rate: float | None,
        limit: int | None,
        dry_run: bool,
        progress: Progress | None,
    ) -> Outcome:
        """Finish the letters that are meant, window by window."""
        if rate is not None and not 0 < rate < inf:
            raise UsageError(f"rate={rate!r}: write how many a second, more than 0")
        if limit is not None:
            check_count("limit", limit)
        outcome, window, pace = Outcome(), list[DeadLetter](), _Pace(rate)
        async with self._open(outcome) as browsing:
            async for letter, again in self._letters(browsing, outcome, window):
                if not which(letter):
                    continue
                outcome.meant += not again
                if not dry_run:
                    window.append(letter)
                is_last = outcome.meant == limit
                if is_last or len(window) >= pace.window:
                    await pace.wait(len(window))
                    await _to_its_end(self._finish_window(browsing, window, finish, outcome, progress))
                if is_last:
                    break
            await pace.wait(len(window))
            await _to_its_end(self._finish_window(browsing, window, finish, outcome, progress))
        return outcome

    async def _finish_window(
        self,
        browsing: Browsing,
        window: list[DeadLetter],
        finish: Finish,
        outcome: Outcome,
        progress: Progress | None,
    ) -> None:
        """Finish what is in the window, empty it, and tell of it. What was taken back meanwhile comes again.

        Raises:
            Disconnected: the broker is away; what is not done stays.
        """
        letters = [letter for letter in window if not letter.delivery.lapsed]
        window.clear()
        failed = await finish(letters) if letters else {}
        for number, letter in enumerate(letters):
            if number not in failed:
                await browsing.settle(letter.delivery)
        outcome.done += len(letters) - len(failed)
        outcome.failed += len(failed)
        outcome.error = outcome.error or next(iter(failed.values()), None)
        if progress is not None:
            progress(outcome)
        if away := next((error for error in failed.values() if isinstance(error, Disconnected)), None):
            raise away

    @asynccontextmanager
    async def _open(self, outcome: Outcome) -> AsyncGenerator[Browsing, None]:
        """The letters, and how many there are, as far as that is known."""
        state = await self.state()
        if state is not None and state.waiting is not None:
            outcome.expected = state.waiting + (state.unsettled or 0)
        browsing = Browsing(self._broker, self.subject, self._hold, self._quiet)
        if outcome.expected == 0:
            yield browsing
            return
        async with browsing:
            yield browsing
        if state is not None and state.consumers is not None:
            await self._left(state.consumers)

    async def _left(self, others: int) -> None:
        """Return when the broker has taken in that this consumer is gone, and with it what it has given back, or soon
        after: whoever looks next, here too, finds what is there.
        """
        with suppress(UsageError, TimeoutError):
            async with asyncio.timeout(LEAVE_TIMEOUT):
                while await self._consumers() > others:  # noqa: ASYNC110  it is asked for
                    await asyncio.sleep(LOOK_INTERVAL)

    async def _consumers(self) -> float:
        """How many there are; very many where that is not told just now."""
        try:
            state = await self.state()
        except TransportError:
            return inf
        return 0 if state is None else state.consumers or 0

    async def _letters(
        self, browsing: Browsing, outcome: Outcome, in_hand: Sized = ()
    ) -> AsyncIterator[tuple[DeadLetter, bool]]:
        """Those that were there at the beginning, each with whether it has come before, for as long as more may stay.

        Args:
            in_hand: those that are about to be finished.
        """
        while outcome.expected is None or outcome.read < outcome.expected:
            if len(browsing) - len(in_hand) >= self._hold:
                outcome.is_full = True
                return
            came = await browsing.next()
            if came is None:
                outcome.absent = max(0, (outcome.expected or 0) - outcome.read)
                return
            outcome.read += not came.again
            yield DeadLetter.read(came.delivery), came.again

    async def _publish(self, events: list[Copy]) -> Mapping[int, Exception]:
        """Publish events; why each was not that was not."""
        try:
            await self._broker.publish_many(events)
        except NotAllPublished as error:
            return error.failed
        except EventMicroError as error:
            return dict.fromkeys(range(len(events)), error)
        return {}

    def _event(self, letter: DeadLetter, to: str | None) -> Copy:
        """The event that was given up, as it was."""
        return Copy(
            to or letter.subject,
            letter.body,
            dict(letter.headers),
            key=letter.delivery.key,
            id=f"replay.{self.subject}.{letter.id}" if letter.id else None,
            of=letter.delivery,
            queue=None if to else letter.queue or None,
        )

    async def _others(self) -> str:
        """Which queues of dead letters there are, to be put behind an error."""
        states = await self._broker.queue_states() if isinstance(self._broker, TellsQueues) else None
        if states is None:
            return ": a subscriber with that queue makes it when it starts"
        names = [state.queue for state in states if state.queue.startswith(DEAD)]
        there_are = f": there are {', '.join(names)}" if names else ": there is none that begins with dead."
        return did_you_mean(self.subject, names) or there_are


class _Pace:
    """Keeps a rate, if there is one.

    Attributes:
        window: how many may go together.
    """

    def __init__(self, rate: float | None) -> None:
        self.window = WINDOW if rate is None else max(1, min(WINDOW, int(rate / PACE)))
        self._rate = rate
        self._due = _now()

    async def wait(self, count: int) -> None:
        """Return when so many may go on, behind those before."""
        if self._rate is not None:
            now = _now()
            await asyncio.sleep(max(0.0, self._due - now))
            self._due = max(self._due, now) + count / self._rate


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do it to its end also where this is cancelled, or what is published now would be published again."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)  # no longer than a broker may take to confirm
        raise


def _with_tokens_behind(subject: str) -> str:
    """The pattern of a shell for a subject that may end in `>`."""
    return f"{subject[:-1]}?*" if subject == ">" or subject.endswith(".>") else subject


def _is_like(text: str, pattern: str, *, anywhere: bool = False) -> bool:
    if any(sign in pattern for sign in "*?["):
        return fnmatchcase(text, pattern)
    return pattern in text if anywhere else text == pattern
