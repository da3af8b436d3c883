"""Large bodies: those over the broker's limit, which travel apart from their message where that is asked for.

What is in the message then is a header, which says where its body is, how long it is, and its digest.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from eventmicro.errors import BodyMissing, UsageError
from eventmicro.wire import ACCEPT_LARGE, LARGE, header, read_object

LargeCall = Literal["stream"]
"""How a request or reply travels that is over the limit: in pieces, over the frames of a stream."""
LargeEvent = Literal["object"]
"""How an event travels that is over the limit: its body is put into the broker's object store."""

# How large such a body may be where nothing else is said, in bytes.
MAX_LARGE = 64 * 1024 * 1024
# The longest header that says where a body is, in characters.
MAX_HEADER = 2048
# How much is digested before others have their turn, in bytes: it takes a millisecond or two.
SLICE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A body in an object store, as the event says that refers to it.

    digest: its SHA-256, in hexadecimal.
    """

    bucket: str
    name: str
    size: int
    digest: str


def check_large_call(large: Any) -> None:
    """Refuse what is no way of a large request or reply.

    Raises:
        UsageError: it is none.
    """
    if large is not None and large != "stream":
        raise UsageError(f"large={large!r}: write 'stream', or leave it out; events have large='object'")


def check_large_event(large: Any) -> None:
    """Refuse what is no way of a large event.

    Raises:
        UsageError: it is none.
    """
    if large is not None and large != "object":
        raise UsageError(f"large={large!r}: write 'object', or leave it out; calls have large='stream'")


async def digest_of(body: bytes) -> str:
    """The SHA-256 of a body, in hexadecimal; others have their turn meanwhile."""
    digest, view = sha256(), memoryview(body)
    for start in range(0, len(body), SLICE):
        if start:
            await asyncio.sleep(0)
        digest.update(view[start : start + SLICE])
    return digest.hexdigest()


def write_large(form: Mapping[str, Any], size: int, digest: str) -> str:
    """Where a body is, as the value of the header `Large`."""
    return json.dumps({**form, "size": size, "sha256": digest})


def read_large(text: str) -> dict[str, Any]:
    """What a header `Large` says.

    Raises:
        BodyMissing: it says nothing, or not how long the body is, and what its digest.
    """
    form = read_object(text, MAX_HEADER)
    if form is None:
        raise BodyMissing(f"without its body: the header {LARGE} is no JSON object, or over {MAX_HEADER} characters")
    size, digest = form.get("size"), form.get("sha256")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise BodyMissing(f"without its body: 'size' in the header {LARGE} is no number of bytes")
    if not isinstance(digest, str) or len(digest) != 64:
        raise BodyMissing(f"without its body: 'sha256' in the header {LARGE} is no digest")
    return form


def write_stored(stored: StoredObject) -> str:
    """A stored body as the value of the header `Large`."""
    return write_large({"bucket": stored.bucket, "object": stored.name}, stored.size, stored.digest)


def read_stored(text: str) -> StoredObject:
    """The stored body of which a header `Large` tells.

    Raises:
        BodyMissing: it tells of none.
    """
    form = read_large(text)
    bucket, name = form.get("bucket"), form.get("object")
    if not isinstance(bucket, str) or not isinstance(name, str) or not bucket or not name:
        raise BodyMissing(f"without its body: the header {LARGE} names no object of a bucket")
    return StoredObject(bucket, name, form["size"], form["sha256"])


def too_large(what: str, size: int, most: int) -> str:
    """What is said of a body that is over what its receiver takes."""
    return f"{what} has {size} bytes, and no more than {most} are taken: the receiver's max_large"


def accepted_size(headers: Mapping[str, str] | None) -> int | None:
    """How large a reply may be that is sent in pieces, as its caller says; None: it takes none."""
    text = header(headers, ACCEPT_LARGE)
    return int(text) if text and text.isdecimal() and len(text) < 19 else None


def without_large(headers: Mapping[str, str] | None) -> dict[str, str] | None:
    """The headers without what says where the body is: that is of this message only, and passed on with no other."""
    left = {name: value for name, value in (headers or {}).items() if name.lower() != _HEADER}
    return left or None


_HEADER = LARGE.lower()
