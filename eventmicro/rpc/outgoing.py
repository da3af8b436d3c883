"""A call on its way out: the context that middleware sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eventmicro.codecs import Body
from eventmicro.context import Context
from eventmicro.selector import Filter, Selector


@dataclass(slots=True)
class Direction:
    """How the node of a directed call is chosen; see `CallsEndpoints.call` for the words."""

    selector: str | Selector | None
    filters: Sequence[Filter]
    key: str | None


class OutgoingCall(Context):
    """The context of a call, with the body of its reply, and where it goes if not to any node."""

    __slots__ = ("body", "direction")
    body: Body
    direction: Direction | None
