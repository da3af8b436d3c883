"""What the tests on RabbitMQ share."""

from __future__ import annotations

import pytest


@pytest.fixture
def url(rabbitmq_url: str) -> str:
    """The server that all share, with queues that are there at once."""
    return f"{rabbitmq_url}?new_queue_wait=0"
