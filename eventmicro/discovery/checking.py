"""Checks: functions of a user's that say whether something is well, by name."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

# How long a check may take, in seconds.
CHECK_TIMEOUT = 5.0
# The longest reason that is told, in characters, and what of it is not: drivers name what they could not connect to.
LONGEST = 500
_IN_URL = re.compile(r"(\w://[^\s/@:]*):[^\s/]*@")
_NAMED = re.compile(r"(?i)\b(\w*(?:password|passwd|pwd|secret|token)\w*['\"]?\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s,;&]+)")

CheckFunction = Callable[[], bool | Awaitable[bool | None] | None]
"""It fails by raising, or by returning False."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A named check.

    critical: whether the node is not ready where it fails.
    vital: whether it does not live where it fails, so that it is to be started anew.
    """

    name: str
    function: CheckFunction
    critical: bool = True
    vital: bool = False


async def find_fault(check: CheckFunction, within: float = CHECK_TIMEOUT) -> str | None:
    """What is wrong by a check: it raised, returned False, or took too long; None: nothing."""
    outcome: object = None
    limit = asyncio.timeout(within)
    try:
        async with limit:
            outcome = check()
            if inspect.isawaitable(outcome):
                outcome = await outcome
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) is None or task.cancelling():  # it is we who are cancelled
            raise
        return f"{type(error).__name__}: what it waited for was cancelled"
    except Exception as error:
        if limit.expired() and isinstance(error, TimeoutError):
            return f"it took longer than {within:g} s"
        return f"{type(error).__name__}: {masked(str(error))}"
    return "it returned False" if outcome is False else None


def masked(text: str) -> str:
    """An error's text as others may see it, who ask how a service is: without the passwords that it may hold."""
    return _NAMED.sub(r"\1***", _IN_URL.sub(r"\1:***@", text))[:LONGEST]
