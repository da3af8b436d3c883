"""nats-py's client with three of its gaps closed. All that is touched of its inside is here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from nats import errors
from nats.aio.client import Client

from eventmicro.errors import ConnectionFailed
from eventmicro_nats.errors import is_final, plain
from eventmicro_nats.settings import NatsSettings

log = logging.getLogger(__name__)

ErrorCallback = Callable[[Exception], Awaitable[None]]
Callback = Callable[[], Awaitable[None]]


class Driver(Client):
    """A client that refuses a server without TLS before it sends a password, and lets go of a hung server at once."""

    wants_tls = False

    def _connect_command(self) -> bytes:
        if self.wants_tls and not self._server_info.get("tls_required"):
            raise errors.SecureConnWantedError
        return super()._connect_command()  # type: ignore[no-any-return]

    async def _process_op_err(self, e: Exception) -> None:
        # nats-py would first wait until all that is unsent has gone out, which to a hung server takes for ever.
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        await super()._process_op_err(e)


async def connect(
    settings: NatsSettings, *, on_error: ErrorCallback, on_lost: Callback, on_back: Callback, on_closed: Callback
) -> Driver:
    """Connect within `settings.connect_timeout`, trying again where that may help.

    Raises:
        ConnectionFailed: no server answered in time, or it refused; nothing is left open.
    """
    driver = Driver()
    driver.wants_tls = settings.wants_tls
    last: list[Exception] = []
    refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    connected = False

    async def error_while_connecting(error: Exception) -> None:
        if connected:
            await on_error(error)
            return
        last[:] = [error]
        if is_final(error) and not refused.done():
            refused.set_result(None)

    connecting = asyncio.ensure_future(
        driver.connect(
            list(settings.servers),
            error_cb=error_while_connecting,
            disconnected_cb=on_lost,
            reconnected_cb=on_back,
            closed_cb=on_closed,
            **_options(settings),
        )
    )
    try:
        await asyncio.wait([connecting, refused], timeout=settings.connect_timeout, return_when="FIRST_COMPLETED")
        if connecting.done():
            connecting.result()
            connected = True
            return driver
    except Exception as error:
        last[:] = [error]
    finally:
        if not connected:
            connecting.cancel()
            await asyncio.wait([connecting])
            await driver._close(Client.CLOSED, do_cbs=False)
    raise ConnectionFailed(_why(settings, last[0] if last else None)) from (last[0] if last else None)


def _options(settings: NatsSettings) -> dict[str, object]:
    options: dict[str, object] = {
        "name": settings.name,
        "inbox_prefix": settings.inbox_prefix,
        "connect_timeout": settings.connect_timeout,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": settings.reconnect_wait,
        "ping_interval": settings.ping_interval,
        "max_outstanding_pings": 2,
        "pending_size": settings.outgoing_bytes,
        "flush_timeout": 5.0,
        "tls": settings.ssl_context(),
        "tls_hostname": settings.tls_hostname,
        "tls_handshake_first": settings.tls_first,
        "user": settings.user,
        "password": settings.password,
        "token": settings.token,
        "nkeys_seed": settings.nkey_seed,
        "user_credentials": settings.creds,
    }
    return options


def _why(settings: NatsSettings, error: Exception | None) -> str:
    """What to tell a person who could not connect."""
    where = ", ".join(settings.servers)
    if error is None:
        return f"cannot connect to NATS at {where}: no answer within {settings.connect_timeout:g} s"
    if isinstance(error, errors.SecureConnWantedError):
        return f"cannot connect to NATS at {where}: the server offers no TLS; write nats:// if that is right"
    if is_final(error):
        return f"cannot connect to NATS at {where}: refused: {plain(error)}"
    return f"cannot connect to NATS at {where} within {settings.connect_timeout:g} s: {plain(error)}; is it running?"
