"""Identity: who a node is, among services and among the instances of its own."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from eventmicro.wire import node_subject


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a node is: its service, and which instance of that; `is_named`: by its user, so that another may be, too."""

    service: str
    version: str
    id: str
    description: str
    metadata: Mapping[str, str]
    is_named: bool = False

    @property
    def address(self) -> str:
        """The subject below which this node alone is called."""
        return node_subject(self.service, self.id)


def new_id() -> str:
    """An id that no other node has."""
    return secrets.token_hex(11)
