"""Kafka with OAUTHBEARER: tokens from a function of the user's, and by client credentials from a server."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest
from eventmicro_kafka import KafkaBroker, KafkaSettings

from eventmicro.errors import ConnectionFailed, UsageError
from eventmicro.message import Message
from tests.conftest import Until
from tests.integration.kafka.workers import Worker, workers
from tests.servers import KafkaServer

LOGIN = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
CHECKS = "org.apache.kafka.common.security.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler"


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """The address of a broker that takes tokens which nobody has signed."""
    name = "listener.name.sasl_plaintext.oauthbearer."
    config = {
        "sasl.enabled.mechanisms": "OAUTHBEARER",
        f"{name}sasl.jaas.config": LOGIN,
        f"{name}sasl.server.callback.handler.class": CHECKS,
    }
    with KafkaServer(config, listeners=["SASL_PLAINTEXT"]) as server:
        yield server.addresses["SASL_PLAINTEXT"]


def token(seconds: float = 3600) -> str:
    """One that nobody has signed."""
    said = {"sub": "alice", "iat": time.time() - 10, "exp": time.time() + seconds}
    parts = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "none"}, said)
    )
    return ".".join([*parts, ""])


class TokenServer:
    """What gives tokens to a client that shows id and secret."""

    def __init__(self) -> None:
        self.asked: list[dict[str, list[str]]] = []
        self.answer: tuple[int, Any] = (200, None)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                outer.asked.append(parse_qs(body) | {"login": [self.headers["Authorization"]]})
                status, answer = outer.answer
                said = json.dumps(answer or {"access_token": token(), "expires_in": 3600}).encode()
                self.send_response(status)
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/token"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    server = TokenServer()
    yield server
    server.server.shutdown()
    server.server.server_close()


async def test_a_function_gives_the_token_of_each_connection(guarded: str, subject: str) -> None:
    given = 0

    async def give() -> str:
        nonlocal given
        given += 1
        return token()

    async with KafkaBroker(settings=KafkaSettings((guarded,), sasl="OAUTHBEARER", token=give)) as broker:
        await broker.publish(Message(subject, b"x"))
    assert given >= 2


async def test_tokens_are_had_by_client_credentials_once_for_all_connections(
    guarded: str, subject: str, tokens: TokenServer, until: Until
) -> None:
    url = f"kafka://my%20app:s%3Dcret@{guarded}?sasl=OAUTHBEARER&token_url={tokens.url}&token_scope=kafka"
    one = Worker(url, subject)
    async with workers(one):
        await one.start()
        await one.broker.publish(Message(subject, b"x"))
        await until(lambda: one.bodies == [b"x"])
    login = base64.b64encode(b"my%20app:s%3Dcret").decode()
    assert tokens.asked == [{"grant_type": ["client_credentials"], "scope": ["kafka"], "login": [f"Basic {login}"]}]


async def test_a_token_that_is_about_to_end_is_not_used_any_more(
    guarded: str, subject: str, tokens: TokenServer
) -> None:
    tokens.answer = (200, {"access_token": token(), "expires_in": 0})
    async with KafkaBroker(f"kafka://app:secret@{guarded}?sasl=OAUTHBEARER&token_url={tokens.url}") as broker:
        await broker.publish(Message(subject, b"x"))
    assert len(tokens.asked) >= 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, {"error": "invalid_client"}), "gives no token: 401"),
        ((200, {"token_type": "bearer"}), "answers without an access_token"),
        ((200, {"access_token": "garbage", "expires_in": 60}), "does not take the token"),
    ],
    ids=str,
)
async def test_what_is_wrong_with_a_token_is_told_without_the_secret(
    answer: tuple[int, Any], said: str, guarded: str, tokens: TokenServer
) -> None:
    tokens.answer = answer
    broker = KafkaBroker(f"kafka://app:secret@{guarded}?sasl=OAUTHBEARER&token_url={tokens.url}")
    with pytest.raises(ConnectionFailed, match=said) as refused:
        await broker.connect()
    assert "secret" not in str(refused.value)
    assert "garbage" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sasl": "OAUTHBEARER"}, "one of token"),
        ({"sasl": "OAUTHBEARER", "token_url": "https://a/t"}, "id and secret"),
        ({"sasl": "OAUTHBEARER", "token_url": "ftp://a", "user": "a", "password": "b"}, "https://"),
        ({"token_url": "https://a/t"}, "for sasl=OAUTHBEARER"),
        ({"sasl": "GSSAPI", "user": "a", "password": "b"}, "the ticket says"),
    ],
    ids=str,
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        KafkaSettings(**settings)


def test_without_the_libraries_of_kerberos_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiokafka.conn.gssapi", None)
    with pytest.raises(UsageError, match=r"eventmicro\[kerberos\]"):
        asyncio.run(KafkaBroker("kafka://a?sasl=GSSAPI").connect())
