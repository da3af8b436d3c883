"""Router: endpoints and subscribers written down apart from a service, which takes them over by `service.include`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, Unpack, overload

from eventmicro.checks import check_kind, refuse_name
from eventmicro.context import Side
from eventmicro.declare import Mark, marked_methods
from eventmicro.errors import UsageError
from eventmicro.events.declare import declare_subscriber
from eventmicro.events.options import DeliveryOptions, DeliveryWords, check_defaults
from eventmicro.handlers.signature import own_name
from eventmicro.middleware import Middleware, check_middleware, sides_of
from eventmicro.rpc.declare import declare_endpoint
from eventmicro.terms import ENDPOINT_CONCURRENCY
from eventmicro.topic import Topic
from eventmicro.wire import check_name

E = TypeVar("E", bound=Callable[..., Any])
F = TypeVar("F", bound=Callable[..., Any])

_NO_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_WILDCARDS = {"*": "any", ">": "all"}


class HasHandlers:
    """A base for what handlers are declared by: a Service, a Router."""

    def _take(self, function: Callable[..., Any], mark: Mark) -> None:
        """Declare a handler as it is marked to be.

        Raises:
            SignatureError, UsageError: it cannot be that.
        """
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
        Several parameters are the fields of the request: `quote(sku: str, quantity: int = 1)`. A plain `def` runs in
        a thread. One that yields (`-> AsyncIterator[Quote]`), or reads (`requests: AsyncIterator[Item]`), serves a
        stream. What it returns is published, too, by `-> Annotated[Quote, Publish(QUOTED)]`.

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
            self._take(function, Mark(None, options))
            return function

        refuse_name(function)
        if options.get("name") is not None:
            check_name(options["name"], "endpoint")
        return declare if function is None else declare(function)

    def subscribe(
        self,
        topic: Topic[Any] | str | Sequence[Topic[Any] | str],
        *,
        name: str | None = None,
        middleware: Iterable[Middleware] = (),
        **options: Unpack[DeliveryWords],
    ) -> Callable[[F], F]:
        """Declare a subscriber: `async def bill(event: OrderPlaced) -> None`.

        The function takes the event, a Context and dependencies, each only if it wants it, and stays callable itself;
        named tokens of the subject, `logs.{level}`, are parameters of these names. A plain `def` runs in a thread. What
        it returns is published before the event is acknowledged, by `-> Annotated[Invoice, Publish(BILLED)]`. Above an
        `rpc` the same function serves calls, too, and their callers alone get what it returns.

        Args:
            topic: a Topic, or a subject, which may hold wildcards: `*` for one token, `>` for the rest, and names for
                tokens; or a list of these, and then it is a subscriber to each, `bill-orders-placed`, with a queue of
                its own.
            name: the subscriber's name; default: the function's.
            middleware: what runs around this subscriber, inside the service's own middleware.
            options: how it gets its events: `queue`, `durable`, `ack`, `retry`, `dead_letter`, `concurrency`,
                `order_by`,
                `prefetch`, `batch`, `timeout`, `start`, `dedupe`; each is explained in DeliveryOptions.

        Raises:
            SignatureError: the function cannot be a subscriber; the message says what to write instead.
            UsageError: the name is taken, the topic is no subject, or an option is out of range.
        """
        topics = [topic] if isinstance(topic, str | Topic) or not isinstance(topic, Sequence) else list(topic)
        for each in topics:
            if not isinstance(each, str | Topic):
                raise UsageError("a subscriber names its topic: write @service.subscribe(TOPIC) or ('orders.placed')")
        if not topics:
            raise UsageError("a subscriber to no topic would get nothing: write @service.subscribe([PLACED, PAID])")
        if name is not None:
            check_name(name, "subscriber")
        said = {"middleware": middleware, **options} | ({} if name is None else {"name": name})

        def declare(function: F) -> F:
            for each in topics:
                own = said if isinstance(topic, str | Topic) else _named_after(each, function, said)
                self._take(function, Mark(each, own))
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
            self._take_marked(method, mark)

    def _take_marked(self, method: Callable[..., Any], mark: Mark) -> None:
        declare = self.rpc(**mark.options) if mark.topic is None else self.subscribe(mark.topic, **mark.options)
        declare(method)

    def include(self, router: Router, *, prefix: str = "") -> None:
        """Declare all that a router has; what is declared on it later would be missed, and is refused.

        Args:
            prefix: what is put before the names, in front of the router's own prefix.

        Raises:
            UsageError: a name is taken, or this is no router, or one that includes this one.
        """
        if not isinstance(router, Router) or router is self:
            raise UsageError(f"include({router!r}): give another Router; the methods of an object are for add()")
        for function, mark in router.hand_over():
            name = prefix + mark.options["name"]
            self._take(function, Mark(mark.topic, mark.options | {"name": name}))


class Router(HasHandlers):
    """Endpoints and subscribers with what they have in common; a service takes them over, or several do, or another
    router.

        admin = Router(prefix="admin_", middleware=[only_admins], delivery=DeliveryOptions(retry=Retry(attempts=2)))

        @admin.rpc
        async def ban(user: str, reason: str = "") -> None: ...

        service.include(admin)                                # as `users.admin_ban`

    What a handler says itself holds, then what its router says, then what the service says.

    Args:
        prefix: what is put before the names of endpoints and subscribers, and so before those of their queues.
        middleware: what runs around each, inside that of the service and outside of the handler's own.
        delivery: how its subscribers get their events where they do not say so themselves.
        timeout, concurrency, internal, idempotent: of its endpoints, where they do not say so themselves.

    Raises:
        UsageError: an option is out of range.
    """

    def __init__(
        self,
        *,
        prefix: str = "",
        middleware: Iterable[Middleware] = (),
        delivery: DeliveryOptions | None = None,
        timeout: float | None = None,
        concurrency: int | None = None,
        internal: bool | None = None,
        idempotent: bool | None = None,
    ) -> None:
        check_kind("prefix", prefix, str, "text that names may begin with, such as 'admin_'")
        self._prefix = prefix
        self._middleware = check_middleware(middleware)
        self._delivery = check_defaults(delivery)
        options = {"timeout": timeout, "concurrency": concurrency, "internal": internal, "idempotent": idempotent}
        self._calls = {word: value for word, value in options.items() if value is not None}
        self._handlers: list[tuple[Callable[..., Any], Mark]] = []
        self._is_included = False

    def _take(self, function: Callable[..., Any], mark: Mark) -> None:
        if self._is_included:
            raise UsageError(
                f"this router is included already, and {own_name(function)} would be missed: declare first"
            )
        options = (self._calls if mark.topic is None else self._delivery) | mark.options
        side = Side.ENDPOINT if mark.topic is None else Side.SUBSCRIBER
        own = check_middleware(mark.options.get("middleware", ()), side)
        options["name"] = self._prefix + (mark.options.get("name") or own_name(function))
        options["middleware"] = ()  # the router's may be for other sides as well: who includes it composes them
        if mark.topic is None:
            declare_endpoint(function, **options)
        else:
            topic: Any = mark.topic
            is_endpoint = any(own_mark.topic is None and each == function for each, own_mark in self._handlers)
            declare_subscriber("router", topic, function, is_endpoint=is_endpoint, **options)
        around = [each for each in self._middleware if side in sides_of(each)]
        self._handlers.append((function, Mark(mark.topic, options | {"middleware": (*around, *own)})))

    def hand_over(self) -> list[tuple[Callable[..., Any], Mark]]:
        """All handlers, each with all that was said of it; none is taken any more."""
        self._is_included = True
        return list(self._handlers)


def _named_after(topic: Topic[Any] | str, function: Callable[..., Any], said: dict[str, Any]) -> dict[str, Any]:
    """What is said of a subscriber to one of several topics, with a name, and a queue, of its own."""
    subject = topic.name if isinstance(topic, Topic) else topic
    tokens = [_WILDCARDS.get(token, token) for token in subject.split(".")]
    behind = "-" + _NO_NAME.sub("-", "-".join(tokens)).strip("-")
    own = said | {"name": (said.get("name") or own_name(function)) + behind}
    return own | ({"queue": said["queue"] + behind} if said.get("queue") else {})
