"""Trying what this user may do: what the server refuses meanwhile is told to who tries, and not to the log."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_match_refused = re.compile(r'.*?permissions violation for (?:publish|subscription) to "(.*?)"').match


class Trial:
    """One try.

    Args:
        subjects: what is tried; one that ends in a dot stands for all that begins so.

    Attributes:
        refused: what was, in the words that are to be told.
    """

    def __init__(self, subjects: Sequence[str]) -> None:
        self.refused: list[str] = []
        self._subjects = subjects

    def take(self, text: str) -> bool:
        """Take what the server refuses; whether it is about this."""
        match = _match_refused(text)
        if match is None or not any(_is_meant(match[1], subject) for subject in self._subjects):
            return False
        if text not in self.refused:
            self.refused.append(text)
        return True


class Trials:
    """Those of one connection that are under way."""

    def __init__(self) -> None:
        self._running: list[Trial] = []

    @contextmanager
    def of(self, *subjects: str) -> Iterator[Trial]:
        """Try these within it."""
        trial = Trial(subjects)
        self._running.append(trial)
        try:
            yield trial
        finally:
            self._running.remove(trial)

    def take(self, text: str) -> bool:
        """Take what the server refuses; whether it was tried."""
        taken = [trial.take(text) for trial in self._running]  # by each of them
        return any(taken)


def _is_meant(subject: str, tried: str) -> bool:
    return subject.startswith(tried) if tried.endswith(".") else subject == tried
