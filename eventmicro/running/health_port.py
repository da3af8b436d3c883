"""The health port: an HTTP port for orchestrators, which look whether the services of this process live, and are ready.

`GET /health/live` and `/health/ready` answer 200 or 503, `/health` 200 or 503 as `/health/ready` does, each with the
health of all services as JSON. It reads no more than a request's head, of a bounded length, within a few seconds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from eventmicro.errors import EventMicroError, UsageError

if TYPE_CHECKING:
    from eventmicro.discovery.health import Health

# How long a client may take to ask, and to take the answer, in seconds; how long its question may be, in bytes.
PATIENCE = 10.0
LONGEST = 8192


class HasHealth(Protocol):
    """A service, as far as its health goes."""

    @property
    def name(self) -> str: ...
    async def health(self) -> Health: ...


@asynccontextmanager
async def health_port(services: Sequence[HasHealth], host: str, port: int) -> AsyncIterator[int]:
    """Answer for these services as long as the block lasts.

    Args:
        host: the address to listen on.
        port: 0: any free one; it yields which.

    Raises:
        UsageError: the port is taken, or not allowed.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await _answer(services, reader, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # who asks so gets no answer
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(serve, host, port, limit=LONGEST)
    except (OSError, OverflowError) as error:
        raise UsageError(f"--health-port {port}: {error}") from None
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _answer(services: Sequence[HasHealth], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
    status, body = HTTPStatus.NOT_FOUND, b'{"detail":"there are /health, /health/live and /health/ready"}'
    if method not in (b"GET", b"HEAD"):
        status, body = HTTPStatus.METHOD_NOT_ALLOWED, b'{"detail":"GET it"}'
    elif path in _LOOKS:
        status, body = await _look(services, _LOOKS[path])
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
        "\r\n",
    )
    writer.write("\r\n".join(lines).encode() + (b"" if method == b"HEAD" else body))
    await writer.drain()


async def _look(services: Sequence[HasHealth], is_well: Callable[[Health], bool]) -> tuple[HTTPStatus, bytes]:
    found = await asyncio.gather(*(_health_of(service) for service in services))
    forms = {name: None if health is None else health.model_dump(mode="json") for name, health in found}
    well = all(health is not None and is_well(health) for _, health in found)
    return HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, json.dumps(forms).encode()


async def _health_of(service: HasHealth) -> tuple[str, Health | None]:
    try:
        return service.name, await service.health()
    except EventMicroError:  # it starts or stops
        return service.name, None


_LOOKS: Mapping[str, Callable[[Health], bool]] = {
    "/health": lambda health: health.ready,
    "/health/ready": lambda health: health.ready,
    "/health/live": lambda health: health.live,
}
