"""How it is with the queues of a node, asked of its broker when somebody looks at the figures; seldom, and never for
long, as who scrapes has little time, and a broker that is away has no answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from eventmicro.broker import Broker, QueueState, TellsQueues
from eventmicro.errors import TransportError, UsageError
from eventmicro.events.declare import SubscriberDeclaration

if TYPE_CHECKING:
    from eventmicro.discovery.report import QueueFigures

log = logging.getLogger(__name__)

# For how long an answer is as good as a new one, in seconds, as all that follows; longer where there are more queues
# than are asked about at this many a second, as other instances ask, too.
FRESH = 15.0
A_SECOND = 20
# For how many times as long it is told where no newer one is to be had.
TOLD = 6
# How long who looks waits for answers. What comes later is there for the next one.
PATIENCE = 0.25
# How long a round of questions may take, and how many queues are asked about at the same time.
ROUND = 10.0
AT_ONCE = 8
# After how long a question that was refused is asked again: a right that is missing may have been given.
REFUSED = 600.0


class Place(NamedTuple):
    """A queue that is asked about, and the subject whose events it keeps."""

    queue: str
    subject: str


Places = tuple[Place, Place | None]
"""The queue of a subscriber, and that of its dead letters, if it keeps any."""


@dataclass(slots=True)
class _Asked:
    """What is known of one queue: the last answer, when it came, and when to ask again."""

    state: QueueState | None = None
    at: float = float("-inf")
    again: float = 0.0


class Queues:
    """What the broker says of the durable queues of a node's subscribers, and of those of their dead letters. Lives as
    long as its node.

    Args:
        service: whose they are, for the log.
        broker: where they are; one that does not tell is not asked.
        subscribers: those of the node, which come and go.
    """

    def __init__(self, service: str, broker: Broker, subscribers: Iterable[SubscriberDeclaration]) -> None:
        self._service = service
        self._broker = broker
        self._telling = broker if isinstance(broker, TellsQueues) else None
        self._subscribers = subscribers
        self._asked: dict[Place, _Asked] = {}
        self._places: dict[str, Places] = {}
        self._fresh = FRESH
        self._round: asyncio.Task[None] | None = None
        self._told: set[str] = set()

    async def look(self) -> None:
        """Ask for what is not known, or not any more, and wait a moment for the answers."""
        telling = self._telling
        if self._round is None and telling is not None and self._broker.online and (due := self._due()):
            self._round = asyncio.create_task(self._ask_all(telling, due), name="eventmicro queue states")
        if self._round is not None:
            await asyncio.wait([self._round], timeout=PATIENCE)

    def of(self, subscriber: str) -> tuple[QueueFigures | None, QueueFigures | None]:
        """What was said of the queue of a subscriber, and of that of its dead letters; None: nothing, or that was too
        long ago.
        """
        queue, letters = self._places.get(subscriber, (None, None))
        return self._figures(queue), self._figures(letters)

    def _figures(self, place: Place | None) -> QueueFigures | None:
        from eventmicro.discovery.report import QueueFigures

        found = None if place is None else self._asked.get(place)
        if found is None or found.state is None or monotonic() - found.at > TOLD * self._fresh:
            return None
        state = found.state
        return QueueFigures(
            name=state.queue,
            waiting=state.waiting,
            unsettled=state.unsettled,
            consumers=state.consumers,
            oldest=state.oldest,
        )

    async def close(self) -> None:
        """Ask no more."""
        self._telling = None
        if self._round is not None:
            self._round.cancel()
            await asyncio.wait([self._round])

    def _due(self) -> deque[Place]:
        """Those to be asked about, the one first that was not for the longest time, whether it was answered or not."""
        able = self._broker.capabilities
        self._places = {each.name: _places_of(each) for each in self._subscribers if each.options.is_durable(able)}
        own, letters = zip(*self._places.values(), strict=True) if self._places else ((), ())
        there = dict.fromkeys(place for place in (*own, *letters) if place is not None)
        self._asked = {place: self._asked.get(place) or _Asked() for place in there}
        self._fresh = max(FRESH, len(there) / A_SECOND)
        now = monotonic()
        due = (place for place, asked in self._asked.items() if asked.again <= now)
        return deque(sorted(due, key=lambda place: self._asked[place].again))

    async def _ask_all(self, broker: TellsQueues, due: deque[Place]) -> None:
        asking = [asyncio.create_task(self._ask_some(broker, due)) for _ in range(min(AT_ONCE, len(due)))]
        try:
            async with asyncio.timeout(ROUND):
                await asyncio.gather(*asking)
        except (TimeoutError, TransportError) as error:  # it is away: the log of its adapter says so
            log.debug("service %r: the broker does not say how it is with its queues: %r", self._service, error)
        except Exception as error:  # a stranger's adapter
            self._say_once(f"{type(error).__name__}: {error}")
        finally:
            due.clear()
            for task in asking:  # where one has failed the others still ask
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            self._round = None

    async def _ask_some(self, broker: TellsQueues, due: deque[Place]) -> None:
        while due:
            place = due.popleft()
            asked = self._asked.get(place) or _Asked()  # one that is gone meanwhile
            asked.again = monotonic() + self._fresh
            try:
                asked.state = await broker.queue_state(place.queue, subject=place.subject)
                asked.at = monotonic()
            except UsageError as error:
                asked.again = monotonic() + REFUSED
                self._say_once(str(error))
            except TransportError as error:
                if not self._broker.online:
                    raise
                log.debug("service %r: no answer about queue %s: %r", self._service, place.queue, error)

    def _say_once(self, why: str) -> None:
        if why not in self._told and len(self._told) < AT_ONCE:
            self._told.add(why)
            log.warning("service %r: its figures lack how it is with queues: %s", self._service, why)


def _places_of(declared: SubscriberDeclaration) -> Places:
    """Where a subscriber's events are, and its dead letters: their queue has the name of their subject."""
    own, letters = Place(declared.options.queue_name or "", declared.subject), declared.options.dead_letter_subject()
    return own, None if letters is None else Place(letters, letters)
