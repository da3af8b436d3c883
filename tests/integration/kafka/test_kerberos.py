"""Kafka with GSSAPI, against a KDC: who has a ticket may work, and who has none is told the mend, also at work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from aiokafka import conn
from eventmicro_kafka import KafkaBroker

from eventmicro.errors import ConnectionFailed
from eventmicro.message import Message
from tests.conftest import Until
from tests.integration.kafka.workers import Worker, workers
from tests.servers.kafka import KafkaServer
from tests.servers.kerberos import HOW, LISTENER, KerberosServer, kafka_with_tickets
from tests.servers.plugin import required
from tests.servers.process import ServerUnavailable


class Realm(NamedTuple):
    kerberos: KerberosServer
    kafka: KafkaServer
    alice: Path

    @property
    def url(self) -> str:
        return f"kafka://{self.kafka.addresses[LISTENER]}?sasl=GSSAPI"


@pytest.fixture(scope="module")
def realm() -> Iterator[Realm]:
    if "kerberos" not in required():
        raise ServerUnavailable("kerberos", f"make test-kerberos tries it: {HOW}")
    if conn.gssapi is None:
        raise ServerUnavailable("kerberos", f"gssapi is not installed; make test-kerberos: {HOW}")
    with KerberosServer() as kerberos, kafka_with_tickets(kerberos, kerberos.add("kafka/localhost")) as kafka:
        yield Realm(kerberos, kafka, kerberos.add("alice"))


@pytest.fixture(autouse=True)
def without_tickets(realm: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has any, until a test gives some."""
    take(monkeypatch, realm.kerberos.environment() | {"KRB5CCNAME": f"FILE:{tmp_path}/kept"})


def take(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("way", ["kinit", "keytab"])
async def test_who_has_a_ticket_publishes_and_consumes(
    way: str, realm: Realm, subject: str, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "keytab":
        take(monkeypatch, realm.kerberos.environment(realm.alice))
    else:
        cache = realm.kerberos.folder / "alice.cc"
        realm.kerberos.take_ticket("alice", realm.alice, cache)
        monkeypatch.setenv("KRB5CCNAME", f"FILE:{cache}")
    one = Worker(realm.url, subject)
    async with workers(one):
        await one.start()
        await one.broker.publish(Message(subject, b"x"))
        await until(lambda: one.bodies == [b"x"])
        state = await one.broker.queue_state(f"{subject}.q")
        assert state is not None
        assert state.consumers == 1


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (
            "&kerberos_service=other",
            r"Server other/localhost@EXAMPLE.TEST not found.*kerberos_service and kerberos_domain",
        ),
        ("&kerberos_domain=elsewhere", r"Server kafka/elsewhere@EXAMPLE.TEST not found.*kerberos_domain"),
        ("&tls=true&connect_timeout=1.5", "TLS"),
    ],
    ids=str,
)
async def test_a_wrong_setting_is_told_with_the_mend(
    query: str, said: str, realm: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(monkeypatch, realm.kerberos.environment(realm.alice))
    await refused(realm.url + query, said)


async def test_an_address_in_numbers_is_named_by_the_domain_of_its_principal(
    realm: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(monkeypatch, realm.kerberos.environment(realm.alice))
    url = realm.url.replace("localhost", "127.0.0.1")
    await refused(url, "Server kafka/127.0.0.1@EXAMPLE.TEST not found.*kerberos_domain")
    async with KafkaBroker(f"{url}&kerberos_domain=localhost") as broker:
        assert broker.online


async def test_who_has_no_ticket_is_told_how_to_get_one(realm: Realm) -> None:
    await refused(realm.url, "No Kerberos credentials available.*kinit.*KRB5_CLIENT_KTNAME")


async def test_a_ticket_that_has_expired_is_told(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = realm.kerberos.folder / "brief.cc"
    realm.kerberos.take_ticket("alice", realm.alice, cache, lifetime="1s")
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{cache}")

    async def connect_for_ever() -> None:
        while True:
            async with KafkaBroker(realm.url):
                await asyncio.sleep(0.05)

    with pytest.raises(ConnectionFailed, match=r"[Tt]icket expired.*kinit"):
        await connect_for_ever()


async def test_a_kdc_that_is_away_is_named(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    take(monkeypatch, realm.kerberos.environment(realm.alice))
    nowhere = realm.kerberos.folder / "nowhere.conf"
    text = realm.kerberos.config.read_text()
    nowhere.write_text(text.replace(f":{realm.kerberos.port}", ":1"))
    monkeypatch.setenv("KRB5_CONFIG", str(nowhere))
    await refused(realm.url, "Cannot contact any KDC for realm 'EXAMPLE.TEST'.*krb5.conf")


async def test_a_ticket_for_another_key_is_none_of_a_password(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The KDC has a newer key for the broker than its keytab has: the broker refuses the ticket."""
    with KerberosServer() as other, kafka_with_tickets(other, other.add("kafka/localhost")) as kafka:
        take(monkeypatch, other.environment(other.add("bob")))
        other.add("kafka/localhost", "newer")
        await refused(f"kafka://{kafka.addresses[LISTENER]}?sasl=GSSAPI", "does not take the ticket.*klist -k")


async def test_tickets_that_end_at_work_are_told_once_and_work_goes_on_when_there_are_new_ones(
    realm: Realm,
    subject: str,
    until: Until,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def warnings() -> int:
        return caplog.text.count("no connection to Kafka: Kerberos gives no ticket")

    take(monkeypatch, realm.kerberos.environment(realm.alice))
    one = Worker(f"{realm.url}&ping_interval=0.5", subject)
    async with workers(one):
        await one.start()
        await one.broker.publish(Message(subject, b"before"))
        await until(lambda: one.bodies == [b"before"])
        take(monkeypatch, realm.kerberos.environment() | {"KRB5CCNAME": f"FILE:{tmp_path}/gone"})
        await asyncio.to_thread(realm.kafka.kill)
        await asyncio.to_thread(realm.kafka.start)
        await until(lambda: warnings() >= 2)  # of the connection itself, the producer, the consumers: once of each
        take(monkeypatch, realm.kerberos.environment(realm.alice))
        await one.broker.publish(Message(subject, b"after"), timeout=20)
        await until(lambda: one.bodies == [b"before", b"after"])
    assert warnings() < 8


async def refused(url: str, said: str) -> None:
    broker = KafkaBroker(url)
    with pytest.raises(ConnectionFailed, match=said):
        await broker.connect()
    assert not broker.online
