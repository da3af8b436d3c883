"""A handler for some of the types of a topic that carries several: it takes those, and leaves the others alone."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import Any, is_typeddict

from eventmicro.context import Context
from eventmicro.handlers.publishing import is_a
from eventmicro.kinds import members_of
from eventmicro.middleware import Handler


def some_of(takes: Any, carried: Any) -> tuple[type, ...] | None:
    """The classes that a handler takes where these are some of those that a topic carries; None where they are not."""
    wanted, all_there = members_of(takes), members_of(carried)
    if len(all_there) < 2 or any(not inspect.isclass(each) or is_typeddict(each) for each in all_there):
        return None
    some = tuple(each for each in all_there if any(is_a(each, one) for one in wanted))
    known = all(any(is_a(each, one) for each in all_there) for one in wanted)
    return some if known and some and len(some) < len(all_there) else None


def takes_some(handler: Handler, some: tuple[type, ...]) -> Handler:
    """The handler, for events of these types; any other is dealt with, as it is for another subscriber."""

    def run(event: Any, context: Context) -> Awaitable[Any]:
        return handler(event, context) if isinstance(event, some) else _leave_alone()

    return run


async def _leave_alone() -> None:
    """It is for another subscriber, which has a queue of its own."""
