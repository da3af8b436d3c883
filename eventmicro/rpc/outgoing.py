"""A call on its way out: what it is checked for, and the context that middleware sees."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from eventmicro.broker import Broker, Capabilities
from eventmicro.checks import LONGEST
from eventmicro.codecs import Body
from eventmicro.context import Context
from eventmicro.errors import Unsupported, UsageError
from eventmicro.plugins import RPC_BROKER_VARIABLE, brokers_with
from eventmicro.rpc.patience import Patience
from eventmicro.rpc.retrying import Trying
from eventmicro.selector import Filter, Node, Selector
from eventmicro.wire import check_subject

WRITE_ENDPOINT = "write 'service.endpoint', such as 'orders.quote'"


class Direction(NamedTuple):
    """How the node of a directed call is chosen; see `CallsEndpoints.call` for the words."""

    selector: str | Selector | None
    filters: Sequence[Filter]
    key: str | None


class OutgoingCall(Context):
    """The context of a call that is more than a request and its reply: with middleware around it, directed, or tried.

    body: the body of its reply.
    direction: how its node is chosen; None: the broker chooses.
    trying: how it is made again; None: it is made once.
    patience: how it waits for somebody to take it; None: it does not.
    asked: the nodes that were asked by the attempts so far.
    """

    __slots__ = ("asked", "body", "direction", "patience", "trying")
    body: Body
    direction: Direction | None
    trying: Trying | None
    patience: Patience | None
    asked: list[Node]

    @property
    def directed(self) -> bool:
        return self.direction is not None

    def until(self, now: float, deadline: float) -> float:
        """Until when an attempt that begins now waits for its reply."""
        trying = self.trying
        if trying is None or trying.attempt_timeout is None:
            return deadline
        return min(deadline, now + trying.attempt_timeout)


@lru_cache(4096)
def check_endpoint(endpoint: str) -> tuple[str, str]:
    """The service and the name of an endpoint.

    Raises:
        UsageError: it is none.
    """
    if "." not in endpoint:
        raise UsageError(f"endpoint {endpoint!r}: {WRITE_ENDPOINT}")
    check_subject(endpoint)
    service, _, name = endpoint.partition(".")
    return service, name


def check_left(seconds: float) -> float:
    """Return `seconds` if it is a time to wait for a reply; where 0 or less are left nothing will be sent.

    Raises:
        UsageError: it is no number of seconds, or more than four months.
    """
    try:
        if seconds <= LONGEST:
            return seconds
    except TypeError:
        pass
    raise UsageError(f"timeout={seconds!r}: write seconds, up to {LONGEST:g}")


def check_carries_calls(broker: Broker) -> None:
    """Refuse a broker over which nothing can be called.

    Raises:
        Unsupported: it is one.
    """
    if not broker.capabilities.request_reply:
        able = ", ".join(brokers_with(Capabilities(request_reply=True)))
        raise Unsupported(
            f"{broker.url} carries no calls (request_reply): name a second broker for them, by "
            f"rpc_broker= or {RPC_BROKER_VARIABLE}; able are {able}"
        )
