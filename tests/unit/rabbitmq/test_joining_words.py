"""What others say in words of their own, and what is said of what others have made."""

from __future__ import annotations

import zlib

import pytest
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed
from eventmicro_rabbitmq.consuming.incoming import read_headers
from eventmicro_rabbitmq.exchanges import refused
from pamqp.commands import Basic

from eventmicro.compression import decompress
from eventmicro.errors import UnsupportedMediaType


def test_what_kombu_has_compressed_is_told_by_its_own_header() -> None:
    body = zlib.compress(b'{"id": 7}')
    properties = Basic.Properties(
        content_type="application/json", content_encoding="utf-8", headers={"compression": "application/x-gzip"}
    )
    headers = read_headers(properties) or {}
    assert decompress(body, headers["Content-Encoding"], 100) == b'{"id": 7}'
    properties.headers = {"compression": "application/x-bz2"}
    with pytest.raises(UnsupportedMediaType, match="bzip2"):
        decompress(body, (read_headers(properties) or {})["Content-Encoding"], 100)
    properties.headers = {"compression": "of another kind"}
    assert "Content-Encoding" not in (read_headers(properties) or {})


def test_to_use_what_is_there_is_the_first_mend() -> None:
    text = "inequivalent arg 'type' for exchange 'shop' in vhost '/': received 'topic' but current is 'direct'"
    said = str(refused("exchange 'shop'", ChannelPreconditionFailed(text)))
    assert (
        "; use it as it is, RabbitExchange('shop', type='direct'), or another name; or, if it is yours, remove" in said
    )


@pytest.mark.parametrize(
    ("about", "what", "right"),
    [
        ("binding of queue 'q' to 'a'", "exchange 'events'", "read from that exchange"),
        ("binding of queue 'q' to 'a'", "queue 'q'", "write to that queue"),
        ("queue 'q'", "queue 'q'", "configure it"),
    ],
)
def test_the_right_that_is_missing_is_named(about: str, what: str, right: str) -> None:
    text = f"ACCESS_REFUSED - access to {what} in vhost '/' refused for user 'u'"
    assert f"grant the right to {right}," in str(refused(about, ChannelAccessRefused(text)))
