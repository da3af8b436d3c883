"""A call on its way out: the context that middleware sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eventmicro.codecs import Body
from eventmicro.context import Context
from eventmicro.rpc.retrying import Trying
from eventmicro.selector import Filter, Node, Selector


@dataclass(slots=True)
class Direction:
    """How the node of a directed call is chosen; see `CallsEndpoints.call` for the words."""

    selector: str | Selector | None
    filters: Sequence[Filter]
    key: str | None
    tried: list[Node] | None = None
    """The nodes that were asked, where the call may be made again; None: it is made once."""
    patience: float | None = None
    """How long one of them is waited for, in seconds; None: as long as the call waits."""

    def remembering(self, patience: float | None) -> Direction:
        """The same for a call that may be made again, and then at another node."""
        return Direction(self.selector, self.filters, self.key, [], patience)


class OutgoingCall(Context):
    """The context of a call, with the body of its reply, where it goes if not to any node, and how it is tried."""

    __slots__ = ("body", "direction", "trying")
    body: Body
    direction: Direction | None
    trying: Trying | None

    @property
    def directed(self) -> bool:
        return self.direction is not None
