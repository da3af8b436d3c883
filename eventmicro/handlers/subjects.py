"""Parameters that stand in a message's subject: `level: Level` of a handler of `logs.{level}`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from eventmicro.context import Context
from eventmicro.errors import Reject, SignatureError
from eventmicro.handlers.fields import is_message


class WrongSubject(Reject):
    """A token of an event's subject is not what the handler takes there; another attempt would not help."""


@dataclass(frozen=True, slots=True)
class Named:
    """A parameter that is a token of the subject."""

    name: str
    hint: Any
    place: int

    def reader(self) -> Callable[[Context], Any]:
        """What takes it out of a message's context.

        Raises:
            WrongSubject: by what it returns, where the token does not fit.
        """
        place = self.place
        if self.hint is str:
            return lambda context: context.topic.split(".")[place]
        from pydantic import TypeAdapter, ValidationError

        read, name = TypeAdapter(self.hint).validate_strings, self.name

        def take(context: Context) -> Any:
            try:
                return read(context.topic.split(".")[place])
            except ValidationError as error:
                why = error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
                raise WrongSubject(f"{name} in its subject, {context.topic}: {why}") from None

        return take


def take_named(names: Mapping[str, int], parameter: str, hint: Any, handler: str) -> Named:
    """The token that a parameter of this name stands for.

    Raises:
        SignatureError: its type is none of a token.
    """
    if is_message(hint) or hint in (list, dict, set, tuple, bytes):
        raise SignatureError(
            f"{handler}: {parameter!r} is {{{parameter}}} of the subject, so a str, an int, an Enum or a UUID; "
            f"give the event's parameter another name"
        )
    return Named(parameter, hint, names[parameter])
