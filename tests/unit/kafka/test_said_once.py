"""What Kafka refuses again and again is said once for each reason, not with every try."""

from __future__ import annotations

from typing import Any

import pytest
from eventmicro_kafka.consuming import live, member

from eventmicro.errors import Disconnected, UsageError


class Refusals:
    """Raises one after the other, then lets pass."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def __call__(self) -> None:
        if self.errors:
            raise self.errors.pop(0)


async def test_a_member_that_is_refused_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(member, "REVIVE_INTERVAL", 0)
    refused: Any = member.Member.__new__(member.Member)
    refused._group = "orders.bill"
    away, denied, broken = Disconnected("away"), UsageError("queue 'orders.bill' is refused"), ValueError("odd")
    refused.open = Refusals(away, denied, denied, denied, away, denied, broken, broken)
    await refused._revive()
    assert [record.getMessage() for record in caplog.records] == [
        "queue 'orders.bill' is refused, trying on",
        "queue 'orders.bill': its consumer cannot be made, which is tried again",
    ]


async def test_a_live_subscription_says_once_what_fails_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live, "REVIVE_INTERVAL", 0)
    failing: Any = live.Broadcast.__new__(live.Broadcast)
    failing._subject = "orders"
    failing._stop = Refusals()
    failing._start = Refusals(ValueError("odd"), ValueError("odd"), OSError("away"), ValueError("odd"))
    await failing._revive()
    assert len(caplog.records) == 1
