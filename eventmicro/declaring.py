"""Declares: what a service has is written down here, checked at once, and started later."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar, Unpack, overload

from eventmicro.checks import check_function
from eventmicro.codecs import Codecs
from eventmicro.contracts.contract import Contract
from eventmicro.contracts.implementing import implementation_of, make_handler
from eventmicro.declare import Mark, marked_methods
from eventmicro.discovery.checking import CheckFunction, HealthCheck
from eventmicro.errors import UsageError
from eventmicro.events.declare import SubscriberDeclaration, declare_subscriber
from eventmicro.events.options import DeliveryWords
from eventmicro.handlers.signature import MISSING, own_name
from eventmicro.middleware import Middleware
from eventmicro.rpc.declare import ENDPOINT_CONCURRENCY, EndpointDeclaration, declare_endpoint
from eventmicro.topic import Topic

Hook = Callable[[], Any]

F = TypeVar("F", bound=Callable[..., Any])
E = TypeVar("E", bound=Callable[..., Any])
H = TypeVar("H", bound=Hook)
C = TypeVar("C", bound=CheckFunction)
K = TypeVar("K", bound=type[Any])

HOOKS = ("before_start", "after_start", "before_stop", "after_stop")


class Declares:
    """A base for what has endpoints, subscribers, hooks and checks: a Service.

    Args:
        name: the service's name.
        version: its version.
        codecs: those by which its messages travel.
    """

    def __init__(self, name: str, version: str, codecs: Codecs) -> None:
        self.name = name
        self.version = version
        self.endpoints: dict[str, EndpointDeclaration] = {}
        self.subscribers: dict[str, SubscriberDeclaration] = {}
        self._codecs = codecs
        self._checks: list[HealthCheck] = []
        self._overrides: dict[Callable[..., Any], Callable[..., Any]] = {}
        self._hooks: dict[str, list[Hook]] = {when: [] for when in HOOKS}

    @property
    def _is_started(self) -> bool:
        """Whether it is too late to declare anything."""
        raise NotImplementedError

    @overload
    def rpc(self, function: E, /) -> E: ...
    @overload
    def rpc(
        self,
        *,
        name: str | None = None,
        timeout: float | None = None,
        concurrency: int = ENDPOINT_CONCURRENCY,
        middleware: Iterable[Middleware] = (),
        internal: bool = False,
        idempotent: bool = False,
    ) -> Callable[[E], E]: ...
    def rpc(self, function: E | None = None, **options: Any) -> E | Callable[[E], E]:
        """Declare an endpoint: `async def quote(request: QuoteRequest) -> Quote`, called as `orders.quote`.

        The function takes the request, a Context and dependencies, each only if it wants it, and stays callable itself.
        One that yields (`-> AsyncIterator[Quote]`), or reads (`requests: AsyncIterator[Item]`), serves a stream.

        Args:
            name: the endpoint's name; default: the function's.
            timeout: how long a call may take, in seconds, where its caller gives more; default: what the caller gives.
                Clients that know it from the registry wait so long where nobody says otherwise.
            concurrency: how many of its calls may wait for something at the same time; further ones wait in line.
            middleware: what runs around this endpoint, inside the service's own middleware.
            internal: whether it is only called by those who know it, and listed nowhere.
            idempotent: whether a call may be made twice without harm, so that clients may make it again where they do
                not know whether it has run.

        Raises:
            SignatureError: the function cannot be an endpoint; the message says what to write instead.
            UsageError: the name is taken, or an option is unknown or out of range.
        """

        def declare(function: E) -> E:
            endpoint = declare_endpoint(function, **options)
            self._check_new(endpoint.name)
            self._check_type(endpoint.request, f"endpoint {endpoint.name}")
            self._check_type(endpoint.reply, f"endpoint {endpoint.name}")
            self.endpoints[endpoint.name] = endpoint
            return function

        return declare if function is None else declare(function)

    def subscribe(
        self,
        topic: Topic[Any] | str,
        *,
        name: str | None = None,
        middleware: Iterable[Middleware] = (),
        **options: Unpack[DeliveryWords],
    ) -> Callable[[F], F]:
        """Declare a subscriber: `async def bill(event: OrderPlaced) -> None`.

        The function takes the event, a Context and dependencies, each only if it wants it, and stays callable itself.

        Args:
            topic: a Topic, or a subject, which may hold wildcards: `*` for one token, `>` for the rest.
            name: the subscriber's name; default: the function's.
            middleware: what runs around this subscriber, inside the service's own middleware.
            options: how it gets its events: `queue`, `durable`, `ack`, `retry`, `dead_letter`, `concurrency`,
                `order_by`,
                `prefetch`, `batch`, `timeout`, `start`, `dedupe`; each is explained in DeliveryOptions.

        Raises:
            SignatureError: the function cannot be a subscriber; the message says what to write instead.
            UsageError: the name is taken, the topic is no subject, or an option is out of range.
        """

        if not isinstance(topic, str | Topic):
            raise UsageError("a subscriber names its topic: write @service.subscribe(TOPIC) or ('orders.placed')")

        def declare(function: F) -> F:
            subscriber = declare_subscriber(self.name, topic, function, name, middleware, **options)
            self._check_new(subscriber.name)
            self._check_type(subscriber.event, f"subscriber {subscriber.name}")
            if isinstance(topic, Topic) and topic.content_type is not None:
                self._codecs.body_as(topic.type, topic.content_type, topic.compression)
            self.subscribers[subscriber.name] = subscriber
            return function

        return declare

    def add(self, target: object) -> None:
        """Declare the methods of an object that are marked with `@rpc` or `@subscribe`.

        Raises:
            UsageError: it has none, or one of them cannot be declared.
        """
        methods = list(marked_methods(target))
        if not methods or isinstance(target, type):
            raise UsageError(f"{target!r} is no object with methods marked by @rpc or @subscribe")
        for method, mark in methods:
            self._add(method, mark)

    def _add(self, method: Callable[..., Any], mark: Mark) -> None:
        declare = self.rpc(**mark.options) if mark.topic is None else self.subscribe(mark.topic, **mark.options)
        declare(method)

    @overload
    def implements(self, contract: Callable[..., Contract], /) -> Callable[[K], K]: ...
    @overload
    def implements(self, contract: Callable[..., Contract], handler: object, /) -> None: ...
    def implements(self, contract: Callable[..., Contract], handler: Any = None, /) -> Callable[[K], K] | None:
        """Declare what a contract promises: all its methods, by those of the same names of an object.

            @service.implements(Orders)
            class OrdersHandler:
                async def quote(self, request: QuoteRequest, context: Context) -> Quote: ...

        Above a class it makes the object, from nothing; one that needs something is given as `handler`, or a module
        with functions. Its methods take and return what the contract says, and beside the request a Context and
        dependencies, as any endpoint. By `@rpc(concurrency=..., middleware=...)` they may say what is the server's own
        matter. Other methods of it that are marked by `@rpc` or `@subscribe` are declared, too, as by `add`.

        Raises:
            SignatureError: it differs from the contract; the message names each difference.
            UsageError: this is no contract, or that of another service or version; or a name is taken.
        """
        if handler is not None:
            self._implement(contract, handler)
            return None

        def declare(kind: K) -> K:
            self._implement(contract, make_handler(contract, kind))
            return kind

        return declare

    def _implement(self, contract: object, handler: object) -> None:
        promised = implementation_of(contract, handler, self.name, self.version)
        for function, options in promised:
            self.rpc(**options)(function)
        done = {function.__name__ for function, _ in promised}
        for method, mark in marked_methods(handler):
            if method.__name__ not in done:
                self._add(method, mark)

    def override(self, dependency: Callable[..., Any], by: Callable[..., Any]) -> AbstractContextManager[Any]:
        """Use another function where `Depends(dependency)` stands, from the next start on; for tests.

        As `with service.override(session, by=fake_session):` it is undone behind the block: what stood there before
        does again, from the next start on.

        Raises:
            UsageError: one of the two is no function.
        """
        for function in (dependency, by):
            check_function("override", function)
        before = self._overrides.get(dependency, dependency)
        self._overrides[dependency] = by
        undo = ExitStack()
        undo.callback(self._overrides.__setitem__, dependency, before)
        return undo

    def before_start(self, hook: H) -> H:
        """Run this plain or async function when the broker is connected, before the first message is taken."""
        return self._hook("before_start", hook)

    def after_start(self, hook: H) -> H:
        """Run this function when the service has started."""
        return self._hook("after_start", hook)

    def before_stop(self, hook: H) -> H:
        """Run this function before a stop, while all still works."""
        return self._hook("before_stop", hook)

    def after_stop(self, hook: H) -> H:
        """Run this function when all is closed."""
        return self._hook("after_stop", hook)

    @overload
    def health_check(self, check: C, /) -> C: ...
    @overload
    def health_check(
        self, *, name: str | None = None, critical: bool = True, vital: bool = False
    ) -> Callable[[C], C]: ...
    def health_check(
        self, check: C | None = None, *, name: str | None = None, critical: bool = True, vital: bool = False
    ) -> C | Callable[[C], C]:
        """Look at this, too, to say how the service is: a plain or async function that raises, or returns False, where
        something is wrong. It has 5 seconds.

        Args:
            name: the check's name; default: the function's.
            critical: whether the service is not ready for work where it fails.
            vital: whether it does not live where it fails, so that an orchestrator is to start it anew.

        Raises:
            UsageError: it is no function, or the name is taken.
        """

        def declare(check: C) -> C:
            check_function("health_check", check)
            named = name or own_name(check)
            if named in {"broker", "subscriptions", "registered", *(each.name for each in self._checks)}:
                raise UsageError(f"service {self.name!r} has a health check {named!r} already; give this one a name=")
            self._checks.append(HealthCheck(named, check, critical, vital))
            return check

        return declare if check is None else declare(check)

    def _hook(self, when: str, hook: H) -> H:
        check_function(when, hook)
        self._hooks[when].append(hook)
        return hook

    def _check_type(self, kind: Any, where: str) -> None:
        """Refuse a type that cannot travel, when it is declared."""
        try:
            if kind is not MISSING:
                self._codecs.body(kind)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None

    def _check_new(self, name: str) -> None:
        if self._is_started:
            raise UsageError(f"service {self.name!r} is started: declare {name!r} before, it would not be served now")
        if name in self.endpoints or name in self.subscribers:
            raise UsageError(f"service {self.name!r} has a handler {name!r} already; give this one a name=")
