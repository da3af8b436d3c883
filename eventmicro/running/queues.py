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
from typing import TYPE_CHECKING

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


@dataclass(slots=True)
class _Asked:
    """What is known of one queue: the last answer, when it came, and when to ask again."""

    state: QueueState | None = None
    at: float = float("-inf")
    again: float = 0.0


class Queues:
    """What the broker says of the durable queues of a node's subscribers. Lives as long as its node.

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
        self._asked: dict[str, _Asked] = {}
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

    def of(self, subscriber: str) -> QueueFigures | None:
        """What was said of the queue of a subscriber; None: nothing, or that was too long ago."""
        from eventmicro.discovery.report import QueueFigures

        found = self._asked.get(subscriber)
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

    def _due(self) -> deque[SubscriberDeclaration]:
        """Those to be asked about, the one first that was not for the longest time, whether it was answered or not."""
        able = self._broker.capabilities
        there = {each.name: each for each in self._subscribers if each.options.is_durable(able)}
        self._asked = {name: self._asked.get(name) or _Asked() for name in there}
        self._fresh = max(FRESH, len(there) / A_SECOND)
        now = monotonic()
        due = (each for name, each in there.items() if self._asked[name].again <= now)
        return deque(sorted(due, key=lambda each: self._asked[each.name].again))

    async def _ask_all(self, broker: TellsQueues, due: deque[SubscriberDeclaration]) -> None:
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

    async def _ask_some(self, broker: TellsQueues, due: deque[SubscriberDeclaration]) -> None:
        while due:
            declared = due.popleft()
            asked = self._asked.get(declared.name) or _Asked()  # one that is gone meanwhile
            asked.again = monotonic() + self._fresh
            try:
                asked.state = await broker.queue_state(declared.options.queue_name or "", subject=declared.subject)
                asked.at = monotonic()
            except UsageError as error:
                asked.again = monotonic() + REFUSED
                self._say_once(str(error))
            except TransportError as error:
                if not self._broker.online:
                    raise
                log.debug("service %r: no answer about the queue of %s: %r", self._service, declared.name, error)

    def _say_once(self, why: str) -> None:
        if why not in self._told and len(self._told) < AT_ONCE:
            self._told.add(why)
            log.warning("service %r: its figures lack how it is with queues: %s", self._service, why)
