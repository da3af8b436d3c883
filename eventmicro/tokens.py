"""Named tokens of a subject: `logs.{level}` is `logs.*` on the wire, and `logs.error` is of it, with level `error`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from eventmicro.errors import UsageError
from eventmicro.wire import check_subject

if TYPE_CHECKING:
    from uuid import UUID

Token: TypeAlias = "str | int | Enum | UUID | date"
"""What can stand in a named token."""

_NAMED = re.compile(r"\{(.*)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A subject with named tokens.

    text: as it was written.
    subject: the same for the broker, `*` for each named token.
    places: which token of the subject each name stands for, counted from 0.
    """

    text: str
    subject: str
    places: Mapping[str, int]

    def fill(self, values: Mapping[str, Token]) -> str:
        """The subject with these in it.

        Raises:
            UsageError: a name is missing, there is none of that name, or a value is no token of a subject.
        """
        if values.keys() != self.places.keys():
            takes = ", ".join(f"{name}=..." for name in self.places)
            raise UsageError(f"subject {self.text!r} takes {takes}, and was given {', '.join(values) or 'nothing'}")
        tokens = self.text.split(".")
        for name, place in self.places.items():
            tokens[place] = _token(name, values[name])
        return ".".join(tokens)


def read_template(subject: str) -> Template | None:
    """The named tokens of a subject; None where it has none.

    Raises:
        UsageError: a name is none, stands twice, or for a part of a token only.
    """
    if "{" not in subject:
        return None
    tokens, places = subject.split("."), dict[str, int]()
    for place, token in enumerate(tokens):
        if (named := _NAMED.fullmatch(token)) is None:
            if "{" in token:
                raise UsageError(f"subject {subject!r}: {{name}} stands for one whole token, between dots")
            continue
        name = named[1]
        if not name.isidentifier() or name in places:
            raise UsageError(f"subject {subject!r}: {token} is no name of its own; write such as {{level}}")
        places[name] = place
        tokens[place] = "*"
    return Template(subject, ".".join(tokens), places)


def _token(name: str, value: Token) -> str:
    """A value as a token of a subject."""
    from uuid import UUID  # which few need, and which looks at the platform

    plain = value.value if isinstance(value, Enum) else value
    if not isinstance(plain, str | int | UUID | date):
        raise UsageError(f"{name}={value!r}: a token of a subject is a text, a number, an Enum, a UUID or a date")
    text = str(plain)
    if "." in text:
        raise UsageError(f"{name}={text!r}: a dot would begin the next token of the subject; write it without")
    try:
        return check_subject(text)
    except UsageError:
        raise UsageError(f"{name}={text!r} is no token of a subject: it is empty, or has a blank, '*' or '>'") from None
