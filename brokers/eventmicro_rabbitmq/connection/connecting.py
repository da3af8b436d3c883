"""Connecting: to the nodes in turn from any of them on, each within its share of the time."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Sequence

from yarl import URL

from eventmicro.errors import ConnectionFailed
from eventmicro_rabbitmq.connection.connection import Connection, Transport, cancelled_by_us_only
from eventmicro_rabbitmq.errors import DriverError, is_final, plain
from eventmicro_rabbitmq.settings import RabbitSettings


async def connect(settings: RabbitSettings) -> Connection:
    """Connect to the first node that answers, within `settings.connect_timeout`, trying again where that may help.

    It begins with any of them, so that clients spread over a cluster, also when they connect again. Each node may take
    its share of the time, so that one which hangs leaves some to the others.

    Raises:
        ConnectionFailed: no node answered in time, or all refused; nothing is left open.
    """
    # reading what the system trusts may take longer than the server's answer
    context = await asyncio.to_thread(settings.ssl_context) if settings.tls else None
    share = settings.connect_timeout / len(settings.servers)
    failed: dict[str, Exception] = {}
    try:
        async with asyncio.timeout(settings.connect_timeout):
            while True:
                for server in _in_turn(settings.servers):
                    try:
                        async with asyncio.timeout(share):
                            return await _try_once(settings, server, context)
                    except TimeoutError:
                        failed[server] = ConnectionError(f"{server} does not answer")
                    except DriverError as error:
                        failed[server] = error
                    except ValueError as error:  # no host can be called so; the others may answer
                        failed[server] = ConnectionError(f"{server}: {plain(error)}")
                if all(is_final(error) for error in failed.values()):
                    break
                await asyncio.sleep(settings.reconnect_wait)
    except TimeoutError:
        pass
    why = next((error for error in failed.values() if is_final(error)), None) or _together(failed)
    raise ConnectionFailed(_why(settings, why)) from why


def _in_turn(servers: Sequence[str]) -> Sequence[str]:
    first = secrets.randbelow(len(servers))
    return [*servers[first:], *servers[:first]]


def _together(failed: dict[str, Exception]) -> Exception | None:
    """What each node had against it, as one error."""
    if len(failed) < 2:
        return next(iter(failed.values()), None)
    return ConnectionError("; ".join(dict.fromkeys(plain(error) for error in failed.values())))


async def _try_once(settings: RabbitSettings, server: str, context: ssl.SSLContext | None) -> Connection:
    transport = Transport(context, settings.tls_hostname)
    connection = Connection(_url(settings, server), transport)
    connection.vhost = settings.vhost
    try:
        with cancelled_by_us_only():
            await connection.connect()
        connection.watch_the_loop()
    except BaseException:
        transport.abort()
        raise
    return connection


def _url(settings: RabbitSettings, server: str) -> URL:
    host, _, port = server.rpartition(":")
    query = {"heartbeat": str(settings.heartbeat)} | ({"name": settings.name} if settings.name else {})
    return URL.build(
        scheme="amqp",
        user=settings.user,
        password=settings.password,
        host=host.strip("[]"),
        port=int(port),
        query=query,
    )


def _why(settings: RabbitSettings, error: BaseException | None) -> str:
    """What to tell a person who could not connect."""
    where = f"cannot connect to RabbitMQ at {', '.join(settings.servers)}"
    if error is None:
        return f"{where}: no answer within {settings.connect_timeout:g} s"
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLCertVerificationError):
        return f"{where}: no TLS is spoken there ({error.reason}); write amqp:// if that is right"
    if is_final(error):
        return f"{where}: refused: {plain(error)}"
    why = f"{where} within {settings.connect_timeout:g} s: {plain(error)}"
    if "bytes expected" in plain(error):
        return f"{why}: what answers there speaks no AMQP, or wants TLS (amqps://)"
    return f"{why}; is it running?"
