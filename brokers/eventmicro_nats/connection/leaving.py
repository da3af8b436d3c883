"""Leaving: subscriptions that end, thousands at once perhaps, and the server's answer that it sends no more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

# How long a server may take to answer that it sends no more, in seconds.
ANSWER_TIMEOUT = 5.0

Told = asyncio.Future[None]


class Leaving:
    """Asks the server once for all that leave in the same turn of the event loop, and waits for it once.

    Each of them with a bound of its own would end by that where their own number keeps the loop busy.

    Args:
        ping: sends a ping, with a future for its answer.
        is_connected: whether the connection stands.
    """

    def __init__(
        self, ping: Callable[[asyncio.Future[bool]], None], is_connected: Callable[[], bool] = lambda: True
    ) -> None:
        self._ping = ping
        self._is_connected = is_connected
        self._loop = asyncio.get_running_loop()
        self._together: dict[Told, object] = {}
        self._answers: set[asyncio.Future[bool]] = set()

    async def answer(self, name: object) -> None:
        """Return when the server has answered, so that all has arrived that it had sent before, or has had its time.

        Args:
            name: what the log is to call who leaves; its UNSUB is on its way.
        """
        if not self._together:
            self._loop.call_soon(self._ask)
        told: Told = self._loop.create_future()
        self._together[told] = name
        await told

    def _ask(self) -> None:
        together, self._together = self._together, {}
        if not self._is_connected():  # meanwhile: nothing comes any more but what has arrived
            _tell(together, None)
            return
        answer: asyncio.Future[bool] = self._loop.create_future()
        late = self._loop.call_later(ANSWER_TIMEOUT, self._give_up, answer, together)
        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)
        answer.add_done_callback(lambda _: _tell(together, late))
        self._ping(answer)

    def lost(self) -> None:
        """The connection is lost, and no answer comes: nobody waits for one until the subscriptions are taken up again,
        those among them that are left just now.
        """
        for answer in self._answers:
            answer.cancel()

    def _give_up(self, answer: asyncio.Future[bool], together: dict[Told, object]) -> None:
        waiting = [name for told, name in together.items() if not told.done()]
        if not answer.done() and waiting:
            others = f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
            log.warning("%s%s: left without the server's answer within %g s", waiting[0], others, ANSWER_TIMEOUT)
        answer.cancel()


def _tell(together: dict[Told, object], late: asyncio.TimerHandle | None) -> None:
    if late is not None:
        late.cancel()
    for told in together:
        if not told.done():
            told.set_result(None)
