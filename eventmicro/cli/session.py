"""What a command runs on: a loop and a connection of its own, or those of `eventmicro shell`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from eventmicro.client import Client
from eventmicro.running.signals import heeded

T = TypeVar("T")
# What lasts, and is told what to call when it has begun.
Lasting = Callable[[Callable[[], None]], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Places:
    """Where a client is connected to, as its options say."""

    broker: str | None = None
    rpc_broker: str | None = None
    registry: str | None = None

    def cover(self, asked: Places) -> bool:
        """Whether who is connected here reaches what is asked for; what asks for calls alone names one broker twice."""
        if asked.registry not in (None, self.registry):
            return False
        if asked.broker is not None and asked.broker == asked.rpc_broker == (self.rpc_broker or self.broker):
            return True
        return asked.broker in (None, self.broker) and asked.rpc_broker in (None, self.rpc_broker)


class Session(Protocol):
    """What a shell gives to the commands that run in it."""

    places: Places

    async def client(self) -> Client:
        """The client that is held, connected."""
        ...

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a command's work to its end, or until Ctrl-C."""
        ...

    def run_beside(self, name: str, work: Lasting) -> None:
        """Begin with what goes on beside the prompt; return when it says that it has begun."""
        ...

    def keep(self, reply: bytes) -> None:
        """Keep a reply, for the commands that follow."""
        ...

    def ask(self, question: str) -> str:
        """A line that the user types.

        Raises:
            EOFError: there is none any more.
        """
        ...


_held: list[Session] = []


@contextmanager
def held(session: Session) -> Iterator[None]:
    """Run commands in this session, until the end of the block."""
    _held.append(session)
    try:
        yield
    finally:
        _held.remove(session)


def current() -> Session | None:
    """The session that commands run in; None: each is a process of its own."""
    return _held[-1] if _held else None


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work to its end."""
    session = current()
    return asyncio.run(work) if session is None else session.run(work)


def run_beside(name: str, work: Lasting) -> None:
    """Run what lasts: beside the prompt where there is one, or else to its end, or until Ctrl-C."""
    session = current()
    if session is None:
        asyncio.run(until_signal(work(lambda: None)))
    else:
        session.run_beside(name, work)


def what_ends_it() -> str:
    """What the user does to end what lasts, in words."""
    return "Ctrl-C ends it" if current() is None else "`stop` ends it"


async def until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Do something until it is done, or Ctrl-C comes, which is no error: it may be endless. A shell hears it itself."""
    if current() is not None:
        await work
        return
    task = asyncio.ensure_future(work)
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()

    for number in heeded():
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopped:
            raise


def keep(reply: bytes) -> None:
    """Keep a reply for the commands that follow, where there can be any."""
    session = current()
    if session is not None:
        session.keep(reply)
