"""Making the first connection: each server is tried, each within its share of the time, until one takes us."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from nats import errors

from eventmicro.errors import ConnectionFailed
from eventmicro_nats.connection.driver import Driver
from eventmicro_nats.errors import in_words, is_about_keys, is_final, plain
from eventmicro_nats.settings import NatsSettings


async def connect(settings: NatsSettings, where: str) -> Driver:
    """Connect within `settings.connect_timeout`, trying again where that may help; `where` is the URL, for errors.

    Raises:
        ConnectionFailed: no server answered in time, or it refused; nothing is left open.
        UsageError: the files for TLS cannot be used.
    """
    options = _options(settings)
    servers = random.sample(settings.servers, len(settings.servers))
    failed: dict[str, Exception] = {}
    try:
        async with asyncio.timeout(settings.connect_timeout) as limit:
            while not limit.expired():  # before Python 3.12 wait_for swallows a cancellation as what it waits for ends
                for server in servers:
                    try:
                        return await _try_once(settings, options, server)
                    except Exception as error:  # the nkeys library has others
                        failed[server] = _more_telling(failed.get(server), error)
                if all(is_final(error) for error in failed.values()):
                    break
                await asyncio.sleep(settings.reconnect_wait)
    except TimeoutError:
        pass
    cause = max(failed.values(), key=is_final, default=None)
    raise ConnectionFailed(_why(settings, where, cause)) from cause


def _more_telling(before: Exception | None, error: Exception) -> Exception:
    """What a server has said stays where it ends the next connection so soon that its words are not read."""
    return before if before is not None and isinstance(error, OSError) and not isinstance(before, OSError) else error


async def _try_once(settings: NatsSettings, options: dict[str, Any], server: str) -> Driver:
    """Connect to this server within its share of the time; the others are for when the connection is lost."""
    driver = Driver()
    driver.wants_tls = settings.wants_tls
    servers = [server, *(other for other in settings.servers if other != server)]
    try:
        async with asyncio.timeout(settings.connect_timeout / len(servers)):
            await driver.connect(servers, error_cb=_raise, allow_reconnect=False, dont_randomize=True, **options)
    except BaseException:
        driver.let_go()  # its close() would wait for ever on a TLS handshake that failed
        raise
    return driver


async def _raise(error: Exception) -> None:
    """Ends a try with its first error, where nats-py would go on with the next server, or the same one, without end."""
    raise error


def _options(settings: NatsSettings) -> dict[str, Any]:
    return {
        "name": settings.name,
        "inbox_prefix": settings.inbox_prefix,
        "connect_timeout": settings.connect_timeout,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": settings.reconnect_wait,
        "ping_interval": settings.ping_interval,
        "max_outstanding_pings": 2,
        "pending_size": settings.outgoing_bytes,
        "tls": settings.ssl_context(),
        "tls_hostname": settings.tls_hostname,
        "tls_handshake_first": settings.tls_first,
        "user": settings.user,
        "password": settings.password,
        "token": settings.token,
        "nkeys_seed": settings.nkey_seed,
        "user_credentials": settings.creds,
    }


def _why(settings: NatsSettings, where: str, error: Exception | None) -> str:
    """What to tell a person who could not connect."""
    if error is None or isinstance(error, TimeoutError):
        return f"cannot connect to NATS at {where}: no answer within {settings.connect_timeout:g} s"
    if isinstance(error, errors.SecureConnWantedError):
        return f"cannot connect to NATS at {where}: the server offers no TLS; ask for none if that is right"
    if is_about_keys(error):
        return f"cannot connect to NATS at {where}: nkey_seed or creds cannot be used: {plain(error)}"
    if is_final(error):
        return f"cannot connect to NATS at {where}: refused: {plain(error)}"
    within, why = f"within {settings.connect_timeout:g} s", in_words(plain(error))
    return f"cannot connect to NATS at {where} {within}: {why}{'; is it running?' if why == plain(error) else ''}"
