"""Publishing with confirmation: many on their way at once, sent again under the same id where one may be lost."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from math import ceil, inf
from typing import Protocol

from eventmicro.errors import (
    Disconnected,
    EventMicroError,
    NotAllPublished,
    NotStored,
    TransportError,
    Unconfirmed,
    UsageError,
)
from eventmicro.message import Bounded, Message
from eventmicro.wire import check_subject
from eventmicro_nats.connection.commands import too_large
from eventmicro_nats.connection.driver import Driver, Perishable
from eventmicro_nats.connection.headers import MESSAGE_ID, TTL, VERSION, check_orders
from eventmicro_nats.copies import written_headers
from eventmicro_nats.jetstream.api import (
    FULL,
    IN_PROCESS,
    TEMPORARY,
    TTL_DISABLED,
    ApiError,
    NoJetStream,
    NotAllowed,
    read_error,
)
from eventmicro_nats.jetstream.duplicates import DUPLICATE, Duplicates
from eventmicro_nats.jetstream.replies import Answer, Deaf, NoAnswer, Refused, Replies
from eventmicro_nats.jetstream.since import check_expires

# How long one sending waits for its confirmation before it is sent again, in seconds.
ATTEMPT_TIMEOUT = 2.0
# How long to wait before it is sent again where nobody took it, or the server has too much to do, in seconds.
PAUSE = 0.1
# How many may wait for their confirmation at the same time in one `publish_many`; a server holds 10,000 for a stream.
WINDOW = 4000
# How many duplicates are looked at together.
AT_ONCE = 100

_VERSION_LINE = VERSION + b"\r\n"
_ID = MESSAGE_ID.encode() + b": "


class Keeps(Protocol):
    """Which stream keeps a subject; Streams is that."""

    @property
    def fixed(self) -> bool: ...
    def __contains__(self, subject: str) -> bool: ...
    def forget(self, subject: str) -> None: ...
    def id_lifetime(self, subject: str) -> float: ...
    def name_of(self, subject: str) -> str: ...
    async def of(self, subject: str, deadline: float) -> str: ...


class Publisher:
    """Publishes events of one connection to the streams of their subjects.

    Args:
        driver: gives the connection of the moment, or raises Disconnected.
        ready_driver: gives it when it stands and can take more, for a subject and within so many seconds.
        outgoing_bytes: how much may wait to be sent.
        id_lifetime: for how long a stream knows an id, in seconds: what is sent again later would be stored twice.
        duplicates: tells whose id a stream knows already; None: ids are never given, and headers may be orders.
        let_expire: makes sure that the stream of a subject lets events expire; None: none of them does.
    """

    def __init__(
        self,
        driver: Callable[[], Driver],
        replies: Replies,
        streams: Keeps,
        ready_driver: Callable[[str, float], Awaitable[Driver]],
        outgoing_bytes: int,
        id_lifetime: float,
        duplicates: Duplicates | None = None,
        let_expire: Callable[[str, float], Awaitable[None]] | None = None,
    ) -> None:
        self._driver = driver
        self._replies = replies
        self._streams = streams
        self._ready_driver = ready_driver
        self._outgoing_bytes = outgoing_bytes
        self._id_lifetime = id_lifetime
        self._duplicates = duplicates
        self._let_expire = let_expire
        self._loop = asyncio.get_running_loop()
        self._ids = secrets.token_urlsafe(9)
        self._numbers = count(1)

    async def publish(self, message: Message, timeout: float) -> None:
        """Publish one; see `eventmicro.broker.Broker.publish`."""
        deadline = self._loop.time() + timeout
        packet = self._pack(message)
        if message.subject not in self._streams:
            await self._declare(message.subject, deadline)
        if packet.expires:
            await self._declare_expiring(message.subject, deadline)
        await self._store(packet, deadline)
        if packet.duplicate:
            await self._tell_apart(packet, deadline)

    async def _store(self, packet: Packet, deadline: float) -> None:
        answer = await (await self._send(packet, deadline))
        while not self._is_stored(packet, answer, deadline):
            await asyncio.sleep(PAUSE)
            await self._prepare(packet, deadline)
            answer = await (await self._send(packet, deadline))

    async def publish_many(self, messages: Sequence[Message], timeout: float) -> None:
        """Publish many in their order; see `eventmicro.broker.Broker.publish_many`."""
        deadline = self._loop.time() + timeout
        failed: dict[int, Exception] = {}
        packets: dict[int, Packet] = {}
        duplicates: dict[int, Packet] = {}
        for number, message in enumerate(messages):
            try:
                packets[number] = self._pack(message)
            except EventMicroError as error:
                failed[number] = error
        while packets:
            packets = await self._send_all(packets, failed, duplicates, deadline)
            if packets:
                await asyncio.sleep(PAUSE)
        await self._tell_all_apart(duplicates, failed, deadline)
        if failed:
            raise NotAllPublished(failed=failed, confirmed=len(messages) - len(failed))

    async def _tell_all_apart(self, packets: dict[int, Packet], failed: dict[int, Exception], deadline: float) -> None:
        """Do so for those that a stream took for duplicates, some at a time."""
        numbers = list(packets)
        for first in range(0, len(numbers), AT_ONCE):
            some = numbers[first : first + AT_ONCE]
            ends = await asyncio.gather(
                *(self._tell_apart(packets[number], deadline) for number in some), return_exceptions=True
            )
            for number, error in zip(some, ends, strict=True):
                if isinstance(error, EventMicroError):
                    failed[number] = error
                elif error is not None:
                    raise error

    async def _tell_apart(self, packet: Packet, deadline: float) -> None:
        """Store an event that a stream took for another one, of another subject and the same id.

        A stream knows ids whatever their subjects; to us an event of another subject is another event.
        """
        assert self._duplicates is not None
        assert packet.given is not None
        if not await self._duplicates.are_one(packet.given, packet.duplicate, deadline):
            await self._store(packet.qualified(), deadline)

    async def _send_all(
        self,
        packets: dict[int, Packet],
        failed: dict[int, Exception],
        duplicates: dict[int, Packet],
        deadline: float,
    ) -> dict[int, Packet]:
        """Send these, wait for the confirmations; return those to be sent again."""
        answers: dict[int, asyncio.Future[Answer]] = {}
        again: dict[int, Packet] = {}
        losses = self._replies.losses
        for number, packet in packets.items():
            try:
                if answers and (losses != self._replies.losses or not self._driver().is_connected):
                    again[number] = packet  # not before those that may be lost
                    continue
                await self._prepare(packet, deadline)
                answers[number] = await self._send(packet, deadline)
            except EventMicroError as error:
                failed[number] = error
            if answers and len(answers) % WINDOW == 0:
                await asyncio.wait([next(reversed(answers.values()))])
        for number, answer in answers.items():
            try:
                if not self._is_stored(packets[number], await answer, deadline):
                    again[number] = packets[number]
                elif packets[number].duplicate:
                    duplicates[number] = packets[number]
            except EventMicroError as error:
                failed[number] = error
        return dict(sorted(again.items()))

    async def _send(self, packet: Packet, deadline: float) -> asyncio.Future[Answer]:
        """Put it on its way; the answer is what becomes of this sending."""
        try:
            driver = self._driver()
            if not driver.is_connected or driver.pending_data_size > self._outgoing_bytes:
                timeout = self._until(packet, deadline) - self._loop.time()
                driver = await self._ready_driver(packet.subject, timeout)
        except Disconnected as error:
            raise packet.not_taken(error) from error
        if packet.size > driver.max_payload:
            raise too_large(packet.subject, f"{packet.size} bytes with headers", driver.max_payload)
        reply, answer = self._replies.expect(packet.subject, min(deadline, self._loop.time() + ATTEMPT_TIMEOUT))
        packet.sent = min(packet.sent, self._loop.time())
        driver.push(packet.command(reply))
        return answer

    def _until(self, packet: Packet, deadline: float) -> float:
        """Until when it may be sent."""
        if not packet.unknown:
            return deadline
        return min(deadline, packet.sent + min(self._id_lifetime, self._streams.id_lifetime(packet.subject)))

    def _is_stored(self, packet: Packet, answer: Answer, deadline: float) -> bool:
        """Whether that is a confirmation; False: send it again.

        Raises:
            NotStored, Unconfirmed: there is no use in it, or no time.
        """
        if isinstance(answer, bytes):
            error = read_error(answer)
            if error is None and b'"seq":' in answer:
                if packet.given is not None and self._duplicates is not None:
                    if DUPLICATE in answer:
                        packet.duplicate = answer
                    else:
                        self._duplicates.note(packet.given, answer)
                return True
            if error is not None:
                if error.number == TTL_DISABLED:  # as somebody has changed its stream: look next time
                    self._streams.forget(packet.subject)
                packet.unknown |= error.number == IN_PROCESS
                text, final = self._why_refused(packet.subject, error), error.number not in (IN_PROCESS, *TEMPORARY)
            else:
                packet.unknown = True
                text, final = "something that is not JetStream answered", False
        elif isinstance(answer, Refused):
            packet.unknown |= isinstance(answer, Deaf)
            text, final = answer, True
        elif answer is NoAnswer.NOBODY:
            self._streams.forget(packet.subject)
            text, final = "no stream takes it", self._streams.fixed and "cluster" not in self._driver().info
        else:
            packet.unknown = True
            text, final = answer.value, False
        if not final and self._loop.time() + PAUSE < self._until(packet, deadline):
            return False
        if answer is NoAnswer.LATE and self._loop.time() - packet.sent >= ATTEMPT_TIMEOUT:
            self._streams.forget(packet.subject)  # it may be another one, that confirms nothing: look next time
        raise packet.not_taken(NotStored(f"{packet.subject}: {text}"))

    def _why_refused(self, subject: str, error: ApiError) -> str:
        """In the server's words; of a stream that is full also which it is, and the mend."""
        if error.number != FULL:
            return str(error)
        stream = self._streams.name_of(subject) or "NAME"
        return (
            f"{error}: stream {stream} is full, and drops nothing: raise that limit by `nats stream edit {stream}`; "
            "what is settled makes room only where its retention is workqueue or interest"
        )

    async def _prepare(self, packet: Packet, deadline: float) -> None:
        """Before it is sent again: its stream may be gone, and may be made from here."""
        try:
            if packet.subject not in self._streams:
                await self._declare(packet.subject, deadline)
            if packet.expires:
                await self._declare_expiring(packet.subject, deadline)
        except (TransportError, UsageError) as error:
            raise packet.not_taken(error) from error

    async def _declare_expiring(self, subject: str, deadline: float) -> None:
        """Have a stream that lets events expire, on a server that does."""
        check_expires(self._driver().info)
        await self._declare(subject, deadline, ask=self._let_expire)

    async def _declare(
        self, subject: str, deadline: float, ask: Callable[[str, float], Awaitable[object]] | None = None
    ) -> None:
        """Have a stream for this subject."""
        check_subject(subject)
        try:
            await (ask or self._streams.of)(subject, deadline)
        except (NotAllowed, NoJetStream, ApiError) as error:
            raise NotStored(f"{subject}: {error}") from error
        except Disconnected as error:
            raise Disconnected(f"{error}; it was not sent") from error

    def _pack(self, message: Message) -> Packet:
        if message.headers and self._duplicates is not None:
            check_orders(message.subject, message.headers)
        if message.id is None:
            return Packet(message, f"{self._ids}-{next(self._numbers)}")
        if not message.id.isprintable():
            raise UsageError(f"{message.subject}: the id {message.id!r} has signs that no header may have")
        return Packet(message, message.id, message)


def _lifetime(message: Message) -> bytes:
    """The line by which the server drops an event: in whole seconds, as it takes no others."""
    assert isinstance(message, Bounded)
    return b"%b: %ds\r\n" % (TTL.encode(), ceil(message.ttl or 0))


class Packet:
    """An event as it goes out, each time the same but for where it is confirmed.

    Attributes:
        given: the event where its user has named it, so that its stream may know the name of another one.
        duplicate: the receipt by which the stream says that it knows the name already.
        expires: whether the stream is to drop it after a while.
    """

    __slots__ = ("_head", "_tail", "duplicate", "expires", "given", "sent", "size", "subject", "unknown")

    def __init__(self, message: Message, name: str, given: Message | None = None) -> None:
        self.subject = message.subject
        self.given = given
        self.duplicate = b""
        self.unknown = False
        self.sent = inf
        self.expires = message.__class__ is not Message and isinstance(message, Bounded) and message.ttl is not None
        headers = b"%b%b%b\r\n\r\n" % (_VERSION_LINE, _ID, name.encode())
        if self.expires:
            headers = headers[:-2] + _lifetime(message) + b"\r\n"
        if message.headers:
            headers = headers[:-2] + written_headers(message, message.headers) + b"\r\n"
        self.size = len(headers) + len(message.body)
        self._head = b"HPUB %b " % message.subject.encode()
        self._tail = b" %d %d\r\n%b%b\r\n" % (len(headers), self.size, headers, message.body)

    def command(self, reply: bytes) -> bytes:
        """The command to the server."""
        return Perishable(b"%b%b%b" % (self._head, reply, self._tail))

    def qualified(self) -> Packet:
        """The same under a name that no event of another subject has."""
        assert self.given is not None
        return Packet(self.given, f"{self.given.id}/{self.subject}")

    def not_taken(self, error: Exception) -> Exception:
        """What to raise for a failure: it says nothing of an earlier sending, where that may have been stored."""
        if self.unknown:
            return Unconfirmed(f"{self.subject}: sent, but whether it is stored is not known; then: {error}")
        return error
