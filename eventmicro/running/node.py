"""Node: one running instance of a service. The order of its start, and of its stop, is here and nowhere else."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, cast

from eventmicro.broker import Broker, Subscription
from eventmicro.checks import did_you_mean, raise_any
from eventmicro.client import Client
from eventmicro.codecs import Codecs
from eventmicro.context import Context, find_context
from eventmicro.declaring import Hook, is_taken
from eventmicro.discovery.checking import HealthCheck
from eventmicro.discovery.registering import Registering
from eventmicro.errors import EventMicroError, Refused, Unavailable, UsageError
from eventmicro.events.declare import SubscriberDeclaration
from eventmicro.events.subscriber import Subscriber
from eventmicro.handlers.depends import Overrides
from eventmicro.handlers.threads import THREADS, Threads
from eventmicro.middleware import Middleware
from eventmicro.rpc.declare import EndpointDeclaration
from eventmicro.running.hanging import Hanging
from eventmicro.running.identity import Identity
from eventmicro.running.making import Making
from eventmicro.running.pitfalls import warn_of_letters, warn_of_stored
from eventmicro.running.presence import Parts, Presence, end
from eventmicro.running.refusing import Needs
from eventmicro.running.subscribing import Pausable, RunningSubscriber
from eventmicro.wire import ENDPOINT_QUEUE, cancel_subject, endpoint_subject

if TYPE_CHECKING:
    from eventmicro.discovery.health import Health
    from eventmicro.discovery.report import NodeStatistics

log = logging.getLogger(__name__)

# After how long a start says that it waits for another service, and how often it says so again, in seconds.
FIRST_PATIENCE = 1.0
PATIENCE = 30.0
# How many subscribers are started at the same time, so that a broker is not asked for thousands of things at once.
STARTED_AT_ONCE = 20
# How long the others may take, in seconds, when one is refused, so as to be refused with it.
REFUSED_TOGETHER = 1.0


class Node:
    """Starts the endpoints and subscribers of a service on one broker, and stops them without losing a call."""

    def __init__(
        self,
        identity: Identity,
        client: Client,
        codecs: Codecs,
        middleware: tuple[Middleware, ...],
        overrides: Overrides,
        stop_timeout: float,
        registering: Registering,
        checks: Sequence[HealthCheck] = (),
        needs: Sequence[str] = (),
        threads: int = THREADS,
    ) -> None:
        self._identity = identity
        self._service = identity.service
        self._client = client
        self._broker: Broker = client.broker
        self._rpc_broker: Broker = client.rpc_broker
        self._stop_timeout = stop_timeout
        self._registering = registering
        self._checks = checks
        self._needs = needs
        self.awaited = ""
        """The service that its start waits for, as it needs it; empty: it does not."""
        self._threads = Threads(f"eventmicro-{identity.service}", threads)
        self._parts = Parts()
        self._making = Making(identity, client, codecs, middleware, overrides, self._threads, self._parts)
        self._hanging = Hanging()
        self._presence: Presence | None = None
        self._cancels: Subscription | None = None
        self._takes_more = False  # subscribers: from when it has started until it stops
        self._undo = AsyncExitStack()
        self._loop = asyncio.get_running_loop()

    def check_loop(self) -> None:
        """Refuse to be taken for running in another event loop than its own.

        Raises:
            UsageError: this is another one.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError(
                f"service {self._service!r} was started in another event loop: stop it before that one ends"
            )

    async def start(
        self,
        endpoints: Iterable[EndpointDeclaration],
        subscribers: Iterable[SubscriberDeclaration],
        lifespan: Callable[[], AbstractAsyncContextManager[Any] | AbstractContextManager[Any]] | None,
        before_start: Iterable[Hook],
        after_start: Iterable[Hook],
    ) -> None:
        """Connect, enter the lifespan, run the hooks around subscribing. Where one fails, all before it is undone."""
        endpoints, subscribers = list(endpoints), list(subscribers)
        before_start, after_start = list(before_start), list(after_start)
        if not (endpoints or subscribers or lifespan or before_start or after_start):
            log.info(
                "service %r has nothing to do: declare what it answers to by @rpc, what it handles by @subscribe",
                self._service,
            )
        needs = Needs(self._service, self._broker, self._rpc_broker, has_registry=self._client.registry is not None)
        for refusal in needs.refusals(endpoints, subscribers):
            raise refusal
        async with AsyncExitStack() as undo:
            await self._client.connect()
            undo.callback(self._threads.close)
            undo.push_async_callback(self._client.close)
            if lifespan is not None:
                self._making.state = await undo.enter_async_context(self._as_async(lifespan()))
            for hook in before_start:
                await run_hook(hook)
            await self._wait_for_needs()
            presence = self._presence = self._make_presence(endpoints, subscribers)
            undo.push_async_callback(presence.close)
            undo.push_async_callback(self._take_no_cancels)
            if endpoints or any(subscriber.options.sticky_by is not None for subscriber in subscribers):
                await self._take_cancels()
            if any(endpoint.stream for endpoint in endpoints):
                from eventmicro.rpc.streams.endpoint import open_streams

                streams = self._making.streams = await open_streams(self._rpc_broker, self._service)
                undo.push_async_callback(streams.close)
            undo.push_async_callback(self._making.large.close)
            undo.callback(self._hanging.close)
            undo.push_async_callback(self._drain, presence)
            await self._start_subscribers(subscribers)
            own = presence.own_endpoints()
            for endpoint in (*endpoints, *own):
                await self._start_endpoint(endpoint)
            await presence.take_calls()
            await presence.answer()
            for broker in dict.fromkeys((self._broker, self._rpc_broker)):
                try:
                    await broker.flush()
                except Refused as refused:
                    await self._go_without(presence, own, refused)
            await warn_of_stored(self._service, self._rpc_broker, endpoints)
            warn_of_letters(self._service, self._broker, subscribers)
            undo.push_async_callback(presence.deregister)
            await presence.register()
            self._takes_more = True
            for hook in after_start:
                await run_hook(hook)
            self._undo = undo.pop_all()

    async def _take_cancels(self) -> None:
        """Let callers say that they wait no more."""
        subject = cancel_subject(self._service)
        self._cancels = self._cancels or await self._rpc_broker.subscribe(subject, self._making.calls.receive_cancel)

    async def _take_no_cancels(self) -> None:
        if self._cancels is not None:
            await self._cancels.drain()

    def _as_async(self, lifespan: AbstractAsyncContextManager[Any] | AbstractContextManager[Any]) -> Any:
        """A lifespan to be entered in the event loop; a plain one is entered and left in a thread."""
        return self._threads.within(lifespan) if isinstance(lifespan, AbstractContextManager) else lifespan

    async def _go_without(self, presence: Presence, own: Sequence[EndpointDeclaration], refused: Refused) -> None:
        """Serve without what the server refuses, where it is only what others would look into this node by.

        Raises:
            Refused: it is what the service is there for.
        """
        calls = {f"{self._identity.address}.*", *(endpoint_subject(self._service, each.name) for each in own)}
        calls = {subject.lower() for subject in calls} & refused.subjects
        questions = {subject for subject in refused.subjects if subject.startswith("$srv.")}
        if refused.subjects - calls - questions or (calls and self._parts.takers):
            raise refused
        if calls:
            await presence.go_without_calls()
            await self._parts.end_last(len(own))
        if questions:
            await presence.answer_no_more()
        log.warning(
            "service %r serves, but cannot be looked into, as it may not listen to %s; permit that: %.200s",
            self._service,
            " and ".join((*sorted(calls), *(["$SRV.>"] if questions else ()))),
            refused,
        )

    async def _wait_for_needs(self) -> None:
        """Wait until all services answer that this one needs, as long as it takes; say for which."""
        for needed in self._needs:
            patience = FIRST_PATIENCE
            while True:
                try:
                    self.awaited = needed
                    await self._client.ready(needed, timeout=patience)
                    self.awaited = ""
                    if patience == PATIENCE:  # it was said that it is waited for
                        log.info("service %r goes on: %r answers", self._service, needed)
                    break
                except Unavailable:
                    said = "service %r waits for %r, which it needs and which does not answer%s"
                    log.warning(said, self._service, needed, await self._meant(needed))
                    patience = PATIENCE

    async def _meant(self, needed: str) -> str:
        """Which service is perhaps meant, of those that are there."""
        with suppress(EventMicroError):
            names = {each.name for each in await self._client.services()} - {self._service, needed}
            return did_you_mean(needed, names)
        return ""

    def leave_alone(self, message: Context) -> None:
        """Stop without the handler of this message, which asks for the stop and waits for it."""
        for handler in self._parts.handlers:
            handler.inflight.leave_alone(message)

    async def health(self) -> Health:
        """How the node is."""
        assert self._presence is not None
        return await self._presence.checks.run()

    async def look_at_queues(self) -> None:
        """Ask the broker, for the figures, how it is with the queues; return within a moment."""
        assert self._presence is not None
        await self._presence.look_at_queues()

    def statistics(self) -> NodeStatistics:
        """What the node has done."""
        assert self._presence is not None
        return self._presence.statistics()

    def _make_presence(
        self, endpoints: Sequence[EndpointDeclaration], subscribers: list[SubscriberDeclaration]
    ) -> Presence:
        return Presence(
            self._identity, self._client, self._registering, self._checks, endpoints, subscribers, self._parts
        )

    async def stop(self, before_stop: Iterable[Hook], after_stop: Iterable[Hook]) -> None:
        """Run the hooks around: take no more, finish what runs, leave the lifespan, flush, close.

        All of it is done, whatever fails, also where this is cancelled; then the errors are raised, in a group where
        they are several.
        """
        errors: list[Exception] = []
        try:
            for hook in before_stop:
                await _attempt(run_hook(hook), errors)
        finally:
            try:
                await _attempt(self._undo.aclose(), errors)
            finally:
                for hook in after_stop:
                    await _attempt(run_hook(hook), errors)
        self._raise(errors)

    def _raise(self, errors: list[Exception]) -> None:
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExceptionGroup(f"service {self._service!r} stopped with errors", errors)

    async def _start_endpoint(self, declared: EndpointDeclaration) -> None:
        endpoint = self._making.endpoint(declared)
        if not declared.stream:  # which may be without end
            self._hanging.watch(endpoint.name, endpoint.inflight, declared.timeout)
        subject = endpoint_subject(self._service, declared.name)
        self._parts.add(endpoint, await self._rpc_broker.subscribe(subject, endpoint, queue=ENDPOINT_QUEUE))

    async def start_subscriber(self, declared: SubscriberDeclaration) -> RunningSubscriber:
        """Start one more subscriber; errors as of `Service.start_subscriber`."""
        self.check_loop()
        presence = self._presence
        if presence is None or not self._takes_more:
            raise UsageError(f"service {self._service!r} starts, or stops: start {declared.name!r} from after_start on")
        if any(each.name == declared.name for each in presence.subscribers):
            raise is_taken(self._service, declared.name)
        needs = Needs(self._service, self._broker, self._rpc_broker, has_registry=self._client.registry is not None)
        for refusal in needs.refusals((), [*presence.subscribers, declared]):
            raise refusal
        presence.subscribers.append(declared)  # its name and its queue are taken from here on
        try:
            return await self._start_now(declared, presence)
        except BaseException:
            presence.subscribers.remove(declared)
            await self._end_taker(declared.name, presence)
            raise

    async def _start_now(self, declared: SubscriberDeclaration, presence: Presence) -> RunningSubscriber:
        if declared.options.sticky_by is not None:
            await self._take_cancels()
        subscriber = self._making.subscriber(declared)
        subscription = Pausable(subscriber.name, lambda: self._subscribe(declared, subscriber))
        try:
            await subscription.take()
            await self._broker.flush()
            if not self._takes_more:
                raise UsageError(f"service {self._service!r} has stopped before {declared.name!r} was started")
        except BaseException:
            await end(subscription)
            await subscriber.cut_off()
            raise
        self._parts.add(subscriber, subscription)
        self._hanging.watch(subscriber.name, subscriber.inflight, declared.options.timeout)
        await presence.change()

        async def forget() -> None:
            if subscriber in self._parts.handlers and self._takes_more:
                self._hanging.forget(subscriber.inflight)
                self._parts.remove(subscriber)
                presence.subscribers.remove(declared)
                await self._end_taker(declared.name, presence)
                await presence.change()

        return RunningSubscriber(subscriber, subscription, self._stop_timeout, forget)

    async def _end_taker(self, name: str, presence: Presence) -> None:
        """End what takes events for a subscriber from other instances, which from now on hand them to another one."""
        taker = self._parts.takers.pop(name, None)
        if taker is None:
            return
        if (message := find_context()) is not None:  # it ends itself by one of these
            taker.inflight.leave_alone(message)
        try:
            async with asyncio.timeout(self._stop_timeout):
                await presence.end_calls(name)
                await taker.finish()
        except TimeoutError:
            pass
        finally:
            await taker.cut_off()

    async def _start_subscribers(self, declared: Sequence[SubscriberDeclaration]) -> None:
        """Subscribe some at the same time, as a broker takes its time for what is new; where one fails all end. Where
        one is refused the others have a moment, so that all that are to be refused are said together.
        """
        left = iter(enumerate(declared))
        started: dict[int, tuple[Subscriber, Subscription]] = {}
        refused: dict[int, UsageError] = {}
        limit = asyncio.timeout(None)

        async def start_in_turn() -> None:
            for number, each in left:
                try:
                    started[number] = await self._start_subscriber(each)
                except UsageError as error:
                    refused[number] = error
                    if limit.when() is None:
                        limit.reschedule(asyncio.get_running_loop().time() + REFUSED_TOGETHER)

        starting = [asyncio.create_task(start_in_turn()) for _ in declared[:STARTED_AT_ONCE]]
        try:
            async with limit:
                await asyncio.gather(*starting)
            raise_any([refused[number] for number in sorted(refused)])
        except TimeoutError:
            if limit.expired():
                raise_any([refused[number] for number in sorted(refused)])
            raise
        finally:
            for task in starting:
                task.cancel()
            try:
                await asyncio.gather(*starting, return_exceptions=True)
            finally:  # cancelled meanwhile, too: what has begun is to be ended
                for _, (subscriber, subscription) in sorted(started.items()):
                    self._parts.add(subscriber, subscription)

    async def _start_subscriber(self, declared: SubscriberDeclaration) -> tuple[Subscriber, Subscription]:
        subscriber = self._making.subscriber(declared)
        self._hanging.watch(subscriber.name, subscriber.inflight, declared.options.timeout)
        return subscriber, await self._subscribe(declared, subscriber)

    async def _subscribe(self, declared: SubscriberDeclaration, subscriber: Subscriber) -> Subscription:
        options = declared.options
        return await self._broker.subscribe(
            declared.subject,
            subscriber.consumer,
            queue=options.queue_name,
            durable=options.to_durable() if options.is_durable(self._broker.capabilities) else None,
            **cast("dict[str, Any]", options.places()),  # those of this broker's kind: see `Needs`
        )

    async def _drain(self, presence: Presence) -> None:
        """Take no more, let what runs finish, and cut off what is not done in time."""
        self._takes_more = False
        self._say_what_runs()
        try:
            async with asyncio.timeout(self._stop_timeout):
                drains = (s.drain() for s in self._parts.subscriptions)
                drained = await asyncio.gather(presence.take_no_calls(), *drains, return_exceptions=True)
                await asyncio.gather(*(handler.give_back() for handler in self._parts.handlers))
                for handler in (*self._parts.handlers, *self._parts.takers.values()):
                    await handler.finish()
            self._raise([error for error in drained if isinstance(error, Exception)])
        except TimeoutError:
            pass  # what is handed over from here on is refused, until the connection is closed
        finally:
            await self._cut_off()

    def _say_what_runs(self) -> None:
        """Say at once what the stop waits for: a stream may have no end."""
        handlers = (*self._parts.handlers, *self._parts.takers.values())
        running = ", ".join(f"{handler.name} ({len(handler)})" for handler in handlers if len(handler))
        if running:
            log.info("service %r stops: it waits up to %g s for %s", self._service, self._stop_timeout, running)

    async def _cut_off(self) -> None:
        self._making.calls.stopping = True
        await asyncio.gather(
            *(end(subscription) for subscription in self._parts.subscriptions if not subscription.ended)
        )
        handlers = (*self._parts.handlers, *self._parts.takers.values())
        counts = await asyncio.gather(*(handler.cut_off() for handler in handlers))
        for handler, cut_off in zip(handlers, counts, strict=True):
            if cut_off:
                log.warning("%s: %d cut off after %g s", handler.name, cut_off, self._stop_timeout)
            if len(handler):
                _say_what_still_runs(handler)


def _say_what_still_runs(handler: Any) -> None:
    """Say which handlers have not ended though they were cancelled."""
    level, said = logging.ERROR, "%s: %d ignored being cancelled, as a thread does, and still run"
    if isinstance(handler, Subscriber) and handler.transactional:
        level = logging.WARNING
        said = "%s: %d still run: the transaction of what a handler returned is not cut off, nor is a thread"
    log.log(level, said, handler.name, len(handler))


async def run_hook(hook: Hook) -> None:
    """Run a plain or an async hook."""
    result = hook()
    if inspect.isawaitable(result):
        await result


async def _attempt(step: Any, errors: list[Exception]) -> None:
    try:
        await step
    except Exception as error:
        errors.append(error)
