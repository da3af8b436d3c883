"""What a Kafka URL says."""

from __future__ import annotations

import pytest
from eventmicro_kafka import KafkaBroker, KafkaSettings
from eventmicro_kafka.settings import read_url

from eventmicro.errors import UsageError


def test_servers_user_and_settings_are_read() -> None:
    settings = read_url("kafka://bob:p%40ss@a:9093,b,[::1]:9?partitions=6&commit_interval=0.5&sasl=PLAIN&declare=check")
    assert settings.servers == ("a:9093", "b:9092", "[::1]:9")
    assert (settings.user, settings.password, settings.sasl) == ("bob", "p@ss", "PLAIN")
    assert (settings.partitions, settings.commit_interval, settings.declare) == (6, 0.5, "check")
    assert not settings.wants_tls


@pytest.mark.parametrize("url", ["kafkas://a", "kafka+ssl://a", "kafka://a?tls=true", "kafka://a?tls_ca=x.pem"])
def test_tls_is_asked_for(url: str) -> None:
    assert read_url(url).wants_tls


def test_neither_url_nor_settings_show_secrets() -> None:
    url = "kafka://bob:secret@a:9092?tls_ca=x"
    assert KafkaBroker(url).url == "kafka://a:9092"
    assert "secret" not in repr(read_url(url))
    assert "secret" not in KafkaBroker(settings=read_url(url)).url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("kafka://", "host:9092"),
        ("kafkas://a?tls=false", "kafkas:// is with TLS, and tls=false without"),
        ("kafka://a/topic", "host:9092"),
        ("kafka://a:0", "host:9092"),
        ("kafka://a:x", "kafka://a:x"),
        ("kafka://bob@a", "user:password@"),
        ("kafka://a:1,bob:x@b:2", "servers|user:password@"),
        ("kafka://a?partitons=3", "nothing is called 'partitons'; there are .*partitions"),
        ("kafka://a?partitions=x", "partitions='x' is no int"),
        ("kafka://a?partitions=0", "partitions is 1 or more"),
        ("kafka://a?tls=maybe", "tls='maybe' is no bool"),
        ("kafka://a?sasl=NTLM", "SCRAM-SHA-256"),
        ("kafka://a?declare=maybe", "check"),
        ("kafka://a?tls_cert=x", "tls_key"),
        ("kafka://a?user=bob", "password"),
        ("kafka://a?heartbeat_interval=20", "session_timeout"),
        ("kafka://a?compression=brotli", "compression='brotli': there are none, gzip, snappy, lz4, zstd"),
    ],
)
def test_what_cannot_be_is_refused(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_url(url)


def test_files_that_are_not_there_are_named() -> None:
    with pytest.raises(UsageError, match="tls_ca"):
        KafkaSettings(tls_ca="/nowhere").ssl_context()
