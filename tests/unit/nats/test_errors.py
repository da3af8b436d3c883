"""Which failures to connect are worth another try."""

from __future__ import annotations

import ssl

import pytest

pytest.importorskip("nats")

from eventmicro_nats.errors import is_final
from nats import errors


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (errors.Error("nats: 'Authorization Violation'"), True),
        (errors.Error("nats: 'User Authentication Expired'"), True),
        (errors.Error("nats: 'Authentication Timeout'"), False),
        (errors.Error("nats: 'maximum connections exceeded'"), False),
        (errors.SecureConnWantedError(), True),
        (ssl.SSLCertVerificationError("certificate verify failed"), True),
        (ssl.SSLEOFError("EOF occurred in violation of protocol"), False),
        (FileNotFoundError("seed.txt"), True),
        (ValueError("no seed"), True),
        (ConnectionRefusedError(), False),
        (TimeoutError(), False),
    ],
)
def test_what_is_refused_for_good_is_told_from_what_may_pass(error: Exception, final: bool) -> None:
    assert is_final(error) is final
