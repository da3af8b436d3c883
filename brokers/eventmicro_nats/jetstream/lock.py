"""The lock under which our stream is changed: the server has no update that looks what it changes.

The lock is a consumer of that stream, of which no event is: to make one that exists with another owner's name in it is
refused. It takes no room for a stream, of which an account may have but one, and the server deletes it where its owner
has died.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from eventmicro_nats.jetstream.api import (
    CONSUMER_EXISTS,
    CONSUMER_NOT_FOUND,
    CONSUMER_NOT_MADE,
    STREAM_NOT_FOUND,
    Api,
    ApiError,
    NotAllowed,
)
from eventmicro_nats.jetstream.keeping import NANO, placeholder

NAME = "eventmicro-declaring"
# After how many seconds the lock of a process that died with it is taken away; what it guards takes milliseconds.
LIFETIME = 5.0
PAUSE = 0.02


@asynccontextmanager
async def changing(api: Api, stream: str, deadline: float) -> AsyncIterator[None]:
    """Let no one else change this stream meanwhile; it is there.

    Args:
        deadline: until when to try, in seconds of the loop's clock.

    Raises:
        ApiError: there is no room for the lock.
        NotAllowed: this user may not take it.
    """
    owner = secrets.token_hex(8)
    while not await _take(api, stream, owner, deadline):  # noqa: ASYNC110  another process has it
        await asyncio.sleep(PAUSE)
    try:
        yield
    finally:
        await _give_back(api, stream, deadline + 1)


async def _take(api: Api, stream: str, owner: str, deadline: float) -> bool:
    config: dict[str, Any] = {
        "name": NAME,
        "filter_subject": placeholder(stream),
        "ack_policy": "explicit",
        "inactive_threshold": int(LIFETIME * NANO),
        "metadata": {"owner": owner},
    }
    arguments = {"stream_name": stream, "action": "create", "config": config}
    try:
        made = await api.call(f"CONSUMER.CREATE.{stream}.{NAME}", arguments, deadline=deadline)
    except ApiError as error:
        if error.number == CONSUMER_EXISTS or (
            _is_being_removed(error) and asyncio.get_running_loop().time() + PAUSE < deadline
        ):
            return False
        raise
    return bool((made["config"].get("metadata") or {}).get("owner") == owner)


def _is_being_removed(error: ApiError) -> bool:
    """Whether the server may still be at the files of the one before, which it removes beside its answer."""
    return error.number == CONSUMER_NOT_MADE and any(
        words in str(error) for words in ("no such file", "creating store")
    )


async def _give_back(api: Api, stream: str, deadline: float) -> None:
    """It may be gone: we have deleted it, and the answer was lost; or it goes by itself, where we may not delete it."""
    try:
        await api.call(f"CONSUMER.DELETE.{stream}.{NAME}", deadline=deadline)
    except ApiError as error:
        if error.number not in (CONSUMER_NOT_FOUND, STREAM_NOT_FOUND):
            raise
    except NotAllowed:
        return
