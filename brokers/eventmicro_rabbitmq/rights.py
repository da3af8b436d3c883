"""Rights: what RabbitMQ refuses to its user, as one list, and the command that grants what is needed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from eventmicro.errors import UsageError

# What may be granted, in the order in which `rabbitmqctl set_permissions` takes the patterns.
RIGHTS = ("configure", "write", "read")
# How RabbitMQ says it; 3 does not say which right.
_REFUSED = re.compile(
    r"(?:(configure|write|read) )?access to (exchange|queue) '(.*)' in vhost '(.*)' refused for user '(.*)'"
)
# How many exchanges and queues an error names, and how many a pattern before those are put together that begin alike.
MOST_NAMED, MOST_IN_PATTERN = 8, 24
# Where names go on otherwise at each start, or with each delay.
_GOES_ON = re.compile(r"(amq\.gen-|.*\.@24node\.|.*\.retry\.)")
_SPECIAL = re.compile(r"([.+*?^$()\[\]{}|\\])")


class Right(NamedTuple):
    """A right to an exchange or a queue."""

    right: str
    kind: str
    name: str


def rights_to(kind: str, name: str, *rights: str) -> list[Right]:
    """Several rights to one of them."""
    return [Right(right, kind, name) for right in rights]


class NotAllowed(UsageError):
    """RabbitMQ refuses something to its user.

    said: what it refuses, in its own words, and what else would do.
    lacks: the rights that are missing, as far as is known.
    needs: all that are needed from here, these included; the command grants them.
    """

    def __init__(self, said: str, lacks: Iterable[Right], user: str, vhost: str, needs: Iterable[Right] = ()) -> None:
        self.said = said
        self.lacks = tuple(dict.fromkeys(lacks))
        self.user = user
        self.vhost = vhost
        self.needs = frozenset(needs)
        super().__init__(self._text())

    def needing(self, needs: Iterable[Right]) -> NotAllowed:
        """The same, with all that is needed."""
        return NotAllowed(self.said, self.lacks, self.user, self.vhost, self.needs.union(needs))

    @classmethod
    def together(cls, errors: Sequence[UsageError]) -> UsageError:
        refused = [error for error in errors if isinstance(error, NotAllowed)]
        first = refused[0]
        lacks = [right for error in refused for right in error.lacks]
        needs = frozenset[Right]().union(*(error.needs for error in refused))
        return NotAllowed(first.said, lacks, first.user, first.vhost, needs)

    def _text(self) -> str:
        several = len({(right.kind, right.name) for right in self.lacks}) > 1
        listed = f"; the user {self.user!r} has no right to {listing(self.lacks)}" if several else ""
        if not self.needs:
            return f"{self.said}{listed}"
        command = set_permissions(self.user, self.vhost, self.needs.union(self.lacks))
        return (
            f"{self.said}{listed}; all that is needed here, to be joined with what `rabbitmqctl list_user_permissions "
            f"{shlex.quote(self.user)}` shows, as it takes that away: {command}"
        )


def not_allowed(text: str, said: str, **lacks: Sequence[str]) -> UsageError:
    """The error for what RabbitMQ refuses.

    Args:
        text: its own words.
        said: what is to be said of it.
        lacks: which rights to an exchange, or a queue, these may be, as RabbitMQ 3 does not say it.
    """
    found = _REFUSED.search(text)
    if found is None:
        return UsageError(said)
    right, kind, name, vhost, user = found.groups()
    rights = (right,) if right else lacks.get(kind, ())
    return NotAllowed(said, rights_to(kind, name, *rights), user, vhost)


def listing(rights: Iterable[Right]) -> str:
    """Rights by what they are to, and not too many: `configure queue 'a', queue 'b'; write and read exchange 'c'`."""
    of: dict[str, set[str]] = {}
    for right, kind, name in rights:
        of.setdefault(f"{kind} {_told(name)!r}", set()).add(right)
    grouped: dict[str, list[str]] = {}
    for what in list(of)[:MOST_NAMED]:
        grouped.setdefault(_all_of(each for each in RIGHTS if each in of[what]), []).append(what)
    listed = [f"{verbs} {', '.join(those)}" for verbs, those in grouped.items()]
    return "; ".join(listed) + (f"; and to {len(of) - MOST_NAMED} more" if len(of) > MOST_NAMED else "")


def set_permissions(user: str, vhost: str, rights: Iterable[Right]) -> str:
    """The command that gives a user exactly these rights in a virtual host."""
    names: dict[str, set[str]] = {right: set() for right in RIGHTS}
    for right, _, name in rights:
        names[right].add(name)
    patterns = " ".join(shlex.quote(pattern_of(names[right])) for right in RIGHTS)
    return f"rabbitmqctl set_permissions -p {shlex.quote(vhost)} {shlex.quote(user)} {patterns}"


def pattern_of(names: Iterable[str]) -> str:
    """The regular expression for these names; of many it lets in whatever begins as several of them do."""
    parts = sorted({_pattern(name) for name in names})
    if len(parts) > MOST_IN_PATTERN:
        parts = sorted({part for begin, those in _by_first_token(names).items() for part in _folded(begin, those)})
    return f"^({'|'.join(parts)})$" if parts else "^$"


def _by_first_token(names: Iterable[str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(name.partition(".")[0], []).append(name)
    return grouped


def _folded(begin: str, names: list[str]) -> Iterable[str]:
    if len(names) == 1 or begin == "amq":
        return map(_pattern, names)
    alone = [_escaped(begin)] if begin in names else []
    return [*alone, rf"{_escaped(begin)}\..*"]


def _pattern(name: str) -> str:
    begin = _GOES_ON.match(name)
    return _escaped(name) if begin is None else f"{_escaped(begin[1])}.*"


def _told(name: str) -> str:
    begin = _GOES_ON.match(name)
    return name if begin is None else f"{begin[1]}*"


def _escaped(name: str) -> str:
    return _SPECIAL.sub(r"\\\1", name)


def _all_of(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
