"""Connecting: the first node that answers, each within its share of the time."""

from __future__ import annotations

import asyncio
import ssl

from yarl import URL

from eventmicro.errors import ConnectionFailed
from eventmicro_rabbitmq.connection.connection import Connection, Transport, cancelled_by_us_only
from eventmicro_rabbitmq.errors import DriverError, is_final, plain
from eventmicro_rabbitmq.settings import RabbitSettings


async def connect(settings: RabbitSettings) -> Connection:
    """Connect to the first node that answers, within `settings.connect_timeout`, trying again where that may help.

    Each node may take its share of that time, so that one which hangs leaves some to the others.

    Raises:
        ConnectionFailed: no node answered in time, or it refused; nothing is left open.
    """
    context = settings.ssl_context()
    share = settings.connect_timeout / len(settings.servers)
    last: BaseException | None = None
    try:
        async with asyncio.timeout(settings.connect_timeout):
            while True:
                for server in settings.servers:
                    try:
                        async with asyncio.timeout(share):
                            return await _try_once(settings, server, context)
                    except TimeoutError:
                        last = ConnectionError(f"{server} does not answer")
                    except DriverError as error:
                        last = error
                    except ValueError as error:  # no host can be called so; the others may answer
                        last = ConnectionError(f"{server}: {plain(error)}")
                if last is not None and is_final(last):
                    break
                await asyncio.sleep(settings.reconnect_wait)
    except TimeoutError:
        pass
    raise ConnectionFailed(_why(settings, last)) from last


async def _try_once(settings: RabbitSettings, server: str, context: ssl.SSLContext | None) -> Connection:
    transport = Transport(context, settings.tls_hostname)
    connection = Connection(_url(settings, server), transport)
    connection.vhost = settings.vhost
    try:
        with cancelled_by_us_only():
            await connection.connect()
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
