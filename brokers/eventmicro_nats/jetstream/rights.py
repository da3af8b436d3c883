"""Whether this user may publish to a subject, found out without an event that anybody would have to handle."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from eventmicro.errors import UsageError
from eventmicro_nats.connection.driver import Driver, Perishable
from eventmicro_nats.connection.headers import VERSION
from eventmicro_nats.connection.subjects import covers
from eventmicro_nats.errors import in_words
from eventmicro_nats.jetstream.replies import Refused, Replies

# What a server tells to each user of itself, if that may ask.
USER_INFO = "$SYS.REQ.USER.INFO"
# How long the server may take to answer, in seconds.
TIMEOUT = 2.0
# A stream that is expected, and that none can be: so no stream stores what is published.
_NOWHERE = b"%b\r\nNats-Expected-Stream: .\r\n\r\n" % VERSION


async def check_may_publish(driver: Driver, replies: Replies, subject: str) -> None:
    """Refuse where this user may not publish to it. Where the server does not say, it is tried with an empty message
    that no stream stores.

    Raises:
        UsageError: it names the subject.
    """
    rights = await _rights(driver, replies)
    if rights is None:
        answer = await _ask(driver, replies, subject, _NOWHERE)
        if isinstance(answer, Refused):
            raise UsageError(f"its dead letters cannot be published: {answer}")
    elif not _permits((rights.get("permissions") or {}).get("publish") or {}, subject):
        raise UsageError(
            "its dead letters cannot be published: " + in_words(f'permissions violation for publish to "{subject}"')
        )


async def _rights(driver: Driver, replies: Replies) -> dict[str, Any] | None:
    """What the server says of this user; None where it says nothing."""
    answer = await _ask(driver, replies, USER_INFO, b"")
    if not isinstance(answer, bytes):
        return None
    told: dict[str, Any] = json.loads(answer)
    return told.get("data")


async def _ask(driver: Driver, replies: Replies, subject: str, headers: bytes) -> object:
    deadline = asyncio.get_running_loop().time() + TIMEOUT
    reply, answer = replies.expect(subject, deadline)
    if headers:
        words = (subject.encode(), reply, len(headers), len(headers), headers)
        driver.push(Perishable(b"HPUB %b %b %d %d\r\n%b\r\n" % words))
    else:
        driver.push(Perishable(b"PUB %b %b 0\r\n\r\n" % (subject.encode(), reply)))
    return await answer


def _permits(rights: dict[str, Any], subject: str) -> bool:
    allowed, denied = rights.get("allow"), rights.get("deny") or ()
    if any(covers(pattern, subject) for pattern in denied):
        return False
    return allowed is None or any(covers(pattern, subject) for pattern in allowed)
