"""A client that is connected, and the event loop in a thread of its own that drives it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, TypeVar

from eventmicro.client import Client
from eventmicro.errors import Disconnected, UsageError

R = TypeVar("R")

# How long the end of a program waits until all that was published is sent, in seconds.
CLOSE_TIMEOUT = 10.0
CLOSED = "the client was closed meanwhile"


class Session:
    """Begins at the first use of a SyncClient in a process; ends with its `close`, or with the process.

    Args:
        make: makes the client.
    """

    def __init__(self, make: Callable[[], Client]) -> None:
        self.client = make()
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._connecting = asyncio.Lock()
        self._is_connected = False
        self._beginning = threading.Lock()
        self._has_ended = False
        self._left: set[asyncio.Task[object]] = set()  # what nobody waits for
        self._thread = threading.Thread(target=self._serve, name="eventmicro client", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[Client], Coroutine[Any, Any, R]]) -> R:
        """What this comes to with the client, which is connected before.

        Raises:
            Disconnected: the session has ended, or ends meanwhile.
            UsageError: an event loop runs in this thread.
        """
        refuse_in_loop()
        done = self._begin(self._connected(work))
        try:
            return done.result()
        except CancelledError:
            raise Disconnected(CLOSED) from None
        finally:
            done.cancel()  # where it is waited for no more, as by Ctrl-C

    def _begin(self, work: Coroutine[Any, Any, R]) -> Future[R]:
        with self._beginning:
            if not self._has_ended:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise Disconnected(CLOSED)

    def post(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Have this done without waiting for it; where the session has ended, it was."""

        def begin() -> None:
            task = self._loop.create_task(work())
            self._left.add(task)
            task.add_done_callback(self._left.discard)

        if self._process == os.getpid():
            with suppress(RuntimeError):  # it has ended, and all with it
                self._loop.call_soon_threadsafe(begin)

    def close(self) -> None:
        """Close the client, and end the thread. In a process that was forked meanwhile nothing is touched."""
        if self._process != os.getpid() or self._loop.is_closed():
            return
        if threading.current_thread() is self._thread:  # the last reference to its client went in a callback
            self._loop.create_task(self.client.close()).add_done_callback(lambda _: self._loop.stop())
            return
        try:
            self._begin(self.client.close()).result(CLOSE_TIMEOUT)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CLOSE_TIMEOUT)

    async def _connected(self, work: Callable[[Client], Coroutine[Any, Any, R]]) -> R:
        if not self._is_connected:
            async with self._connecting:
                if not self._is_connected:
                    await self.client.connect()
                    self._is_connected = True
        return await work(self.client)

    def _serve(self) -> None:
        self._loop.run_forever()
        with self._beginning:
            self._has_ended = True
        self._loop.run_until_complete(_cancel_all())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


async def _cancel_all() -> None:
    """End what was begun and has not ended."""
    await asyncio.sleep(0)  # what was begun last is a task now
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def refuse_in_loop() -> None:
    """Refuse to block an event loop.

    Raises:
        UsageError: one is running in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise UsageError(
        "a SyncClient would block the event loop that runs here: use `async with Client(...)` in it, or call the "
        "function that uses this one by `await asyncio.to_thread(...)`"
    )
