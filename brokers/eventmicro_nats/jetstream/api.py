"""JetStream's management calls: JSON over request and reply."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from eventmicro.errors import Disconnected, UsageError
from eventmicro_nats.connection.driver import Driver, Perishable
from eventmicro_nats.jetstream.replies import NoAnswer, Refused, Replies

PREFIX = "$JS.API."
# How long one call may take before it is made again, and how long to wait in between, in seconds.
ATTEMPT_TIMEOUT = 2.0
PAUSE = 0.1
# The server's numbers for what it refuses.
NOT_ENABLED = frozenset({10039, 10076})
STREAM_NOT_FOUND = 10059
STREAM_EXISTS = 10058
SUBJECTS_OVERLAP = 10065
CONSUMER_NOT_FOUND = 10014
CONSUMER_EXISTS = 10148
CONSUMER_NOT_MADE = 10012
MESSAGE_NOT_FOUND = 10037
TTL_DISABLED = 10166
# A cluster that is without a leader for the moment, has too much to do, or does not know enough of its servers yet.
TEMPORARY = frozenset({10005, 10008, 10009, 10167})
# The stream has as much as its limits allow, and drops nothing; the text says which limit.
FULL = 10077
# One of the same id is being stored: soon it is known whether it was.
IN_PROCESS = 10158


# What mends some of the refusals of a server.
_MENDS = {
    10026: "the account or stream has as many consumers as it may: raise that, or delete one",
    10027: "the account has as many streams as it may: raise that, or name one that is there by stream=",
    10028: "the account has no room in memory: use storage=file, or raise its max_mem",
    10047: "the account has no room on disk: set a smaller max_bytes, or raise its max_store",
    10099: "each event of a work queue goes to one queue: take that one, or let the stream have retention=limits",
    10100: "each event of a work queue goes to one queue: take that one, or let the stream have retention=limits",
    10113: "set max_bytes, how much the stream may keep",
    10122: "set a smaller max_bytes",
}


class ApiError(Exception):
    """The server refused; `number` says why in its own numbering, the text in its own words, with what mends it."""

    def __init__(self, number: int, text: str) -> None:
        mend = _MENDS.get(number)
        super().__init__(f"{text} (JetStream error {number})" + (f": {mend}" if mend else ""))
        self.number = number


class NotAllowed(UsageError):
    """This user may not do on JetStream what is needed."""


class Silent(Disconnected):
    """JetStream did not answer in time."""


class Nobody(Silent):
    """JetStream did not answer in time, nor was anybody there to answer for it."""


class NoJetStream(UsageError):
    """The server does not answer for JetStream."""


def read_error(data: bytes) -> ApiError | None:
    """The error that an answer is; None where it is none."""
    if b'"error"' not in data:
        return None
    error = json.loads(data).get("error")
    return error and ApiError(int(error.get("err_code", 0)), str(error.get("description", "no reason given")))


class Api:
    """Makes the calls, again where the connection was lost meanwhile or a cluster has no leader for the moment.

    Args:
        driver: gives the connection of the moment, or raises Disconnected.
    """

    def __init__(self, driver: Callable[[], Driver], replies: Replies) -> None:
        self._driver = driver
        self._replies = replies

    async def call(self, what: str, arguments: dict[str, Any] | None = None, *, deadline: float) -> dict[str, Any]:
        """The answer to `$JS.API.<what>`. All calls may be made twice without harm.

        Args:
            deadline: until when to try, in seconds of the loop's clock.

        Raises:
            ApiError: the server refuses.
            NotAllowed: this user may not call it.
            NoJetStream: the server, or this account, has no JetStream.
            Silent: no answer came in time.
            Disconnected: the connection was closed on this side.
        """
        subject, body = PREFIX + what, json.dumps(arguments or {}).encode()
        loop = asyncio.get_running_loop()
        while True:
            driver = self._driver()
            answer: object = NoAnswer.LOST
            if driver.is_connected:
                reply, future = self._replies.expect(subject, min(deadline, loop.time() + ATTEMPT_TIMEOUT))
                driver.push(Perishable(b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply, len(body), body)))
                answer = await future
            if isinstance(answer, Refused):
                raise NotAllowed(answer)
            if isinstance(answer, bytes):
                error = read_error(answer)
                if error is None:
                    return json.loads(answer)  # type: ignore[no-any-return]
                if error.number not in TEMPORARY or loop.time() + PAUSE > deadline:
                    raise error
            elif answer is NoAnswer.NOBODY and "cluster" not in driver.info:
                raise NoJetStream("the server has no JetStream, or not for this account: start it with --jetstream")
            elif loop.time() + PAUSE > deadline:
                kind = Nobody if answer is NoAnswer.NOBODY else Silent
                raise kind(f"{subject}: JetStream did not answer in time")
            await asyncio.sleep(PAUSE)
