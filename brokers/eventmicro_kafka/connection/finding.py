"""How the brokers of the cluster are found and connected to, in place of aiokafka's own ways."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from functools import partial
from random import sample
from typing import Any

from aiokafka import AIOKafkaClient  # type: ignore[import-untyped]
from aiokafka.conn import AIOKafkaConnection, OAuthAuthenticator  # type: ignore[import-untyped]
from aiokafka.errors import KafkaConnectionError, SaslAuthenticationFailed  # type: ignore[import-untyped]
from aiokafka.protocol.metadata import MetadataRequest  # type: ignore[import-untyped]

from eventmicro_kafka.connection.tickets import NO_TICKET, no_ticket
from eventmicro_kafka.connection.tokens import tokens_of
from eventmicro_kafka.errors import KafkaError, plain
from eventmicro_kafka.settings import KafkaSettings

log = logging.getLogger(__name__)


def with_own_ways(owner: Any, client: Any, settings: KafkaSettings, *, makes_topics: bool = False) -> Any:
    """An object of aiokafka, whose client finds and connects to brokers as it is said here.

    Args:
        makes_topics: whether the cluster may make a topic that is asked for and is not there.
    """
    client.bootstrap = partial(_bootstrap, client, settings)
    client._metadata_update = partial(_update_metadata, client, settings, partial(_ask_brokers, client, makes_topics))
    client._get_conn = partial(_get_connection, client)
    return owner


async def _get_connection(client: Any, node: Any, **options: Any) -> Any:
    """As aiokafka's own; None where there is none, also for want of a ticket of Kerberos, which is said once.

    uvloop raises RuntimeError where something is written to a connection that has just been lost. aiokafka takes that
    for nothing that it knows, and the task that fetches, sends or speaks to the group ends of it.
    """
    try:
        connection = await AIOKafkaClient._get_conn(client, node, **options)
    except NO_TICKET as error:
        _say_no_ticket(client, error)
        return None
    except RuntimeError as error:
        log.debug("the connection to node %s was lost while it was made: %s", node, error)
        return None
    writer = None if connection is None else connection._writer  # None also where it has been closed meanwhile
    if writer is not None and "write" not in vars(writer):
        writer.write = partial(_write, writer.write)
    return connection


def _say_no_ticket(client: Any, error: Exception) -> None:
    """Say why a client does not connect; the same again is not told each time."""
    said = no_ticket(error).args[0]
    level = logging.DEBUG if getattr(client, "no_ticket", "") == said else logging.WARNING
    client.no_ticket = said
    log.log(level, "no connection to Kafka: %s", said)


def _write(write: Callable[[bytes], None], data: bytes) -> None:
    try:
        write(data)
    except RuntimeError as error:
        raise ConnectionResetError(str(error)) from error


async def _bootstrap(client: Any, settings: KafkaSettings) -> None:
    """Learn the cluster from the first server that answers, each in its share of `connect_timeout`.

    aiokafka's own says of no server why not, and leaves its connection open where it is cancelled.

    Raises:
        KafkaError: what was the trouble with the last server.
        UsageError: what TLS needs cannot be read.
    """
    if settings.wants_tls:
        client._ssl_context = await asyncio.to_thread(settings.ssl_context)
    trouble: Exception | None = None
    for host, port, _ in client.hosts:
        try:
            client.cluster.update_metadata(await _ask_server(client, host, port, settings, []))
        except (KafkaError, OSError, EOFError, RuntimeError) as error:  # TimeoutError is an OSError
            trouble = error
        except NO_TICKET as error:
            trouble = no_ticket(error)
        else:
            client._sync_task = asyncio.create_task(client._md_synchronizer())
            return
    raise trouble if isinstance(trouble, KafkaError) else KafkaConnectionError(str(trouble)) from trouble


async def _update_metadata(client: Any, settings: KafkaSettings, update: Any, cluster: Any, topics: Any) -> bool:
    """Ask the brokers that are known, by `update`, and after that the servers of the URL.

    Brokers may have come back under other addresses, all of them, while nobody was connected to one.
    """
    if await update(cluster, topics):
        return True
    for host, port, _ in client.hosts:
        try:
            cluster.update_metadata(await _ask_server(client, host, port, settings, list(topics) if topics else None))
            return True
        except Exception as error:  # whatever it is, it would end aiokafka's task that looks for the brokers
            log.debug("%s:%s does not say where the brokers are: %s", host, port, plain(error))
    return False


async def _ask_brokers(client: Any, makes_topics: bool, cluster: Any, topics: Any) -> bool:
    """As aiokafka's own, by whose question the cluster makes a topic anew that others have just deleted."""
    question = MetadataRequest(list(topics) if topics else None, makes_topics)
    for broker in sample(list(client.cluster.brokers()), len(client.cluster.brokers())):
        connection = await client._get_conn(broker.nodeId)
        if connection is None:
            continue
        try:
            answer: Any = await connection.send(question)
        except (KafkaError, TimeoutError) as error:
            log.debug("node %s does not say which topics there are: %s", broker.nodeId, plain(error))
            continue
        if not answer.brokers:
            return False
        cluster.update_metadata(answer)
        return True
    cluster.failed_update(None)
    return False


class _Checked(OAuthAuthenticator):  # type: ignore[misc]
    """As aiokafka's own, which takes a challenge that says what is wrong with the token for a login."""

    async def step(self, payload: Any) -> Any:
        if self._token_sent and payload:
            raise SaslAuthenticationFailed("the broker does not take the token")
        return await super().step(payload)


class _Brief(AIOKafkaConnection):  # type: ignore[misc]  # aiokafka has no types
    """A connection for one question. Closed it ends at once, where TLS would wait for the server's goodbye."""

    def authenticator_oauth(self) -> Any:
        return _Checked(sasl_oauth_token_provider=self._sasl_oauth_token_provider)

    def close(self, reason: Any = None, exc: Any = None) -> Any:
        writer = self._writer
        closed = super().close(reason, exc)
        if writer is not None:
            writer.transport.abort()
        return closed


async def _ask_server(client: Any, host: str, port: int, settings: KafkaSettings, topics: list[str] | None) -> Any:
    """What a server knows of the brokers and of these topics, None: of all; in its share of `connect_timeout`."""
    limit = milliseconds(settings.request_timeout)
    connection = _Brief(host, port, request_timeout_ms=limit, **access(settings, client._ssl_context))
    async with asyncio.timeout(settings.connect_timeout / len(settings.servers)):
        await connection.connect()
        try:
            answer: Any = await connection.send(MetadataRequest(topics, False))
        finally:
            connection.close()
    if not answer.brokers:  # it has just started; aiokafka would fail at the first use
        raise KafkaConnectionError(f"{host}:{port} knows of no broker yet")
    return answer


def access(settings: KafkaSettings, context: ssl.SSLContext | None = None) -> dict[str, Any]:
    """As whom to connect, and whether by TLS, as aiokafka's arguments.

    Args:
        context: None: one that trusts nobody, until `bootstrap` has read from files what is to be trusted.
    """
    if settings.wants_tls and context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    options: dict[str, Any] = {
        "client_id": settings.name,
        "security_protocol": ("SASL_" if settings.logs_in else "") + ("SSL" if settings.wants_tls else "PLAINTEXT"),
        "ssl_context": context,
    }
    if settings.sasl == "OAUTHBEARER":
        options |= {"sasl_mechanism": settings.sasl, "sasl_oauth_token_provider": tokens_of(settings)}
    elif settings.sasl == "GSSAPI":
        options |= {
            "sasl_mechanism": settings.sasl,
            "sasl_kerberos_service_name": settings.kerberos_service,
            "sasl_kerberos_domain_name": settings.kerberos_domain,
        }
    elif settings.user is not None:
        options |= {
            "sasl_mechanism": settings.sasl,
            "sasl_plain_username": settings.user,
            "sasl_plain_password": settings.password,
        }
    return options


def milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
