"""The keys by which middleware tells messages apart: what a peer sends may be long, and what is kept of it may not."""

from __future__ import annotations

from hashlib import sha256

# The longest text that is kept as it is, in characters.
LONGEST = 200


def short_key(text: str) -> str:
    """The text, or its hash where it is long."""
    if not isinstance(text, str) or len(text) <= LONGEST:
        return text
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
