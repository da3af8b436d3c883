from __future__ import annotations

import pytest

from tests.unit.middlewares.kit import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)
