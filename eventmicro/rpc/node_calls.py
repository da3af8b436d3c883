"""Calls to one node: what a selector has directed here comes on a subject of the node's own, for all its endpoints."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping

from eventmicro.broker import Broker
from eventmicro.checks import did_you_mean
from eventmicro.errors import EventMicroError, NotFound, ServiceError, TooManyRequests
from eventmicro.intake import Intake
from eventmicro.message import Delivery, Message
from eventmicro.rpc.endpoint import Endpoint
from eventmicro.wire import error_headers, one_line

log = logging.getLogger(__name__)

# How many calls of one endpoint wait here for room; who comes beyond is told so at once, and may ask another node.
LINE = 1000


class NodeCalls:
    """Hands each call to its endpoint, in a line of its own: one that has no room holds up no other.

    Args:
        address: the subject below which the calls come.
        endpoints: those of the node, by name; asked for when a call comes.
    """

    def __init__(self, broker: Broker, address: str, endpoints: Callable[[], Mapping[str, Endpoint]]) -> None:
        self._broker = broker
        self._prefix = len(address) + 1
        self._endpoints = endpoints
        self._lines: dict[str, Intake[Delivery]] = {}
        self._answering: set[asyncio.Task[None]] = set()

    def __call__(self, delivery: Delivery) -> None:
        """What the broker hands the calls to."""
        self.many(deque((delivery,)))

    def many(self, line: deque[Delivery]) -> None:
        """The same for calls that came together."""
        while line:
            run = [line.popleft()]
            while line and line[0].subject == run[0].subject:
                run.append(line.popleft())
            self._hand_over(run[0].subject[self._prefix :], run)

    async def finish(self) -> None:
        """Return when all that came has been handed over, or answered."""
        for line in self._lines.values():
            await line.join()
        if self._answering:
            await asyncio.wait(self._answering)

    async def end(self, name: str) -> None:
        """Hand over what has come for this endpoint, which has ended; where this is cancelled the rest is refused."""
        line = self._lines.pop(name, None)
        if line is None:
            return
        try:
            await line.join()
        finally:
            if left := line.take_back():
                self._refuse(left, self._not_found(name))
            line.close()

    def close(self) -> None:
        """Hand nothing over any more."""
        for line in self._lines.values():
            line.close()

    def _hand_over(self, name: str, run: list[Delivery]) -> None:
        line = self._lines.get(name)
        if line is None:  # one in which nobody waits is none to `or`
            line = self._open_line(name)
        if line is None:
            self._refuse(run, self._not_found(name))
            return
        while run and (room := LINE - len(line)) > 0:
            line.take_all(run[:room])  # those for which there is room are handled in here
            run = run[room:]
        if run:
            self._refuse(run, TooManyRequests(f"{LINE} calls of {name!r} wait at this node"))

    def _open_line(self, name: str) -> Intake[Delivery] | None:
        endpoint = self._endpoints().get(name)
        if endpoint is None:
            return None
        line = self._lines[name] = Intake(endpoint)
        return line

    def _not_found(self, name: str) -> NotFound:
        return NotFound(f"this node has no endpoint {name[:100]!r}{did_you_mean(name, self._endpoints())}")

    def _refuse(self, calls: list[Delivery], error: ServiceError) -> None:
        task = asyncio.create_task(self._answer(calls, error))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, calls: list[Delivery], error: ServiceError) -> None:
        headers = error_headers(error.code, error.detail)
        for call in calls:
            if not call.reply:
                continue
            try:
                await self._broker.send(Message(call.reply, error.to_json(call.subject), headers))
            except EventMicroError as lost:
                log.warning("a call on %s was not answered: %s", one_line(call.subject), lost)
