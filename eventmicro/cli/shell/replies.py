"""The last replies, which later commands use: `$_` is the last one, `$1` the first, `$_.items[0].sku` a part of it."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from eventmicro.errors import UsageError

# How many replies are kept, and how many bytes of them.
KEPT = 100
KEPT_BYTES = 16 * 1024 * 1024

REFERENCE = re.compile(r"\$(\$?)(_|[0-9]+)((?:\.[A-Za-z_][A-Za-z0-9_-]*|\.[0-9]+|\[[0-9]+\])*)")
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)|[.\[]([0-9]+)")


class Replies:
    """What was answered, by its number; the oldest are forgotten."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._size = 0
        self._number = 0

    @property
    def last(self) -> int:
        """The number of the last one; 0: there was none."""
        return self._number

    def keep(self, body: bytes) -> int:
        """Keep a reply; its number."""
        self._number += 1
        self._kept[self._number] = body
        self._size += len(body)
        while len(self._kept) > KEPT or (self._size > KEPT_BYTES and len(self._kept) > 1):
            self._size -= len(self._kept.popitem(last=False)[1])
        return self._number

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        return ((number, _value(body)) for number, body in self._kept.items())

    def find(self, name: str, path: str = "") -> Any:
        """The value of `_` or a number, or what is at a path in it.

        Raises:
            UsageError: there is none; it says what there is.
        """
        number = self._number if name == "_" else int(name)
        if number not in self._kept:
            there = (
                f"there are ${next(iter(self._kept))} to ${self._number}" if self._kept else "nothing was called yet"
            )
            raise UsageError(f"${name}: there is no such reply; {there}")
        value, place = _value(self._kept[number]), f"${name}"
        for step in _STEP.finditer(path):
            value = _part(value, step[1], step[2], place)
            place += step[0] + ("]" if step[0].startswith("[") else "")
        return value


def _part(value: Any, field: str | None, index: str | None, place: str) -> Any:
    if index is not None and isinstance(value, list):
        if int(index) < len(value):
            return value[int(index)]
        raise UsageError(f"{place} has {len(value)} items, and no [{index}]")
    name = field if field is not None else index
    if isinstance(value, dict):
        if name in value:
            return value[name]
        raise UsageError(f"{place} has no {name!r}; it has {', '.join(map(str, value)) or 'nothing'}")
    raise UsageError(f"{place} is {json.dumps(value)[:60]}, and has no {name!r}")


def _value(body: bytes) -> Any:
    """A reply as a value: JSON, or else text."""
    try:
        return json.loads(body) if body else None
    except (ValueError, RecursionError):
        return body.decode(errors="replace")
