"""What the commands of a shell share: the loop, the connection, the replies, and what goes on beside the prompt."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import typer

from eventmicro.cli.session import Lasting, Places
from eventmicro.cli.shell.replies import Replies
from eventmicro.cli.show import one_line
from eventmicro.client import Client
from eventmicro.errors import EventMicroError, UsageError
from eventmicro.registry import ServiceRecord
from eventmicro.settings import address_only

T = TypeVar("T")

# After how many seconds it is asked again which services there are, and how long that may take.
STALE = 5.0
ANSWER = 3.0


class HeldSession:
    """One for each shell; all of it in one event loop, which runs while there is a prompt or a command.

    Args:
        runner: the loop; it turns Ctrl-C into the end of what it runs.
        open_client: a client, not yet connected.
        places: where that is connected to.
        ask: asks the user for a line.
    """

    def __init__(
        self, runner: asyncio.Runner, open_client: Callable[[], Client], places: Places, ask: Callable[[str], str]
    ) -> None:
        self.places = places
        self.replies = Replies()
        self.known: list[ServiceRecord] = []
        self._runner = runner
        self._open = open_client
        self._client: Client | None = None
        self._lock = asyncio.Lock()
        self._beside: dict[str, asyncio.Task[None]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = float("-inf")
        self._ask = ask

    async def client(self) -> Client:
        """The client, connected; made anew where that failed the last time."""
        async with self._lock:
            if self._client is None:
                client = self._open()
                await client.connect()
                self._client = client
            return self._client

    @property
    def state(self) -> str:
        """In a line where it is connected to, and whether that is there."""
        if self._client is None:
            place = self.places.broker
            return f"{one_line(address_only(place)) if place else 'the embedded server'}: not connected"
        broker = self._client.broker
        beside = f", beside: {', '.join(self._beside)}" if self._beside else ""
        return one_line(f"{broker.url}{'' if broker.online else ': away, reconnecting'}{beside}")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something to its end.

        Raises:
            KeyboardInterrupt: Ctrl-C came first, and it was cancelled.
        """
        return self._runner.run(work)

    def run_beside(self, name: str, work: Lasting) -> None:
        """Begin with what lasts; return when it has begun.

        Raises:
            UsageError: it goes on already.
        """
        if name in self._beside:
            raise UsageError(f"{name} goes on already; `stop {name}` ends it")
        self.run(self._begin(name, work))

    async def _begin(self, name: str, work: Lasting) -> None:
        begun = asyncio.Event()
        task = asyncio.create_task(self._go_on(name, work(begun.set), begun))
        waiting = asyncio.create_task(begun.wait())
        self._beside[name] = task
        try:
            await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            raise
        finally:
            waiting.cancel()
        if task.done():
            task.result()  # it raises where it could not begin

    async def _go_on(self, name: str, work: Coroutine[Any, Any, None], begun: asyncio.Event) -> None:
        try:
            await work
        except Exception as error:
            if not begun.is_set():
                raise
            why = error if isinstance(error, EventMicroError) else f"{type(error).__name__}: {error}"
            typer.echo(one_line(f"eventmicro: {name}: {why}"), err=True)
        finally:
            self._beside.pop(name, None)

    @property
    def beside(self) -> list[str]:
        """The names of what goes on beside the prompt."""
        return list(self._beside)

    def stop(self, name: str | None = None) -> None:
        """End what goes on beside the prompt: one of it, or all.

        Raises:
            UsageError: there is none of this name.
        """
        if name is not None and name not in self._beside:
            raise UsageError(
                f"{name!r} does not go on; there is {', '.join(self._beside) or 'nothing beside the prompt'}"
            )
        tasks = [task for each, task in self._beside.items() if name in (None, each)]
        for task in tasks:
            task.cancel()
        self.run(_gathered(tasks))

    def wait(self) -> None:
        """Return when all that goes on beside the prompt has ended, as `subscribe --count` does."""
        self.run(_gathered(list(self._beside.values())))

    def keep(self, reply: bytes) -> None:
        """Keep a reply."""
        self.replies.keep(reply)

    def ask(self, question: str) -> str:
        """A line that the user types."""
        return self._ask(question)

    def look(self) -> None:
        """Begin to ask which services there are, for completion, unless that was done just now; nobody waits for it."""
        now = asyncio.get_running_loop().time()
        if now - self._asked_at > STALE and (self._asking is None or self._asking.done()):
            self._asked_at = now
            self._asking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        with suppress(EventMicroError, OSError, TimeoutError):
            async with asyncio.timeout(ANSWER):
                self.known = await (await self.client()).services()

    def close(self) -> None:
        """End all of it; what was published is sent."""
        self.stop()
        self.run(self._close())

    async def _close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        if self._client is not None:
            await self._client.close()


async def _gathered(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


class LineHandler(logging.Handler):
    """What eventmicro logs, such as a lost connection, as a line beside the prompt."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(one_line(f"eventmicro: {record.getMessage()}"), err=True)
