"""What is said of streams."""

from __future__ import annotations

import logging

import pytest

pytest.importorskip("nats")

from eventmicro_nats.jetstream import telling
from eventmicro_nats.settings import JetStreamSettings

FOR_EVER = "stream {} keeps all events for ever"


def test_that_a_stream_keeps_all_for_ever_is_said_once_however_many_services_the_process_has(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "_looked_at", set())
    caplog.set_level(logging.INFO)
    here, there = JetStreamSettings(), JetStreamSettings(servers=("nats://127.0.0.1:4223",))
    for settings in (here, here, there):
        each = telling.Telling(settings)
        for name in ("EVENTS", "OTHERS", "EVENTS"):
            each.unbounded({"name": name})
        each.unbounded({"name": "BOUNDED", "max_age": 1})
    for name, count in (("EVENTS", 2), ("OTHERS", 2), ("BOUNDED", 0)):
        assert caplog.text.count(FOR_EVER.format(name)) == count
