"""Line: a registry's part of its broker's connection: questions with one answer, and when it is lost and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from nats.errors import Error

from eventmicro.errors import Disconnected, MessageTooLarge, Unavailable, UsageError
from eventmicro_nats.broker import NatsBroker
from eventmicro_nats.connection.commands import command
from eventmicro_nats.connection.driver import Driver, Perishable
from eventmicro_nats.errors import plain
from eventmicro_nats.jetstream.api import Api
from eventmicro_nats.jetstream.replies import Answer, Replies

# How long one question may take, in seconds.
TIMEOUT = 3.0
# Below which subject registries talk to one another where nothing is stored.
OWN = "_EVENTMICRO.registry"


class Line:
    """Lives from one connect of its broker to the close, over reconnections.

    Attributes:
        ended: whether it is closed.
        on_loss: called when the connection is lost, or closed.
        on_back: called when it is made again.
    """

    def __init__(self, broker: NatsBroker, driver: Driver) -> None:
        self.broker = broker
        self.replies = Replies(driver)
        self.api = Api(self.driver, self.replies)
        self.ended = False
        self._forbidden = ""
        self.on_loss: dict[Callable[[], None], None] = {}
        self.on_back: Callable[[], None] | None = None
        self._back = asyncio.Event()

    @property
    def url(self) -> str:
        return self.broker.url

    def driver(self) -> Driver:
        """The connection, if it stands.

        Raises:
            Disconnected: it does not.
        """
        if self.ended or not self.broker.online:
            raise Disconnected(f"{self.url} is away")
        return self.broker._connected_driver()

    def check(self) -> Driver:
        """The same, in the words of the registry port.

        Raises:
            Unavailable: it does not stand.
        """
        try:
            return self.driver()
        except Disconnected as error:
            raise Unavailable(str(error), id=self.url) from None

    def deadline(self) -> float:
        """Until when a question that is asked now may take, in seconds of the loop's clock."""
        return asyncio.get_running_loop().time() + TIMEOUT

    async def ask(self, subject: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The one answer to what is published here.

        Raises:
            Unavailable: the connection does not stand.
            UsageError: it is larger than the server takes.
        """
        driver = self.check()
        reply, answer = self.replies.expect(subject, self.deadline())
        self._push(driver, subject, body, headers, reply.decode())
        return await answer

    def send(self, subject: str, body: bytes = b"", headers: Mapping[str, str] | None = None, reply: str = "") -> None:
        """Publish, with the same errors."""
        self._push(self.check(), subject, body, headers or {}, reply)

    async def flush(self) -> None:
        """Return when the server has what was sent.

        Raises:
            Unavailable: it does not say so in time, or has refused something.
        """
        try:
            await self.check().flush(int(TIMEOUT))
        except Error as error:
            raise Unavailable(f"{self.url}: {plain(error)}", id=self.url) from None
        forbidden, self._forbidden = self._forbidden, ""
        if forbidden:
            mend = f"permit this user {OWN}.>, or name another registry, or 'none'"
            raise Unavailable(f"{self.url}: {forbidden}; {mend}", id=self.url)

    def _push(self, driver: Driver, subject: str, body: bytes, headers: Mapping[str, str], reply: str) -> None:
        try:
            driver.push(Perishable(command(subject, reply, body, headers, driver.max_payload, once=True)))
        except MessageTooLarge as error:
            raise UsageError(f"the record is too large for this registry: {error}") from None

    async def stands(self) -> bool:
        """Return when the connection stands; False: it is closed."""
        while not (self.ended or self.broker.online):
            self._back.clear()
            await self._back.wait()
        return not self.ended

    # -- what the broker tells ---------------------------------------------------------------------------------

    async def open(self, driver: Driver) -> None:
        await self.replies.open(driver)

    def lost(self) -> None:
        self.replies.lost()
        for tell in list(self.on_loss):
            tell()

    def back(self) -> None:
        self._back.set()
        if self.on_back is not None:
            self.on_back()

    def refused(self, text: str) -> bool:
        if f'"{OWN}.' not in text and f'"{OWN.lower()}.' not in text:
            return self.replies.refused(text)
        self._forbidden = text  # it is no fault of the service's, whose broker this is
        return True

    def end(self) -> None:
        """Close it; the broker stays as it is."""
        self.ended = True
        self.broker.unfollow(self)
        self.lost()
        self.replies.close()
        self._back.set()
