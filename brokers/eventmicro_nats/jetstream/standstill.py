"""The watchdog of a queue: it has events, there is room for them, and none comes, for whatever reason."""

from __future__ import annotations

# After how many seconds without progress a subscription begins anew.
LONGEST = 60.0


class Standstill:
    """Notes since when nothing has moved that should; looked at as often as the server is asked how it is."""

    def __init__(self) -> None:
        self._progress = -1
        self._since = 0.0

    def lasts(self, waits: bool, progress: int, now: float) -> bool:
        """Whether it has lasted too long; then it is counted from now on again.

        Args:
            waits: whether something should come.
            progress: what changes when it does.
            now: in seconds of the loop's clock.
        """
        moved = not waits or progress != self._progress
        lasts = not moved and now - self._since > LONGEST
        if moved or lasts:
            self._progress, self._since = progress, now
        return lasts
