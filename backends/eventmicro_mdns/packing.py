"""A record in the TXT record of DNS-SD: compressed JSON over several keys, for a value has 255 bytes at most."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping

from eventmicro.errors import UsageError
from eventmicro.registry import ServiceRecord

# How many bytes of a value are used, of the 255 that it has together with its key.
CHUNK = 240
# How many bytes all of it may have: zeroconf announces no more than about 8,800 in one packet, and none in silence.
LONGEST = 8400
# The longest label of DNS, in bytes.
LABEL = 63
# No record has more, whatever a peer sends, in bytes.
MOST = 1024 * 1024

_match_plain = re.compile(r"[a-z0-9_-]+").fullmatch


def label_of(name: str, node: str) -> str:
    """Under which name a node is announced: DNS does not tell capitals from small letters, and has short labels."""
    plain = f"{name}.{node}"
    if len(plain) <= LABEL and _match_plain(name) and _match_plain(node):
        return plain
    digest = hashlib.sha256(plain.encode()).hexdigest()[:24]
    return f"{name[:30].lower()}.{digest}"


def pack(service: ServiceRecord, ttl: float) -> tuple[dict[str | bytes, str | bytes | None], bool]:
    """What is announced of a record, and whether that is all of it: schemas are left out where they do not fit.

    Raises:
        UsageError: it is too large even so.
    """
    for record in (service, service.without_schemas()):
        body = zlib.compress(record.model_dump_json(exclude_none=True).encode(), 9)
        if len(body) <= LONGEST:
            chunks = range(0, len(body), CHUNK)
            properties: dict[str | bytes, str | bytes | None] = {b"ttl": f"{ttl:g}".encode()}
            properties |= {f"r{n}".encode(): body[start : start + CHUNK] for n, start in enumerate(chunks)}
            return properties, record is service
    raise UsageError(f"the record is too large for this registry: {len(body)} bytes compressed, over {LONGEST}")


def unpack(properties: Mapping[bytes, bytes | None]) -> tuple[bytes, float]:
    """The JSON of a record, and for how long it is kept, in seconds; empty where it is none."""
    body = b""
    while (part := properties.get(f"r{-(-len(body) // CHUNK)}".encode())) is not None and part:
        body += part
        if len(part) < CHUNK:
            break
    try:
        ttl = float(properties.get(b"ttl") or b"")
        json = zlib.decompressobj().decompress(body, MOST)
    except (ValueError, zlib.error):
        return b"", 0.0
    return (json, ttl) if 0 < ttl < 1e7 else (b"", 0.0)
