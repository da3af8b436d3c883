"""The circuit breaker: what fails too often is called no more for a while, then by a few probes."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from eventmicro.checks import check_count, check_function, check_seconds, names_words
from eventmicro.context import Context, Side
from eventmicro.errors import PeerLost, ServiceError, StreamBroken, StreamCancelled, UsageError
from eventmicro.middleware import Handler
from eventmicro.middlewares.circuit import Circuit, Rules, State
from eventmicro.middlewares.failures import Failures, Judge, make_judge
from eventmicro.middlewares.watched import Watched, is_stream
from eventmicro.selector import Node

log = logging.getLogger(__name__)

CLIENT, CLOSED, OPEN = Side.CLIENT, State.CLOSED, State.OPEN
# Of how many endpoints something is kept.
ENDPOINTS = 10_000

OnChange = Callable[[Circuit], None]


@names_words
class CircuitBreaker:
    """Refuses calls with `Unavailable` at once where too many have failed: to an endpoint, or to a node.

    On the client's side it keeps a circuit for each endpoint; for calls that are directed to a node one for each node,
    in the place of the marks that clients keep otherwise: a node whose circuit is open is not chosen. On the endpoint's
    side it is about the handler; what its caller does with a stream does not count. A stream counts when it has ended,
    as a probe with its first message. Services and clients in several event loops, each in a thread, may share one.

    Going through it gives the circuits: `for circuit in breaker: print(circuit.name, circuit.node, circuit.state)`.

    Args:
        threshold: which share of the calls has to fail.
        minimum: how many calls there have to be within the window.
        window: over how long they are counted, in seconds.
        open_for: for how long nothing is let through, in seconds.
        probes: how many calls are let through then; when all have gone well all are, when one fails none. So many
            more are after every further `open_for` seconds in which that is not known.
        on: what counts as a failure of an endpoint: exception classes, or a function of the error; default: no answer,
            or 500 and more. Of a node it is always that.
        on_change: is called with each circuit whose state has changed; it is logged anyway.

    Raises:
        UsageError: one of these is out of range.
    """

    __eventmicro_sides__ = frozenset({Side.CLIENT, Side.ENDPOINT})

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        minimum: int = 20,
        window: float = 10.0,
        open_for: float = 5.0,
        probes: int = 1,
        on: Failures = None,
        on_change: OnChange | None = None,
    ) -> None:
        if not isinstance(threshold, int | float) or not 0 < threshold <= 1:
            raise UsageError(f"threshold={threshold!r}: write a share of the calls, more than 0 and up to 1")
        check_count("minimum", minimum)
        check_seconds("window", window)
        check_seconds("open_for", open_for)
        check_count("probes", probes)
        if on_change is not None:
            check_function("on_change", on_change)
            if inspect.iscoroutinefunction(on_change):
                raise UsageError("on_change: it is not awaited: write a plain function")
        self._rules = Rules(threshold, minimum, window, open_for, probes)
        self._is_failure = make_judge("on", on)
        self._on_change = on_change
        self._called: dict[str, Circuit] = {}
        self._served: dict[str, Circuit] = {}
        self.node_marks = NodeCircuits(self._rules, self._changed)

    async def __call__(self, message: Any, context: Context, call_next: Handler) -> Any:
        if context.directed:  # it is judged by its node
            return await call_next(message, context)
        if context.side is CLIENT:
            name, circuits = context.topic, self._called
        else:
            name, circuits = f"{context.service}.{context.endpoint}", self._served
        circuit = circuits.get(name) or self._make(circuits, name)
        era = circuit.era  # looked at first: another thread may open it meanwhile
        if circuit.state is not CLOSED:
            era = circuit.enter()
        try:
            reply = await call_next(message, context)
        except BaseException as error:
            _take_error(circuit, era, self._is_failure, context, error)
            raise
        if is_stream(reply.__class__):
            watched = Watched if circuit.state is CLOSED else ProbeStream
            return watched(reply, partial(_take_error, circuit, era, self._is_failure, context))
        circuit.succeeded(era)
        return reply

    def __iter__(self) -> Iterator[Circuit]:
        yield from [*self._called.values(), *self._served.values(), *self.node_marks]

    def _make(self, circuits: dict[str, Circuit], name: str) -> Circuit:
        if len(circuits) >= ENDPOINTS:  # endpoints of names that others make up
            circuits.clear()
        return circuits.setdefault(name, Circuit(name, "", self._rules, self._changed))

    def _changed(self, circuit: Circuit) -> None:
        level = logging.WARNING if circuit.state is State.OPEN else logging.INFO
        what = f"{circuit.name} node {circuit.node}" if circuit.node else circuit.name
        log.log(level, "the circuit of %s is %s", what, circuit.state)
        if self._on_change is not None:
            try:
                self._on_change(circuit)
            except Exception:  # the user's; the call goes on
                log.exception("on_change failed")


class ProbeStream(Watched):
    """A stream that is a probe: it has gone well with its first message, as its end may never come."""

    async def __anext__(self) -> Any:
        message = await super().__anext__()
        self._end(None)
        return message


class NodeCircuits:
    """A circuit for each node that was asked: `eventmicro.selector.NodeMarks`."""

    def __init__(self, rules: Rules, changed: OnChange) -> None:
        self._rules = rules
        self._tell = changed
        self._circuits: WeakKeyDictionary[Node, Circuit] = WeakKeyDictionary()
        self.any_marked = False

    def usable(self, nodes: Sequence[Node]) -> Sequence[Node]:
        return [node for node in nodes if (circuit := self._circuits.get(node)) is None or circuit.admits()]

    def chosen(self, node: Node) -> None:
        if (circuit := self._circuits.get(node)) is not None and circuit.state is not CLOSED:
            node.era = circuit.enter()

    def mark(self, node: Node, *, failed: bool | None) -> None:
        circuit = self._circuits.get(node)
        if circuit is None:
            circuit = self._circuits[node] = Circuit(node.service, node.id, self._rules, self._changed)
        if circuit.state is OPEN:  # it began before that
            return
        if failed is None:
            circuit.left(circuit.era)
        elif failed:
            circuit.failed(circuit.era)
        else:
            circuit.succeeded(circuit.era)
        node.era = circuit.era

    def __iter__(self) -> Iterator[Circuit]:
        nodes = [ref() for ref in self._circuits.keyrefs()]  # in one step, as other threads may add some
        return (circuit for node in nodes if node is not None and (circuit := self._circuits.get(node)) is not None)

    def _changed(self, circuit: Circuit) -> None:
        self.any_marked = False  # before looking: what another thread finds marked meanwhile stays so
        if any(each.state is not CLOSED for each in self):
            self.any_marked = True
        self._tell(circuit)


def _take_error(circuit: Circuit, era: int, is_failure: Judge, context: Context, error: BaseException | None) -> None:
    """A call has ended with this error; a stream perhaps without."""
    if error is None:
        circuit.succeeded(era)
    elif isinstance(error, asyncio.CancelledError) and context.remaining() == 0:  # its time was over
        circuit.failed(era)
    elif not isinstance(error, Exception) or _is_callers(error, context):
        circuit.left(era)
    elif is_failure(error):
        circuit.failed(era)
    elif isinstance(error, ServiceError):  # that is its answer
        circuit.succeeded(era)
    else:
        circuit.left(era)


def _is_callers(error: Exception, context: Context) -> bool:
    """Whether it is what an endpoint's caller did with the stream that the handler reads: lost it, broke it, ended it.

    The same of a stream that the handler has opened itself, elsewhere, is the handler's own failure.
    """
    if context.side is CLIENT or not isinstance(error, ServiceError):
        return False
    is_of_stream = error.received or isinstance(error, StreamBroken | PeerLost | StreamCancelled)
    return is_of_stream and error.id == f"{context.service}.{context.endpoint}"
