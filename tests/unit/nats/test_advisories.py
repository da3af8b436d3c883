"""What a server tells of the events that it gives up."""

from __future__ import annotations

import pytest
from eventmicro_nats.jetstream.advisories import nanoseconds


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("2025-01-01T12:00:00Z", 1735732800_000000000),
        ("2025-01-01T12:00:00.5Z", 1735732800_500000000),
        ("2025-01-01T12:00:00.000000001Z", 1735732800_000000001),
        ("2025-01-01T12:00:00.123456789Z", 1735732800_123456789),
    ],
)
def test_a_moment_is_the_same_number_however_the_server_shortens_it(written: str, number: int) -> None:
    assert nanoseconds(written) == number
