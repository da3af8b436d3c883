"""The numbers that options are made of, checked: seconds and counts."""

from __future__ import annotations

from typing import Any

from eventmicro.errors import UsageError

# The longest time that can be asked for, in seconds: four months, which every clock and broker can count.
LONGEST = 1e7


def check_seconds(name: str, seconds: Any, *, or_none_at_all: bool = False) -> None:
    """Refuse what is no time to wait; `or_none_at_all`: 0 is one.

    Raises:
        UsageError: it is no number, 0 or less, or more than four months.
    """
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not (0 < seconds <= LONGEST or (seconds == 0 and or_none_at_all)):
        least = "0 or more" if or_none_at_all else "more than 0"
        raise UsageError(f"{name}={seconds!r}: write seconds, {least} and up to {LONGEST:g}")


def check_count(name: str, count: Any) -> None:
    """Refuse what is no number of things.

    Raises:
        UsageError: it is no whole number, or less than 1.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise UsageError(f"{name}={count!r}: write a whole number, 1 or more")
