"""Directed calls: to a node that is chosen, and to another one where that node is not there any more."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Sequence

from eventmicro.errors import ServiceError
from eventmicro.rpc.outgoing import Direction, OutgoingCall
from eventmicro.rpc.replies import is_nobody
from eventmicro.selector import Choice, Director, Node

# How many nodes are asked, one after the other, where each says that it did not run the call.
ATTEMPTS = 5


class DirectedCall:
    """A call on its way to a chosen node. One that is gone has not run it: then another is asked that was not yet.

    Whoever has chosen a node says `go_to` of it, and then one of `succeeded` and `failed`.

    Attributes:
        deadline: until when it waits, in `time.monotonic()` seconds.
        until: until when it waits for the node that is asked.
    """

    __slots__ = (
        "_call",
        "_choice",
        "_direction",
        "_director",
        "_era",
        "_node",
        "_started",
        "_tried",
        "deadline",
        "until",
    )

    def __init__(
        self,
        director: Director,
        direction: Direction,
        service: str,
        name: str,
        deadline: float,
        call: OutgoingCall | None = None,
    ) -> None:
        self.deadline = self.until = deadline
        self._director = director
        self._direction = direction
        self._call = call
        self._choice = Choice(service, name, direction.key)
        self._tried: Sequence[Node] = () if call is None else tuple(call.asked)

    def choose(self) -> Node | Awaitable[Node]:
        """The node to ask, not yet tried if there is one; errors as of `Director.choose`."""
        direction = self._direction
        return self._director.choose(self._choice, direction.selector, direction.filters, self._tried, self.deadline)

    def go_to(self, node: Node, now: float) -> str:
        """The subject under which this node is asked, from now on."""
        self._node, self._era, self._started = node, node.era, now
        node.in_flight += 1
        if self._call is not None:
            self._call.asked.append(node)
            self.until = self._call.until(now, self.deadline)
        return f"{node.address}.{self._choice.endpoint}"

    def succeeded(self) -> None:
        """The node has answered."""
        node = self._node
        node.in_flight -= 1
        if node.era == self._era:
            self._director.mark(node, time.monotonic() - self._started, False)

    def failed(self, error: BaseException) -> bool:
        """It has not; whether another node is to be asked."""
        if not isinstance(error, ServiceError) or self._started >= self.deadline:  # nothing is known of the node
            self._end(None)
            return False
        self._end(error.is_failure)
        if not is_nobody(error) or self._node in self._tried or len(self._tried) >= ATTEMPTS - 1:
            return False
        self._tried = (*self._tried, self._node)
        return True

    def _end(self, failed: bool | None) -> None:
        self._node.in_flight -= 1
        if self._node.era == self._era:
            self._director.mark(self._node, time.monotonic() - self._started, failed)
