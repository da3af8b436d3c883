"""What can be set of the broker in memory by its URL: `memory://?queue_limit=100`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from eventmicro.broker import PUBLISH_TIMEOUT
from eventmicro.checks import check_count, check_seconds
from eventmicro.errors import UsageError
from eventmicro.memory.broker import MAX_PAYLOAD, QUEUE_LIMIT
from eventmicro.settings import BrokerUrl


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """What the URL says."""

    like: str | None = None
    """The scheme of another adapter, as `kafka`: it can, and refuses, what that does."""
    queue_limit: int = QUEUE_LIMIT
    """How many messages a subscription may have waiting, and a queue keep, before publishers wait."""
    send_timeout: float = PUBLISH_TIMEOUT
    """How long a call or a reply waits for a slow subscriber before it fails, in seconds."""
    max_payload: int = MAX_PAYLOAD
    """The largest body, in bytes."""

    def __post_init__(self) -> None:
        check_count("queue_limit", self.queue_limit)
        check_seconds("send_timeout", self.send_timeout)
        check_count("max_payload", self.max_payload)


def read_query(query: str) -> dict[str, Any]:
    """The settings that are said behind the `?` of a URL, by their names.

    Raises:
        UsageError: there is no such setting, or it cannot have such a value.
    """
    url = BrokerUrl("memory", "memory", (), None, None, "", tuple(parse_qsl(query, keep_blank_values=True)))
    try:
        words = url.settings(MemorySettings, apart=())
        MemorySettings(**words)
    except UsageError as error:
        raise UsageError(f"{error}; they are written as in memory://?like=kafka") from None
    return words
