"""Versions after semver.org: their order, and the ranges in which they are asked for."""

from __future__ import annotations

import re
from functools import lru_cache, total_ordering

from eventmicro.errors import UsageError
from eventmicro.wire import VERSION

# A comparison, and how many parts of its version may be left out.
_COMPARISON = re.compile(r"(\^|~|>=|<=|>|<|=|)\s*(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?(?:\+\S+)?")


@total_ordering
class Version:
    """A version, in semver's order: a pre-release comes before its release, numbers count as numbers.

    Raises:
        ValueError: it is none.
    """

    __slots__ = ("_order", "numbers", "pre")

    def __init__(self, text: str) -> None:
        found = VERSION.fullmatch(text)
        if found is None:
            raise ValueError(text)
        self.numbers = (int(found[1]), int(found[2]), int(found[3]))
        self.pre: str | None = found[4]
        self._order = _order(self.numbers, self.pre)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._order == other._order

    def __lt__(self, other: Version) -> bool:
        return self._order < other._order

    def __hash__(self) -> int:
        return hash(self._order)


_Order = tuple[tuple[int, int, int], bool, tuple[tuple[bool, int, str], ...]]


def _order(numbers: tuple[int, int, int], pre: str | None) -> _Order:
    parts = () if pre is None else tuple((not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in pre.split("."))
    return numbers, pre is None, parts


@lru_cache(4096)
def version_of(text: str) -> Version | None:
    """The version that a text is; None where it is none."""
    try:
        return Version(text)
    except ValueError:
        return None


class Range:
    """A range of versions: comparisons with commas or spaces between, `||` between alternatives.

    `1.2.3` is that version, `1.2` any 1.2.x, `^1.2.3` up to before 2.0.0, `~1.2.3` up to before 1.3.0, `>=1.2, <3` what
    it says, `*` any. A pre-release matches only where the range names one of the same three numbers, as npm has it.

    Raises:
        UsageError: it is none.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._alternatives = [self._read(part) for part in text.split("||")]

    def __contains__(self, version: Version) -> bool:
        return any(
            all(low <= version._order < high for low, high, _ in comparisons)
            and (version.pre is None or any(numbers == version.numbers for *_, numbers in comparisons))
            for comparisons in self._alternatives
        )

    def _read(self, text: str) -> list[tuple[_Order, _Order, tuple[int, int, int] | None]]:
        text = text.strip()
        if text == "*":
            return [(_LEAST, _MOST, None)]
        comparisons, end = [], 0
        while end < len(text):
            found = _COMPARISON.match(text, end)
            if found is None or (found[5] is not None and found[4] is None):
                break
            comparisons.append(_bounds(*found.groups()))
            end = found.end()
            while end < len(text) and text[end] in ", ":
                end += 1
        if not comparisons or end < len(text):
            raise UsageError(f"version range {self._text!r}: write '1.2.3', '^1.2', '~1.2.3', '>=1.2, <3' or '*'")
        return comparisons


_LEAST: _Order = ((-1, 0, 0), False, ())
_MOST: _Order = ((2**62, 0, 0), False, ())


def _bounds(
    operator: str, major: str, minor: str | None, patch: str | None, pre: str | None
) -> tuple[_Order, _Order, tuple[int, int, int] | None]:
    """From where to before where, and the numbers of the pre-release that is named."""
    numbers = (int(major), int(minor or 0), int(patch or 0))
    known = 1 + (minor is not None) + (patch is not None)
    at = _order(numbers, pre)
    after = _after(at, numbers, known)
    named = numbers if pre is not None else None
    bounds = {
        "^": (at, _first(_raise(numbers, _leading(numbers, known)))),
        "~": (at, _first(_raise(numbers, min(known, 2)))),
        ">=": (at, _MOST),
        "<=": (_LEAST, after),
        ">": (after, _MOST),
        "<": (_LEAST, at),
    }
    return (*bounds.get(operator, (at, after)), named)


def _after(at: _Order, numbers: tuple[int, int, int], known: int) -> _Order:
    """The least that comes after all that is meant: after `1.2` it is 1.3.0."""
    if known < 3:
        return _first(_raise(numbers, known))
    return (*at[:2], (*at[2], (False, -1, "")))


def _first(numbers: tuple[int, int, int]) -> _Order:
    """Before any pre-release of these numbers."""
    return numbers, False, ()


def _raise(numbers: tuple[int, int, int], place: int) -> tuple[int, int, int]:
    """The numbers with the one at this place, from 1 on, one higher, and those behind it 0."""
    raised = [*numbers[: place - 1], numbers[place - 1] + 1, 0, 0]
    return raised[0], raised[1], raised[2]


def _leading(numbers: tuple[int, int, int], known: int) -> int:
    """The place that `^` does not let change: that of the first number that is not 0, of those that are named."""
    return next((place for place, number in enumerate(numbers[:known], 1) if number), known)
