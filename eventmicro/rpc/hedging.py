"""Hedged calls: where no answer has come after a while a second request goes out, and the first answer is taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from eventmicro.retry import TRIED_AGAIN, is_safe


async def hedged(
    send: Callable[[float], Awaitable[Any]],
    until: float,
    after: float,
    may_send_again: Callable[[], bool],
    losers: set[asyncio.Task[Any]],
) -> Any:
    """Send a request, and after so many seconds once more; the first answer, also where that is an error that no
    further attempt would change. Where both fail it is the error of the last.

    Args:
        until: how long both wait, in `time.monotonic()` seconds.
        may_send_again: whether a second one is paid for.
        losers: where what is not waited for is kept until it has ended: it is cancelled at its service, too.
    """
    running = {asyncio.create_task(_begin(send, until))}
    try:
        done, _ = await asyncio.wait(running, timeout=min(after, max(0.0, until - time.monotonic())))
        if not done and may_send_again():
            running.add(asyncio.create_task(_begin(send, until)))
        while True:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            answers = [each for each in done if _is_answer(each)]
            if answers or not running:
                return (answers or list(done))[0].result()
    finally:
        for each in running:
            each.cancel()
            losers.add(each)
            each.add_done_callback(_forget_in(losers))


async def _begin(send: Callable[[float], Awaitable[Any]], until: float) -> Any:
    """Where a node is chosen that is not before this runs, so that no node is waited for in vain."""
    return await send(until)


def _is_answer(call: asyncio.Task[Any]) -> bool:
    error = None if call.cancelled() else call.exception()
    return not isinstance(error, TRIED_AGAIN) or not is_safe(error, idempotent=True)


def _forget_in(losers: set[asyncio.Task[Any]]) -> Callable[[asyncio.Task[Any]], None]:
    def forget(call: asyncio.Task[Any]) -> None:
        losers.discard(call)
        if not call.cancelled():
            call.exception()  # nobody asks for it

    return forget
