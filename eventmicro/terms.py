"""Terms: what a service says of one of its endpoints, for those who call it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Terms(NamedTuple):
    """The terms of an endpoint; clients know them from the registry, where they have looked."""

    idempotent: bool = False
    """Whether a call may be made twice without harm."""
    timeout: float | None = None
    """How long a call may take, in seconds."""


NO_TERMS = Terms()
"""Those of an endpoint of which nothing is said."""

# How many calls of one endpoint may wait for something at the same time, where nothing else is said.
ENDPOINT_CONCURRENCY = 1000

Learn = Callable[[str, Terms | None], None]
"""Is told the terms of an endpoint, `service.endpoint`, when they are known and when they change; None: it has none."""


def learn_nothing(endpoint: str, terms: Terms | None) -> None:
    """Where nobody asks for terms."""
