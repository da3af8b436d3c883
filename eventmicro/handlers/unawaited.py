"""A coroutine where its result should be: somebody has left out an `await`, and is told so where it is met."""

from __future__ import annotations

import inspect
from typing import Any


def unawaited(value: Any, mend: str) -> str:
    """What to say of a value that nobody has awaited, with what mends that; empty where it is another kind of value.

    A coroutine is closed, so that Python does not say the same of it a second time, without the mend.
    """
    if not inspect.isawaitable(value):
        return ""
    if not inspect.iscoroutine(value):
        return f"a {type(value).__name__} that nobody has awaited: {mend}"
    value.close()
    return f"a coroutine, that of {value.__qualname__}, which nobody has awaited: {mend}"
