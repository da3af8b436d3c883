"""What was said in the log not long ago, and is not worth saying again: a server may refuse the same many times."""

from __future__ import annotations

import re
import time

# After how many seconds the same is said again.
AGAIN = 60.0
# How many different things are remembered.
MOST = 1000

# What differs where the same is meant: the end of an inbox, and the numbers of an event that is settled.
_names = re.compile(r'(_inbox\.\w+|\$js\.ack\.[^."]+\.[^."]+)[^"]*', re.IGNORECASE)


class Told:
    """What was said, and when."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def is_new(self, text: str) -> bool:
        """Whether this was not said within the last minute; from now on it was."""
        key, now = _names.sub(r"\1", text), time.monotonic()
        if now - self._said.get(key, -AGAIN) < AGAIN:
            return False
        if len(self._said) >= MOST:
            self._said.clear()
        self._said[key] = now
        return True
