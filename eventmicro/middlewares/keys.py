"""The keys by which middleware tells messages apart: what a peer sends may be long, and what is kept of it may not."""

from __future__ import annotations

from hashlib import sha256
from typing import TypeVar

# The longest text that is kept as it is, in characters or bytes.
LONGEST = 200

Key = TypeVar("Key")


def short_key(key: Key) -> Key | str:
    """The key, or its hash where it is a long text."""
    if not isinstance(key, str | bytes) or len(key) <= LONGEST:
        return key
    return sha256(key if isinstance(key, bytes) else key.encode("utf-8", "surrogatepass")).hexdigest()
