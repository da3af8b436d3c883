"""Runs services as a process: start, say where, serve until a signal, stop in order."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager, suppress
from contextvars import ContextVar

from eventmicro.broker import Broker
from eventmicro.embedded import running as running_embedded
from eventmicro.errors import EventMicroError, UsageError
from eventmicro.plugins import check_broker
from eventmicro.running.announcing import Runnable, log_lines
from eventmicro.running.embedding import place_embedded
from eventmicro.running.hanging import watched_loop
from eventmicro.running.health_port import health_port
from eventmicro.running.logs import below_its_first, set_up_by_environment
from eventmicro.running.signals import StopSignals
from eventmicro.sources import said_url, service_path, variable_of

log = logging.getLogger(__name__)

# How many objects Python may have set aside itself: 3.12 has some hundred.
OWN_OBJECTS = 1_000

IMPORTING = ContextVar("eventmicro_importing", default=False)
"""True while the command line imports a module to find its services."""


def run(services: Iterable[Runnable], broker: str | Broker | None = None) -> None:
    """Run services until SIGINT, SIGTERM or SIGHUP; what `Service.run` does. Sets up the logs unless the program did.

    Args:
        services: they start one after the other in this order, and stop all together.
        broker: the broker for those that name none; default: `EVENTMICRO_BROKER`, or else an embedded one.

    Raises:
        SystemExit: with code 1, after one line on stderr, where the services cannot run or did not stop well.
    """
    if IMPORTING.get():
        raise UsageError(
            "the module that is to be run runs a service itself: put that below `if __name__ == '__main__':`"
        )
    try:
        set_up_by_environment()
        stopped_well = serve(list(services), broker)
    except EventMicroError as error:
        print(below_its_first(f"eventmicro: {error}"), file=sys.stderr)  # noqa: T201  for the person who started the program
        raise SystemExit(1) from None
    except KeyboardInterrupt:  # before there was anything to stop
        raise SystemExit(130) from None
    if not stopped_well:
        raise SystemExit(1)


def serve(
    services: Sequence[Runnable],
    broker: str | Broker | None = None,
    *,
    announce: Callable[[Sequence[Runnable]], None] | None = None,
    stops: StopSignals | None = None,
    lifeline: int | None = None,
    lost: Callable[[], None] = lambda: None,
    health: tuple[str, int] | None = None,
    embedded: Callable[[], AbstractContextManager[str]] | None = None,
) -> bool:
    """Run services until a signal; whether all of them stopped without an error.

    Args:
        health: the address and the port at which orchestrators may ask how they are; None: there is none.
        announce: what is called when all have started; default: `log_lines`.
        stops: which signals stop; default: all of `SIGNALS`.
        lifeline: a file descriptor whose end, when the process that holds the other side is gone, stops as well.
        lost: what is called then, before anything else.
        embedded: how the embedded server is started or joined; default: by this process.

    Raises:
        EventMicroError: a service could not start; those that had started are stopped again.
        UsageError: this is not the main thread, which alone gets signals; or an event loop runs here; or two of the
            services have the same name, or need each other; or the broker is none.
    """
    if any(service.broker is None for service in services):  # those that name one keep it, and say so
        check_broker("broker", broker)
    _check_names(services)
    services = _in_order(services)
    if threading.current_thread() is not threading.main_thread():
        raise UsageError("run services on the main thread, or use `async with service` in an event loop of your own")
    _refuse_in_loop()
    with (
        stops or StopSignals() as heeding,  # from before there is a server that would be left behind
        brokers_for(services, broker, embedded or running_embedded) as brokers,
        asyncio.Runner(loop_factory=_loop_factory()) as runner,
    ):
        return runner.run(_serve(services, brokers, announce or log_lines, heeding, lifeline, lost, health))


def _refuse_in_loop() -> None:
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise UsageError("run() has an event loop of its own, and one runs here already: write `async with service:`")


def _check_names(services: Iterable[Runnable]) -> None:
    """Services of one name would take each other's calls and events, as instances of one."""
    named: dict[str, Runnable] = {}
    for service in services:
        if named.setdefault(service.name, service) is not service:
            raise UsageError(
                f"two services are named {service.name!r} and would share their calls and events: name one of them "
                f"otherwise, or declare all of it on one"
            )


def _in_order(services: Sequence[Runnable]) -> list[Runnable]:
    """The services as they are started one after the other: as they are named, but none before one that it needs, for
    which it would wait without end.
    """
    named, ordered = {service.name: service for service in services}, dict[str, Runnable]()

    def put(service: Runnable, waiting: tuple[str, ...]) -> None:
        if service.name in waiting:
            circle = " needs ".join(map(repr, (*waiting[waiting.index(service.name) :], service.name)))
            raise UsageError(f"service {circle}, so none of them would ever start: leave one of these needs out")
        for needed in service.needs:
            if needed in named and needed not in ordered:
                put(named[needed], (*waiting, service.name))
        ordered[service.name] = service

    for service in services:
        put(service, ())
    return list(ordered.values())


def needs_broker(services: Iterable[Runnable], broker: str | Broker | None) -> bool:
    """Whether there is a service for which nobody named a broker: not the code, nor the caller, nor the environment."""
    return not (broker or said_url("broker")) and any(service.broker is None for service in services)


Brokers = Sequence[str | Broker | None]
"""The broker of each service; None where it goes by its own, or by what is said outside of the code."""


@contextmanager
def brokers_for(
    services: Sequence[Runnable], broker: str | Broker | None, embedded: Callable[[], AbstractContextManager[str]]
) -> Iterator[Brokers]:
    """The broker of each service; where nobody named one, it is embedded for as long as the block lasts."""
    if broker:
        for service in services:
            if service.broker is not None:
                said = "%s keeps the broker that its code names, not the one given to run; %s goes before both"
                log.warning(said, service.name, variable_of(*service_path(service.name), "broker"))
    if needs_broker(services, broker):
        with embedded() as url:
            yield [None if service.broker is not None else place_embedded(service, url) for service in services]
    else:
        yield [None if service.broker is not None else broker or None for service in services]


async def _serve(
    services: Sequence[Runnable],
    brokers: Brokers,
    announce: Callable[[Sequence[Runnable]], None],
    stops: StopSignals,
    lifeline: int | None,
    lost: Callable[[], None],
    health: tuple[str, int] | None,
) -> bool:
    async with AsyncExitStack() as opened:
        serving = asyncio.Event()
        if health is not None:  # before they start: who starts lives, and is not ready
            port = await opened.enter_async_context(health_port(services, *health, lambda: not serving.is_set()))
            log.info("health is told at http://%s:%d/health", health[0], port)
        starting = asyncio.create_task(_start(services, brokers, opened))
        stop = asyncio.Event()

        def ask() -> None:
            stop.set()
            starting.cancel()

        if lifeline is not None:
            _stop_on_end(lifeline, lost, ask)
        opened.enter_context(stops.asking(ask))
        opened.enter_context(watched_loop())
        try:
            await starting
        except asyncio.CancelledError:
            if stop.is_set():
                return True
            raise
        try:
            opened.enter_context(_set_aside())
            serving.set()
            announce(services)
            await stop.wait()
        finally:
            serving.clear()
            stopped_well = await _stop(services)
        return stopped_well


@contextmanager
def _set_aside() -> Iterator[None]:
    """Have garbage looked for only among what comes from now on: modules, models and handlers are none, and to look
    through them all, whenever messages have left enough behind, stops all else for tens of milliseconds.

    Where the program has set some aside before, all of it stays so: which of it is the program's nobody knows any more.
    """
    if not gc.isenabled():
        yield
        return
    is_first = gc.get_freeze_count() < OWN_OBJECTS
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        if is_first:
            gc.unfreeze()


async def _open_shared(services: Sequence[Runnable], brokers: Brokers, opened: AsyncExitStack) -> None:
    """Broker objects may be shared by services; they are closed when the last of these has stopped."""
    for shared in (*brokers, *(each for s in services for each in (s.broker, s.rpc_broker))):
        if shared is not None and not isinstance(shared, str) and not shared.connected:
            await shared.connect()
            opened.push_async_callback(shared.close)


async def _start(services: Sequence[Runnable], brokers: Brokers, opened: AsyncExitStack) -> None:
    await _open_shared(services, brokers, opened)
    started: list[Runnable] = []
    try:
        for service, broker in zip(services, brokers, strict=True):
            await _start_one(service, broker)
            started.append(service)
    except BaseException:
        await _stop(started)
        raise


async def _start_one(service: Runnable, broker: str | Broker | None) -> None:
    try:
        await service.start(broker)
    except EventMicroError:
        raise
    except Exception as error:
        log.exception("%s could not start", service.name)
        raise EventMicroError(f"{service.name} could not start: {type(error).__name__}: {error}") from None


async def _stop(services: Sequence[Runnable]) -> bool:
    """Stop all at the same time; errors go to the log and keep nobody from stopping."""
    errors = await asyncio.gather(*(service.stop() for service in services), return_exceptions=True)
    for service, error in zip(services, errors, strict=True):
        if error is not None:
            log.error("%s stopped with an error", service.name, exc_info=error)
        else:
            log.info("%s stopped", service.name)
    return not any(errors)


def _stop_on_end(lifeline: int, lost: Callable[[], None], ask: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(lifeline)
        lost()
        log.warning("the process that started this one is gone: stopping")
        ask()

    loop.add_reader(lifeline, ended)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed: it costs nothing and is faster; None for asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
