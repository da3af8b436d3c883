"""A node as Consul has it: a service of the agent with a TTL check, and the whole record in its metadata.

So a record is registered, changed and taken away together with its check, and nothing is left of a node that died.
Metadata has 64 keys of 512 characters each: the record is compressed, and cut into them.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Mapping
from typing import Any

from eventmicro.errors import UsageError
from eventmicro.registry import ServiceRecord

# How long a value is, and how many parts of a record there may be; some keys are for people to read.
CHUNK = 512
PARTS = 56
KEY = "eventmicro"
# What the id of our checks begins with.
CHECK = "eventmicro:"
# No record has more, whatever somebody writes, in bytes.
MOST = 1024 * 1024


def id_of(name: str, node: str) -> str:
    """Under which id a node is registered; Consul does not tell capitals from small letters there."""
    plain = f"{name}.{node}"
    return plain if plain == plain.lower() else f"{plain}.{hashlib.sha256(plain.encode()).hexdigest()[:12]}"


def service_of(service: ServiceRecord, ttl: float, forget_after: float) -> tuple[dict[str, Any], bool]:
    """What is registered for the record of one node, and whether that is all of it: schemas may not fit.

    Raises:
        UsageError: it is too large even without them.
    """
    body, whole = _pack(service)
    parts = [body[start : start + CHUNK] for start in range(0, len(body), CHUNK)]
    key = id_of(service.name, service.nodes[0].id)
    check = {
        "CheckID": CHECK + key,
        "Name": "eventmicro heartbeat",
        "Notes": hashlib.sha256(body.encode()).hexdigest()[:16],  # so that who watches checks hears of other contents
        "TTL": f"{ttl * 1000:.0f}ms",
        "Status": "passing",  # it would be critical until the first heartbeat
        "DeregisterCriticalServiceAfter": f"{forget_after:.0f}s",
    }
    meta = {KEY: str(len(parts)), "version": service.version[:CHUNK]}
    meta |= {f"{KEY}-{n}": part for n, part in enumerate(parts)}
    return {"ID": key, "Name": service.name, "Tags": [KEY], "Meta": meta, "Check": check}, whole


def _pack(service: ServiceRecord) -> tuple[str, bool]:
    for record in (service, service.without_schemas()):
        body = base64.b64encode(zlib.compress(record.model_dump_json().encode(), 9)).decode()
        if len(body) <= CHUNK * PARTS:
            return body, record is service
    raise UsageError(f"the record is too large for this registry: {len(body)} characters packed, over {CHUNK * PARTS}")


def unpack(meta: Mapping[str, str]) -> bytes:
    """The JSON of a record; empty where there is none."""
    parts = [meta.get(f"{KEY}-{n}", "") for n in range(PARTS)]
    try:
        return zlib.decompressobj().decompress(base64.b64decode("".join(parts), validate=True), MOST)
    except (ValueError, zlib.error):
        return b""
