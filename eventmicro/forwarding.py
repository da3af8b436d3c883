"""Forwarding: which metadata of a message goes on by itself with what its handler calls and publishes."""

from __future__ import annotations

from collections.abc import Iterable

from eventmicro.checks import check_several
from eventmicro.context import Context
from eventmicro.errors import UsageError
from eventmicro.wire import check_headers, header

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
CORRELATION_ID = "correlation-id"
# What goes on where nothing else is said: to which trace a message belongs, and to which course of business.
FORWARDED = (TRACEPARENT, TRACESTATE, CORRELATION_ID)
# The longest value that goes on, in characters: as long as W3C lets the headers of a trace be.
MAX_FORWARDED = 8192


class Forwarding:
    """The metadata that one client passes on, by name.

    Args:
        names: what goes on, whatever the case in which it comes; it goes on as it is written here.

    Raises:
        UsageError: one of these is no name of a header.
    """

    def __init__(self, names: Iterable[str] = FORWARDED) -> None:
        self.names: tuple[str, ...] = check_several("forward", names, "'traceparent'")
        for name in self.names:
            try:
                check_headers({name: ""})
            except UsageError as error:
                raise UsageError(f"forward: {error}") from None

    def join(self, context: Context, metadata: dict[str, str] | None) -> dict[str, str] | None:
        """What is sent within the handler of a message: what is said, and what goes on where nothing is said of it.

        Args:
            context: that of the message.
            metadata: what is said; it stays as it is.
        """
        came = context.came_with
        if not came:
            return metadata
        passed = {name: value for name in self.names if (value := header(came, name)) and _may_go_on(value)}
        if metadata:
            said = {name.lower() for name in metadata}
            if TRACEPARENT in said:  # of which the state is a part
                said.add(TRACESTATE)
            passed = {name: value for name, value in passed.items() if name.lower() not in said}
        return {**(metadata or {}), **passed} if passed else metadata


def _may_go_on(value: str) -> bool:
    """Whether it can be sent: a peer may have written anything."""
    return len(value) <= MAX_FORWARDED and value.isprintable()
