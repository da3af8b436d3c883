"""Declares: what a service has is written down here, checked at once, and started later."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar, overload

from eventmicro.checks import check_function, check_hook
from eventmicro.codecs import Codecs
from eventmicro.codecs.survival import check_survives
from eventmicro.configuration.handlers import HandlerSettings
from eventmicro.contracts.contract import Contract
from eventmicro.contracts.implementing import implementation_of, make_handler
from eventmicro.declare import Mark, marked_methods
from eventmicro.discovery.checking import CheckFunction, HealthCheck
from eventmicro.errors import SignatureError, UsageError
from eventmicro.events.declare import SubscriberDeclaration, declare_subscriber
from eventmicro.events.options import DeliveryOptions, check_defaults
from eventmicro.handlers.signature import MISSING, Signature, own_name
from eventmicro.kinds import check_told_apart
from eventmicro.reply import refuse_reply
from eventmicro.router import HasHandlers
from eventmicro.rpc.declare import EndpointDeclaration, declare_endpoint
from eventmicro.topic import Topic
from eventmicro.wire import JSON

Hook = Callable[[], Any]

H = TypeVar("H", bound=Hook)
C = TypeVar("C", bound=CheckFunction)
K = TypeVar("K", bound=type[Any])

HOOKS = ("before_start", "after_start", "before_stop", "after_stop")


class Declares(HasHandlers):
    """A base for what has endpoints, subscribers, hooks and checks: a Service.

    Args:
        name: the service's name.
        version: its version.
        codecs: those by which its messages travel.
        delivery: how its subscribers get their events where they do not say so themselves.
    """

    def __init__(self, name: str, version: str, codecs: Codecs, delivery: DeliveryOptions | None = None) -> None:
        self.name = name
        self.version = version
        self.endpoints: dict[str, EndpointDeclaration] = {}
        self.subscribers: dict[str, SubscriberDeclaration] = {}
        self._codecs = codecs
        self._delivery = check_defaults(delivery)
        self._checks: list[HealthCheck] = []
        self._overrides: dict[Callable[..., Any], Callable[..., Any]] = {}
        self._settings = HandlerSettings(name)
        self.said_of: dict[str, dict[str, Any]] = {}
        """What the code says of each handler, as far as others may say it, too."""
        self._hooks: dict[str, list[Hook]] = {when: [] for when in HOOKS}

    @property
    def _is_started(self) -> bool:
        """Whether it is too late to declare anything."""
        raise NotImplementedError

    def _take(self, function: Callable[..., Any], mark: Mark) -> None:
        if mark.topic is None:
            name = self._take_endpoint(self._endpoint(function, mark))
        else:
            name = self._take_subscriber(self._subscriber(function, mark), mark.topic)
        self.said_of[name] = mark.options

    def check_settings(self) -> None:
        """Refuse what is set outside of the code for handlers that it does not have, when all of them are declared.

        Raises:
            WrongSetting: naming what is set for nothing.
        """
        self._settings.check((*self.endpoints, *self.subscribers))

    def _endpoint(self, function: Callable[..., Any], mark: Mark) -> EndpointDeclaration:
        """What an endpoint is declared to be, by what is set for it and, where that says nothing, by its own words."""
        name = mark.options.get("name") or own_name(function)
        words = self._settings.merged(name, mark.options, is_endpoint=True)
        with self._settings.blamed(name):
            return declare_endpoint(function, **words)

    def _take_endpoint(self, endpoint: EndpointDeclaration) -> str:
        self._check_new(endpoint.name)
        for kind in (endpoint.request, endpoint.reply):
            self._check_type(kind, f"endpoint {endpoint.name}")
            self._check_comes_back(kind, f"endpoint {endpoint.name}")
        self._check_outlets(endpoint.signature, f"endpoint {endpoint.name}")
        self.endpoints[endpoint.name] = endpoint
        return endpoint.name

    def _take_subscriber(self, subscriber: SubscriberDeclaration, topic: Any) -> str:
        self._check_new(subscriber.name)
        self._check_event(subscriber, topic)
        self.subscribers[subscriber.name] = subscriber
        return subscriber.name

    def _check_event(self, subscriber: SubscriberDeclaration, topic: Any) -> None:
        """Refuse events that cannot travel."""
        told_by = topic.told_by if isinstance(topic, Topic) and subscriber.event is not MISSING else None
        for kind in (subscriber.event,) if told_by is None else told_by.names.values():
            self._check_type(kind, f"subscriber {subscriber.name}")
        if isinstance(topic, Topic) and topic.codec is None:
            for kind in (topic.type,) if topic.told_by is None else topic.told_by.names.values():
                self._check_comes_back(kind, f"subscriber {subscriber.name}", topic.content_type)
        self._check_outlets(subscriber.signature, f"subscriber {subscriber.name}")

    def _subscriber(self, function: Callable[..., Any], mark: Mark) -> SubscriberDeclaration:
        """What a subscriber is declared to be: by what is set for it, then its own words, then those of the service."""
        topic: Any = mark.topic
        name = mark.options.get("name") or own_name(function)
        others = {word: value for word, value in self._delivery.items() if word not in mark.options}
        words = self._settings.merged(name, others | mark.options, is_endpoint=False)
        is_endpoint = any(each.signature.function == function for each in self.endpoints.values())
        with self._settings.blamed(name):
            try:
                return declare_subscriber(self.name, topic, function, is_endpoint=is_endpoint, **words)
            except SignatureError:
                raise
            except UsageError as error:
                if not others:
                    raise
                raise UsageError(f"{error}; delivery= of service {self.name!r} says {', '.join(others)}") from None

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
            self._take(function, Mark(None, options))
        done = {function.__name__ for function, _ in promised}
        for method, mark in marked_methods(handler):
            if method.__name__ not in done:
                self._take_marked(method, mark)

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
            check_hook("health_check", check)
            named = name or own_name(check)
            if named in {"broker", "subscriptions", "registered", *(each.name for each in self._checks)}:
                raise UsageError(f"service {self.name!r} has a health check {named!r} already; give this one a name=")
            self._checks.append(HealthCheck(named, check, critical, vital))
            return check

        return declare if check is None else declare(check)

    def _hook(self, when: str, hook: H) -> H:
        check_hook(when, hook)
        self._hooks[when].append(hook)
        return hook

    def _check_type(self, kind: Any, where: str) -> None:
        """Refuse a type that cannot travel, when it is declared."""
        try:
            if kind is not MISSING:
                refuse_reply(kind)
                check_told_apart(kind)
                self._codecs.body(kind)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None

    def _check_comes_back(self, kind: Any, where: str, content_type: str | None = None) -> None:
        """Refuse a type whose values do not come back as they were sent; what others write may be of such a type."""
        if kind is MISSING:
            return
        body = self._codecs.body_as(kind, content_type, None)
        try:
            check_survives(kind, in_json=body.content_type == JSON)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None

    def _check_outlets(self, signature: Signature, where: str) -> None:
        for topic in (outlet.topic for outlet in signature.outlets):
            if topic.codec is None:
                self._check_comes_back(topic.type, where, topic.content_type)

    def _check_new(self, name: str) -> None:
        if self._is_started:
            raise UsageError(
                f"service {self.name!r} is started: declare {name!r} before, it would not be served now; a subscriber "
                f"may be started by `await service.start_subscriber(...)`"
            )
        if name in self.endpoints or name in self.subscribers:
            raise is_taken(self.name, name)


def is_taken(service: str, name: str) -> UsageError:
    """That a service has a handler of this name."""
    return UsageError(f"service {service!r} has a handler {name!r} already; give this one a name=")
