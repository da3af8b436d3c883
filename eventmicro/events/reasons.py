"""Why an event was not handled, in words for the log and for whoever looks through the dead letters."""

from __future__ import annotations

from pydantic import ValidationError

from eventmicro.errors import (
    ContentTooLarge,
    DecodeError,
    Settlement,
    UnsupportedMediaType,
    describe_fields,
)

# How many of the errors of a group are named, and how many wrong fields of a message.
NAMED = 3


def rejected(reason: str) -> str:
    """Why an event was given up by its handler."""
    return f"rejected: {reason}" if reason else "rejected"


def kind_of(reason: str) -> str:
    """What reasons have in common that are alike but for their events."""
    return reason.partition(":")[0].partition("(")[0]


def why_unreadable(error: BaseException) -> str:
    """Why an event could not be decoded, in words without its content."""
    if isinstance(error, ContentTooLarge):
        return error.detail
    if isinstance(error, UnsupportedMediaType):
        return f"it is in a form not taken here: {error.detail}"
    if isinstance(error, DecodeError):
        return f"it is {error}{describe_fields(error.errors)}"
    return f"it could not be decoded: {type(error).__name__}"


def describe(error: BaseException) -> str:
    """An error in a line: the first one of its text, as further ones show what was being worked on, such as the
    parameters of a statement; with the fields that pydantic found wrong, and what a group holds.
    """
    try:
        text = (error.reason if isinstance(error, Settlement) else str(error)).partition("\n")[0] + _parts(error)
    except Exception:  # it is the user's, and may have no words for itself
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _parts(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return describe_fields(found[:NAMED])
    if isinstance(error, BaseExceptionGroup):
        return f" ({'; '.join(describe(each) for each in error.exceptions[:NAMED])})"
    return ""
