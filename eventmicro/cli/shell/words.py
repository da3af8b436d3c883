"""A line as words, as a shell splits it: quotes hold them together, and so do the brackets of JSON.

`call orders.quote {"sku": "a"}` needs no quotes around the JSON. What stands for a reply, as `$_.id`, is replaced
within a word, whatever quotes it is in: it never becomes two words. In JSON it is a JSON value, within a string of it a
part of that; elsewhere a text is as it is, and none that would make its word an option or the name of a file. `$$1` is
`$1` itself.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from eventmicro.cli.shell.replies import REFERENCE, Replies
from eventmicro.errors import UsageError

_WORD = re.compile(r"""(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s'"\\])+""", re.DOTALL)
_BRACKETS = {"{": "}", "[": "]"}


def split(line: str, replies: Replies) -> list[str]:
    """The words of a line; none of a comment, which begins with #.

    Raises:
        UsageError: a quote or bracket is not closed, or a reply is named that is not there.
    """
    return [_replaced(word, replies) for word in _split(line)]


def _split(line: str) -> list[str]:
    words: list[str] = []
    place = 0
    if line.lstrip().startswith("#"):
        return []
    while True:
        place += len(line[place:]) - len(line[place:].lstrip())
        if place == len(line):
            return words
        if line[place] in _BRACKETS:
            end = _end_of_json(line, place)
            words.append(line[place:end])
        else:
            found = _WORD.match(line, place)
            if found is None or (found.end() < len(line) and not line[found.end()].isspace()):
                raise UsageError(f"a quote is not closed: {line[place:][:40]}")
            end = found.end()
            words.append("".join(shlex.split(found[0])))
        place = end


def _end_of_json(line: str, start: int) -> int:
    open_brackets: list[str] = []
    is_text = is_escaped = False
    for place in range(start, len(line)):
        sign = line[place]
        if is_text:
            is_text = is_escaped or sign != '"'
            is_escaped = sign == "\\" and not is_escaped
        elif sign == '"':
            is_text = True
        elif sign in _BRACKETS:
            open_brackets.append(_BRACKETS[sign])
        elif open_brackets and sign == open_brackets[-1]:
            open_brackets.pop()
            if not open_brackets:
                return place + 1
    raise UsageError(f"a bracket or a quote is not closed: {line[start:][:40]}")


def _replaced(word: str, replies: Replies) -> str:
    """The word with the replies that it names."""
    is_json = word[:1] in ("{", "[", '"')

    def value(found: re.Match[str]) -> str:
        if found[1]:
            return found[0][1:]
        named = replies.find(found[2], found[3])
        if not is_json:
            return _plain(named, found)
        is_text = _is_within_text(word[: found.start()])
        return json.dumps(_text(named))[1:-1] if is_text else json.dumps(named)

    return REFERENCE.sub(value, word)


def _plain(value: Any, found: re.Match[str]) -> str:
    """A reply as it is, where it does not make the word an option or the name of a file: a peer has said it."""
    text = _text(value)
    if isinstance(value, str) and found.start() == 0 and text.startswith(("-", "@")):
        raise UsageError(
            f"{found[0]} begins with {text[0]!r}, as an option or a file: write it in JSON, or behind --option="
        )
    return text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _is_within_text(before: str) -> bool:
    """Whether what follows is within a string of JSON."""
    return len(re.findall(r'(?<!\\)(?:\\\\)*"', before)) % 2 == 1
