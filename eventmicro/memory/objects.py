"""The object store of a process: bodies that are too large for an event; the oldest goes where there are too many."""

from __future__ import annotations

from itertools import count

from eventmicro.errors import BodyMissing, NotStored
from eventmicro.large import StoredObject

BUCKET = "memory"
# How many bytes of objects are kept.
MOST = 256 * 1024 * 1024


class Objects:
    """What all connections to one URL have stored. Lives as long as its hub."""

    def __init__(self) -> None:
        self._bodies: dict[str, bytes] = {}
        self._size = 0
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._bodies)

    def store(self, body: bytes, digest: str) -> StoredObject:
        """Keep a body.

        Raises:
            NotStored: it alone is over what is kept.
        """
        if len(body) > MOST:
            raise NotStored(f"an object of {len(body)} bytes: over the {MOST} that are kept")
        name = str(next(self._numbers))
        self._bodies[name] = body
        self._size += len(body)
        while self._size > MOST:
            self.delete(next(iter(self._bodies)))
        return StoredObject(BUCKET, name, len(body), digest)

    def fetch(self, stored: StoredObject) -> bytes:
        """The body that was stored so.

        Raises:
            BodyMissing: it is not there any more.
        """
        body = self._bodies.get(stored.name) if stored.bucket == BUCKET else None
        if body is None:
            raise BodyMissing(f"without its body: the object {stored.name[:100]!r} is not there any more")
        return body

    def delete(self, name: str) -> None:
        """Forget a body."""
        self._size -= len(self._bodies.pop(name, b""))
