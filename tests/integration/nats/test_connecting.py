"""Core NATS: credentials, TLS, URLs, and servers that refuse."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from pathlib import Path

import pytest
from eventmicro_nats import NatsBroker, NatsSettings

from eventmicro.errors import (
    ConnectionFailed,
    TransportError,
    UsageError,
)
from eventmicro.service import Service
from tests.certificates import make_certificates
from tests.integration.nats.kit import until
from tests.servers import NatsServer

# -- connecting ------------------------------------------------------------------------------------------------


async def test_without_a_server_connect_fails_with_the_address_and_the_cause() -> None:
    with NatsServer() as server:
        port = server.port
    broker = NatsBroker(f"nats://127.0.0.1:{port}?connect_timeout=0.3")
    with pytest.raises(ConnectionFailed, match=rf"127\.0\.0\.1:{port} within 0\.3 s.*is it running"):
        await broker.connect()
    assert not broker.connected


CREDENTIALS = [
    # server configuration, good user info, bad user info
    ('authorization { user: "joe", password: "p@ss:w/rd" }', "joe:p%40ss%3Aw%2Frd@", "joe:wrong@"),
    ('authorization { token: "s3cret" }', "s3cret@", "wrong@"),
]


@pytest.mark.parametrize(("config", "good", "bad"), CREDENTIALS)
async def test_passwords_and_tokens(config: str, good: str, bad: str) -> None:
    with NatsServer(config) as server:
        async with NatsBroker(f"nats://{good}127.0.0.1:{server.port}") as broker:
            await broker.flush()
            assert good not in broker.url
        for userinfo in (bad, ""):
            began = time.monotonic()
            with pytest.raises(ConnectionFailed, match=r"refused.*[Aa]uthorization") as caught:
                await NatsBroker(f"nats://{userinfo}127.0.0.1:{server.port}?connect_timeout=20").connect()
            assert time.monotonic() - began < 15, "wrong credentials are not tried again and again"
            assert "wrong" not in str(caught.value)


async def test_a_server_that_does_not_answer_or_refuses_does_not_stand_before_the_others() -> None:
    config = 'authorization {{ users = [ {{ user: "u", password: "{0}" }} ] }}'
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        NatsServer(config.format("p")) as good,
        NatsServer(config.format("other")) as refusing,
    ):
        ports = [silent.getsockname()[1], refusing.port, good.port]
        for first, second, third in itertools.permutations(ports):
            servers = f"127.0.0.1:{first},127.0.0.1:{second},127.0.0.1:{third}"
            async with NatsBroker(f"nats://u:p@{servers}?connect_timeout=3") as broker:
                await broker.flush()
        servers = f"127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}"
        with pytest.raises(ConnectionFailed, match=r"refused.*[Aa]uthorization"):
            await NatsBroker(f"nats://u:p@{servers}?connect_timeout=0.5").connect()


async def test_settings_that_speak_of_tls_do_not_go_without_it() -> None:
    with NatsServer() as plain, pytest.raises(ConnectionFailed, match="offers no TLS"):
        await NatsBroker(f"nats://u:secret@127.0.0.1:{plain.port}?tls_hostname=a.example").connect()


def test_no_secret_is_shown() -> None:
    settings = NatsSettings(user="joe", password="hunter2", token="s3cret")
    assert "hunter2" not in repr(settings)
    assert "s3cret" not in repr(settings)
    for url in ("nats://joe:hun?ter2@host", "nats://joe:hunter2@a,joe:hunter2@b"):
        with pytest.raises(UsageError) as caught:
            NatsBroker(url)
        assert "ter2" not in str(caught.value)
    with pytest.raises(UsageError, match="beside them"):
        NatsSettings(servers=("nats://joe:hunter2@host",))


async def test_connecting_twice_at_once_makes_one_connection(nats_url: str) -> None:
    broker = NatsBroker(nats_url)
    tasks = asyncio.all_tasks()
    await asyncio.gather(broker.connect(), broker.connect(), broker.connect())
    await asyncio.gather(broker.close(), broker.close())
    assert asyncio.all_tasks() == tasks


async def test_a_key_that_is_just_being_written_does_not_end_reconnecting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nkeys = pytest.importorskip("nkeys")
    seed = b"SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU"
    key = nkeys.from_seed(bytearray(seed)).public_key.decode()
    file = tmp_path / "seed"
    file.write_bytes(seed)
    with NatsServer(f"authorization {{ users = [ {{ nkey: {key} }} ] }}") as server:
        async with NatsBroker(f"{server.url}?nkey_seed={file}") as broker:
            file.write_bytes(seed[:30])
            server.stop()
            server.start()
            await until(lambda: "seed" in caplog.text)
            file.write_bytes(seed)
            await until(lambda: broker.online)


async def test_nkeys(tmp_path: Path) -> None:
    nkeys = pytest.importorskip("nkeys")
    seed = b"SUAMLK2ZNL35WSMW37E7UD4VZ7ELPKW7DHC3BWBSD2GCZ7IUQQXZIORRBU"
    seed_file = tmp_path / "seed.txt"
    seed_file.write_bytes(seed)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    with NatsServer(f'authorization {{ users = [ {{ nkey: "{public}" }} ] }}') as server:
        async with NatsBroker(f"{server.url}?nkey_seed={seed_file}") as broker:
            await broker.flush()


async def test_a_file_without_a_key_is_named_at_once(tmp_path: Path, nats_url: str) -> None:
    pytest.importorskip("nkeys")
    seed_file = tmp_path / "seed.txt"
    for _ in range(2):
        with pytest.raises(ConnectionFailed, match="nkey_seed or creds cannot be used"):
            await NatsBroker(f"{nats_url}?nkey_seed={seed_file}&connect_timeout=1000").connect()
        seed_file.write_text("no seed")


async def test_tls_is_verified_and_never_silently_left_out(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path, "localhost")
    config = f'tls {{ cert_file: "{certificates.certificate}", key_file: "{certificates.key}" }}'
    with NatsServer(config) as server, NatsServer() as plain:
        trusted = f"tls://localhost:{server.port}?tls_ca={certificates.authority}"
        async with NatsBroker(trusted) as broker:
            await broker.flush()
        with pytest.raises(ConnectionFailed, match=r"refused.*certificate verify failed"):
            await NatsBroker(f"tls://localhost:{server.port}?connect_timeout=20").connect()
        with pytest.raises(ConnectionFailed, match=r"refused.*certificate"):
            await NatsBroker(f"{trusted}&tls_hostname=other.example&connect_timeout=20").connect()
        with pytest.raises(ConnectionFailed, match="offers no TLS"):
            await NatsBroker(f"tls://user:secret@127.0.0.1:{plain.port}?connect_timeout=20").connect()


async def test_a_permission_that_is_missing_stops_the_start_by_name() -> None:
    config = 'authorization { users = [ { user: "u", password: "p", permissions: { subscribe: ["_INBOX.>"] } } ] }'
    service = Service("orders")

    @service.rpc
    async def quote() -> None: ...

    refused = r"refuses: permissions violation for subscription to .orders"
    with NatsServer(config) as server, pytest.raises(TransportError, match=refused):
        await service.start(f"nats://u:p@127.0.0.1:{server.port}")


def test_urls_that_cannot_be_are_refused_with_the_mend() -> None:
    for url, wanted in {
        "nats://": "nats://host:4222",
        "nats://a:4222/path": "nats://host:4222",
        "nats://a:port": "[Pp]ort",
        "nats://a?colour=red": "nothing is called 'colour'.*connect_timeout",
        "nats://a?connect_timeout=soon": "connect_timeout='soon' is no float",
        "nats://a?tls_cert=x": "tls_cert and tls_key belong together",
        "tls://a?tls_ca=/nowhere.pem": "tls_ca",
    }.items():
        with pytest.raises(UsageError, match=wanted):
            NatsBroker(url).settings.ssl_context()


def test_a_url_says_all_the_settings() -> None:
    settings = NatsBroker("tls://joe:x%2Fy@a:1,b:2?pending_messages=5&tls_first=true&reconnect_wait=0.1").settings
    assert settings == NatsSettings(
        servers=("tls://a:1", "tls://b:2"),
        user="joe",
        password="x/y",
        pending_messages=5,
        tls_first=True,
        reconnect_wait=0.1,
    )
