"""What only later servers can, refused on an earlier one, which would take it for nothing."""

from __future__ import annotations

import re
from typing import Any

from eventmicro.errors import Unsupported

# The first version that pins a queue to one client, and lets events expire by themselves. It says its API level, 1,
# only on request, which may not be permitted.
SINCE = (2, 11)

_match_version = re.compile(r"v?(\d+)\.(\d+)\b").match


def check_order(info: dict[str, Any]) -> None:
    """Refuse order on a server that cannot pin a queue to one client; `info` is what it said of itself."""
    _check(info, "keep a queue's order")


def check_expires(info: dict[str, Any]) -> None:
    """Refuse events that expire on a server that keeps them."""
    _check(info, "let events expire by their ttl")


def _check(info: dict[str, Any], what: str) -> None:
    version = str(info.get("version", ""))
    if _version(version) < SINCE and int(info.get("api_lvl", 0)) < 1:
        raise Unsupported(f"nats-server {version} cannot {what}: 2.11 and later can")


def _version(text: str) -> tuple[int, int]:
    found = _match_version(text)
    return (int(found[1]), int(found[2])) if found is not None else (0, 0)
