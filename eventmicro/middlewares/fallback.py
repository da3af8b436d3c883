"""The fallback: what is answered in place of what fails."""

from __future__ import annotations

import inspect
from typing import Any

from eventmicro.checks import names_words
from eventmicro.context import Context, Side
from eventmicro.errors import TooManyRequests
from eventmicro.middleware import Handler
from eventmicro.middlewares.failures import Failures, is_failure, make_judge


@names_words
class Fallback:
    """Answers something else where there is no answer: a value, or what a plain or async function of the request, the
    context and the error returns. On the client's side `only` says for which endpoints; of a stream it is about the
    opening.

    Args:
        answer: the value, the same object each time; or the function. What that raises is raised.
        on: which errors it stands in for: exception classes, or a function of the error; default: no answer, 500 and
            more, and 429.

    Raises:
        UsageError: `on` is none of these.
    """

    __eventmicro_sides__ = frozenset({Side.CLIENT, Side.ENDPOINT})

    def __init__(self, answer: Any, *, on: Failures = None) -> None:
        self._answer = answer
        self._stands_in = make_judge("on", on, _has_no_answer)

    async def __call__(self, message: Any, context: Context, call_next: Handler) -> Any:
        try:
            return await call_next(message, context)
        except Exception as error:
            if not self._stands_in(error):
                raise
            if not callable(self._answer):
                return self._answer
            answer = self._answer(message, context, error)
            return await answer if inspect.isawaitable(answer) else answer


def _has_no_answer(error: Exception) -> bool:
    return is_failure(error) or isinstance(error, TooManyRequests)
