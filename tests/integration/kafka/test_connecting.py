"""Kafka: logins, TLS, and servers that are not there."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest
from eventmicro_kafka import KafkaBroker
from eventmicro_kafka.connection import finding

from eventmicro.errors import (
    ConnectionFailed,
)
from eventmicro.message import Message
from tests.certificates import Certificates, make_certificates
from tests.conftest import open_transports
from tests.integration.kafka.kit import Until
from tests.integration.kafka.workers import Worker, workers
from tests.servers import FaultProxy, KafkaServer

# -- TLS and logins --------------------------------------------------------------------------------------------


# For what is tried until the time is over.
BRIEFLY = "connect_timeout=1.5"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), "localhost")


@pytest.fixture(scope="module")
def secured(certificates: Certificates) -> KafkaServer:
    listeners = ("SSL", "SASL_PLAINTEXT", "SASL_SSL")
    users, scram = {"alice": "won@der"}, {"bob": "builder"}
    with KafkaServer(listeners=listeners, users=users, scram=scram, certificates=certificates) as server:
        yield server


def secured_url(server: KafkaServer, listener: str, scheme: str, login: str = "", query: str = "") -> str:
    timeout = "" if "connect_timeout" in query else "connect_timeout=3&"
    return f"{scheme}://{login}{server.addresses[listener]}?{timeout}{query}"


@pytest.mark.parametrize(
    ("listener", "scheme", "login", "query"),
    [
        ("SSL", "kafkas", "", "tls_ca={ca}"),
        ("SSL", "kafka", "", "tls=true&tls_ca={ca}"),
        ("SASL_PLAINTEXT", "kafka", "bob:builder@", ""),
        ("SASL_PLAINTEXT", "kafka", "bob:builder@", "sasl=SCRAM-SHA-512"),
        ("SASL_PLAINTEXT", "kafka", f"alice:{quote('won@der')}@", "sasl=PLAIN"),
        ("SASL_SSL", "kafka+ssl", "bob:builder@", "tls_ca={ca}"),
    ],
)
async def test_who_may_log_in_works(
    secured: KafkaServer, certificates: Certificates, subject: str, until: Until,
    listener: str, scheme: str, login: str, query: str,
) -> None:  # fmt: skip
    url = secured_url(secured, listener, scheme, login, query.format(ca=certificates.authority))
    worker = Worker(url, subject)
    async with workers(worker):
        await worker.start()
        await worker.broker.publish(Message(subject, b"x"))
        await until(lambda: worker.bodies == [b"x"])
        assert "builder" not in worker.broker.url
        assert "tls_ca" not in worker.broker.url


@pytest.mark.parametrize(
    ("listener", "scheme", "login", "query", "words"),
    [
        ("SSL", "kafkas", "", "", "certificate is not to be trusted"),
        ("SSL", "kafka", "", BRIEFLY, "TLS"),
        ("PLAINTEXT", "kafkas", "", BRIEFLY, "TLS"),
        ("SASL_PLAINTEXT", "kafka", "bob:wrong@", "", "wrong user or password"),
        ("SASL_PLAINTEXT", "kafka", "nobody:builder@", "", "wrong user or password"),
        ("SASL_PLAINTEXT", "kafka", "alice:wrong@", "sasl=PLAIN", "wrong user or password"),
        ("SASL_PLAINTEXT", "kafka", "", BRIEFLY, "login"),
        ("SASL_SSL", "kafka+ssl", "bob:wrong@", "tls_ca={ca}", "wrong user or password"),
    ],
)
async def test_who_may_not_is_told_why(
    secured: KafkaServer, certificates: Certificates,
    listener: str, scheme: str, login: str, query: str, words: str,
) -> None:  # fmt: skip
    broker = KafkaBroker(secured_url(secured, listener, scheme, login, query.format(ca=certificates.authority)))
    with pytest.raises(ConnectionFailed, match=words) as error:
        await broker.connect()
    assert "wrong@" not in str(error.value)
    assert not broker.connected
    await broker.close()


async def test_a_server_that_refuses_a_login_is_not_waited_for_until_it_says_goodbye(
    secured: KafkaServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = secured_url(secured, "SASL_SSL", "kafka+ssl", "bob:wrong@", f"tls_ca={certificates.authority}")
    port = secured.addresses["SASL_SSL"].rpartition(":")[2]
    close = finding._Brief.close
    async with FaultProxy(int(port)) as proxy:

        def close_behind_a_wall(self: Any, reason: object = None, exc: object = None) -> object:
            proxy.blackhole = True
            return close(self, reason, exc)

        monkeypatch.setattr(finding._Brief, "close", close_behind_a_wall)
        with pytest.raises(ConnectionFailed, match="wrong user or password"):
            await KafkaBroker(url.replace(f":{port}", f":{proxy.port}")).connect()
        await asyncio.sleep(0)
        here = [each for each in open_transports() if (each.get_extra_info("peername") or ())[-1:] == (proxy.port,)]
        assert not any(each._sock for each in here)


async def test_nobody_there_is_told_within_the_timeout() -> None:
    broker = KafkaBroker("kafka://127.0.0.1:1?connect_timeout=0.5")
    async with asyncio.timeout(20):
        with pytest.raises(ConnectionFailed, match="is it running"):
            await broker.connect()


async def test_of_several_servers_one_is_enough(kafka_url: str, subject: str) -> None:
    host = kafka_url.removeprefix("kafka://")
    async with KafkaBroker(f"kafka://127.0.0.1:1,{host}") as broker:
        await broker.publish(Message(subject, b"x"))
