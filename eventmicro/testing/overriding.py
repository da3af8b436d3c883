"""Overriding: other functions in the place of dependencies, while services run.

A handler is compiled with its dependencies when its service starts. Here it is compiled once more, and put where the
first one stands, so that nothing is looked up for each message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from eventmicro.checks import check_function
from eventmicro.context import Side
from eventmicro.errors import UsageError
from eventmicro.events.declare import SubscriberDeclaration
from eventmicro.handlers.depends import name_of
from eventmicro.handlers.signature import Signature
from eventmicro.handlers.threads import InThreads, Threads
from eventmicro.rpc.declare import EndpointDeclaration
from eventmicro.testing.watching import Place, Watching

if TYPE_CHECKING:
    from eventmicro.service import Service

Dependency = Callable[..., Any]
Declaration = EndpointDeclaration | SubscriberDeclaration


class _Asked(dict[Dependency, Dependency]):
    """Overrides that note for what they are asked."""

    def __init__(self) -> None:
        self.functions: list[Dependency] = []

    def get(self, key: Any, default: Any = None) -> Any:
        self.functions.append(key)
        return default


def check_used(dependency: Dependency, services: Iterable[Service]) -> None:
    """See that some handler depends on a function.

    Raises:
        UsageError: none does; it is said on what they depend.
    """
    check_function("override", dependency)
    signatures = [each.signature for service in services for each in _declared(service)]
    known = [function for signature in signatures for function in _dependencies(signature)]
    if dependency not in known:
        names = ", ".join(sorted({name_of(function) for function in known})) or "nothing"
        raise UsageError(f"no handler depends on {name_of(dependency)}; they depend on {names}")


@contextmanager
def overriding(dependency: Dependency, by: Dependency, services: dict[Service, Watching]) -> Iterator[None]:
    """Use another function where handlers of running services depend on this one; messages that are being handled
    have theirs already.
    """
    with ExitStack() as undo:
        for service, watching in services.items():
            undo.callback(_recompile, service, watching)
            undo.enter_context(service.override(dependency, by))
            _recompile(service, watching)
        yield


def _recompile(service: Service, watching: Watching) -> None:
    node = service._node
    if node is None:
        return
    making, parts = node._making, node._parts
    inflight = {handler.name: handler.inflight for handler in parts.handlers}
    for side, declared, place in _placed(service, watching):
        threads = InThreads(making._threads)
        threads.hold = inflight[f"{service.name}.{declared.name}"].hold
        with watching.replacing(place):
            making._compile(declared.signature, declared.middleware, side, threads)


def _placed(service: Service, watching: Watching) -> Iterator[tuple[Side, Declaration, Place]]:
    for declared, place in zip(service.subscribers.values(), watching.places[Side.SUBSCRIBER], strict=False):
        yield Side.SUBSCRIBER, declared, place
    for endpoint, place in zip(service.endpoints.values(), watching.places[Side.ENDPOINT], strict=False):
        yield Side.ENDPOINT, endpoint, place


def _declared(service: Service) -> list[Declaration]:
    return [*service.endpoints.values(), *service.subscribers.values()]


def _dependencies(signature: Signature) -> list[Dependency]:
    asked = _Asked()
    asked[_dependencies] = _dependencies  # an empty one would not be asked
    signature.compile(asked, InThreads(Threads("none")))
    return asked.functions
