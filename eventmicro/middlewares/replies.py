"""Checked replies: what a handler returns is what it says it returns, down to the last field."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from eventmicro.checks import names_words
from eventmicro.context import Context, Side
from eventmicro.errors import DecodeError, InternalError, describe_fields
from eventmicro.middleware import Handler
from eventmicro.middlewares.watched import is_stream

log = logging.getLogger(__name__)

Check = Callable[[Any], None]


@names_words
class ValidateReplies:
    """Validates each reply against its type, as whoever reads it will: a model may have been changed, or made by
    `model_construct`, since it was last valid. Around an endpoint a reply that is not is answered as 500, and the log
    says what is wrong with it; around a client it is a `DecodeError`. Types that pydantic does not know are checked by
    their class alone; of streams nothing is.
    """

    __eventmicro_sides__ = frozenset({Side.CLIENT, Side.ENDPOINT})

    def __init__(self) -> None:
        self._checks: dict[Any, Check] = {}

    async def __call__(self, message: Any, context: Context, call_next: Handler) -> Any:
        reply = await call_next(message, context)
        if is_stream(reply.__class__):
            return reply
        try:
            self._check(context.reply)(reply)
        except DecodeError as error:
            raise _refusal(context, error) from None
        return reply

    def _check(self, kind: Any) -> Check:
        try:
            check = self._checks.get(kind)
        except TypeError:  # a type that cannot be hashed
            return _make_check(kind)
        if check is None:
            check = self._checks[kind] = _make_check(kind)
        return check


def _refusal(context: Context, error: DecodeError) -> InternalError | DecodeError:
    name = f"{context.service}.{context.endpoint}"
    if context.side is Side.CLIENT:
        return DecodeError(f"the reply of {name} is {error}", error.errors)
    log.error("%s: the reply is %s%s", name, error, describe_fields(error.errors))
    return InternalError("the endpoint replied what it must not; the log of its service says more")


def _make_check(kind: Any) -> Check:
    if kind is Any:
        return lambda reply: None
    if kind is bytes:
        return lambda reply: _check_class(bytes, reply)
    from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
    from pydantic_core import PydanticSerializationError

    try:
        adapter = TypeAdapter[Any](kind)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return lambda reply: _check_class(kind, reply)

    def check(reply: Any) -> None:
        try:
            body = adapter.dump_json(reply, by_alias=True, warnings="error")
            adapter.validate_json(body)
        except PydanticSerializationError:
            raise DecodeError(f"not of its type: a part of this {type(reply).__name__} is of another one") from None
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_context=False, include_input=False)
            raise DecodeError("not of its type", [dict(each) for each in wrong]) from None

    return check


def _check_class(kind: Any, reply: Any) -> None:
    if isinstance(kind, type) and not isinstance(reply, kind):
        raise DecodeError(f"not of its type: expected {kind.__name__}, got {type(reply).__name__}")
