"""What a stub is given, held to what its contract says: a body does not say of which class its message was.

Any other protobuf message would be read by the service as its own, and a model that has the fields would be, too.
"""

from __future__ import annotations

from typing import Any

from eventmicro.errors import EncodeError, UsageError, describe_fields
from eventmicro.handlers.fields import is_message

# In place of an argument that was not given.
UNSET: Any = object()


class Takes:
    """What a method of a stub takes.

    Args:
        kind: the type of its request, or of each message of the stream.
        shown: the method, for errors.
    """

    __slots__ = ("_is_message", "_shown", "kind")

    def __init__(self, kind: Any, shown: str) -> None:
        self.kind = kind
        self._shown = shown
        self._is_message = is_message(kind)

    def check(self, message: Any) -> None:
        """Refuse a message of another class, and none at all; what is of no such class the service looks into.

        Raises:
            UsageError: it is that.
        """
        if not self._is_message or isinstance(message, self.kind):
            return
        if message is None or is_message(type(message)):
            given = None if message is None else type(message).__qualname__
            raise UsageError(f"{self._shown} takes {self.kind.__qualname__}, and was given {given}")

    def make(self, **fields: Any) -> Any:
        """The message of these fields, those left out that were not given.

        Raises:
            EncodeError: they are not as the contract says.
        """
        from pydantic import ValidationError

        try:
            return self.kind(**{name: value for name, value in fields.items() if value is not UNSET})
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_context=False, include_input=False)
            raise EncodeError(f"{self._shown}: its arguments are wrong{describe_fields(wrong)}") from None

    def check_iterator(self, items: Any) -> None:
        """Refuse what is no async iterator.

        Raises:
            UsageError: it is something else.
        """
        if not hasattr(items, "__aiter__"):
            raise UsageError(
                f"{self._shown} takes an async iterator, and was given {type(items).__qualname__}: "
                f"write an `async def` that yields the messages"
            )
