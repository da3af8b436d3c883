"""What tests on real servers share."""

from __future__ import annotations

import secrets

import pytest


@pytest.fixture
def subject() -> str:
    """Of this test alone."""
    return f"test-{secrets.token_hex(6)}"
