"""What one subject says of another."""

from __future__ import annotations


def covers(wide: str, narrow: str) -> bool:
    """Whether all that matches `narrow` matches `wide`."""
    have, want = wide.split("."), narrow.split(".")
    for position, token in enumerate(have):
        if token == ">":
            return len(want) > position
        if position >= len(want) or want[position] == ">":
            return False
        if token not in ("*", want[position]):
            return False
    return len(have) == len(want)
