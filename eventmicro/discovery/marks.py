"""Marks: nodes that fail one time after the other are not asked for a while, then tried by one call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from eventmicro.selector import Node

# After how many failures in a row a node is taken out, and for how long, in seconds.
FAILURES = 3
OUT = 30.0


@dataclass(slots=True)
class _Mark:
    failures: int = 0
    until: float = 0.0
    """When it may be tried again, in `time.monotonic()` seconds; 0.0: it is not out."""
    trying: bool = False


class Marks:
    """What is known of the nodes that have failed lately; of the others nothing is kept."""

    def __init__(self) -> None:
        self._marks: WeakKeyDictionary[Node, _Mark] = WeakKeyDictionary()
        self.any_marked = False  # kept, as a dictionary of weak keys is slow to say

    def usable(self, nodes: Sequence[Node]) -> Sequence[Node]:
        """The nodes that may be asked: all but those that are out. Where all are out all may: rather one that perhaps
        fails than none.
        """
        now = time.monotonic()
        usable = [node for node in nodes if self._may_be_asked(node, now)]
        return usable or nodes

    def chosen(self, node: Node) -> None:
        """A node is asked: where it was out this is the one call that tries it."""
        if (mark := self._marks.get(node)) is not None and mark.until:
            mark.trying = True

    def mark(self, node: Node, *, failed: bool | None) -> None:
        """A call has ended. After so many failures in a row the node is out; a call that went well brings it back, and
        one of which nothing is known leaves it as it is.
        """
        if failed:
            self._failed(node)
        elif self.any_marked:
            if failed is not None:
                self._marks.pop(node, None)
                self.any_marked = bool(self._marks)
            elif (mark := self._marks.get(node)) is not None:
                mark.trying = False

    def _failed(self, node: Node) -> None:
        self.any_marked = True
        mark = self._marks.setdefault(node, _Mark())
        mark.failures += 1
        mark.trying = False
        if mark.failures >= FAILURES:
            mark.until = time.monotonic() + OUT

    def _may_be_asked(self, node: Node, now: float) -> bool:
        mark = self._marks.get(node)
        return mark is None or (mark.until <= now and not mark.trying)
