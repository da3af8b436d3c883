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
# What only servers reply to: one refuses a message with it, once it has found that the subject is allowed.
_RESERVED = "_R_."
# A stream that is expected, and that none can be: so no stream stores what a server would not refuse.
_NOWHERE = b"%b\r\nNats-Expected-Stream: .\r\n\r\n" % VERSION


async def check_may_publish(driver: Driver, replies: Replies, subject: str) -> None:
    """Refuse where this user may not publish to it. Where the server does not say, it is tried with a message that the
    server refuses in any case, for its subject or for what is to reply to it.

    Raises:
        UsageError: it names the subject.
    """
    rights = await _rights(driver, replies)
    if rights is None:
        refused = await _try(driver, replies, subject)
        if refused is not None:
            raise UsageError(f"its dead letters cannot be published: {refused}")
    elif not _permits((rights.get("permissions") or {}).get("publish") or {}, subject):
        raise UsageError(
            "its dead letters cannot be published: " + in_words(f'permissions violation for publish to "{subject}"')
        )


async def _try(driver: Driver, replies: Replies, subject: str) -> Refused | None:
    """Publish to it what nobody gets; the server's words where it refuses the subject."""
    deadline = asyncio.get_running_loop().time() + TIMEOUT
    inbox, of_subject = replies.expect(subject, deadline)
    reply = _RESERVED + inbox.decode()
    _, of_reply = replies.expect(reply, deadline)
    words = (subject.encode(), reply.encode(), len(_NOWHERE), len(_NOWHERE), _NOWHERE)
    driver.push(Perishable(b"HPUB %b %b %d %d\r\n%b\r\n" % words))
    await asyncio.wait([of_subject, of_reply], return_when=asyncio.FIRST_COMPLETED)
    refused = of_subject.result() if of_subject.done() else None
    return refused if isinstance(refused, Refused) else None


async def _rights(driver: Driver, replies: Replies) -> dict[str, Any] | None:
    """What the server says of this user; None where it says nothing."""
    reply, future = replies.expect(USER_INFO, asyncio.get_running_loop().time() + TIMEOUT)
    driver.push(Perishable(b"PUB %b %b 0\r\n\r\n" % (USER_INFO.encode(), reply)))
    answer = await future
    if not isinstance(answer, bytes):
        return None
    told: dict[str, Any] = json.loads(answer)
    return told.get("data")


def _permits(rights: dict[str, Any], subject: str) -> bool:
    allowed, denied = rights.get("allow"), rights.get("deny") or ()
    if any(covers(pattern, subject) for pattern in denied):
        return False
    return allowed is None or any(covers(pattern, subject) for pattern in allowed)
